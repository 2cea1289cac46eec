// Task switches and memory: TSSs and descriptors on absent and read-only pages, CR3, the LDT and the selectors in it, tasks in
// virtual-8086 mode, the T flag, error codes that do not fit the new stack, and an old TSS that is too short. SDM 3A "Task
// Switching", steps 5 and 11 to 13; SDM 3A "Task Address Space"; SDM 3A "Task-State Segment (TSS)"; SDM 3B "Task-Switch
// Exception Condition".
#include "lib/rows.h"
#include "lib/switches.h"

#define C16(ring) (SCRATCH(24 + (ring)) | (ring)) // code that begins at ring_return
#define S16(ring) (SCRATCH(28 + (ring)) | (ring)) // a 16-bit stack
#define SEG SCRATCH(4)
#define TOP16 0x3f0
#define V86_CODE 0x1000
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

CODE(window_then_home, "movl 0x40000000, %eax");
CODE(misaligned, "movl far_pointer + 1, %eax");
CODE16(v86_home, "int $0x30");

static struct tss32 a_tss32[2]; // old and new where they lie still
static struct tss16 a_tss16[2];
static u32 old_wide, new_wide, cut, absent_page, what;

static const char *the_row(void) {
    return name_of("%s from-tss%u to-tss%u cut-at %x page %u case %x", how->name, old_wide ? 32 : 16, new_wide ? 32 : 16, cut,
                   absent_page, what);
}

#define STATE(what, got, want) state(what, got, want, the_row)

static u32 task_register(void) {
    u32 r = 0;
    asm volatile("str %w0" : "+r"(r));
    return r;
}

// The task `which` (0 old, 1 new) at `linear`, whose bytes are at `memory`.
static void make(u32 which, u32 wide, u32 linear, void *memory) {
    u32 selector = which ? NEW : OLD, link = which == 0 && how->kind == RETURN ? NEW : 0x1234;
    struct tss32 *t = memory;
    if (wide) {
        prepare(t, 0, HOME, which);
        t->link = link;
    } else {
        *(struct tss16 *)memory = (struct tss16){.link = link, .sp0 = TOP16, .ss0 = S16(0), .flags = 2, .sp = TOP16,
                                                 .cs = C16(0), .ss = S16(0), .ds = KDATA, .es = KDATA};
    }
    u32 busy = which == 1 && how->kind == RETURN ? 2 : 0;
    set(selector, desc(linear, wide ? 103 : 43, (wide ? A_TSS32 : A_TSS16) | busy | DPL(3), 0));
    if (which == 0)
        load_tr(OLD);
}

static void point_at_new(void) {
    set(GATE, gate(NEW, 0, A_TASK | DPL(3), 0));
    far_pointer.selector = how->uses_gate ? GATE : NEW;
    if (how->kind == EVENT)
        set_idt(how->vector, gate(NEW, 0, A_TASK | DPL(3), 0));
}

static void make_both(void) {
    reset();
    make(0, old_wide, old_wide ? (u32)&a_tss32[0] : (u32)&a_tss16[0], old_wide ? (void *)&a_tss32[0] : (void *)&a_tss16[0]);
    make(1, new_wide, new_wide ? (u32)&a_tss32[1] : (u32)&a_tss16[1], new_wide ? (void *)&a_tss32[1] : (void *)&a_tss16[1]);
    point_at_new();
}

static void ask_from(u32 ring) {
    struct context c = ring_context(ring, how->fn);
    c.eflags = 2 | CF | OF | (how->kind == RETURN ? NT : 0);
    ask(&c);
}

static void done(void) {
    if (how->kind == EVENT)
        default_idt(how->vector);
}

#define EACH_INITIATOR for (how = initiators; how < initiators + INITIATORS; how++)
// Without those that page-fault themselves, and without the interrupt, which is gone when its delivery has faulted.
#define EACH_RESTARTABLE_INITIATOR                                                                                     \
    EACH_INITIATOR if (how->vector != PF_ && how->vector != NP && how->vector != DE && how->vector != 0x20)

// ---- "Checks that the current (old) TSS, new TSS, and all segment descriptors used in the task switch are paged into system
// memory": a page fault of the old task, nothing changed, and the switch is made when the page is there.
static u32 faults, fault_error, fault_cr2, fault_eip, fault_tr, fault_ts, bad_linear;
static u8 before[4][4096], (*frames)[4096];
static u32 watched_frames, frames_changed;

