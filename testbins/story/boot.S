    .section .multiboot, "a"
    .align 4
    .long 0x1BADB002, 0, -0x1BADB002
    .text
    .globl start
start:
    movl $stack_top, %esp
    jmp story
    .bss
    .skip 4096
stack_top:
    .section .note.GNU-stack, "", @progbits
