// Faults of task switches, for everything that asks for one and TSSs of both sizes: which exception, with which error code and
// EXT, in the old task or in the new one, and what is changed by then. SDM 3A "Task Switching", its steps and the table
// "Exception Conditions Checked During a Task Switch"; SDM 3A "Invalid TSS Exception (#TS)"; SDM 2A "INT n", "CALL", "IRET",
// TASK-GATE and TASK-RETURN in Operation.
#include "lib/rows.h"
#include "lib/servers.h"
#include "lib/switches.h"

#define SEG SCRATCH(4)
#define C16(ring) (SCRATCH(24 + (ring)) | (ring)) // code that begins at ring_return
#define S16(ring) (SCRATCH(28 + (ring)) | (ring)) // a 16-bit stack
#define NPLDT SCRATCH(9)
#define ADATA SCRATCH(10) // data, absent, of the new task's privilege
#define ACODE SCRATCH(11) // code, the same
#define BEYOND 0x400
#define TOP16 0x3f0

static struct tss32 old_tss, new32;
static struct tss16 new16;
static u32 new_wide, new_cpl, type, present, shift, row_value;
static const char *field_name = "-";

static const char *the_row(void) {
    return name_of("%s new-tss%u type %2x present %u limit-off-by %d new-cpl %u %s %x", how->name, new_wide ? 32 : 16, type,
                   present, shift, new_cpl, field_name, row_value);
}

#define STATE(what, got, want) state(what, got, want, the_row)
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

static u32 busy(u32 selector) { return access_byte(selector) >> 1 & 1; }

// The old task in OLD, a good new one of the size at hand in NEW, and the way there.
static void set_up(void) {
    reset();
    start_servers();
    prepare(&old_tss, 0, HOME, 1);
    set(OLD, desc((u32)&old_tss, 103, A_TSS32, 0));
    load_tr(OLD);
    old_tss.link = how->kind == RETURN ? NEW : 0x1234;
    prepare(&new32, new_cpl, HOME, 0);
    new16 = (struct tss16){.sp0 = TOP16, .ss0 = S16(0), .ip = 0, .flags = 2, .sp = TOP16, .cs = C16(new_cpl),
                           .ss = S16(new_cpl), .ds = UDATA, .es = UDATA};
    u32 kind = (new_wide ? A_TSS32 : A_TSS16) | (how->kind == RETURN ? 2 : 0);
    set(NEW, desc(new_wide ? (u32)&new32 : (u32)&new16, new_wide ? 103 : 43, kind | DPL(3), 0));
    far_pointer.selector = how->uses_gate ? GATE : NEW;
}

// What names NEW: `selector` in its place.
static void name_the_task(u32 selector) {
    set(GATE, gate(selector, 0, A_TASK | DPL(3), 0));
    if (how->kind == EVENT)
        set_idt(how->vector, gate(selector, 0, A_TASK | DPL(3), 0));
    if (how->kind == RETURN)
        old_tss.link = selector;
}

static void release(void) {
    stop_servers();
    default_idt(DE), default_idt(UD), default_idt(PF_), default_idt(VEC), default_idt(BP), default_idt(OF_), default_idt(0x20);
}

// "EXT: ... set, indicates that the exception occurred during delivery of an event external to the program, such as an
// interrupt or an earlier exception" (SDM 3A "Error Code"): not for INT n, INT3, INTO, nor for instructions.
static u32 ext(void) { return how->is_fault || how->vector == 0x20; }

// A contributory exception or a page fault, and then the fault at hand, which is contributory: #DF (SDM 3A, table "Conditions
// for Generating a Double Fault").
static struct rule after(struct rule second) {
    int contributory = how->vector == DE || how->vector == NP || how->vector == PF_;
    if (second.vector == RET_VECTOR || how->kind != EVENT || !contributory)
        return second;
    return RAISES(DFAULT, 0);
}