static int on_page_fault(void) {
    if (faults++ == 0) {
        fault_error = trap.error, fault_cr2 = trap.cr2, fault_eip = trap.eip, fault_tr = task_register();
        fault_ts = cr0() & TS_BIT;
        frames_changed = 0;
        for (u32 n = 0; n < watched_frames; n++)
            for (u32 at = 0; at < 4096; at += 4)
                frames_changed += *(u32 *)&frames[n][at] != *(u32 *)&before[n][at];
        map(bad_linear, *pte(bad_linear) & ~0xfff, P | W | U);
    }
    if (faults > 3)
        return CATCH_IT;
    return RESUME;
}

#define OLD_AT WINDOW            // two pages, the first two spare frames
#define NEW_AT (WINDOW + 0x2000) // the next two
#define GDT_AT (WINDOW + 0x4000) // the next two

static void judge_fault(u32 error, u32 or_error) {
    faults = 0;
    frames = (u8 (*)[4096])frame(0), watched_frames = 4;
    memcpy(before, frames, sizeof before);
    hooks[PF_] = on_page_fault;
    ask_from(0);
    hooks[PF_] = 0;
    row(ARRIVES, the_row);
    STATE("page faults", faults, 1);
    STATE("error code", fault_error, fault_error == or_error ? or_error : error);
    STATE("page of cr2", fault_cr2 & ~0xfff, bad_linear);
    STATE("saved eip", fault_eip, (u32)how->fn);
    STATE("task register", fault_tr, OLD);
    STATE("ts", fault_ts, 0);
    STATE("bytes of the tsss changed", frames_changed, 0);
    STATE("task register afterwards", task_register(), NEW);
    done();
}

static void map_tsss(void) {
    for (u32 n = 0; n < 6; n++)
        map(WINDOW + n * 4096, frame(n), P | W | U);
    memset((void *)frame(0), 0, 4 * 4096);
    reset();
    make(0, old_wide, OLD_AT + 4096 - cut, (void *)(frame(1) - cut));
    make(1, new_wide, NEW_AT + 4096 - cut, (void *)(frame(3) - cut));
    point_at_new();
}

// A TSS that lies across two pages, cut so that fields that are used are on both: EIP or IP to DS of the old one, EIP or IP to
// the LDT selector of the new one.
static void absent_tss(u32 of_new) {
    group(of_new ? "new-tss-on-an-absent-page" : "old-tss-on-an-absent-page");
    EACH_RESTARTABLE_INITIATOR EACH(old_wide, 2) EACH(new_wide, 2) EACH(absent_page, 2) {
        u32 wide = of_new ? new_wide : old_wide, step = wide ? 4 : 2;
        u32 first = wide ? 0x24 : 0x10, last = wide ? 0x54 : 0x28;
        for (cut = first; cut <= last; cut += step) {
            map_tsss();
            bad_linear = (of_new ? NEW_AT : OLD_AT) + absent_page * 4096;
            map(bad_linear, frame(of_new * 2 + absent_page), 0);
            // "W/R: 1 The access causing the fault was a write"; P and U/S clear. The new TSS is read, and its link written by
            // CALL and events.
            int linked = of_new && absent_page == 0 && (how->kind == CALL_ || how->kind == EVENT);
            judge_fault(of_new ? 0 : 2, linked ? 2 : of_new ? 0 : 2);
        }
    }
    end_group();
}

// On read-only pages, with CR0.WP: what is only read does no harm.
static void read_only(void) {
    set_cr0(cr0() | WP);
    group("old-tss-on-a-read-only-page");
    cut = 0x40;
    EACH_RESTARTABLE_INITIATOR EACH(old_wide, 2) EACH(new_wide, 2) EACH(absent_page, 2) {
        cut = old_wide ? 0x40 : 0x20;
        map_tsss();
        bad_linear = OLD_AT + absent_page * 4096;
        map(bad_linear, frame(absent_page), P | U);
        judge_fault(3, 3);
    }
    end_group();
    group("new-tss-on-a-read-only-page");
    EACH_RESTARTABLE_INITIATOR EACH(old_wide, 2) EACH(new_wide, 2) EACH(absent_page, 2) {
        cut = new_wide ? 0x40 : 0x20;
        map_tsss();
        bad_linear = NEW_AT + absent_page * 4096;
        map(bad_linear, frame(2 + absent_page), P | U);
        if (absent_page == 0 && (how->kind == CALL_ || how->kind == EVENT)) {
            judge_fault(3, 3);
        } else {
            ask_from(0);
            row(ARRIVES, the_row);
            STATE("task register", task_register(), NEW);
            done();
        }
    }
    end_group();
    set_cr0(cr0() & ~WP);
}

