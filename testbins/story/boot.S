// From the loader to C: ring 0, protected mode, paging off. We are linked at KERNEL + 1 MiB and lie at 1 MiB, so until
// paging is on every symbol is KERNEL too high.
#include "layout.h"

    .section .multiboot, "a"
    .align 4
    .long 0x1BADB002, 2, -(0x1BADB002 + 2)  // magic; flags: tell us how much memory there is; checksum

    .text
    .globl start
start:
    cli
    cld
    movl $stack_top - KERNEL, %esp
    movl %ebx, loader_info - KERNEL
    movl %cr0, %eax
    movl %eax, first_cr0 - KERNEL

    // EFLAGS.AC can be set from the 486 on, EFLAGS.ID where there is CPUID.
    pushl $0x240002
    popfl
    pushfl
    popl %eax
    pushl $2
    popfl
    testl $0x40000, %eax
    jz too_old
    testl $0x200000, %eax
    jz 1f
    movl $1, %eax
    movl %eax, has_cpuid - KERNEL
    cpuid
    shrl $13, %edx          // PGE: global pages
    andl $1, %edx
    movl %edx, global_pages - KERNEL
    jz 1f
    xorl %eax, %eax
    movl %eax, %cr4         // whatever the loader had on (PAE, say) is off
1:
    // One page table for the first 4 MiB: present, writable, global, and for rings 0 to 2 only.
    movl $kernel_table - KERNEL, %edi
    movl $0x103, %eax
    movl $1024, %ecx
2:  stosl
    addl $0x1000, %eax
    loop 2b
    // It serves twice: at KERNEL, where we want to be, and at 0, where we are when paging begins.
    movl $kernel_table - KERNEL + 3, %eax
    movl %eax, kernel_directory - KERNEL
    movl %eax, kernel_directory - KERNEL + (KERNEL >> 22) * 4
    movl $kernel_directory - KERNEL, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80010000, %eax   // PG, and WP: read-only pages hold for ring 0 as well
    movl %eax, %cr0
    movl $high, %eax
    jmp *%eax
high:
    // The lower copy has done its work. MOV CR3 drops what the TLB knows of it.
    movl $0, kernel_directory
    movl %cr3, %eax
    movl %eax, %cr3
    cmpl $0, global_pages
    je 3f
    movl $0x80, %eax        // CR4.PGE: from now on MOV CR3 keeps the entries marked global
    movl %eax, %cr4
3:  movl $stack_top, %esp
    xorl %ebp, %ebp
    pushl loader_info
    call story

too_old:
    movl $old_text - KERNEL, %esi
    movw $0x3FD, %dx
4:  inb %dx, %al            // wait for room in the transmitter
    testb $0x20, %al
    jz 4b
    lodsb
    testb %al, %al
    jz 5f
    movw $0x3F8, %dx
    outb %al, %dx
    movw $0x3FD, %dx
    jmp 4b
5:  movb $1, %al
    outb %al, $0xF4
6:  hlt
    jmp 6b

    .section .rodata
old_text:
    .asciz "The story kernel uses INVLPG and CR0.WP: it needs a 486 or later.\n"

    .data
    .globl first_cr0, global_pages, has_cpuid
loader_info:  .long 0
first_cr0:    .long 0
global_pages: .long 0
has_cpuid:    .long 0

    .bss
    .align 4096
    .globl kernel_directory, kernel_table
kernel_directory: .skip 4096
kernel_table:     .skip 4096
    .skip 8192
stack_top:
    .section .note.GNU-stack, "", @progbits
