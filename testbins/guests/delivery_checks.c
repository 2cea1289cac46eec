// Every check on the way through an interrupt or trap gate, for events of every kind: gate, code segment, offset, inner stack, room
// on the stack, pages, the IDT's limit; with the error code, EXT, and nothing changed. SDM 2A "INT n/INTO/INT3/INT1", Operation,
// from PROTECTED-MODE on; SDM 3A "Protection of Exception- and Interrupt-Handler Procedures", "Error Code".
#include "lib/rows.h"
#include "lib/causes.h"
#include "lib/servers.h"

#define TARGET SCRATCH(1)
#define STACK SCRATCH(2)
#define OUR_TSS SCRATCH(3)
#define BEYOND 0x400

static const u16 code_of[4] = {KCODE, CODE1, CODE2, UCODE};

// ---- the row at hand
static u32 cpl, ring, rpl, type, dpl, present, gate_type, gate_dpl, value;

static const char *the_row(void) {
    return name_of("%s cpl %u ring %u rpl %u type %2x dpl %u present %u gate-type %2x gate-dpl %u value %x", cause->name, cpl,
                   ring, rpl, type, dpl, present, gate_type, gate_dpl, value);
}

#define STATE(what, got, want) state(what, got, want, the_row)
#define EACH_GATE_TYPE for (gate_type = 6; gate_type < 16; gate_type += gate_type == 7 ? 7 : 1) // 6, 7, 14, 15
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

static int is_code(u32 t) { return (t & 0x18) == 0x18; }
static int is_conforming(u32 t) { return (t & 0x1c) == 0x1c; }
static int is_writable_data(u32 t) { return (t & 0x1a) == 0x12; }
static int is_expand_down(u32 t) { return (t & 0x1c) == 0x14; }

static u32 home(void) { return (u32)ring_return; }

// "Conditions for Generating a Double Fault" (SDM 3A), for a second exception that is contributory or a page fault.
static struct rule after(struct rule second) {
    if (second.vector == RET_VECTOR || cause->class == BENIGN)
        return second;
    if (cause->class == CONTRIBUTORY && second.vector == PF_)
        return second;
    return RAISES(DFAULT, 0);
}

static u32 task_register(void) {
    u32 r = 0;
    asm volatile("str %w0" : "+r"(r));
    return r;
}

// Control that arrived comes home by a task gate, which needs no stack.
static struct tss32 home_task;
static u32 home_stack[16];
#define HOME_TSS SCRATCH(40)

static u32 inner_stacks[3][128];

// For a group of rows.
static void arm(void) {
    start_servers();
    home_stack[15] = 2, home_stack[14] = KCODE, home_stack[13] = 0; // what the stub pops
    home_task.eip = stub(RET_VECTOR), home_task.cs = KCODE, home_task.esp = (u32)(home_stack + 13), home_task.eflags = 2;
    home_task.ss = home_task.ds = home_task.es = home_task.fs = home_task.gs = KDATA, home_task.cr3 = cr3();
    set(HOME_TSS, desc((u32)&home_task, 103, A_TSS32, 0));
    set_idt(RET_VECTOR, gate(HOME_TSS, 0, A_TASK | DPL(3), 0));
    tss0.ss0 = KDATA, tss0.esp0 = (u32)trap_stack_top;
    tss0.ss1 = DATA1, tss0.esp1 = (u32)(inner_stacks[1] + 128), tss0.ss2 = DATA2, tss0.esp2 = (u32)(inner_stacks[2] + 128);
    gate_dpl = 3, present = 1, value = 0;
}

// For a row: back to the first task, and all others available.
static void start(void) {
    if (task_register() == TSS0)
        return;
    for (u32 n = 0; n < SERVED; n++)
        gdt[SERVER(n) >> 3] &= ~(2ull << 40);
    gdt[HOME_TSS >> 3] &= ~(2ull << 40);
    load_tr(TSS0);
}