// The descriptors of both TSSs on a page of their own: read, then written for the busy flags.
static void gdt_page(u32 bits, const char *name, u32 error) {
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) there = {sizeof gdt - 1, GDT_AT + 4096 - OLD}, here = {sizeof gdt - 1, (u32)gdt};
    set_cr0(cr0() | WP);
    group(name);
    cut = 0x20, absent_page = 1;
    EACH_RESTARTABLE_INITIATOR EACH(old_wide, 2) EACH(new_wide, 2) {
        map_tsss();
        memcpy((void *)(frame(5) - OLD), (void *)gdt, sizeof gdt);
        asm volatile("lgdt %0" ::"m"(there));
        bad_linear = GDT_AT + 4096;
        map(bad_linear, frame(5), bits);
        judge_fault(error, error);
        asm volatile("lgdt %0" ::"m"(here));
    }
    end_group();
    set_cr0(cr0() & ~WP);
}

// ---- "TSS state is loaded into the processor. This includes ... the PDBR (control register CR3)"
static u32 directory2[1024] __attribute__((aligned(4096)));

static void address_space(void) {
    group("cr3");
    memcpy(directory2, page_directory, 4096);
    u32 *table = new_table();
    directory2[WINDOW >> 22] = (u32)table | P | W | U;
    table[0] = frame(1) | P | W | U;
    map(WINDOW, frame(0), P | W | U);
    *(u32 *)frame(0) = 0x0f0f, *(u32 *)frame(1) = 0x1f1f;
    EACH_INITIATOR EACH(old_wide, 2) EACH(new_wide, 2) for (what = 0; what < 2; what++) {
        if (how->vector == PF_)
            continue;
        make_both();
        a_tss32[0].cr3 = 0xbad, a_tss32[1].cr3 = (u32)(what ? directory2 : page_directory);
        a_tss32[1].eip = (u32)window_then_home;
        set(SEG, desc((u32)window_then_home, 0xffff, A_XR, BIG));
        a_tss16[1].cs = SEG;
        u32 seen = *(volatile u32 *)WINDOW; // the TLB has it
        ask_from(0);
        row(ARRIVES, the_row);
        // a 16-bit TSS has no CR3
        u32 moved = new_wide && what;
        STATE("old translation", seen, 0x0f0f);
        STATE("cr3", cr3(), (u32)(moved ? directory2 : page_directory));
        STATE("new translation", trap.eax, moved ? 0x1f1f : 0x0f0f);
        STATE("cr3 of the old tss", a_tss32[0].cr3, 0xbad);
        set_cr3((u32)page_directory);
        done();
    }
    end_group();
    what = 0;
}

// "If paging is not enabled, a PDBR value is read from the new task's TSS, but it is not loaded."
static void without_paging(void) {
    group("cr3-without-paging");
    paging_off();
    u32 old = cr3();
    EACH_INITIATOR {
        if (how->vector == PF_)
            continue;
        old_wide = new_wide = 1;
        make_both();
        a_tss32[1].cr3 = 0x5000;
        ask_from(0);
        row(ARRIVES, the_row);
        STATE("cr3", cr3(), old);
        done();
    }
    end_group();
    paging_on();
}

// ---- the LDT comes before the selectors that are in it
static void local_descriptors(void) {
    group("ldt");
    set(LDT_SEL, desc((u32)ldt, sizeof ldt - 1, A_LDT, 0));
    set(0x0c, desc(0, 0xfffff, A_XR, G | BIG)), set(0x14, desc(0, 0xfffff, A_RW, G | BIG));
    set(0x1c, desc((u32)ring_return, 0xffff, A_XR, BIG)), set(0x24, desc((u32)stacks[2], sizeof stacks[2] - 1, A_RW, 0));
    // what: the old task has the LDT too; the new one has none of its own, so that its DS is not valid: #TS(DS), a fault of the
    // new task
    EACH_INITIATOR EACH(old_wide, 2) EACH(new_wide, 2) EACH(what, 3) {
        make_both();
        if (what)
            load_ldt();
        a_tss32[1].ldt = a_tss16[1].ldt = LDT_SEL;
        a_tss32[1].cs = 0x0c, a_tss32[1].ss = a_tss32[1].ds = a_tss32[1].es = a_tss32[1].fs = a_tss32[1].gs = 0x14;
        a_tss16[1].cs = 0x1c, a_tss16[1].ss = 0x24, a_tss16[1].ds = a_tss16[1].es = 0x14;
        if (what == 2) {
            a_tss32[1].ldt = a_tss16[1].ldt = 0;
            a_tss32[1].cs = KCODE, a_tss32[1].ss = KDATA, a_tss16[1].cs = C16(0), a_tss16[1].ss = S16(0);
        }
        ask_from(0);
        u32 second = how->vector == NP || how->vector == DE || how->vector == PF_;
        u32 ext = how->is_fault || how->vector == 0x20;
        u32 ldtr = 0;
        asm volatile("sldt %w0" : "+r"(ldtr));
        if (what < 2) {
            row(ARRIVES, the_row);
            STATE("ldtr", ldtr, LDT_SEL);
            STATE("cs and ds", trap.cs | trap.ds << 16, new_wide ? 0x14000c : 0x14001c);
        } else if (!second) {
            // (EXT has groups of its own elsewhere)
            trap.error &= ~ext;
            row(RAISES(TS, 0x14), the_row);
            STATE("ldtr", ldtr, 0);
        }
        STATE("ldt of the old tss", old_wide ? a_tss32[0].ldt : a_tss16[0].ldt, 0);
        done();
    }
    end_group();
    what = 0;
}