// Asks for the switch and judges where it led; a fault belongs to `task`.
static void judge(struct rule want, u32 task) {
    want = after(want);
    struct context c = ring_context(0, how->fn);
    c.eflags = 2 | CF | OF | (how->kind == RETURN ? NT : 0);
    u32 image = access_byte(NEW);
    ask(&c);
    row(want, the_row);
    if (trap.vector != want.vector || want.vector == RET_VECTOR)
        return;
    int nested = how->kind == CALL_ || how->kind == EVENT;
    STATE("the task that the fault belongs to", served_task(want.vector), task);
    if (task == OLD) {
        // "a fault that occurs before the switch is committed": nothing is changed, and it restarts
        STATE("saved eip", old_tss.eip, (u32)how->fn + (how->is_fault ? how->saved_eip : 0));
        STATE("access byte of the new tss", access_byte(NEW), image);
        STATE("busy flag of the old task", busy(OLD), 1);
        STATE("link of the new task", new_wide ? new32.link & 0xffff : new16.link, 0);
        STATE("nt of the old task", old_tss.eflags & NT, how->kind == RETURN ? NT : 0);
    } else {
        // "the processor completes the task switch": the old task is left in order, and the new one has not begun
        STATE("saved eip of the old task", old_tss.eip, (u32)how->fn + how->saved_eip);
        STATE("busy flag of the old task", busy(OLD), nested);
        STATE("busy flag of the new task", busy(NEW), 1);
        STATE("link of the new task", new_wide ? new32.link & 0xffff : new16.link, nested ? OLD : 0);
        STATE("nt of the old task", old_tss.eflags & NT, 0);
        STATE("nt of the new task", (new_wide ? new32.eflags : new16.flags) & NT, nested ? NT : 0);
    }
}

// ---- the descriptor of the new TSS: every type, P, and limits around the least. All of these faults are the old task's.
static struct rule descriptor_rule(void) {
    int is_tss = type == 1 || type == 3 || type == 9 || type == 11, is_busy = type & 2;
    if (how->kind == RETURN) {
        // IRET: "IF TSS descriptor type is not TSS or if the TSS is not busy THEN #TS(TSS selector)"; "IF TSS not present THEN
        // #NP(TSS selector)"
        if (!is_tss || !is_busy)
            return RAISES(TS, NEW);
    } else if (!is_tss || is_busy) {
        // CALL, INT n: "IF TSS not valid or TSS busy THEN #GP(TSS selector)"; "IF TSS not present THEN #NP(TSS selector)"
        return RAISES(GP, NEW + ext());
    }
    if (!present)
        return RAISES(NP, NEW + ext());
    // SWITCH-TASKS, step 3: "a valid limit (greater than or equal to 67H)", 2BH for a 16-bit TSS
    if ((i32)shift < 0)
        return RAISES(TS, NEW + ext());
    return ARRIVES;
}

static void descriptors(void) {
    group(name_of("%s-tss-descriptor", how->name));
    new_cpl = 0;
    EACH(type, 32) EACH(present, 2) for (shift = -2; shift != 2; shift++) {
        // what JMP and CALL make of other types is no matter of task switches
        if (how->kind <= CALL_ && !how->uses_gate && type != 1 && type != 3 && type != 9 && type != 11)
            continue;
        new_wide = type >> 3 & 1;
        set_up();
        u32 limit = (new_wide ? 0x67 : 0x2b) + shift;
        set(NEW, desc(new_wide ? (u32)&new32 : (u32)&new16, limit, type | DPL(3) | present << 7, 0));
        name_the_task(NEW);
        judge(descriptor_rule(), OLD);
    }
    end_group();
    shift = 0, type = 0, present = 1;
}

