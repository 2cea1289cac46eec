// The head of every program's image, and its first instructions.
    .section .head, "ax"
    .long 0x79726F54        // "Tory"
    .long text_end, data_end, bss_end, program_entry

    .text
    .globl program_entry
program_entry:
    pushl %eax              // the argument
    call main
1:  jmp 1b                  // main ends with finish()
    .section .note.GNU-stack, "", @progbits