// ---- a task in virtual-8086 mode: its selectors name no descriptors
static void virtual_8086(void) {
    group("to-virtual-8086-mode");
    copy_low(V86_CODE << 4, v86_home, v86_home_end);
    EACH_INITIATOR EACH(old_wide, 2) {
        new_wide = 1;
        make_both();
        struct tss32 *t = &a_tss32[1];
        t->cs = V86_CODE, t->ss = 0x2000, t->ds = 3, t->es = 0xffff, t->fs = KDATA, t->gs = 0x404, t->eip = 0, t->esp = 0x800;
        t->eflags = 2 | VM | IOPL(3) | CF | IF;
        ask_from(0);
        row(ARRIVES, the_row);
        u32 nested = how->kind == CALL_ || how->kind == EVENT;
        STATE("eflags", trap.eflags, 2 | VM | IOPL(3) | CF | IF | (nested ? NT : 0));
        STATE("cs:ip", trap.cs << 16 | trap.eip, V86_CODE << 16 | 2);
        STATE("ss:sp", trap.ss << 16 | (trap.esp + (how->error == NO_ERROR ? 0 : 4)), 0x20000800);
        STATE("ds es", trap.ds | trap.es << 16, 0xffff0003);
        STATE("fs gs", trap.fs | trap.gs << 16, 0x4040000 | KDATA);
        STATE("task register", task_register(), NEW);
        done();
    }
    end_group();
}

// ---- "T (debug trap) flag: When set, the T flag causes the processor to raise a debug exception when a task switch to this task
// occurs": after the switch, before the first instruction
static void t_flag(u32 t) {
    group(t ? "t-flag-set" : "t-flag-clear");
    EACH_INITIATOR EACH(old_wide, 2) EACH(new_wide, 2) {
        make_both();
        a_tss32[1].trap = t, a_tss16[1].beyond = 1;
        a_tss32[0].trap = !t; // the old task's does not matter
        set_dr6(0xffff0ff0);
        ask_from(0);
        if (new_wide && t) {
            row(RAISES(DB, NO_ERROR), the_row);
            STATE("saved eip", trap.eip, (u32)ring_return);
            STATE("dr6", dr6() & 0xe00f, 0x8000);
            STATE("rf", trap.eflags & RF, 0); // a trap
        } else {
            row(ARRIVES, the_row);
            STATE("dr6", dr6() & 0xe00f, 0);
        }
        STATE("task register", task_register(), NEW);
        done();
    }
    set_dr6(0xffff0ff0);
    end_group();
}