// ---- the selector of the new TSS. "IF TSS selector local/global bit is set to local or index not within GDT limits THEN
// #GP(TSS selector)"; #TS for IRET. (A null selector names the null descriptor: no TSS.)
static void selectors(u32 in_the_ldt) {
    if (how->kind <= CALL_ && !how->uses_gate)
        return;
    static const u32 bad[] = {0, 1, 2, 3, 4, NEW | 4, NEW | 7, BEYOND, BEYOND | 3, 0xfff8, 0xfffc, KCODE, KDATA, TSS0 + 0};
    if (!in_the_ldt)
        group(name_of("%s-tss-selector", how->name));
    field_name = "selector";
    new_wide = 1, new_cpl = 0;
    // the LDT has a good TSS in that place
    for (u32 with_ldt = 0; with_ldt < 2; with_ldt++)
        for (u32 n = 0; n < sizeof bad / sizeof *bad; n++) {
            if (!!(bad[n] & 4) != (int)in_the_ldt)
                continue;
            row_value = bad[n];
            set_up();
            set(NEW | 4, gdt[NEW >> 3]);
            if (with_ldt)
                load_ldt();
            name_the_task(bad[n]);
            // TSS0 is available here: a busy one for IRET, none for the others
            u32 saved = access_byte(TSS0);
            if (bad[n] == TSS0 && how->kind != RETURN)
                gdt[TSS0 >> 3] |= 2ull << 40;
            if (bad[n] == TSS0 && how->kind == RETURN)
                gdt[TSS0 >> 3] &= ~(2ull << 40);
            u32 code = (bad[n] & ~3) + ext();
            judge(how->kind == RETURN ? RAISES(TS, code) : RAISES(GP, code), OLD);
            gdt[TSS0 >> 3] = (gdt[TSS0 >> 3] & ~(0xffull << 40)) | (u64)saved << 40;
        }
    // RPL and DPL of what is named do not matter
    for (row_value = NEW; !in_the_ldt && row_value < NEW + 4; row_value++) {
        set_up();
        set(NEW, gdt[NEW >> 3] & ~(0x60ull << 40));
        name_the_task(row_value);
        judge(ARRIVES, NEW);
    }
    if (!in_the_ldt)
        end_group();
    row_value = 0;
}

// ---- what the new TSS holds. All of these faults are the new task's.
enum { F_LDT, F_CS, F_SS, F_DS, F_ES, F_FS, F_GS, F_EIP, FIELDS };
static const char *const field_names[] = {"ldt", "cs", "ss", "ds", "es", "fs", "gs", "eip"};

static void put(u32 field, u32 value) {
    switch (field) {
    case F_LDT: new32.ldt = new16.ldt = value; break;
    case F_CS: new32.cs = new16.cs = value; break;
    case F_SS: new32.ss = new16.ss = value; break;
    case F_DS: new32.ds = new16.ds = value; break;
    case F_ES: new32.es = new16.es = value; break;
    case F_FS: new32.fs = value; break;
    case F_GS: new32.gs = value; break;
    case F_EIP: new32.eip = new16.ip = value; break;
    }
}

struct bad {
    u32 field, value;
    struct rule want;
};

