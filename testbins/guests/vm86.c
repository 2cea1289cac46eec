// Virtual-8086 mode: entry by IRET and by task switch, exit through gates, IOPL-sensitive instructions, what is #UD, 64 KiB
// limits, and the virtual-mode extensions (VME, PVI). SDM 3B "8086 Emulation", sections "Virtual-8086 Mode", "Interrupt and
// Exception Handling in Virtual-8086 Mode", "Protected-Mode Virtual Interrupts".
#include "lib/guest.h"

#define CS86 0x1000
#define SS86 0x2000
#define DS86 0x3000
#define VEC 0x60 // gate with dpl 3
#define VEC0 0x61 // gate with dpl 0

static struct tss32 task;

CODE16(nothing, "");
CODE16(int_n, "int $0x60");
CODE16(int_dpl_0, "int $0x61");
CODE16(int_3, "int3");
CODE16(into_, "into");
CODE16(cli_, "cli");
CODE16(sti_, "sti");
CODE16(pushf_, "pushfw; popw %ax");
CODE16(pushfd_, "pushfl; popl %eax");
CODE16(popf_, "pushw %ax; popfw");
CODE16(popfd_, "pushl %eax; popfl");
CODE16(iret_, "pushw %ax; pushw %cs; pushw $1f - iret_; iretw; 1:");
CODE16(iretd_, "pushl %eax; pushl $0x1000; pushl $1f - iretd_; iretl; 1:");
CODE16(in_al, "inb %dx, %al");
CODE16(out_al, "outb %al, %dx");
CODE16(segments, "movw %ax, %ds; movw (%bx), %cx; movw %ds, %dx");
CODE16(far_call, "lcallw $0x1000, $1f - far_call; 1: popw %ax; popw %bx");
CODE16(read_word, "movw (%bx), %ax");
CODE16(read_word_bp, "movw (%bp), %ax");
CODE16(write_word, "movw %ax, (%bx)");
CODE16(push_odd, "pushw %ax");
CODE16(read_32, "addr32 movw (%ebx), %ax");
CODE16(arpl_, "arplw %ax, %bx");
CODE16(lar_, "larw %ax, %bx");
CODE16(lsl_, "lslw %ax, %bx");
CODE16(verr_, "verrw %ax");
CODE16(sldt_, "sldtw %ax");
CODE16(str_, "strw %ax");
CODE16(lldt_, "lldtw %ax");
CODE16(ltr_, "ltrw %ax");
CODE16(lgdt_, "lgdtw (%bx)");
CODE16(mov_cr, "movl %eax, %cr0");
CODE16(read_cr, "movl %cr0, %eax");
CODE16(clts_, "clts");
CODE16(smsw_, "smsww %ax");
CODE16(mov_dr, "movl %eax, %db7");
CODE16(stack_16, "pushl %esi; popl %edi; movl %esp, %eax");

// The length up to the HLT.
#define LENGTH(fn) ((u32)fn##_end - 1 - (u32)fn)

static struct context v86(void (*fn)(void), char *end, u32 flags) {
    copy_low(CS86 << 4, fn, end);
    struct context c = {.cs = CS86, .ss = SS86, .ds = DS86, .es = 0x4000, .fs = 0x5000, .gs = 0x6000, .esp = 0x1000,
                        .eflags = 2 | VM | flags};
    return c;
}

