// 256 interrupt stubs that record into `trap`, and the two ways back: continue at the catch, or IRET where it happened.
#define ASM 1
#include "guest.h"

    .text
    .globl trap_stubs
    .align 16
trap_stubs:
    .set n, 0
    .rept 256
    .align 16
    .if (n == 8) || ((n >= 10) && (n <= 14)) || (n == 17) || (n == 21)
    .else
    pushl $NO_ERROR
    .endif
    pushl $n
    jmp trap_common
    .set n, n + 1
    .endr

// Everything is popped into `trap` with the stack's own segment and width, so that the interrupted stack may be 16-bit or
// have a base; the C handler then runs on a flat stack of its own.
trap_common:
    cld
    pushal
    pushl %ds
    pushl %es
    pushl %fs
    pushl %gs
    movl $KDATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %cr2, %eax
    movl %eax, trap + T_CR2
    popl trap + T_GS
    popl trap + T_FS
    popl trap + T_ES
    popl trap + T_DS
    popl trap + T_EDI
    popl trap + T_ESI
    popl trap + T_EBP
    popl trap + T_OUR_ESP
    popl trap + T_EBX
    popl trap + T_EDX
    popl trap + T_ECX
    popl trap + T_EAX
    popl trap + T_VECTOR
    popl trap + T_ERROR
    popl trap + T_EIP
    popl trap + T_CS
    popl trap + T_EFLAGS
    testl $VM, trap + T_EFLAGS
    jnz 1f
    testl $3, trap + T_CS
    jz 2f
1:  popl trap + T_ESP
    popl trap + T_SS
    testl $VM, trap + T_EFLAGS
    jz 3f
    popl trap + T_ES
    popl trap + T_DS
    popl trap + T_FS
    popl trap + T_GS
    jmp 3f
2:  movl %esp, trap + T_ESP         // same privilege: what ESP was before the frame
    movl %ss, %eax
    movzwl %ax, %eax
    movl %eax, trap + T_SS
3:  movl %esp, trap + T_FRAME_ESP
    movl %ss, %eax
    movl %eax, trap + T_FRAME_SS
    .irp at, T_GS, T_FS, T_ES, T_DS, T_CS, T_SS
    movw $0, trap + \at + 2         // what stands above a pushed selector is nobody's
    .endr
    movl $KDATA, %eax
    movl %eax, %ss
    movl $handler_stack_top, %esp
    call trap_handler               // returns only if the hook said RESUME

    movl trap + T_FRAME_SS, %eax
    movl trap + T_FRAME_ESP, %ecx
    movl %eax, %ss
    movl %ecx, %esp
    testl $VM, trap + T_EFLAGS
    jz 4f
    pushl trap + T_GS
    pushl trap + T_FS
    pushl trap + T_DS
    pushl trap + T_ES
    jmp 5f
4:  testl $3, trap + T_CS
    jz 6f
5:  pushl trap + T_SS
    pushl trap + T_ESP
6:  pushl trap + T_EFLAGS
    pushl trap + T_CS
    pushl trap + T_EIP
    movl trap + T_EAX, %eax
    movl trap + T_ECX, %ecx
    movl trap + T_EDX, %edx
    movl trap + T_EBX, %ebx
    movl trap + T_EBP, %ebp
    movl trap + T_ESI, %esi
    movl trap + T_EDI, %edi
    testl $VM, trap + T_EFLAGS
    jnz 7f
    movw trap + T_ES, %es
    movw trap + T_FS, %fs
    movw trap + T_GS, %gs
    movw trap + T_DS, %ds
7:  iretl

// int catch_set(void): 0 now, 1 when a later trap comes back here. `catch_buf` = esp, eip, ebp, ebx, esi, edi.
    .globl catch_set
catch_set:
    popl %edx
    movl %esp, catch_buf
    movl %edx, catch_buf + 4
    movl %ebp, catch_buf + 8
    movl %ebx, catch_buf + 12
    movl %esi, catch_buf + 16
    movl %edi, catch_buf + 20
    xorl %eax, %eax
    jmp *%edx

// void catch_resume(void): flat segments, plain flags, the registers and the place kept by catch_set().
    .globl catch_resume
catch_resume:
    ljmp $KCODE, $1f
1:  movl $KDATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl catch_buf, %esp
    pushl $2
    popfl
    movl catch_buf + 8, %ebp
    movl catch_buf + 12, %ebx
    movl catch_buf + 16, %esi
    movl catch_buf + 20, %edi
    movl $1, %eax
    jmp *(catch_buf + 4)

// u32 go(const struct context *c): loads every register from `c`, enters it by IRET (any ring, virtual-8086 mode, or
// ring 0 with another stack) and returns the vector of the first trap that no hook resumed.
    .globl go
go:
    movl 4(%esp), %eax
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    .irp at, 0, 4, 8, 12, 16, 20
    pushl catch_buf + \at
    .endr
    movl %esp, catch_buf
    movl $go_back, catch_buf + 4
    movl $NO_VECTOR, trap + T_VECTOR
    movl %eax, %esi
    testl $VM, C_EFLAGS(%esi)
    jnz 1f
    testl $3, C_CS(%esi)
    jz 2f
    jmp 3f
1:  pushl C_GS(%esi)
    pushl C_FS(%esi)
    pushl C_DS(%esi)
    pushl C_ES(%esi)
3:  pushl C_SS(%esi)
    pushl C_ESP(%esi)
    jmp 4f
2:  movl C_SS(%esi), %eax
    movl C_ESP(%esi), %ecx
    movl %eax, %ss
    movl %ecx, %esp
4:  pushl C_EFLAGS(%esi)
    pushl C_CS(%esi)
    pushl C_EIP(%esi)
    testl $VM, C_EFLAGS(%esi)
    jz 5f
    pushl $KDATA
    jmp 6f
5:  pushl C_DS(%esi)
    movw C_ES(%esi), %es
    movw C_FS(%esi), %fs
    movw C_GS(%esi), %gs
6:  movl C_EAX(%esi), %eax
    movl C_ECX(%esi), %ecx
    movl C_EDX(%esi), %edx
    movl C_EBX(%esi), %ebx
    movl C_EBP(%esi), %ebp
    movl C_EDI(%esi), %edi
    movl C_ESI(%esi), %esi
    popl %ds
    .globl go_iret
go_iret:
    iretl

go_back:
    .irp at, 20, 16, 12, 8, 4, 0
    popl catch_buf + \at
    .endr
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    movl trap + T_VECTOR, %eax
    ret

// Where a function called by in_ring() returns to: hands EAX back through the trap record.
    .globl ring_return
ring_return:
    int $RET_VECTOR
    int $RET_VECTOR                 // for those who enter two bytes in

    .bss
    .align 16
    .skip 16384
handler_stack_top:
    .skip 16384
    .globl trap_stack_top           // ESP0 of the main TSS
trap_stack_top:
    .skip 16384
    .globl user_stack_top           // for code in rings 1 to 3
user_stack_top:
    .globl catch_buf
catch_buf:
    .skip 24

    .section .note.GNU-stack, "", @progbits
