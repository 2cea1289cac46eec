// Every way into ring 0 and every way out of it.
#include "layout.h"

// Vectors 0 to 2Fh and INT 80h push their number and go to one place. Where the processor pushes no error code, a 0 stands in.
    .section .rodata.vectors, "a"
    .globl vectors
vectors:
    .text
    .set n, 0
    .macro entry
        .section .rodata.vectors, "a"
        .long entry_\@
        .text
    entry_\@:
        .if !(n == 8 || (n >= 10 && n <= 14) || n == 17 || n == 21)
            pushl $0
        .endif
        .if n == 0x30
            pushl $0x80
        .else
            pushl $n
        .endif
        jmp common
        .set n, n + 1
    .endm
    .rept 0x31
        entry
    .endr

common:
    pushal
    pushl %ds
    pushl %es
    pushl %fs
    pushl %gs
    movl $KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    cld
    pushl %esp              // struct frame *
    call trap
    addl $4, %esp
    .globl trap_return
trap_return:
    popl %gs
    popl %fs
    popl %es
    popl %ds
    popal
    addl $8, %esp           // vector and error code
    iretl

// void switch_stacks(u32 *save, u32 load): from one process's kernel stack to another's. What C wants kept is kept on the stack
// we leave; the RET finds the return address of whoever left the other one. A new process finds trap_return there.
    .globl switch_stacks
switch_stacks:
    movl 4(%esp), %eax
    movl 8(%esp), %edx
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    movl %esp, (%eax)
    movl %edx, %esp
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    ret

// The first instruction of the fault task. IRET leaves it by a task switch; the next double fault resumes it behind that IRET, with
// an error code on the stack again.
    .globl double_fault_entry
double_fault_entry:
    cld
    call double_fault
    addl $4, %esp           // the error code, always 0
    iretl
    jmp double_fault_entry

    .section .note.GNU-stack, "", @progbits