// Two causes go through every row; the others through a choice of them.
static int is_full(void) { return cause->vector == VEC || cause->vector == UD; }
static int is_chosen_type(void) { return is_full() || (0x5c541704u >> type & 1); } // 2 8 9 A C 12 14 16 1A 1B 1C 1E
static int is_chosen(u32 level, u32 of) { return is_full() || level == of || level == ((of + 1) & 3); }

static void stop(void) {
    stop_servers();
    default_idt(RET_VECTOR);
    if (task_register() != TSS0)
        load_tr(TSS0);
}

// EXT is judged apart from all else, for each cause.
static u32 ext_rows[CAUSES], ext_wrong[CAUSES];

static struct rule but_for_ext(struct rule want) {
    if (want.vector < TS || want.vector > GP || trap.vector != want.vector)
        return want;
    ext_rows[cause - causes]++;
    ext_wrong[cause - causes] += (trap.error & 1) != ext();
    want.error = (want.error & ~1u) | (trap.error & 1);
    return want;
}

// Lets the cause happen in ring `cpl` and judges where it led.
static void judge_at(struct rule want, u32 esp, u32 ss) {
    want = after(want);
    struct context c = ring_context(cpl, cause->fn);
    if (ss)
        c.esp = esp, c.ss = ss;
    happen(&c);
    row(but_for_ext(want), the_row);
    if (trap.vector != want.vector || want.vector == RET_VECTOR || want.vector == DFAULT || want.vector == PF_)
        return;
    // the fault is the instruction's, or comes where the event came, and nothing is changed
    STATE("the task that the fault belongs to", served_task(want.vector), TSS0);
    STATE("saved eip", tss0.eip, (u32)cause->fn + cause->at);
    // (IRET to an outer 16-bit stack loads SP alone)
    u32 sp = gdt[STACK >> 3] >> 54 & 1 || !ss ? 0xffffffff : 0xffff;
    STATE("saved esp", tss0.esp & sp, c.esp & sp);
    STATE("saved cs and ss", (tss0.cs & 0xffff) | tss0.ss << 16, c.cs | c.ss << 16);
}

static void judge(struct rule want) { judge_at(want, 0, 0); }

static int had_here(void) { return cause->rings >> cpl & 1; }

// ---- the gate
static struct rule gate_rule(void) {
    u32 error = cause->vector * 8 + 2;
    // "IF ((vector_number << 3) + 7) is not within IDT limits or selected IDT descriptor is not an interrupt-, trap-, or task-gate
    // type THEN #GP(error_code(vector_number,1,EXT))"
    if (gate_type != 6 && gate_type != 7 && gate_type != 14 && gate_type != 15 && gate_type != 5)
        return RAISES(GP, error);
    // "IF software interrupt (does not apply to INT1) THEN IF gate DPL < CPL THEN #GP(error_code(vector_number,1,0))"
    if (cause->software && gate_dpl < cpl)
        return RAISES(GP, error);
    // "IF gate not present THEN #NP(error_code(vector_number,1,EXT))"
    return present ? ARRIVES : RAISES(NP, error);
}

static void gates(void) {
    EACH(cpl, 4) EACH(gate_type, 32) EACH(gate_dpl, 4) EACH(present, 2) {
        // a task switch that goes through is the business of other guests
        if (!had_here() || (!is_full() && cpl % 3 && gate_dpl % 3) || (gate_type == 5 && gate_rule().vector == RET_VECTOR))
            continue;
        start();
        int narrow = gate_type == 6 || gate_type == 7;
        set(TARGET, desc(narrow ? home() : 0, 0xfffff, A_XR, G | BIG));
        set_idt(cause->vector, gate(TARGET, narrow ? 0 : home(), gate_type | DPL(gate_dpl) | present << 7, 0xff));
        judge(gate_rule());
    }
    gate_dpl = 3, present = 1;
}

// ---- the code segment that the gate names
static u32 offset_of(u32 narrow) { return narrow ? 0 : home(); }

