// Hardware task switching: JMP, CALL, interrupt through a task gate, IRET with NT; 32- and 16-bit TSS; busy bits, back link,
// NT, TS, CR3, LDT, T bit, DR7; and every refusal. SDM 3A "Task Management", above all "Task Switching" and its table of
// checks, "Task Linking"; SDM 2A "CALL" and "INT n", TASK-GATE and TASK-STATE-SEGMENT in Operation.
#include "lib/tasks.h"

#define SEG SCRATCH(4)
#define STACK16 SCRATCH(5)

static u32 directory2[1024] __attribute__((aligned(4096)));

CODE(call_then_home, "lcall *far_pointer; movl $0x600d, %eax");
CODE(int_then_home, "int $0x50; movl $0x600d, %eax");
CODE(call_b_then_return, "lcall $0x108, $0; orl $4, log; iretl; orl $16, log; iretl");
CODE(log_and_return, "orl $2, log; iretl; orl $8, log; iretl");
CODE(call_twice, "orl $1, log; lcall *far_pointer; lcall *far_pointer; orl $32, log");
CODE(read_window, "movl 0x40000000, %eax");
CODE(hlt_, "hlt");
__attribute__((used)) static u32 log;

static u32 task_register(void) {
    u32 r = 0;
    asm volatile("str %w0" : "+r"(r));
    return r;
}

static u32 busy(u32 selector) { return access_byte(selector) >> 1 & 1; }

static void home(const char *name) { check_trap(name, RET_VECTOR, NO_ERROR, (u32)ring_return + 2); }

static struct context leave(void (*fn)(void)) {
    struct context x = ring_context(0, fn);
    x.eax = 0xa1, x.ebx = 0xb1, x.ecx = 0xc1, x.edx = 0xd1, x.esi = 0x51, x.edi = 0xd2, x.ebp = 0xb2;
    x.es = UDATA, x.fs = RODATA, x.gs = 0, x.eflags = 2 | CF | OF;
    return x;
}

static void jump_to_a_task(void) {
    reset();
    a.eax = 1, a.ecx = 2, a.edx = 3, a.ebx = 4, a.ebp = 6, a.esi = 7, a.edi = 8;
    a.es = UDATA, a.fs = CONF0, a.gs = 0, a.eflags = 2 | SF | DF, a.link = 0x7777;
    memset(&tss0.eip, 0xee, 64);
    tss0.link = 0xeeeeeeee, tss0.ldt = 0xeeee;
    struct context x = leave(far_jump);
    go(&x);
    home("jmp-arrives");
    check("jmp-loads-general-registers",
          trap.eax | trap.ecx << 4 | trap.edx << 8 | trap.ebx << 12 | trap.ebp << 16 | trap.esi << 20 | trap.edi << 24,
          0x08764321);
    check("jmp-loads-esp", trap.esp, a.esp);
    check("jmp-loads-segments", trap.ds | trap.es << 8 | trap.fs << 16 | trap.gs << 24,
          KDATA | UDATA << 8 | CONF0 << 16);
    check("jmp-loads-eflags", trap.eflags, 2 | SF | DF);
    check("jmp-loads-tr", task_register(), TA);
    check("jmp-sets-ts", cr0() & TS_BIT, TS_BIT);
    check("jmp-moves-busy", busy(TSS0) | busy(TA) << 1, 2);
    check("jmp-leaves-the-link-of-the-new-tss", a.link, 0x7777);
    check("jmp-saves-eip-behind-the-jump", tss0.eip, (u32)far_jump + 6);
    check("jmp-saves-eflags", tss0.eflags, 2 | CF | OF);
    check("jmp-saves-eax-ecx-edx-ebx", tss0.eax | tss0.ecx << 8 | tss0.edx << 16 | tss0.ebx << 24, 0xb1d1c1a1);
    check("jmp-saves-ebp-esi-edi", tss0.ebp | tss0.esi << 8 | tss0.edi << 16, 0xd251b2);
    check("jmp-saves-esp", tss0.esp, x.esp);
    check("jmp-saves-cs-ds-es", (tss0.cs & 0xffff) | (tss0.ds & 0xffff) << 8 | (tss0.es & 0xffff) << 16,
          KCODE | KDATA << 8 | UDATA << 16);
    check("jmp-saves-fs-ss-gs", (tss0.fs & 0xffff) | (tss0.ss & 0xffff) << 8 | (tss0.gs & 0xffff) << 16,
          RODATA | KDATA << 8);
    check("jmp-does-not-write-the-static-fields", tss0.link == 0xeeeeeeee && tss0.ldt == 0xeeee && tss0.ss0 == KDATA, 1);
    tss0.ldt = 0;

    reset();
    prepare(&a, 3, HOME, 0);
    set(TA, desc((u32)&a, 103, A_TSS32 | DPL(3), 0));
    in_ring(3, far_jump);
    home("jmp-between-ring-3-tasks");
    check("jmp-between-ring-3-tasks-saves-cs", tss0.cs & 0xffff, UCODE);
    check("jmp-between-ring-3-tasks-loads-cs", trap.cs, UCODE);
    reset();
    prepare(&a, 1, HOME, 0);
    in_ring(0, far_jump);
    home("jmp-to-a-ring-1-task");
    check("jmp-to-a-ring-1-task-cs", trap.cs, CODE1);
    reset();
    set(TA, desc((u32)&a, 0, A_TSS32, G)); // 4 KiB
    in_ring(0, far_jump);
    home("jmp-to-a-page-granular-tss");
    reset();
    set(SEG, desc(0, 0xfffff, A_RW, G | BIG));
    a.fs = SEG;
    in_ring(0, far_jump);
    check("jmp-sets-accessed-in-the-descriptors-it-loads", access_byte(SEG), A_RW | 1);
    // A task gate in the GDT; the offset and the TSS's own dpl do not matter.
    reset();
    set(GATE, gate(TA, 0, A_TASK | DPL(3), 0));
    far_pointer.selector = GATE | 3;
    in_ring(3, far_jump);
    home("jmp-through-a-task-gate-from-ring-3");
    // A task that jumps to itself finds itself busy.
    reset();
    prepare(&a, 0, far_jump, 0);
    far_pointer.selector = TA;
    x = ring_context(0, far_jump);
    go(&x);
    check_trap("jmp-to-oneself-is-refused", GP, TA, (u32)far_jump);
}

