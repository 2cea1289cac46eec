// A program without a C library, which says nothing of the system that it is for.
__asm__(".globl _start\n"
        "_start: movl $4, %eax; movl $1, %ebx; movl $text, %ecx; movl $11, %edx; int $0x80\n"
        "movl $1, %eax; movl $42, %ebx; int $0x80\n"
        "text: .ascii \"no library\\n\"\n");