static void code_selectors(void) {
    // "IF trap or interrupt gate's code-segment selector is NULL THEN #GP(EXT)"; "IF segment selector is not within descriptor table
    // limits THEN #GP(error_code(selector,0,EXT))"
    static const u32 bad[] = {0, 1, 2, 3, 4, 7, 0x0c, 0x0f, BEYOND, BEYOND | 3, 0xfff8, 0xffff};
    EACH(cpl, 4) for (u32 n = 0; n < sizeof bad / sizeof *bad; n++) for (gate_type = 14; gate_type < 16; gate_type++) {
        if (!had_here())
            continue;
        start();
        value = bad[n];
        set_idt(cause->vector, gate(value, home(), gate_type | DPL(3) | 0x80, 0));
        judge(RAISES(GP, (value & ~3)));
    }
    // one in an LDT
    set(0x0c, desc(0, 0xfffff, A_XR, G | BIG));
    value = 0x0c;
    EACH(cpl, 4) {
        if (!had_here())
            continue;
        start();
        load_ldt();
        set_idt(cause->vector, gate(0x0c, home(), A_INT32 | DPL(3), 0));
        judge(ARRIVES);
        asm volatile("lldt %w0" ::"r"(0));
    }
    value = 0;
}

static struct rule code_rule(void) {
    // "IF descriptor does not indicate a code segment or segment DPL > CPL THEN #GP(error_code(selector,0,EXT))"
    if (!is_code(type) || dpl > cpl)
        return RAISES(GP, TARGET);
    // "IF trap or interrupt gate segment is not present THEN #NP(error_code(selector,0,EXT))"
    return present ? ARRIVES : RAISES(NP, TARGET);
}

static void code_segments(void) {
    EACH(cpl, 4) EACH(type, 32) EACH(dpl, 4) EACH(present, 2) EACH_GATE_TYPE {
        u32 narrow = gate_type < 8;
        // all four gates for code of the caller's level, one for the others
        if (!had_here() || !is_chosen_type() || !is_chosen(dpl, cpl) || (gate_type != 14 && !(is_code(type) && dpl == cpl)))
            continue;
        start();
        set(TARGET, desc(narrow ? home() : 0, is_expand_down(type) ? 0 : 0xfffff, type | DPL(dpl) | present << 7, G | BIG));
        set_idt(cause->vector, gate(TARGET | 3, offset_of(narrow), gate_type | DPL(3) | 0x80, 0));
        judge(code_rule());
        if (trap.vector == RET_VECTOR)
            STATE("cs", tss0.cs & 0xffff, TARGET | (is_conforming(type) ? cpl : dpl));
    }
}

// "IF instruction pointer from IDT gate is not within code-segment limits THEN #GP(EXT)"
static u8 landing[0x10002]; // INT 30h wherever a gate may lead

static void offsets(void) {
    EACH(cpl, 4) EACH(ring, 4) EACH_GATE_TYPE EACH(value, 3) {
        if (!had_here() || ring > cpl)
            continue;
        start();
        u32 narrow = gate_type < 8;
        // a 32-bit gate's offset counts in full, of a 16-bit one's the lower word
        u32 offset = value == 2 ? 0x10000 : value * 2 + 2;
        for (u32 n = 0; n < 3; n++)
            memcpy(landing + (n == 2 ? 0x10000 : n * 2 + 2), ring_return, 2);
        memcpy(landing, ring_return, 2);
        set(TARGET, desc((u32)landing, 3, A_XR | DPL(ring), BIG));
        set_idt(cause->vector, gate(TARGET, offset, gate_type | DPL(3) | 0x80, 0));
        judge(value == 0 || (narrow && value == 2) ? ARRIVES : RAISES(GP, 0));
    }
}

// ---- the inner stack, from a TSS of either size
static struct tss16 {
    u16 link, stacks[6], rest[15];
} __attribute__((packed)) tss16;

static void set_stack(u32 wide, u32 n, u32 selector, u32 esp) {
    u32 *at = n == 0 ? &tss0.esp0 : n == 1 ? &tss0.esp1 : &tss0.esp2;
    if (wide)
        at[0] = esp, at[1] = selector;
    else
        tss16.stacks[2 * n] = esp, tss16.stacks[2 * n + 1] = selector;
}