static void call_and_return(void) {
    reset();
    a.eflags = 2 | ZF;
    struct context x = leave(far_call);
    go(&x);
    home("call-arrives");
    check("call-sets-nt-in-the-new-task", trap.eflags, 2 | ZF | NT);
    check("call-writes-the-link", a.link & 0xffff, TSS0);
    check("call-keeps-both-busy", busy(TSS0) | busy(TA) << 1, 3);
    check("call-saves-eflags-without-nt", tss0.eflags, 2 | CF | OF);
    check("call-pushes-nothing", trap.esp, a.esp);

    reset();
    prepare(&a, 0, iret_, 0);
    x = leave(call_then_home);
    go(&x);
    check_trap("iret-returns-to-the-caller", RET_VECTOR, NO_ERROR, (u32)call_then_home_end);
    check("iret-continues-behind-the-call", trap.eax, 0x600d);
    check("iret-restores-registers", trap.ebx | trap.ecx << 8 | trap.edx << 16, 0xd1c1b1);
    check("iret-restores-flags", trap.eflags, 2 | CF | OF);
    check("iret-moves-busy", busy(TA) | busy(TSS0) << 1, 2);
    check("iret-restores-tr", task_register(), TSS0);
    check("iret-saves-nt-clear-in-the-left-task", a.eflags & NT, 0);
    check("iret-saves-eip-behind-itself", a.eip, (u32)iret_ + 1);
    check("iret-sets-ts", cr0() & TS_BIT, TS_BIT);

    // 0 calls A, A calls B, both return; called again they continue behind their IRET.
    reset();
    prepare(&a, 0, call_b_then_return, 0);
    prepare(&b, 0, log_and_return, 1);
    log = 0;
    in_ring(0, call_twice);
    check("nested-calls-run-in-order", log, 1 | 2 | 4 | 16 | 32);
    check("nested-calls-leave-only-the-first-busy", busy(TSS0) | busy(TA) << 1 | busy(TB) << 2, 1);
    check("nested-calls-links", (a.link & 0xffff) | b.link << 16, TSS0 | TA << 16);

    // IRET with NT set by hand goes to whatever busy TSS the link names.
    reset();
    prepare(&b, 0, HOME, 1);
    set(TB, desc((u32)&b, 103, A_TSS32_BUSY, 0));
    tss0.link = TB;
    x = ring_context(0, iret_);
    x.eflags = 2 | NT | CF;
    go(&x);
    home("iret-by-hand");
    check("iret-by-hand-saves-nt-clear", tss0.eflags, 2 | CF);
    check("iret-by-hand-tr", task_register(), TB);
    check("iret-by-hand-busy", busy(TSS0) | busy(TB) << 1, 2);
}