#define RUN(fn, flags, ...)                                                                                            \
    do {                                                                                                               \
        struct context c = v86(fn, fn##_end, flags);                                                                   \
        __VA_ARGS__;                                                                                                   \
        go(&c);                                                                                                        \
    } while (0)
// Runs to its HLT.
#define RUNS(name, fn, flags, ...)                                                                                     \
    RUN(fn, flags, __VA_ARGS__);                                                                                       \
    check_trap(name, GP, 0, LENGTH(fn))
// Ends in a trap at offset `at`.
#define ENDS(name, fn, flags, vector, error, at, ...)                                                                  \
    RUN(fn, flags, __VA_ARGS__);                                                                                       \
    check_trap(name, vector, error, 0);                                                                                \
    check(name_of("%s-ip", name), trap.eip, at)

static void entry_and_exit(void) {
    RUNS("entry-by-iret", nothing, IOPL(3) | IF | CF, c.eax = 0x12345678);
    check("exit-saves-cs", trap.cs & 0xffff, CS86);
    check("exit-saves-ss-esp", (trap.ss & 0xffff) << 16 | trap.esp, SS86 << 16 | 0x1000);
    check("exit-saves-ds-es", (trap.ds & 0xffff) << 16 | (trap.es & 0xffff), DS86 << 16 | 0x4000);
    check("exit-saves-fs-gs", (trap.fs & 0xffff) << 16 | (trap.gs & 0xffff), 0x50006000);
    check("exit-saves-eflags-with-vm", trap.eflags & ~RF, 2 | VM | IOPL(3) | IF | CF);
    check("exit-keeps-eax", trap.eax, 0x12345678);
    check("exit-frame-of-nine-dwords-at-esp0", trap.frame_esp, (u32)trap_stack_top);

    // What the handler finds: null segment registers, flags cleared, CPL 0.
    set_idt(VEC, gate(KCODE, (u32)ring_return, A_TRAP32 | DPL(3), 0));
    RUN(int_n, IOPL(3) | NT | CF);
    check_trap("handler-arrives", RET_VECTOR, NO_ERROR, (u32)ring_return + 2);
    check("handler-data-segments-are-null", trap.ds | trap.es | trap.fs | trap.gs, 0);
    check("handler-flags", trap.eflags, 2 | IOPL(3) | CF);
    check("handler-cs-ss", trap.cs | trap.ss << 16, KCODE | KDATA << 16);
    const u32 *f = (const u32 *)trap.esp;
    check("handler-frame-eip-cs", f[0] | f[1] << 16, 2 | CS86 << 16);
    check("handler-frame-eflags", f[2], 2 | VM | IOPL(3) | NT | CF);
    check("handler-frame-esp-ss", f[3] | f[4] << 16, 0x1000 | SS86 << 16);
    check("handler-frame-es-ds", f[5] | f[6] << 16, 0x4000 | DS86 << 16);
    check("handler-frame-fs-gs", f[7] | f[8] << 16, 0x60005000);
    check("handler-frame-size", (u32)trap_stack_top - trap.esp, 36);
    // A 16-bit gate pushes words.
    set(SCRATCH(1), desc((u32)ring_return, 0xffff, A_XR, BIG));
    set_idt(VEC, gate(SCRATCH(1), 0, A_INT16 | DPL(3), 0));
    RUN(int_n, IOPL(3));
    check_trap("handler-16-bit-gate", RET_VECTOR, NO_ERROR, 2);
    check("handler-16-bit-gate-frame-size", (u32)trap_stack_top - trap.esp, 18);

    // The handler must be in ring 0, nonconforming.
    static const u32 wrong[] = {CODE1, UCODE, CONF0};
    for (u32 n = 0; n < 3; n++) {
        set_idt(VEC, gate(wrong[n], (u32)ring_return, A_INT32 | DPL(3), 0));
        ENDS(name_of("handler-in-%s", n == 0 ? "ring-1" : n == 1 ? "ring-3" : "conforming-code"), int_n, IOPL(3), GP,
             wrong[n] & ~3, 0);
    }
    default_idt(VEC);
}

static void iopl_sensitive(void) {
    set_idt(VEC, gate(KCODE, stub(VEC), A_INT32 | DPL(3), 0));
    for (u32 iopl = 0; iopl < 3; iopl++) {
        u32 f = IOPL(iopl);
        ENDS(name_of("int-n-iopl-%u", iopl), int_n, f, GP, 0, 0);
        ENDS(name_of("cli-iopl-%u", iopl), cli_, f, GP, 0, 0);
        ENDS(name_of("sti-iopl-%u", iopl), sti_, f, GP, 0, 0);
        ENDS(name_of("pushf-iopl-%u", iopl), pushf_, f, GP, 0, 0);
        ENDS(name_of("pushfd-iopl-%u", iopl), pushfd_, f, GP, 0, 0);
        ENDS(name_of("popf-iopl-%u", iopl), popf_, f, GP, 0, 1, c.eax = 2);
        ENDS(name_of("iret-iopl-%u", iopl), iret_, f, GP, 0, 5, c.eax = 2);
    }
    ENDS("int3-is-not-iopl-sensitive", int_3, IOPL(0), BP, NO_ERROR, 1);
    ENDS("into-is-not-iopl-sensitive", into_, IOPL(0) | OF, OF_, NO_ERROR, 1);
    ENDS("int-n-iopl-3", int_n, IOPL(3), VEC, NO_ERROR, 2);
    ENDS("int-n-dpl-0-gate", int_dpl_0, IOPL(3), GP, VEC0 * 8 + 2, 0);
    RUNS("cli-iopl-3", cli_, IOPL(3) | IF);
    check("cli-iopl-3-clears-if", trap.eflags & IF, 0);
    RUNS("sti-iopl-3", sti_, IOPL(3));
    check("sti-iopl-3-sets-if", trap.eflags & IF, IF);
    RUNS("pushf-iopl-3", pushf_, IOPL(3) | IF | CF, c.eax = 0xffff0000);
    check("pushf-iopl-3-image", trap.eax, 0xffff0000 | 2 | IOPL(3) | IF | CF);
    RUNS("pushfd-iopl-3", pushfd_, IOPL(3) | CF | AC);
    check("pushfd-shows-vm-and-rf-clear", trap.eax, 2 | IOPL(3) | CF | AC);
    RUNS("popf-iopl-3", popf_, IOPL(3), c.eax = 2 | IF | OF);
    check("popf-iopl-3-loads-if-keeps-iopl", trap.eflags & ~RF, 2 | VM | IOPL(3) | IF | OF);
    RUNS("popfd-iopl-3", popfd_, IOPL(3) | IF, c.eax = 2 | AC | CF);
    check("popfd-iopl-3-keeps-vm-and-iopl", trap.eflags & ~RF, 2 | VM | IOPL(3) | AC | CF);
    RUNS("iret-iopl-3", iret_, IOPL(3), c.eax = 2 | IF | CF);
    check("iret-iopl-3-loads-if-keeps-iopl", trap.eflags & ~RF, 2 | VM | IOPL(3) | IF | CF);
    RUNS("iretd-iopl-3", iretd_, IOPL(3), c.eax = 2 | SF);
    check("iretd-iopl-3-keeps-vm-and-iopl", trap.eflags & ~RF, 2 | VM | IOPL(3) | SF);
    default_idt(VEC);
}

static void io(void) {
    // The bitmap decides, IOPL does not.
    tss0.bitmap[0x80 / 8] = 0xfe;
    RUNS("in-allowed-with-iopl-0", in_al, IOPL(0), c.edx = 0x80);
    RUNS("out-allowed-with-iopl-0", out_al, IOPL(0), c.edx = 0x80);
    ENDS("in-denied-with-iopl-3", in_al, IOPL(3), GP, 0, 0, c.edx = 0x81);
    ENDS("out-denied-with-iopl-3", out_al, IOPL(3), GP, 0, 0, c.edx = 0x81);
    tss0.bitmap[0x80 / 8] = 0xff;
}

static void instructions(void) {
    ENDS("arpl-is-ud", arpl_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("lar-is-ud", lar_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("lsl-is-ud", lsl_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("verr-is-ud", verr_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("sldt-is-ud", sldt_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("str-is-ud", str_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("lldt-is-ud", lldt_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("ltr-is-ud", ltr_, IOPL(3), UD, NO_ERROR, 0);
    ENDS("hlt-is-gp", nothing, IOPL(3), GP, 0, 0);
    ENDS("lgdt-is-gp", lgdt_, IOPL(3), GP, 0, 0);
    ENDS("mov-to-cr-is-gp", mov_cr, IOPL(3), GP, 0, 0);
    ENDS("mov-from-cr-is-gp", read_cr, IOPL(3), GP, 0, 0);
    ENDS("clts-is-gp", clts_, IOPL(3), GP, 0, 0);
    ENDS("mov-to-dr-is-gp", mov_dr, IOPL(3), GP, 0, 0);
    RUNS("smsw-is-allowed", smsw_, IOPL(0));
}

static void memory(void) {
    *(volatile u16 *)0x34568 = 0xbeef;
    RUNS("segment-load", segments, 0, c.eax = 0x3456, c.ebx = 8);
    check("segment-load-base-is-selector-times-16", trap.ecx & 0xffff, 0xbeef);
    check("segment-load-selector", trap.edx & 0xffff, 0x3456);
    *(volatile u16 *)0x100004 = *(volatile u16 *)0x100004;
    RUNS("base-beyond-1-mib", segments, 0, c.eax = 0xffff, c.ebx = 0x14);
    check("base-beyond-1-mib-does-not-wrap", trap.ecx & 0xffff, *(volatile u16 *)0x100004);
    RUNS("far-call", far_call, 0);
    check("far-call-pushed", (trap.eax & 0xffff) | trap.ebx << 16, 5 | CS86 << 16);
    RUNS("word-at-fffe", read_word, 0, c.ebx = 0xfffe);
    ENDS("word-at-ffff-read", read_word, 0, GP, 0, 0, c.ebx = 0xffff);
    ENDS("word-at-ffff-write", write_word, 0, GP, 0, 0, c.ebx = 0xffff);
    ENDS("word-at-ffff-on-the-stack-segment", read_word_bp, 0, SS, 0, 0, c.ebp = 0xffff);
    ENDS("push-with-sp-1", push_odd, 0, SS, 0, 0, c.esp = 1);
    ENDS("32-bit-address-beyond-64k", read_32, 0, GP, 0, 0, c.ebx = 0x10000);
    RUNS("32-bit-address-below-64k", read_32, 0, c.ebx = 0x1234);
    RUNS("32-bit-operands-on-a-16-bit-stack", stack_16, 0, c.esi = 0x89abcdef);
    check("32-bit-operands-on-a-16-bit-stack-value", trap.edi, 0x89abcdef);
    // IP runs to FFFFh and no further.
    struct context c = v86(nothing, nothing_end, 0);
    *(volatile u8 *)((CS86 << 4) + 0xffff) = 0x90;
    c.eip = 0xffff;
    go(&c);
    check_trap("ip-beyond-ffff", GP, 0, 0);
}

static void tasks(void) {
    // Into virtual-8086 mode by a task switch, and out of it through a task gate.
    copy_low(CS86 << 4, int_n, int_n_end);
    memset(&task, 0, sizeof task);
    task.cs = CS86, task.ss = SS86, task.ds = DS86, task.es = 0x4000, task.fs = 0x5000, task.gs = 0x6000;
    task.esp = 0x800, task.eflags = 2 | VM | IOPL(3) | CF, task.iomap = 104;
    task.ss0 = KDATA, task.esp0 = (u32)trap_stack_top;
    set(SCRATCH(0), desc((u32)&task, 103, A_TSS32, 0));
    set_idt(VEC, gate(KCODE, stub(VEC), A_INT32 | DPL(3), 0));
    CATCH(asm volatile("ljmp $0x100, $0"));
    check_trap("task-enters-vm86", VEC, NO_ERROR, 0);
    check("task-enters-vm86-cs-eip", trap.cs << 16 | trap.eip, CS86 << 16 | 2);
    check("task-enters-vm86-eflags", trap.eflags, 2 | VM | IOPL(3) | CF);
    check("task-enters-vm86-ds-gs", trap.ds << 16 | trap.gs, DS86 << 16 | 0x6000);
    load_tr(TSS0);
    memset(&task, 0, sizeof task);
    task.cs = KCODE, task.ss = task.ds = task.es = KDATA, task.esp = (u32)trap_stack_top, task.eflags = 2;
    task.eip = (u32)ring_return, task.iomap = 104;
    set(SCRATCH(0), desc((u32)&task, 103, A_TSS32, 0));
    set_idt(VEC, gate(SCRATCH(0), 0, A_TASK | DPL(3), 0));
    RUN(int_n, IOPL(3) | SF);
    check_trap("task-gate-leaves-vm86", RET_VECTOR, NO_ERROR, (u32)ring_return + 2);
    check("task-gate-saves-vm86-flags", tss0.eflags, 2 | VM | IOPL(3) | SF);
    check("task-gate-saves-vm86-segments", (tss0.ds & 0xffff) | tss0.cs << 16, DS86 | CS86 << 16);
    load_tr(TSS0);
    default_idt(VEC);
}

// ---- virtual-mode extensions ----

// The redirection bitmap is the 32 bytes below the I/O bitmap: give it its own room.
static void with_redirection(void) {
    tss0.iomap = 104 + 32;
    memset(tss0.bitmap, 0xff, 32);
    tss0.bitmap[VEC / 8] &= ~(1 << VEC % 8); // VEC goes to the 8086 program
}

CODE16(vme_handler, "movw %sp, %bp; movw (%bp), %ax; movw 2(%bp), %bx; movw 4(%bp), %cx");

static void vme(void) {
    if (!has(F_VME)) {
        skip("vme", "CPUID has no VME");
        skip("pvi", "CPUID has no VME");
        return;
    }
    set_cr4(cr4() | CR4_VME);
    with_redirection();
    copy_low(0x7000, vme_handler, vme_handler_end);
    ((volatile u32 *)0)[VEC] = 0x07000000; // 0700:0000
    for (u32 iopl = 0; iopl < 4; iopl += 3) {
        u32 virtual = iopl == 3 ? IF : VIF;
        RUN(int_n, IOPL(iopl) | virtual | CF | NT);
        check_trap(name_of("vme-redirected-iopl-%u", iopl), GP, 0, LENGTH(vme_handler));
        check(name_of("vme-redirected-iopl-%u-cs", iopl), trap.cs, 0x700);
        check(name_of("vme-redirected-iopl-%u-sp", iopl), trap.esp, 0x1000 - 6);
        check(name_of("vme-redirected-iopl-%u-saved-ip-cs", iopl), (trap.eax & 0xffff) | trap.ebx << 16, 2 | CS86 << 16);
        check(name_of("vme-redirected-iopl-%u-saved-flags", iopl), trap.ecx & 0xffff, 2 | CF | NT | IF | IOPL(3));
        check(name_of("vme-redirected-iopl-%u-flags-inside", iopl), trap.eflags & ~RF, 2 | VM | IOPL(iopl) | CF | NT);
    }
    // A bit that is set: through the IDT with IOPL 3, #GP(0) below.
    set_idt(VEC, gate(KCODE, stub(VEC), A_INT32 | DPL(3), 0));
    tss0.bitmap[VEC / 8] |= 1 << VEC % 8;
    ENDS("vme-not-redirected-iopl-3", int_n, IOPL(3), VEC, NO_ERROR, 2);
    ENDS("vme-not-redirected-iopl-0", int_n, IOPL(0), GP, 0, 0);
    default_idt(VEC);

    RUNS("vme-cli", cli_, IOPL(0) | IF | VIF);
    check("vme-cli-clears-vif", trap.eflags & (IF | VIF), IF);
    RUNS("vme-sti", sti_, IOPL(0) | IF);
    check("vme-sti-sets-vif", trap.eflags & (IF | VIF), IF | VIF);
    ENDS("vme-sti-with-vip", sti_, IOPL(0) | VIP, GP, 0, 0);
    RUNS("vme-sti-with-vip-iopl-3", sti_, IOPL(3) | VIP);
    RUNS("vme-pushf", pushf_, IOPL(0) | VIF | CF);
    check("vme-pushf-shows-vif-as-if", trap.eax & 0xffff, 2 | IOPL(3) | IF | CF);
    RUNS("vme-pushf-vif-clear", pushf_, IOPL(0) | IF);
    check("vme-pushf-vif-clear-image", trap.eax & 0xffff, 2 | IOPL(3));
    ENDS("vme-pushfd", pushfd_, IOPL(0), GP, 0, 0);
    ENDS("vme-popfd", popfd_, IOPL(0), GP, 0, 2, c.eax = 2);
    RUNS("vme-popf", popf_, IOPL(0) | IF, c.eax = 2 | IF | CF);
    check("vme-popf-loads-vif", trap.eflags & ~RF, 2 | VM | IF | VIF | CF);
    ENDS("vme-popf-if-with-vip", popf_, IOPL(0) | VIP, GP, 0, 1, c.eax = 2 | IF);
    ENDS("vme-popf-tf", popf_, IOPL(0), GP, 0, 1, c.eax = 2 | TF);
    RUNS("vme-iret", iret_, IOPL(0), c.eax = 2 | IF | SF);
    check("vme-iret-loads-vif", trap.eflags & ~RF, 2 | VM | VIF | SF);
    ENDS("vme-iret-if-with-vip", iret_, IOPL(0) | VIP, GP, 0, 5, c.eax = 2 | IF);
    ENDS("vme-iret-tf", iret_, IOPL(0), GP, 0, 5, c.eax = 2 | TF);
    set_cr4(cr4() & ~CR4_VME);
    ENDS("vme-off-again", cli_, IOPL(0), GP, 0, 0);
    tss0.iomap = 104;
}

CODE(cli32, "cli");
CODE(sti32, "sti");
CODE(pushf32, "pushfl; popl %eax");

static void pvi(void) {
    if (!has(F_VME))
        return;
    expect_in_ring("pvi-off-cli", 3, cli32, GP, 0, 0);
    set_cr4(cr4() | CR4_PVI);
    ring_eflags = 2 | VIF | IF;
    expect_in_ring("pvi-cli", 3, cli32, RET_VECTOR, NO_ERROR, ANYWHERE);
    check("pvi-cli-clears-vif", trap.eflags, 2 | IF);
    ring_eflags = 2;
    expect_in_ring("pvi-sti", 3, sti32, RET_VECTOR, NO_ERROR, ANYWHERE);
    check("pvi-sti-sets-vif", trap.eflags, 2 | VIF);
    ring_eflags = 2 | VIP;
    expect_in_ring("pvi-sti-with-vip", 3, sti32, GP, 0, 0);
    ring_eflags = 2 | VIF;
    expect_in_ring("pvi-pushf", 3, pushf32, RET_VECTOR, NO_ERROR, ANYWHERE);
    check("pvi-pushf-shows-the-flags-themselves", trap.eax, 2 | VIF);
    ring_eflags = 2;
    expect_in_ring("pvi-not-in-ring-2", 2, cli32, GP, 0, 0);
    set_cr4(cr4() & ~CR4_PVI);
}

void guest(void) {
    entry_and_exit();
    iopl_sensitive();
    io();
    instructions();
    memory();
    tasks();
    vme();
    pvi();
}