// Lets the cause enter `ring`; with a 16-bit TSS in TR if asked. (A fault is served by a task, which saves into the TSS in TR.)
static void enter(u32 wide, struct rule want) {
    want = after(want);
    set_idt(cause->vector, gate(code_of[ring], home(), A_INT32 | DPL(3), 0));
    struct context c = ring_context(cpl, cause->fn);
    if (!wide) {
        set(OUR_TSS, desc((u32)&tss16, 43, A_TSS16, 0));
        load_tr(OUR_TSS);
    }
    happen(&c);
    row(but_for_ext(want), the_row);
    if (trap.vector == want.vector && want.vector != RET_VECTOR) {
        STATE("the task that the fault belongs to", served_task(want.vector), wide ? TSS0 : OUR_TSS);
        if (want.vector != DFAULT)
            STATE("saved ip", wide ? tss0.eip & 0xffff : tss16.rest[0], ((u32)cause->fn + cause->at) & 0xffff);
    }
}

static void stack_selectors(u32 wide) {
    // "IF new stack segment selector is NULL THEN #TS(EXT)"; "IF ... index is not within its descriptor table limits THEN
    // #TS(error_code(NewSS,0,EXT))"
    static const u32 bad[] = {0, 1, 2, 3, 4, 7, 0x0c, 0x0f, BEYOND, BEYOND | 3, 0xfff8};
    cpl = 3;
    EACH(ring, 3) for (u32 n = 0; n < sizeof bad / sizeof *bad; n++) {
        start();
        value = bad[n];
        tss16.stacks[1] = KDATA, tss16.stacks[0] = 0x400;
        set_stack(wide, ring, value, (u32)(inner_stacks[ring] + 128));
        enter(wide, RAISES(TS, (value & ~3)));
        set_stack(1, 0, KDATA, (u32)trap_stack_top);
    }
    value = 0;
}

static void stack_segments(u32 wide, u32 is_present) {
    present = is_present, cpl = 3;
    EACH(ring, 3) EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) {
        if (!is_chosen_type() || !is_chosen(rpl, ring) || !is_chosen(dpl, ring))
            continue;
        start();
        u32 base = wide ? 0 : (u32)inner_stacks[ring];
        set(STACK, desc(base, is_expand_down(type) ? 0 : 0xfffff, type | DPL(dpl) | present << 7, G | BIG));
        set_stack(wide, ring, STACK | rpl, wide ? (u32)(inner_stacks[ring] + 128) : sizeof inner_stacks[0]);
        if (is_expand_down(type) && !wide) // its offsets begin behind the limit: at 1000h
            set(STACK, desc(base - 0x1000, 0, type | DPL(dpl) | present << 7, G | BIG)),
                set_stack(0, ring, STACK | rpl, 0x1000 + sizeof inner_stacks[0]);
        // "IF new stack segment's RPL != new code-segment DPL, or DPL !=, or it is not a writable data segment THEN
        // #TS(error_code(NewSS,0,EXT))"; "IF new stack segment not present THEN #SS(error_code(NewSS,0,EXT))"
        struct rule want = rpl != ring || dpl != ring || !is_writable_data(type) ? RAISES(TS, STACK)
                           : present                                             ? ARRIVES
                                                                                 : RAISES(SS, STACK);
        enter(wide, want);
        set_stack(1, 0, KDATA, (u32)trap_stack_top);
    }
}