static void interrupts(void) {
    reset();
    set_idt(VEC, gate(TA, 0x12345678, A_TASK | DPL(3), 0));
    struct context x = leave(int_50);
    go(&x);
    home("int-arrives");
    check("int-sets-nt", trap.eflags, 2 | NT);
    check("int-writes-the-link", a.link & 0xffff, TSS0);
    check("int-saves-eip", tss0.eip, (u32)int_50 + 2);
    check("int-saves-eflags", tss0.eflags, 2 | CF | OF);
    reset();
    prepare(&a, 0, iret_, 0);
    in_ring(3, int_then_home);
    check_trap("int-from-ring-3-and-iret", RET_VECTOR, NO_ERROR, (u32)int_then_home_end);
    check("int-from-ring-3-and-iret-cs", trap.cs, UCODE);
    // IF is the new task's own: a task gate neither sets nor clears it.
    reset();
    a.eflags = 2 | IF;
    in_ring(0, int_50);
    check("int-loads-if-from-the-tss", trap.eflags, 2 | IF | NT);
    // A fault through a task gate: its error code is on the new task's stack.
    reset();
    set_idt(GP, gate(TA, 0, A_TASK, 0));
    in_ring(3, hlt_);
    home("fault-through-a-task-gate");
    check("fault-through-a-task-gate-error-code", *(u32 *)trap.esp, 0);
    check("fault-through-a-task-gate-pushes-4", a.esp - trap.esp, 4);
    check("fault-through-a-task-gate-saves-eip", tss0.eip, (u32)hlt_);
    check("fault-through-a-task-gate-saves-rf", tss0.eflags & RF, RF);
    reset();
    set(TA, desc((u32)&small, 43, A_TSS16, 0));
    set(SEG, desc((u32)ring_return, 0xffff, A_XR, BIG));
    set(STACK16, desc((u32)stacks[2], sizeof stacks[2] - 1, A_RW, 0));
    small = (struct tss16){.cs = SEG, .ss = STACK16, .ds = KDATA, .es = KDATA, .sp = 0x100, .flags = 2};
    expect_in_ring("fault-through-a-16-bit-task-gate", 3, hlt_, RET_VECTOR, NO_ERROR, ANYWHERE);
    check("fault-through-a-16-bit-task-gate-pushes-2", trap.esp & 0xffff, 0x100 - 2);
    default_idt(GP);
}