// Selectors that are wrong in one way each. "A segment selector is valid if it is in a compatible type of table (GDT or LDT),
// occupies an address within the table's segment limit, and refers to a compatible type of descriptor"
static const struct bad bads[] = {
    // "LDT segment selector of new task is valid": #TS(LDT)
    {F_LDT, BEYOND, {TS, BEYOND}},
    {F_LDT, KDATA, {TS, KDATA}},
    {F_LDT, TSS0, {TS, TSS0}},
    {F_LDT, 0x0c, {TS, 0x0c}},
    // "P bit is set in new task's LDT descriptor": #TS(LDT)
    {F_LDT, NPLDT, {TS, NPLDT}},
    // "CS segment selector is valid": #TS(CS)
    {F_CS, 0, {TS, 0}},
    {F_CS, 3, {TS, 0}},
    {F_CS, BEYOND, {TS, BEYOND}},
    {F_CS, 0x0c, {TS, 0x0c}},
    {F_CS, KDATA, {TS, KDATA}},
    {F_CS, TSS0, {TS, TSS0}},
    // "If code segment is nonconforming, its DPL should equal its RPL"; "conforming, less than or equal to its RPL": #TS(CS)
    {F_CS, KCODE | 1, {TS, KCODE}},
    {F_CS, UCODE & ~3, {TS, UCODE & ~3}},
    {F_CS, CONF3 | 2, {TS, CONF3}},
    // "P bit is set in code segment descriptor": #NP(CS)
    {F_CS, ACODE, {NP, ACODE}},
    // "SS segment selector is valid": #TS(SS)
    {F_SS, 0, {TS, 0}},
    {F_SS, 3, {TS, 0}},
    {F_SS, BEYOND, {TS, BEYOND}},
    {F_SS, 0x0c, {TS, 0x0c}},
    {F_SS, KCODE, {TS, KCODE}},
    {F_SS, TSS0, {TS, TSS0}},
    {F_SS, RODATA, {TS, RODATA}},
    // "P bit is set in stack segment descriptor": #SS(SS)
    {F_SS, ADATA, {SS, ADATA}},
    // "Stack segment DPL should equal CPL", "Stack segment DPL should equal its RPL": #TS(SS). (Of ring 1, which no row is in.)
    {F_SS, DATA1, {TS, DATA1 & ~3}},
    {F_SS, DATA1 & ~3, {TS, DATA1 & ~3}},
    // "DS, ES, FS, and GS segment selectors are valid", "segments are readable": #TS(selector)
    {F_DS, BEYOND, {TS, BEYOND}},
    {F_ES, 0x0c, {TS, 0x0c}},
    {F_FS, TSS0, {TS, TSS0}},
    {F_GS, XCODE, {TS, XCODE}},
    {F_DS, XCODE | 3, {TS, XCODE}},
    // "P bits are set in descriptors": #NP(selector)
    {F_DS, ADATA, {NP, ADATA}},
    {F_ES, ADATA, {NP, ADATA}},
    {F_FS, ADATA, {NP, ADATA}},
    {F_GS, ADATA, {NP, ADATA}},
    // "DPL greater than or equal to CPL (unless these are conforming segments)"; nor is RPL above it: #TS(selector)
    {F_DS, KDATA | 1, {TS, KDATA}},
    {F_GS, KDATA | 3, {TS, KDATA}},
    {F_FS, DATA1 | 2, {TS, DATA1 & ~3}},
    // INT n, CALL, IRET: "IF EIP is not within code segment limit THEN #GP(0)", #GP(EXT) in INT n
    {F_EIP, 0x2000, {GP, 0}},
};
#define BADS (sizeof bads / sizeof *bads)

// Selectors that look odd and are good.
static const struct bad goods[] = {
    {F_LDT, 0, ARRIVES},         {F_LDT, 3, ARRIVES},         {F_CS, CONF0, ARRIVES},     {F_DS, 0, ARRIVES},
    {F_ES, 3, ARRIVES},          {F_FS, 2, ARRIVES},          {F_GS, 1, ARRIVES},         {F_DS, CONF0 | 3, ARRIVES},
    {F_GS, CONF0, ARRIVES},      {F_DS, UDATA & ~3, ARRIVES}, {F_ES, UCODE, ARRIVES},
};
#define GOODS (sizeof goods / sizeof *goods)

static void contents_for_ring(u32 ring) {
    new_cpl = ring;
    set(ADATA, desc(0, 0xfffff, (A_RW & 0x7f) | DPL(ring), G | BIG));
    set(ACODE, desc(0, 0xfffff, (A_XR & 0x7f) | DPL(ring), G | BIG));
}