// "IF (TSSstackAddress + 5) > current TSS limit THEN #TS(error_code(current TSS selector,0,EXT))"; + 3 in a 16-bit TSS. The fault is
// served in ring 0, for which the TSS is always long enough.
static void tss_limits(void) {
    cpl = 3;
    for (ring = 1; ring < 3; ring++) for (u32 wide = 0; wide < 2; wide++) for (value = wide ? 11 : 5; value < 32; value++) {
        u32 needs = wide ? ring * 8 + 4 + 5 : ring * 4 + 2 + 3;
        if (wide && (value == needs || value == needs + 1))
            continue; // older editions say + 7
        stop();
        set_stack(wide, 0, wide ? KDATA : SCRATCH(5), wide ? (u32)trap_stack_top : 0x400);
        set_stack(wide, ring, SCRATCH(5 + ring) | ring, 0x400);
        set(OUR_TSS, desc(wide ? (u32)&tss0 : (u32)&tss16, value, wide ? A_TSS32 : A_TSS16, 0));
        load_tr(OUR_TSS);
        set_idt(cause->vector, gate(code_of[ring], home(), A_INT32 | DPL(3), 0));
        struct context c = ring_context(cpl, cause->fn);
        happen(&c);
        struct rule want = after(value < needs ? RAISES(TS, OUR_TSS) : ARRIVES);
        row(but_for_ext(want), the_row);
        if (trap.vector == want.vector && want.vector == TS)
            STATE("saved eip", trap.eip, (u32)cause->fn + cause->at);
        load_tr(TSS0);
    }
    tss0.ss1 = DATA1, tss0.ss2 = DATA2;
    value = 0;
}

// ---- room for the frame: to the byte, in stacks of all shapes
#define DOWN_AT 0x3000 // where an expand-down segment begins, behind its limit

// A stack segment of dpl `level` that has room for `bytes` below the ESP that is returned.
static u8 room[32 + 0x10000]; // for those who check no limits, too

static u32 make_room(u32 level, u32 shape, u32 bytes) {
    u32 memory = (u32)room + 32;
    switch (shape) {
    case 0: // 32-bit, expand-up: down to 0
    case 1: // 16-bit
        set(STACK, desc(memory, 0x5ff, A_RW | DPL(level), shape == 0 ? BIG : 0));
        return bytes;
    default: // 2: 32-bit, expand-down: down to the byte behind the limit; 3: 16-bit
        set(STACK, desc(memory - DOWN_AT, DOWN_AT - 1, A_RW_DOWN | DPL(level), shape == 2 ? BIG : 0));
        return DOWN_AT + bytes;
    }
}

// "IF new stack does not have room for 24 bytes (error code pushed) or 20 bytes (no error code pushed) THEN
// #SS(error_code(NewSS,0,EXT))"; 12 and 10 with a 16-bit gate
static void inner_room(void) {
    u32 shape;
    cpl = 3;
    EACH(ring, 3) EACH(shape, 4) for (gate_type = 6; gate_type < 16; gate_type += 8) {
        u32 size = gate_type == 6 ? 2 : 4, frame = (cause->error == NO_ERROR ? 5 : 6) * size;
        for (u32 n = 0; n < 4; n++) {
            static const u32 less[] = {0, 1, 2, 5};
            value = frame - less[n];
            start();
            u32 esp = make_room(ring, shape, value);
            set_stack(1, ring, STACK | ring, esp);
            set(TARGET, desc(gate_type == 6 ? home() : 0, 0xfffff, A_XR | DPL(ring), G | BIG));
            set_idt(cause->vector, gate(TARGET, offset_of(gate_type == 6), gate_type | DPL(3) | 0x80, 0));
            int fits = value >= frame;
            judge(fits ? ARRIVES : RAISES(SS, STACK));
            set_stack(1, 0, KDATA, (u32)trap_stack_top);
        }
    }
}

// "IF current stack does not have room for 16 bytes (error code pushed) or 12 bytes (no error code pushed) THEN #SS(EXT)"; 8 and 6
// with a 16-bit gate
static void same_level_room(void) {
    u32 shape;
    for (cpl = 1; cpl < 4; cpl++) EACH(shape, 4) for (gate_type = 6; gate_type < 16; gate_type += 8) {
        u32 size = gate_type == 6 ? 2 : 4, frame = (cause->error == NO_ERROR ? 3 : 4) * size;
        for (u32 n = 0; had_here() && n < 4; n++) {
            static const u32 less[] = {0, 1, 2, 5};
            value = frame - less[n];
            start();
            u32 esp = make_room(cpl, shape, value);
            set(TARGET, desc(gate_type == 6 ? home() : 0, 0xfffff, A_XR | DPL(cpl), G | BIG));
            set_idt(cause->vector, gate(TARGET, offset_of(gate_type == 6), gate_type | DPL(3) | 0x80, 0));
            judge_at(value >= frame ? ARRIVES : RAISES(SS, 0), esp, STACK | cpl);
        }
    }
    value = 0;
}

