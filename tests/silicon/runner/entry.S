/* Into a case and out of it again. All that is read on the way in, once the case's segments are being loaded, is read
   through CS, which is flat; on the way out nothing is changed before it is saved.

   `running` is set from when own_stack is good until all that came of the case is saved. */

        .text
        .globl  _start
_start: xorl    %ebp, %ebp
        movl    $stack_top, %esp
        call    runner

/* void enter(void): runs the case in `in`; the state behind it is in `out`. */
        .globl  enter, resume
enter:  pushal
        movl    %esp, own_stack
        movl    $1, running
        cmpl    $0, in_has_fpu
        je      1f
        fxrstor in_fpu
1:      movl    in_ecx, %ecx
        movl    in_edx, %edx
        movl    in_ebx, %ebx
        movl    in_ebp, %ebp
        movl    in_esi, %esi
        movl    in_edi, %edi
        movw    in_es, %es
        movw    in_fs, %fs
        movw    in_gs, %gs
        cmpl    $0, in_by_signal
        jne     2f
        pushl   in_eflags
        popfl
        movl    in_eax, %eax
        movw    in_ds, %ds
        lss     %cs:in_esp, %esp
        ljmp    *%cs:in_eip

/* By a frame as of a signal, which can set TF. What rt_sigreturn would make null where it cannot be loaded is loaded
   once, to fault here; EFLAGS has NT and ID already, which rt_sigreturn leaves alone. */
2:      movw    in_ds, %ds
        lss     %cs:in_esp, %esp
        lss     %cs:entry_stack, %esp
        movw    %cs:flat_data, %ds
        pushl   in_eflags_kept
        popfl
restorer:
        movl    $173, %eax              /* rt_sigreturn */
        int     $0x80

/* Behind every case stands a far jump to here (world.rs: RETURN). */
        .section .return, "ax"
        .globl  return
return: jmp     *%cs:return_path

        .text
        .globl  return_plain, return_fpu, return_slow
return_plain:
        movd    %eax, %xmm0
        movl    %ds, %eax
        movw    %cs:flat_data, %ds
        movl    %eax, out_ds
        movd    %xmm0, %eax
        jmp     3f
return_fpu:                             /* as above, in the half of YMM0 that no case knows */
        vperm2f128 $1, %ymm0, %ymm0, %ymm0
        movd    %eax, %xmm0
        movl    %ds, %eax
        movw    %cs:flat_data, %ds
        movl    %eax, out_ds
        movd    %xmm0, %eax
        vperm2f128 $1, %ymm0, %ymm0, %ymm0
        fxsave  out_fpu
        fninit
        ldmxcsr plain_mxcsr
        vzeroupper
3:      movl    %eax, out_eax
        movl    %ecx, out_ecx
        movl    %edx, out_edx
        movl    %ebx, out_ebx
        movl    %esp, out_esp
        movl    %ebp, out_ebp
        movl    %esi, out_esi
        movl    %edi, out_edi
        movl    %es, %ecx
        movl    %ecx, out_es
        movl    %ss, %ecx
        movl    %ecx, out_ss
        movl    %fs, %ecx
        movl    %ecx, out_fs
        movl    %gs, %ecx
        movl    %ecx, out_gs
        movw    flat_data, %ss
        movl    own_stack, %esp
        pushfl
        popl    out_eflags
        movl    $0, running
resume: pushl   $2
        popfl
        movw    flat_data, %es
        popal
        ret
return_slow:                            /* without AVX there is no place for DS: the handler finds it in its frame */
        hlt

/* void on_signal(int, siginfo_t *, ucontext_t *), on the alternate stack. EFLAGS is still the case's in part. What ends a
   case does not go back through rt_sigreturn, which takes longer than all the rest. */
        .globl  on_signal, restorer
on_signal:
        pushl   $2
        popfl
        pushl   12(%esp)
        pushl   8(%esp)
        call    handle
        testl   %eax, %eax
        jnz     4f
        addl    $8, %esp
        ret
4:      movl    own_stack, %esp
        jmp     resume

        .bss
        .balign 16
        .skip   16384
stack_top:

        .section .note.GNU-stack, "", @progbits
