// The doors of rings 1 and 2. A call gate has switched to the ring's own stack and copied two parameters onto it:
//     [esp] return EIP, [esp+4] return CS, [esp+8] parameter 1, [esp+12] parameter 2, [esp+16] the caller's ESP, [esp+20] its SS.
// DS and ES are still the caller's and reach over all 4 GiB; ours end below the kernel. RETF 8 drops the parameters on both stacks.
// SDM 3A "Accessing a Code Segment Through a Call Gate", "Stack Switching", "Returning from a Called Procedure".
#include "layout.h"

    .macro door ring, data, service
    .globl \ring
\ring:
    pushl %ds
    pushl %es
    pushl %ebp
    movl %esp, %ebp
    movl $\data, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    pushl 24(%ebp)          // parameter 2
    pushl 20(%ebp)          // parameter 1
    call \service
    leave
    popl %es
    popl %ds
    lretl $8
    .endm

    .text
    door enter_ring2, RING2_DATA, library
    door enter_ring1, RING1_DATA, driver
    .section .note.GNU-stack, "", @progbits