// ---- two things wrong: the manual's order
static void order(void) {
    cpl = 3;
    for (ring = 1; ring < 3; ring++) EACH(value, 4) {
        start();
        set(TARGET, desc(0, value >= 2 ? 0xfff : 0xfffff, A_XR | DPL(ring) | 0x80, value >= 2 ? BIG : G | BIG));
        set_idt(cause->vector, gate(TARGET, home(), A_INT32 | DPL(3), 0));
        struct rule want;
        switch (value) {
        case 0: // the code segment is absent, and the stack null
            set(TARGET, desc(0, 0xfffff, (A_XR & 0x7f) | DPL(ring), G | BIG));
            set_stack(1, ring, 0, 0), want = RAISES(NP, TARGET);
            break;
        case 1: // the stack is absent, and of another dpl
            set(STACK, desc(0, 0xfffff, A_RW & 0x7f, G | BIG));
            set_stack(1, ring, STACK | ring, 0), want = RAISES(TS, STACK);
            break;
        case 2: // the stack is null, and the offset beyond the limit
            set_stack(1, ring, 0, 0), want = RAISES(TS, 0);
            break;
        default: // no room, and the offset beyond the limit
            set_stack(1, ring, STACK | ring, make_room(ring, 0, 8)), want = RAISES(SS, STACK);
        }
        judge(want);
    }
    tss0.ss1 = DATA1, tss0.ss2 = DATA2;
    value = 0;
}

// ---- pages: a page fault of the processor's own access (U/S clear), or of CPL 3's push; then all is done again
static u32 faults, fault_error, fault_cr2, fault_eip, fault_esp, absent;

static int on_page_fault(void) {
    if (faults++ == 0)
        fault_error = trap.error, fault_cr2 = trap.cr2, fault_eip = trap.eip, fault_esp = trap.esp;
    map(absent, *pte(absent) & ~0xfff, P | W | U);
    return faults > 3 ? CATCH_IT : RESUME;
}

static void judge_pages(u32 error, u32 esp, u32 ss) {
    struct context c = ring_context(cpl, cause->fn);
    if (ss)
        c.esp = esp, c.ss = ss;
    faults = 0;
    if (cause->class == PAGE_FAULT) { // twice: #DF
        happen(&c);
        row(RAISES(DFAULT, 0), the_row);
        return;
    }
    hooks[PF_] = on_page_fault;
    happen(&c);
    hooks[PF_] = 0;
    // (what was being delivered is gone; a fault comes again when its instruction does, a trap does not)
    row(ARRIVES, the_row);
    STATE("page faults", faults, 1);
    STATE("error code", fault_error, error);
    STATE("page of cr2", fault_cr2 & ~0xfff, absent);
    STATE("saved eip", fault_eip, (u32)cause->fn + cause->at);
    STATE("saved esp", fault_esp, c.esp);
}

// (An interrupt that faults on the way is gone, and INT1 does not come again by itself.)
static int comes_again(void) { return cause->vector != IRQ0 && cause->fn != int1_; }

static void inner_stack_pages(void) {
    if (!comes_again())
        return;
    stop();
    map(WINDOW + 0x1000, frame(1), P | W | U);
    absent = WINDOW;
    u32 frame_size = (cause->error == NO_ERROR ? 5 : 6) * 4;
    cpl = 3;
    for (ring = 1; ring < 3; ring++) for (value = 0; value < frame_size; value += 4) {
        // this much of the frame is on the page that is there
        set_stack(1, ring, ring == 1 ? DATA1 : DATA2, WINDOW + 0x1000 + value);
        set_idt(cause->vector, gate(code_of[ring], home(), A_INT32 | DPL(3), 0));
        map(WINDOW, frame(0), 0);
        judge_pages(2, 0, 0);
    }
}

