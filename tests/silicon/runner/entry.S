/* Into a case and out of it again. All that is read on the way in, once the case's segments are being loaded, is read
   through CS, which is flat; on the way out nothing is changed before it is saved. */

        .text
        .globl  _start
_start: xorl    %ebp, %ebp
        movl    $stack_top, %esp
        call    runner

/* void enter(void): runs the case in `in`; the state behind it is in `out`. */
        .globl  enter, resume, stumble
enter:  pushal
        movl    %esp, own_stack
        cmpl    $0, in_has_fpu
        je      1f
        fxrstor in_fpu
1:      cmpl    $0, in_by_signal
        je      2f
stumble:
        ud2                             /* the handler goes on into the case */
2:      pushl   in_eflags
        popfl
        movl    in_ecx, %ecx
        movl    in_edx, %edx
        movl    in_ebx, %ebx
        movl    in_ebp, %ebp
        movl    in_esi, %esi
        movl    in_edi, %edi
        movl    in_eax, %eax
        movw    in_es, %es
        movw    in_fs, %fs
        movw    in_gs, %gs
        movw    in_ds, %ds
        lss     %cs:in_esp, %esp
        ljmp    *%cs:in_eip

/* Behind every case stands a far jump to here (world.rs: RETURN). */
        .section .return, "ax"
        .globl  return
return: jmp     *%cs:return_path

        .text
        .globl  return_plain, return_fpu
return_plain:
        movd    %eax, %xmm0
        movl    %ds, %eax
        movd    %eax, %xmm1
        movw    %cs:flat_data, %ds
        movd    %xmm0, out_eax
        movd    %xmm1, out_ds
        jmp     3f
return_fpu:                             /* x87, MMX and SSE instructions load no segment */
        movw    %cs:flat_data, %ds
        movl    %eax, out_eax
        movzwl  in_ds, %eax
        movl    %eax, out_ds
3:      movl    %ecx, out_ecx
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
        cmpl    $0, in_has_fpu
        je      resume
        fxsave  out_fpu
resume: pushl   $2
        popfl
        movw    flat_data, %es
        popal
        ret

/* void on_signal(int, siginfo_t *, ucontext_t *), on the alternate stack. EFLAGS is still the case's in part. */
        .globl  on_signal, restorer
on_signal:
        pushl   $2
        popfl
        pushl   12(%esp)
        pushl   8(%esp)
        call    handle
        addl    $8, %esp
        ret
restorer:
        movl    $173, %eax              /* rt_sigreturn */
        int     $0x80

        .bss
        .balign 16
        .skip   16384
stack_top:

        .section .note.GNU-stack, "", @progbits
