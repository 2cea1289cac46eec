// Every row of the manual's table of checks on a task switch (SDM 3A "Task Switching", table "Exception Conditions Checked
// During a Task Switch"): the gate, the TSS descriptor, its limit, and each selector of the new task against every type,
// privilege and presence; which task the fault belongs to; and busy, NT and link afterwards (table "Effect of a Task Switch
// on Busy Flag, NT Flag, Previous Task Link Field, and TS Flag").
#include "lib/rows.h"
#include "lib/tasks.h"

#define SEG SCRATCH(4)
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

static u32 cpl, rpl, type, dpl, present, new_cpl;

static const char *the_row(void) {
    return name_of("cpl %u rpl %u type %2x dpl %u present %u new-cpl %u", cpl, rpl, type, dpl, present, new_cpl);
}

static u32 max(u32 x, u32 y) { return x > y ? x : y; }
static int is_code(u32 t) { return (t & 0x18) == 0x18; }
static int is_conforming(u32 t) { return (t & 0x1c) == 0x1c; }
static int is_writable_data(u32 t) { return (t & 0x1a) == 0x12; }
static int is_readable(u32 t) { return (t & 0x10) && (t & 0xa) != 8; }
static u32 busy(u32 selector) { return access_byte(selector) >> 1 & 1; }

// Runs fn and judges the row; a fault belongs to `task`, by the link that its handler finds.
static void judge(void (*fn)(void), u32 flags, struct rule want, u32 task) {
    struct context x = ring_context(cpl, fn);
    x.eflags = flags;
    go(&x);
    row(want, the_row);
    if (want.vector != RET_VECTOR && trap.vector == want.vector && (handlers[want.vector - TS].link & 0xffff) != task)
        if (group_wrong++ == 0)
            say("first wrong row of %s: %s: the fault belongs to task %x, not %x\n", group_name, the_row(), task,
                handlers[want.vector - TS].link & 0xffff);
}

static void fresh(void) {
    reset();
    task_handlers(1);
}

// ---- the descriptor that is jumped to or called
static void descriptors(const char *name, void (*fn)(void)) {
    group(name);
    EACH(cpl, 4) EACH(rpl, 4) EACH(dpl, 4) EACH(present, 2) for (type = 8; type < 12; type++) {
        fresh();
        prepare(&a, cpl, HOME, 0);
        set(TA, desc((u32)&a, 103, type | DPL(dpl) | present << 7, 0));
        far_pointer.selector = TA | rpl;
        // "IF TSS DPL < CPL or DPL < RPL THEN #GP"; "IF not an available TSS THEN #GP"; "IF not present THEN #NP"
        struct rule want = dpl < max(cpl, rpl) || type != 9 ? RAISES(GP, TA) : present ? ARRIVES : RAISES(NP, TA);
        judge(fn, 2, want, TSS0);
        if (trap.vector == RET_VECTOR) {
            int called = fn == far_call;
            group_wrong += busy(TA) != 1 || busy(TSS0) != (u32)called || !!(trap.eflags & NT) != called;
            group_wrong += called && (a.link & 0xffff) != TSS0;
        }
    }
    end_group();
}

// ---- a task gate, and the TSS that it names; by JMP, CALL and INT n
static void gates(const char *name, void (*fn)(void)) {
    int is_int = fn == int_50;
    group(name);
    u32 gate_dpl, gate_present;
    type = 9, dpl = 0, present = 1;
    EACH(cpl, 4) EACH(rpl, 4) EACH(gate_dpl, 4) EACH(gate_present, 2) {
        dpl = gate_dpl, present = gate_present;
        fresh();
        prepare(&a, cpl, HOME, 0);
        u64 descriptor = gate(TA | rpl, 0, (A_TASK & 0x7f) | DPL(gate_dpl) | gate_present << 7, 0);
        set(GATE, descriptor);
        set_idt(VEC, descriptor);
        far_pointer.selector = GATE | rpl;
        u32 error = is_int ? VEC * 8 + 2 : GATE, asked = is_int ? cpl : max(cpl, rpl);
        struct rule want = gate_dpl < asked ? RAISES(GP, error) : gate_present ? ARRIVES : RAISES(NP, error);
        judge(fn, 2, want, TSS0);
    }
    // "IF TSS descriptor is not an available TSS THEN #GP(TSS selector)"; "IF not present THEN #NP(TSS selector)": neither DPL
    // nor RPL of the TSS matters
    cpl = 0;
    EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) EACH(present, 2) {
        if (type == 1)
            continue; // the 16-bit TSS has a guest of its own
        fresh();
        set(TA, desc((u32)&a, 103, type | DPL(dpl) | present << 7, 0));
        u64 descriptor = gate(TA | rpl, 0, A_TASK | DPL(3), 0);
        set(GATE, descriptor);
        set_idt(VEC, descriptor);
        far_pointer.selector = GATE;
        judge(fn, 2, type != 9 ? RAISES(GP, TA) : present ? ARRIVES : RAISES(NP, TA), TSS0);
    }
    end_group();
}