static void same_level_stack_pages(void) {
    static const u16 data_of[4] = {KDATA, DATA1, DATA2, UDATA};
    if (!comes_again())
        return;
    stop();
    map(WINDOW + 0x1000, frame(1), P | W | U);
    absent = WINDOW;
    u32 frame_size = (cause->error == NO_ERROR ? 3 : 4) * 4;
    for (cpl = 1; cpl < 4; cpl++) for (value = 0; had_here() && value < frame_size; value += 4) {
        ring = cpl;
        set_idt(cause->vector, gate(code_of[cpl], home(), A_INT32 | DPL(3), 0));
        map(WINDOW, frame(0), 0);
        judge_pages(cpl == 3 ? 6 : 2, WINDOW + 0x1000 + value, data_of[cpl]);
    }
}

// The IDT, the TSS and the GDT on absent pages.
static void table_pages(void) {
    if (!comes_again())
        return;
    stop();
    cpl = 3, ring = 1;
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) idt_there = {sizeof idt - 1, WINDOW + 0x1000 - 15 * 8}, idt_here = {sizeof idt - 1, (u32)idt},
                              gdt_there = {sizeof gdt - 1, WINDOW + 0x1000 - SCRATCH(60)}, gdt_here = {sizeof gdt - 1, (u32)gdt};
    map(WINDOW, frame(0), P | W | U);
    absent = WINDOW + 0x1000;
    set_stack(1, 1, DATA1, (u32)(inner_stacks[1] + 128));
    if (cause->vector > PF_) {
        value = 1; // the gate
        set_idt(cause->vector, gate(CODE1, home(), A_INT32 | DPL(3), 0));
        memcpy((void *)(frame(1) - 15 * 8), (void *)idt, sizeof idt);
        map(absent, frame(1), 0);
        asm volatile("lidt %0" ::"m"(idt_there));
        judge_pages(0, 0, 0);
        asm volatile("lidt %0" ::"m"(idt_here));
    }
    value = 2; // the code segment's descriptor
    set(SCRATCH(60), gdt[CODE1 >> 3]);
    set_idt(cause->vector, gate(SCRATCH(60) | 1, home(), A_INT32 | DPL(3), 0));
    memcpy((void *)(frame(1) - SCRATCH(60)), (void *)gdt, sizeof gdt);
    map(absent, frame(1), 0);
    asm volatile("lgdt %0" ::"m"(gdt_there));
    judge_pages(0, 0, 0);
    value = 3; // the inner stack's
    *(u64 *)frame(1) = gdt[DATA1 >> 3];
    set_idt(cause->vector, gate(CODE1, home(), A_INT32 | DPL(3), 0));
    tss0.ss1 = SCRATCH(60) | 1;
    map(absent, frame(1), 0);
    judge_pages(0, 0, 0);
    asm volatile("lgdt %0" ::"m"(gdt_here));
    tss0.ss1 = DATA1;
    value = 4; // SS1:ESP1 in the TSS
    memcpy((void *)(frame(1) - 12), &tss0, 104);
    set(OUR_TSS, desc(WINDOW + 0x1000 - 12, 103, A_TSS32, 0));
    load_tr(OUR_TSS);
    map(absent, frame(1), 0);
    judge_pages(0, 0, 0);
    load_tr(TSS0);
    default_idt(cause->vector);
    value = 0;
}

// ---- the IDT's limit: "((vector_number << 3) + 7) is not within IDT limits"
static u8 int_n_piece[] = {0xcd, 0, 0xcd, RET_VECTOR};