static void sixteen_bit(void) {
    reset();
    set(TA, desc((u32)&small, 43, A_TSS16, 0));
    set(SEG, desc((u32)ring_return, 0xffff, A_XR, BIG));
    set(STACK16, desc((u32)stacks[2], sizeof stacks[2] - 1, A_RW, 0));
    small = (struct tss16){.ip = 0, .cs = SEG, .ss = STACK16, .ds = KDATA, .es = UDATA, .sp = 0x200, .flags = 2 | SF,
                           .ax = 0x1111, .cx = 0x2222, .dx = 0x3333, .bx = 0x4444, .bp = 0x5555, .si = 0x6666,
                           .di = 0x7777, .link = 0x9999, .beyond = 0xbbbb};
    struct context x = leave(far_call);
    x.fs = KDATA, x.gs = KDATA;
    go(&x);
    check_trap("tss16-call-arrives", RET_VECTOR, NO_ERROR, 2);
    check("tss16-loads-ax-cx", (trap.eax & 0xffff) | trap.ecx << 16, 0x22221111);
    check("tss16-loads-dx-bx", (trap.edx & 0xffff) | trap.ebx << 16, 0x44443333);
    check("tss16-loads-bp-si", (trap.ebp & 0xffff) | trap.esi << 16, 0x66665555);
    check("tss16-loads-di-sp", (trap.edi & 0xffff) | trap.esp << 16, 0x02007777);
    check("tss16-loads-segments", trap.ds | trap.es << 8, KDATA | UDATA << 8);
    check("tss16-nulls-fs-and-gs", trap.fs | trap.gs, 0);
    check("tss16-loads-flags-and-sets-nt", trap.eflags & 0xffff, 2 | SF | NT);
    check("tss16-link", small.link, TSS0);
    check("tss16-busy", access_byte(TA), A_TSS16_BUSY);

    // From the 16-bit task to B: words are saved, and nothing behind DS.
    reset();
    set(TA, desc((u32)&small, 43, A_TSS16, 0));
    memset(&small, 0xee, sizeof small);
    small.ldt = 0;
    load_tr(TA);
    far_pointer.selector = TB;
    x = leave(far_jump);
    x.eax = 0x99991234, x.edi = 0x99995678;
    go(&x);
    home("tss16-to-tss32");
    check("tss16-saves-ax-di", small.ax | small.di << 16, 0x56781234);
    check("tss16-saves-ip", small.ip, ((u32)far_jump + 6) & 0xffff);
    check("tss16-saves-flags", small.flags, 2 | CF | OF);
    check("tss16-saves-sp", small.sp, x.esp & 0xffff);
    check("tss16-saves-cs-ds", small.cs | small.ds << 16, KCODE | KDATA << 16);
    check("tss16-does-not-save-ldt-or-beyond", small.ldt | small.beyond << 16, 0xeeee0000);
    check("tss16-does-not-write-the-link", small.link, 0xeeee);

    // CALL to it and IRET back.
    reset();
    set(TA, desc((u32)&small, 43, A_TSS16, 0));
    set(SEG, desc((u32)iret_, 0xffff, A_XR, BIG));
    small = (struct tss16){.cs = SEG, .ss = STACK16, .ds = KDATA, .es = UDATA, .sp = 0x200, .flags = 2};
    in_ring(0, call_then_home);
    check_trap("tss16-call-and-iret", RET_VECTOR, NO_ERROR, (u32)call_then_home_end);
    check("tss16-iret-saves-nt-clear", small.flags, 2);
}

static void system_state(void) {
    // LDT
    reset();
    set(LDT_SEL, desc((u32)ldt, sizeof ldt - 1, A_LDT, 0));
    set(0x0c, desc((u32)&log, 3, A_RW, BIG));
    a.ldt = LDT_SEL, a.fs = 0x0c;
    in_ring(0, far_jump);
    home("ldt-arrives");
    u32 ldtr = 0;
    asm volatile("sldt %w0" : "+r"(ldtr));
    check("ldt-loads-ldtr", ldtr, LDT_SEL);
    check("ldt-used-for-segments", trap.fs, 0x0c);
    // T bit: a trap in the new task before its first instruction.
    reset();
    a.trap = 1;
    set_dr6(0xffff0ff0);
    in_ring(0, far_jump);
    check_trap("t-bit", DB, NO_ERROR, (u32)ring_return);
    check("t-bit-sets-bt", dr6() & 0xe00f, 0x8000);
    // DR7: the local enables end with the task.
    reset();
    set_dr7(0x400 | 0x1 | 0x8 | 0x100 | 0x200);
    in_ring(0, far_jump);
    check("dr7-local-enables-are-cleared", dr7(), 0x400 | 0x8 | 0x200);
    set_dr7(0x400);
    // CR3, with fresh translations.
    paging_on();
    memcpy(directory2, page_directory, 4096);
    u32 *table = new_table();
    directory2[WINDOW >> 22] = (u32)table | P | W | U;
    table[0] = frame(1) | P | W | U;
    map(WINDOW, frame(0), P | W | U);
    *(u32 *)frame(0) = 0x0f0f, *(u32 *)frame(1) = 0x1f1f;
    reset();
    prepare(&a, 0, read_window, 0);
    a.cr3 = (u32)directory2;
    tss0.cr3 = 0xbad;
    check("cr3-before", *(volatile u32 *)WINDOW, 0x0f0f);
    in_ring(0, far_jump);
    check("cr3-is-loaded", cr3(), (u32)directory2);
    check("cr3-new-translations", trap.eax, 0x1f1f);
    check("cr3-is-not-saved", tss0.cr3, 0xbad);
    set_cr3((u32)page_directory);
    paging_off();
}

// ---- refusals ----