// ---- the link that IRET with NT goes back by
static void links(void) {
    group("iret-link");
    cpl = 0;
    EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) EACH(present, 2) {
        if (type == 3)
            continue;
        fresh();
        set(TA, desc((u32)&a, 103, type | DPL(dpl) | present << 7, 0));
        tss0.link = TA | rpl;
        // "IF not a TSS or not busy THEN #TS(TSS selector)"; "IF not present THEN #NP(TSS selector)"
        judge(iret_, 2 | NT, type != 11 ? RAISES(TS, TA) : present ? ARRIVES : RAISES(NP, TA), TSS0);
        if (trap.vector == RET_VECTOR)
            group_wrong += busy(TA) != 1 || busy(TSS0) != 0 || (trap.eflags & NT);
    }
    end_group();
}

// ---- "the limit is large enough": 67h for a 32-bit TSS, 2Bh for a 16-bit one
static void limits(void) {
    group("tss-limits");
    cpl = rpl = dpl = 0, present = 1;
    for (u32 limit = 0; limit < 112; limit++) {
        type = 9;
        fresh();
        set(TA, desc((u32)&a, limit, A_TSS32, 0));
        judge(far_jump, 2, limit < 0x67 ? RAISES(TS, TA) : ARRIVES, TSS0);
        if (limit >= 0x2b)
            continue;
        type = 1;
        fresh();
        set(TA, desc((u32)&small, limit, A_TSS16, 0));
        judge(far_jump, 2, RAISES(TS, TA), TSS0);
    }
    end_group();
}

// ---- the new task's selectors
static void put(void) { set(SEG, desc(0, (type & 0x1c) == 0x14 ? 0 : 0xfffff, type | DPL(dpl) | present << 7, G | BIG)); }

static void ldt_row(const char *name) {
    group(name);
    cpl = new_cpl = 0;
    EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) EACH(present, 2) {
        fresh();
        set(SEG, desc((u32)ldt, 0xff, type | DPL(dpl) | present << 7, 0));
        a.ldt = SEG | rpl;
        // "LDT segment selector of new task is valid", "LDT of new task is present in memory": #TS(LDT selector) both
        judge(far_jump, 2, type == 2 && present ? ARRIVES : RAISES(TS, SEG), TA);
    }
    end_group();
}

static void code_row(const char *name, u32 is_present) {
    group(name);
    present = is_present;
    cpl = 0;
    EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) {
        fresh();
        new_cpl = rpl;
        prepare(&a, rpl, HOME, 0);
        put();
        a.cs = SEG | rpl;
        // "Code segment selector is valid", "Code segment DPL matches segment selector RPL": #TS; "present": #NP
        int good = is_code(type) && (is_conforming(type) ? dpl <= rpl : dpl == rpl);
        judge(far_jump, 2, !good ? RAISES(TS, SEG) : present ? ARRIVES : RAISES(NP, SEG), TA);
    }
    end_group();
}

static void stack_row(const char *name, u32 is_present) {
    group(name);
    present = is_present;
    cpl = 0;
    EACH(new_cpl, 4) EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) {
        fresh();
        prepare(&a, new_cpl, HOME, 0);
        put();
        a.ss = SEG | rpl;
        // "SS segment selector is valid", "Stack segment DPL matches CPL", "Stack segment DPL matches selector RPL": #TS;
        // "Stack segment is present in memory": #SS
        int good = is_writable_data(type) && dpl == new_cpl && rpl == new_cpl;
        judge(far_jump, 2, !good ? RAISES(TS, SEG) : present ? ARRIVES : RAISES(SS, SEG), TA);
    }
    end_group();
}

static void data_rows(void) {
    static const char *const names[] = {"new-es", "new-ds", "new-fs", "new-gs"};
    cpl = 0;
    for (u32 n = 0; n < 4; n++) {
        group(names[n]);
        EACH(new_cpl, 4) EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) EACH(present, 2) {
            fresh();
            prepare(&a, new_cpl, HOME, 0);
            put();
            *(n == 0 ? &a.es : n == 1 ? &a.ds : n == 2 ? &a.fs : &a.gs) = SEG | rpl;
            // "DS, ES, FS, and GS segment selectors are valid", "segments are readable", "segment DPL greater than or equal to
            // CPL (unless these are conforming segments)": #TS; "segments are present in memory": #NP
            int good = is_readable(type) && (is_conforming(type) || dpl >= max(new_cpl, rpl));
            judge(far_jump, 2, !good ? RAISES(TS, SEG) : present ? ARRIVES : RAISES(NP, SEG), TA);
        }
        end_group();
    }
}

void guest(void) {
    descriptors("jmp-tss", far_jump);
    descriptors("call-tss", far_call);
    gates("jmp-task-gate", far_jump);
    gates("call-task-gate", far_call);
    gates("int-task-gate", int_50);
    links();
    limits();
    ldt_row("new-ldt");
    code_row("new-cs", 1);
    code_row("new-absent-cs", 0);
    stack_row("new-ss", 1);
    stack_row("new-absent-ss", 0);
    data_rows();
    reset();
    task_handlers(0);
}