static void idt_limits(void) {
    static const struct cause any = {"int-n", (void (*)(void))int_n_piece, 0, BENIGN, 1, NO_ERROR, 0, 2, 0, 0, 15};
    stop();
    // as this guest's vectors go, none between #GP's and RET_VECTOR's is needed
    group("idt-limit");
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) table = {0, (u32)idt};
    cause = &any;
    static const i32 around[] = {-1, 0, 6, 7, 8, 15};
    u32 n;
    for (cpl = 0; cpl < 4; cpl += 3) for (type = PF_; type < 256; type++) EACH(n, 6) {
        if (type == RET_VECTOR)
            continue;
        value = type * 8 + around[n];
        int_n_piece[1] = type;
        set_idt(type, gate(KCODE, stub(RET_VECTOR), A_INT32 | DPL(3), 0));
        table.limit = value;
        asm volatile("lidt %0" ::"m"(table));
        struct context c = ring_context(cpl, cause->fn);
        go(&c);
        row(value >= type * 8 + 7 ? ARRIVES : RAISES(GP, type * 8 + 2), the_row);
        default_idt(type);
    }
    end_group();
    // the same for events: one of each kind whose vector is not needed to serve the fault
    EACH_CAUSE {
        if (cause->vector < PF_ || cause->class == PAGE_FAULT)
            continue;
        group(name_of("%s-idt-limit", cause->name));
        EACH(cpl, 4) for (value = cause->vector * 8 - 1; had_here() && value < cause->vector * 8 + 9; value++) {
            set_idt(cause->vector, gate(KCODE, stub(RET_VECTOR), A_INT32 | DPL(3), 0));
            table.limit = value;
            asm volatile("lidt %0" ::"m"(table));
            struct context c = ring_context(cpl, cause->fn);
            happen(&c);
            row(but_for_ext(value >= cause->vector * 8 + 7 ? ARRIVES : RAISES(GP, cause->vector * 8 + 2)), the_row);
            default_idt(cause->vector);
        }
        end_group();
    }
    table.limit = sizeof idt - 1;
    asm volatile("lidt %0" ::"m"(table));
    value = type = 0;
}

static void stack_selectors_both(void) { stack_selectors(1), stack_selectors(0); }
static void stack_segments_present(void) { stack_segments(1, 1), stack_segments(0, 1); }
static void stack_segments_absent(void) { stack_segments(1, 0), stack_segments(0, 0); }

// INT1 and #AC do not happen everywhere: they have groups of their own.
static int is_solo(void) { return cause->fn == int1_ || cause->vector == AC_; }

static const struct {
    const char *name;
    void (*rows)(void);
} walks[] = {
    {"gates", gates},
    {"code-selectors", code_selectors},
    {"code-segments", code_segments},
    {"offsets", offsets},
    {"inner-stack-selectors", stack_selectors_both},
    {"inner-stacks", stack_segments_present},
    {"absent-inner-stacks", stack_segments_absent},
    {"tss-limits", tss_limits},
    {"inner-room", inner_room},
    {"same-level-room", same_level_room},
    {"order", order},
    {"inner-stack-pages", inner_stack_pages},
    {"same-level-stack-pages", same_level_stack_pages},
    {"table-pages", table_pages},
};
#define WALKS (sizeof walks / sizeof *walks)

void guest(void) {
    for (u32 n = 0; n < 3; n++)
        set(SCRATCH(5 + n), desc((u32)inner_stacks[n], 0x3ff, A_RW | DPL(n), 0)); // 16-bit stacks
    set(ABSENT, desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    paging_on();
    for (u32 n = 0; n < WALKS; n++) {
        group(walks[n].name);
        EACH_CAUSE {
            if (is_solo())
                continue;
            arm();
            walks[n].rows();
            default_idt(cause->vector);
        }
        end_group();
    }
    EACH_CAUSE if (is_solo()) {
        group(cause->name);
        for (u32 n = 0; n < WALKS; n++) {
            arm();
            walks[n].rows();
            default_idt(cause->vector);
        }
        end_group();
    }
    idt_limits();
    default_idt(VEC);
    EACH_CAUSE {
        check(name_of("%s-ext", cause->name), ext_wrong[cause - causes], 0);
        if (cause->class == BENIGN)
            check_true(name_of("%s-ext-is-not-empty", cause->name), ext_rows[cause - causes] > 50);
    }
}