// Runs fn (EFLAGS as given) and expects the fault, in the old or in the new task.
static void refused(const char *name, void (*fn)(void), int ring, u32 flags, u32 vector, u32 error, u32 task) {
    task_handlers(1);
    struct context x = ring_context(ring, fn);
    x.eflags = flags;
    go(&x);
    check_trap(name, vector, error, 0);
    check(name_of("%s-task", name), handlers[vector - TS].link & 0xffff, task);
    if (task == OLD_TASK)
        check(name_of("%s-eip", name), tss0.eip, (u32)fn);
    task_handlers(0);
    reset();
}

static void descriptor_checks(void) {
    for (u32 n = 0; n < 2; n++) {
        void (*fn)(void) = n ? far_call : far_jump;
        const char *how = n ? "call" : "jmp";
        reset();
        set(TA, desc((u32)&a, 103, A_TSS32 | DPL(2), 0));
        refused(name_of("%s-tss-dpl-below-cpl", how), fn, 3, 2, GP, TA, OLD_TASK);
        set(TA, desc((u32)&a, 103, A_TSS32 | DPL(2), 0));
        far_pointer.selector = TA | 3;
        refused(name_of("%s-tss-dpl-below-rpl", how), fn, 0, 2, GP, TA, OLD_TASK);
        set(TA, desc((u32)&a, 103, A_TSS32_BUSY, 0));
        refused(name_of("%s-tss-busy", how), fn, 0, 2, GP, TA, OLD_TASK);
        set(TA, desc((u32)&a, 103, A_TSS32 & 0x7f, 0));
        refused(name_of("%s-tss-absent", how), fn, 0, 2, NP, TA, OLD_TASK);
        set(TA, desc((u32)&a, 102, A_TSS32, 0));
        refused(name_of("%s-tss-too-short", how), fn, 0, 2, TS, TA, OLD_TASK);
        set(TA, desc((u32)&small, 42, A_TSS16, 0));
        refused(name_of("%s-tss16-too-short", how), fn, 0, 2, TS, TA, OLD_TASK);
        load_ldt();
        set(0x0c, desc((u32)&a, 103, A_TSS32, 0));
        far_pointer.selector = 0x0c;
        refused(name_of("%s-tss-in-the-ldt", how), fn, 0, 2, GP, 0x0c, OLD_TASK);
        // Through a gate.
        far_pointer.selector = GATE;
        set(GATE, gate(TA, 0, A_TASK | DPL(2), 0));
        refused(name_of("%s-gate-dpl-below-cpl", how), fn, 3, 2, GP, GATE, OLD_TASK);
        far_pointer.selector = GATE;
        set(GATE, gate(TA, 0, A_TASK & 0x7f, 0));
        refused(name_of("%s-gate-absent", how), fn, 0, 2, NP, GATE, OLD_TASK);
        far_pointer.selector = GATE;
        set(GATE, gate(0, 0, A_TASK, 0));
        refused(name_of("%s-gate-to-null", how), fn, 0, 2, GP, 0, OLD_TASK);
        far_pointer.selector = GATE;
        set(GATE, gate(0x0c, 0, A_TASK, 0));
        refused(name_of("%s-gate-to-the-ldt", how), fn, 0, 2, GP, 0x0c, OLD_TASK);
        far_pointer.selector = GATE;
        set(GATE, gate(KDATA, 0, A_TASK, 0));
        refused(name_of("%s-gate-to-data", how), fn, 0, 2, GP, KDATA, OLD_TASK);
        far_pointer.selector = GATE;
        set(GATE, gate(0x400, 0, A_TASK, 0));
        refused(name_of("%s-gate-beyond-the-gdt", how), fn, 0, 2, GP, 0x400, OLD_TASK);
        far_pointer.selector = GATE;
        set(GATE, gate(TA, 0, A_TASK, 0));
        set(TA, desc((u32)&a, 103, A_TSS32 & 0x7f, 0));
        refused(name_of("%s-gate-to-an-absent-tss", how), fn, 0, 2, NP, TA, OLD_TASK);
    }
    set_idt(VEC, gate(TA, 0, A_TASK | DPL(3), 0));
    set(TA, desc((u32)&a, 103, A_TSS32_BUSY, 0));
    refused("int-tss-busy", int_50, 0, 2, GP, TA, OLD_TASK);
    set(TA, desc((u32)&a, 103, A_TSS32 & 0x7f, 0));
    refused("int-tss-absent", int_50, 0, 2, NP, TA, OLD_TASK);
    set(TA, desc((u32)&a, 102, A_TSS32, 0));
    refused("int-tss-too-short", int_50, 0, 2, TS, TA, OLD_TASK);
    set_idt(VEC, gate(TA, 0, (A_TASK | DPL(3)) & 0x7f, 0));
    refused("int-gate-absent", int_50, 0, 2, NP, VEC * 8 + 2, OLD_TASK);
    set_idt(VEC, gate(TA, 0, A_TASK | DPL(2), 0));
    refused("int-gate-dpl", int_50, 3, 2, GP, VEC * 8 + 2, OLD_TASK);

    // IRET: the link must name a busy TSS in the GDT.
    tss0.link = TB;
    refused("iret-link-not-busy", iret_, 0, 2 | NT, TS, TB, OLD_TASK);
    tss0.link = KDATA;
    refused("iret-link-to-data", iret_, 0, 2 | NT, TS, KDATA, OLD_TASK);
    tss0.link = 0x400;
    refused("iret-link-beyond-the-gdt", iret_, 0, 2 | NT, TS, 0x400, OLD_TASK);
    tss0.link = 0x0c;
    refused("iret-link-to-the-ldt", iret_, 0, 2 | NT, TS, 0x0c, OLD_TASK);
    set(TB, desc((u32)&b, 103, A_TSS32_BUSY & 0x7f, 0));
    tss0.link = TB;
    refused("iret-link-absent", iret_, 0, 2 | NT, NP, TB, OLD_TASK);
    set(TB, desc((u32)&b, 102, A_TSS32_BUSY, 0));
    tss0.link = TB;
    refused("iret-link-too-short", iret_, 0, 2 | NT, TS, TB, OLD_TASK);
}