// ---- "IF stack limit does not allow push of error code THEN #SS(EXT)" (SDM 2A "INT n", TASK-GATE); a push that page-faults is
// handled by the rules for double faults
static void error_codes(void) {
    static const struct initiator ac = {"ac", misaligned, EVENT, AC_, 0, 0, 0, 1};
    old_wide = 1;
    group("error-code-beyond-the-stack-limit");
    EACH(new_wide, 2) EACH(what, 2) {
        how = &ac;
        make_both();
        set(SEG, desc(0, 0xfff, A_RW, BIG));
        a_tss32[1].ss = a_tss16[1].ss = SEG;
        a_tss32[1].esp = what ? 2 : 0x2000, a_tss16[1].sp = what ? 1 : 0x2000;
        // the fault comes in the new task, whose stack is no good: a task serves it
        u32 *top = &handler_stacks[2][64];
        *--top = 2, *--top = KCODE, *--top = 0;
        task_handlers(1);
        default_idt(TS), default_idt(NP), default_idt(GP);
        set_cr0(cr0() | AM);
        struct context c = ring_context(3, how->fn);
        c.eflags = 2 | AC;
        go(&c);
        set_cr0(cr0() & ~AM);
        row(RAISES(SS, 1), the_row);
        STATE("the task that the fault belongs to", handlers[2].link & 0xffff, NEW);
        task_handlers(0);
        done();
    }
    end_group();
    group("error-code-on-an-absent-page");
    for (u32 n = 0; n < 3; n++) EACH(new_wide, 2) {
        for (how = initiators; how->vector != (n == 1 ? NP : PF_); how++)
            ;
        if (n == 0)
            how = &ac;
        make_both();
        // only the page of the new stack is absent, and #PF and #DF are served in ring 0 from ring 3: with SS0:ESP0
        map(WINDOW + 0x3000, frame(0), 0);
        prepare(&a_tss32[1], 3, HOME, 1);
        set(SEG, desc(WINDOW + 0x3000, 0xfff, A_RW | DPL(3), 0));
        a_tss32[1].ss = UDATA, a_tss32[1].esp = WINDOW + 0x3800;
        a_tss16[1].cs = C16(3), a_tss16[1].ss = SEG | 3, a_tss16[1].sp = 0x800;
        a_tss16[1].ds = a_tss16[1].es = UDATA;
        map(WINDOW, frame(0), 0);
        set_cr0(cr0() | AM);
        if (n == 2) // #PF twice: #DF; its handler is the plain one
            set_idt(PF_, gate(NEW, 0, A_TASK, 0));
        struct context c = ring_context(3, how->fn);
        c.eflags = 2 | AC;
        go(&c);
        set_cr0(cr0() & ~AM);
        // (whether the push is an access of CPL 3 or the processor's own, the manual does not say)
        trap.error &= ~4u;
        // benign or contributory, then a page fault: "Handle exceptions serially"; a page fault twice: "Generate a double fault"
        row(n == 2 ? RAISES(DFAULT, 0) : RAISES(PF_, 2), the_row);
        STATE("cr2", trap.cr2, new_wide ? WINDOW + 0x37fc : WINDOW + 0x37fe);
        STATE("task register", task_register(), NEW);
        STATE("saved cs", trap.cs, new_wide ? UCODE : C16(3));
        done();
        default_idt(AC_);
    }
    end_group();
}

// ---- an old TSS too short for what is saved: "Stores to the old TSS encounter a fault condition": #TS(TSS). (The manual does
// not say which of the two the error code names.)
static void short_old_tss(void) {
    group("old-tss-too-short");
    EACH_INITIATOR EACH(old_wide, 2) {
        if (how->kind == EVENT && how->vector != VEC && how->vector != BP && how->vector != UD)
            continue;
        new_wide = 1;
        make_both();
        static const u32 limits[2][3] = {{0x28, 0x20, 0x0d}, {0x5c, 0x40, 0x1f}};
        for (u32 n = 0; n < 3; n++) {
            make_both();
            what = limits[old_wide][n];
            set(OLD, desc(old_wide ? (u32)&a_tss32[0] : (u32)&a_tss16[0], what, (old_wide ? A_TSS32 : A_TSS16) | DPL(3), 0));
            load_tr(OLD);
            ask_from(0);
            trap.error &= ~1u;
            row(RAISES(TS, trap.error == NEW ? NEW : OLD), the_row);
            STATE("task register", task_register(), OLD);
            STATE("saved eip", trap.eip, (u32)how->fn);
            STATE("busy flag of the new task", access_byte(NEW) & 2, how->kind == RETURN ? 2 : 0);
            STATE("ts", cr0() & TS_BIT, 0);
        }
        done();
    }
    end_group();
}

void guest(void) {
    for (u32 ring = 0; ring < 4; ring++) {
        set(C16(ring), desc((u32)ring_return, 0xffff, A_XR | DPL(ring), BIG));
        set(S16(ring), desc((u32)stacks[2], sizeof stacks[2] - 1, A_RW | DPL(ring), 0));
    }
    set(ABSENT, desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    paging_on();
    absent_tss(0);
    absent_tss(1);
    read_only();
    gdt_page(0, "tss-descriptors-on-an-absent-page", 0);
    gdt_page(P | U, "tss-descriptors-on-a-read-only-page", 3);
    cut = absent_page = 0;
    address_space();
    without_paging();
    map(WINDOW, 0, 0);
    local_descriptors();
    virtual_8086();
    t_flag(0);
    t_flag(1);
    error_codes();
    short_old_tss();
    reset();
}