static void one_value(const struct bad *at) {
    field_name = field_names[at->field], row_value = at->value;
    if (!new_wide && (at->field == F_FS || at->field == F_GS))
        return;
    set_up();
    name_the_task(NEW);
    put(at->field, at->value);
    if (at->value == ACODE || at->value == ADATA) // of the task's own ring
        put(at->field, at->value | new_cpl);
    if (at->field == F_CS && at->value == CONF0) {
        new32.cs = CONF0 | new_cpl;
        if (!new_wide) // a 16-bit IP reaches 64 KiB: conforming code that begins at ring_return
            set(SEG, desc((u32)ring_return, 0xffff, A_XRC, BIG)), new16.cs = SEG | new_cpl;
    }
    if (at->field == F_EIP) { // a segment that is too short
        set(SEG, desc(0, 0x1fff, A_XR | DPL(new_cpl), BIG));
        new32.cs = new16.cs = SEG | new_cpl;
    }
    struct rule want = at->want;
    if (want.vector != RET_VECTOR)
        want.error += ext();
    judge(want, NEW);
}

// Rows that differ from the others only where someone is known to err have groups of their own.
enum { PLAIN, ABSENT_STACK, CONFORMING };

static u32 group_of(const struct bad *at) {
    if (at->field == F_SS && at->want.vector == SS)
        return ABSENT_STACK;
    return at->field == F_CS && at->value == CONF0 ? CONFORMING : PLAIN;
}

static void contents(u32 which) {
    for (u32 ring = 0; ring < 4; ring += 3) {
        contents_for_ring(ring);
        for (u32 n = 0; n < BADS; n++)
            if (group_of(&bads[n]) == which)
                one_value(&bads[n]);
        for (u32 n = 0; n < GOODS; n++)
            if (group_of(&goods[n]) == which)
                one_value(&goods[n]);
    }
}

// ---- two things wrong: "The exact order is model specific", but it is one of the two, and nothing else.
static void pairs(void) {
    group(name_of("%s-two-faults", how->name));
    new_wide = 1;
    contents_for_ring(0);
    for (u32 x = 0; x < BADS; x++)
        for (u32 y = x + 1; y < BADS; y++) {
            // EIP is compared with the limit of a good CS
            if (bads[x].field == bads[y].field || bads[y].field == F_EIP || group_of(&bads[y]) || group_of(&bads[x]))
                continue;
            field_name = field_names[bads[x].field], row_value = x << 8 | y;
            set_up();
            name_the_task(NEW);
            put(bads[x].field, bads[x].value);
            put(bads[y].field, bads[y].value);
            struct context c = ring_context(0, how->fn);
            c.eflags = 2 | OF | (how->kind == RETURN ? NT : 0);
            ask(&c);
            struct rule first = bads[x].want, second = bads[y].want;
            first.error += ext(), second.error += ext();
            first = after(first), second = after(second);
            row(trap.vector == second.vector && trap.error == second.error ? second : first, the_row);
        }
    end_group();
    row_value = 0;
}

void guest(void) {
    for (u32 ring = 0; ring < 4; ring++) {
        set(C16(ring), desc((u32)ring_return, 0xffff, A_XR | DPL(ring), BIG));
        set(S16(ring), desc((u32)stacks[2], sizeof stacks[2] - 1, A_RW | DPL(ring), 0));
    }
    set(ABSENT, desc(0, 0xfffff, A_RW & 0x7f, G | BIG));
    set(NPLDT, desc((u32)ldt, 0xff, A_LDT & 0x7f, 0));
    paging_on();
    for (u32 n = 0; n < INITIATORS; n++) {
        how = &initiators[n];
        present = 1;
        descriptors();
        selectors(0);
        EACH(new_wide, 2) {
            group(name_of("%s-new-tss%u", how->name, new_wide ? 32 : 16));
            contents(PLAIN);
            end_group();
        }
        if (how->fn == far_jump || how->fn == iret_ || how->vector == VEC || how->vector == UD)
            pairs();
        reset();
        release();
    }
    for (u32 which = 0; which < 3; which++) {
        static const char *const names[] = {"tss-selector-with-ti", "new-absent-ss", "new-conforming-cs"};
        group(names[which]);
        for (u32 n = 0; n < INITIATORS; n++) {
            how = &initiators[n];
            if (which == 0)
                selectors(1);
            else
                EACH(new_wide, 2) contents(which == 1 ? ABSENT_STACK : CONFORMING);
            reset();
            release();
        }
        end_group();
    }
}