// The checks behind the commit point: the fault belongs to the new task.
static void register_checks(void) {
#define NEW(name, field, value, vector, error)                                                                         \
    reset();                                                                                                           \
    a.field = (value);                                                                                                 \
    refused("new-task-" name, far_jump, 0, 2, vector, error, NEW_TASK)
    set(SCRATCH(8), desc(0, 0xfffff, A_RW & 0x7f, G | BIG));
    set(SCRATCH(9), desc((u32)ldt, 0xff, A_LDT & 0x7f, 0));
    set(SCRATCH(10), desc(0, 0xfffff, A_XR | DPL(3), G | BIG));
    NEW("ldt-is-data", ldt, KDATA, TS, KDATA);
    NEW("ldt-absent", ldt, SCRATCH(9), TS, SCRATCH(9));
    NEW("ldt-beyond-the-gdt", ldt, 0x400, TS, 0x400);
    NEW("ldt-in-the-ldt", ldt, 0x0c, TS, 0x0c);
    NEW("cs-null", cs, 0, TS, 0);
    NEW("cs-is-data", cs, KDATA, TS, KDATA);
    reset();
    prepare(&a, 3, HOME, 0);
    a.cs = KCODE | 3;
    refused("new-task-cs-dpl-not-rpl", far_jump, 0, 2, TS, KCODE, NEW_TASK);
    NEW("cs-beyond-the-gdt", cs, 0x400, TS, 0x400);
    NEW("cs-absent", cs, NPCODE, NP, NPCODE);
    NEW("ss-null", ss, 0, TS, 0);
    NEW("ss-is-code", ss, KCODE, TS, KCODE);
    NEW("ss-read-only", ss, RODATA, TS, RODATA);
    NEW("ss-dpl-not-cpl", ss, UDATA & ~3, TS, UDATA & ~3);
    NEW("ss-rpl-not-cpl", ss, KDATA | 3, TS, KDATA);
    NEW("ss-absent", ss, SCRATCH(8), SS, SCRATCH(8));
    NEW("ss-beyond-the-gdt", ss, 0x400, TS, 0x400);
    NEW("ds-is-execute-only", ds, XCODE, TS, XCODE);
    NEW("es-is-system", es, TSS0, TS, TSS0);
    NEW("fs-beyond-the-gdt", fs, 0x400, TS, 0x400);
    NEW("gs-absent", gs, SCRATCH(8), NP, SCRATCH(8));
    NEW("ds-dpl-below-rpl", ds, KDATA | 3, TS, KDATA);
    set(SEG, desc(0, 0xfff, A_XR, BIG));
    NEW("eip-beyond-the-limit", cs, SEG, GP, 0);
}

void guest(void) {
    jump_to_a_task();
    call_and_return();
    interrupts();
    sixteen_bit();
    system_state();
    descriptor_checks();
    register_checks();
}
