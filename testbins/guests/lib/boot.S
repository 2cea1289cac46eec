// Multiboot 1 header and entry: from the loader's flat protected mode to guest_start() with our own GDT and stack.
#define ASM 1
#include "guest.h"

    .section .multiboot, "a"
    .align 4
    .long 0x1BADB002, 0, -0x1BADB002

    .text
    .globl entry
entry:
    cli
    cld
    movl %ebx, boot_info
    lgdt gdt_pointer
    ljmp $KCODE, $1f
1:  movl $KDATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $main_stack_top, %esp
    pushl $2
    popfl
    xorl %ebp, %ebp
    call guest_start
2:  hlt
    jmp 2b

    .data
    .align 8
    .globl gdt, gdt_pointer
// The descriptors every guest starts with, in the order of the selectors in guest.h. Base 0 and limit 4 GiB where
// nothing else is said; the accessed bit is clear, so that guests can see it being set.
gdt:
    .quad 0
    .quad 0x00CF9A000000FFFF    // KCODE  ring 0 code
    .quad 0x00CF92000000FFFF    // KDATA  ring 0 data
    .quad 0x00CFFA000000FFFF    // UCODE  ring 3 code
    .quad 0x00CFF2000000FFFF    // UDATA  ring 3 data
    .quad 0x00CFBA000000FFFF    // CODE1  ring 1 code
    .quad 0x00CFB2000000FFFF    // DATA1  ring 1 data
    .quad 0x00CFDA000000FFFF    // CODE2  ring 2 code
    .quad 0x00CFD2000000FFFF    // DATA2  ring 2 data
    .quad 0                     // TSS0   filled in by tables.c
    .quad 0x00CF9E000000FFFF    // CONF0  conforming code of ring 0
    .quad 0x00CFFE000000FFFF    // CONF3  conforming code of ring 3
    .quad 0x00CF12000000FFFF    // NPDATA data, not present
    .quad 0x00CF1A000000FFFF    // NPCODE code, not present
    .quad 0x00CF98000000FFFF    // XCODE  code, execute-only
    .quad 0x00CF90000000FFFF    // RODATA data, read-only
    .fill 128 - 16, 8, 0        // SCRATCH(n)
gdt_pointer:
    .word 128 * 8 - 1
    .long gdt

    .bss
    .align 16
    .globl boot_info
boot_info:
    .skip 4
    .skip 32768 - 4
    .globl main_stack_top
main_stack_top:

    .section .note.GNU-stack, "", @progbits
