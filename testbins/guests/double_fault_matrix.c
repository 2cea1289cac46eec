// The table of double faults, whole: an event of every kind, met on its way to its handler by a second one of every kind with every
// cause it can have; chains of three; what the double fault itself may meet; and, asked for by `shutdown=N` on the command line, the
// ends of the chains, which the processor does not survive. SDM 3A "Double Fault Exception (#DF)", tables "Interrupt and Exception
// Classes" and "Conditions for Generating a Double Fault". (EXT is the business of delivery_checks.)
#include "lib/rows.h"
#include "lib/causes.h"
#include "lib/servers.h"

#define STACK SCRATCH(2)
#define DATA_OF_0 SCRATCH(3)
#define NEW_TSS SCRATCH(4)
#define ABSENT_CODE SCRATCH(5)

// ---- what comes second, and why
enum { BY_GATE, BY_STACK, BY_TASK, IN_TASK }; // what is spoilt; IN_TASK: what the new task meets as its first thing
struct second {
    const char *name;
    void (*spoil)(u32 vector); // so that the delivery through this vector meets it
    u32 vector;
    enum class class;
    u32 error, where;
};

static struct tss32 new_task;

static void gate_absent(u32 v) { set_idt(v, gate(KCODE, stub(v), (A_INT32 | DPL(3)) & 0x7f, 0)); }
static void gate_of_no_type(u32 v) { set_idt(v, gate(KCODE, stub(v), A_CALL32 | DPL(3), 0)); }
static void code_null(u32 v) { set_idt(v, gate(0, stub(v), A_TRAP32 | DPL(3), 0)); }
static void code_beyond(u32 v) { set_idt(v, gate(0x400, stub(v), A_INT32 | DPL(3), 0)); }
static void code_is_data(u32 v) { set_idt(v, gate(KDATA, stub(v), A_INT16 | DPL(3), 0)); }
static void code_absent(u32 v) { set_idt(v, gate(NPCODE, stub(v), A_INT32 | DPL(3), 0)); }
static void inward(u32 v, u32 ss, u32 esp) {
    set_idt(v, gate(CODE1, (u32)ring_return, A_INT32 | DPL(3), 0));
    tss0.ss1 = ss, tss0.esp1 = esp;
}
static void stack_null(u32 v) { inward(v, 0, 0x1000); }
static void stack_of_ring_0(u32 v) { inward(v, DATA_OF_0, 0x1000); }
static void stack_absent(u32 v) {
    set(STACK, desc(0, 0xfffff, (A_RW | DPL(1)) & 0x7f, G | BIG));
    inward(v, STACK | 1, 0x1000);
}
static void stack_too_small(u32 v) {
    static u8 around[256];
    set(STACK, desc((u32)around + 192, 7, A_RW | DPL(1), BIG));
    inward(v, STACK | 1, 8);
}
static void stack_page_absent(u32 v) { inward(v, DATA1, WINDOW + 0x2000); }
static void stack_page_read_only(u32 v) {
    map(WINDOW + 0x3000, frame(1), P);
    inward(v, DATA1, WINDOW + 0x3800);
}
static void new_tss(u32 v, u32 access, u32 limit, u32 base) {
    memset(&new_task, 0, 104);
    new_task.eip = stub(RET_VECTOR), new_task.cs = KCODE, new_task.esp = (u32)&server_stacks[0][13], new_task.eflags = 2;
    new_task.ss = new_task.ds = new_task.es = KDATA, new_task.cr3 = cr3();
    set(NEW_TSS, desc(base, limit, access, 0));
    set_idt(v, gate(NEW_TSS, 0, A_TASK | DPL(3), 0));
}
static void task_absent(u32 v) { new_tss(v, A_TSS32 & 0x7f, 103, (u32)&new_task); }
static void task_busy(u32 v) { new_tss(v, A_TSS32_BUSY, 103, (u32)&new_task); }
static void task_is_an_ldt(u32 v) { new_tss(v, A_LDT, 103, (u32)&new_task); }
static void task_too_short(u32 v) { new_tss(v, A_TSS32, 102, (u32)&new_task); }
static void task_on_an_absent_page(u32 v) { new_tss(v, A_TSS32, 103, WINDOW + 0x5000); }
static void task_ldt_beyond(u32 v) { new_tss(v, A_TSS32, 103, (u32)&new_task), new_task.ldt = 0x400; }
static void task_code_is_data(u32 v) { new_tss(v, A_TSS32, 103, (u32)&new_task), new_task.cs = KDATA; }
static void task_code_absent(u32 v) { new_tss(v, A_TSS32, 103, (u32)&new_task), new_task.cs = NPCODE; }
static void task_stack_absent(u32 v) { new_tss(v, A_TSS32, 103, (u32)&new_task), new_task.ss = NPDATA; }
static void task_data_absent(u32 v) { new_tss(v, A_TSS32, 103, (u32)&new_task), new_task.ds = NPDATA; }

#define OF_GATE 0xffffffff // the error code names the gate
static const struct second seconds[] = {
    {"gate-absent", gate_absent, NP, CONTRIBUTORY, OF_GATE, BY_GATE},
    {"gate-of-no-type", gate_of_no_type, GP, CONTRIBUTORY, OF_GATE, BY_GATE},
    {"code-null", code_null, GP, CONTRIBUTORY, 0, BY_GATE},
    {"code-beyond", code_beyond, GP, CONTRIBUTORY, 0x400, BY_GATE},
    {"code-is-data", code_is_data, GP, CONTRIBUTORY, KDATA, BY_GATE},
    {"code-absent", code_absent, NP, CONTRIBUTORY, NPCODE, BY_GATE},
    {"stack-null", stack_null, TS, CONTRIBUTORY, 0, BY_STACK},
    {"stack-of-ring-0", stack_of_ring_0, TS, CONTRIBUTORY, DATA_OF_0, BY_STACK},
    {"stack-absent", stack_absent, SS, CONTRIBUTORY, STACK, BY_STACK},
    {"stack-too-small", stack_too_small, SS, CONTRIBUTORY, STACK, BY_STACK},
    {"stack-page-absent", stack_page_absent, PF_, PAGE_FAULT, 2, BY_STACK},
    {"stack-page-read-only", stack_page_read_only, PF_, PAGE_FAULT, 3, BY_STACK},
    {"task-absent", task_absent, NP, CONTRIBUTORY, NEW_TSS, BY_TASK},
    {"task-busy", task_busy, GP, CONTRIBUTORY, NEW_TSS, BY_TASK},
    {"task-is-an-ldt", task_is_an_ldt, GP, CONTRIBUTORY, NEW_TSS, BY_TASK},
    {"task-too-short", task_too_short, TS, CONTRIBUTORY, NEW_TSS, BY_TASK},
    {"task-on-an-absent-page", task_on_an_absent_page, PF_, PAGE_FAULT, 0, BY_TASK},
    {"task-ldt-beyond", task_ldt_beyond, TS, CONTRIBUTORY, 0x400, IN_TASK},
    {"task-code-is-data", task_code_is_data, TS, CONTRIBUTORY, KDATA, IN_TASK},
    {"task-code-absent", task_code_absent, NP, CONTRIBUTORY, NPCODE, IN_TASK},
    {"task-stack-absent", task_stack_absent, SS, CONTRIBUTORY, NPDATA, IN_TASK},
    {"task-data-absent", task_data_absent, NP, CONTRIBUTORY, NPDATA, IN_TASK},
};
#define SECONDS (sizeof seconds / sizeof *seconds)

// ---- the row at hand
static u32 cpl;
static const struct second *second, *third;

static const char *the_row(void) {
    return name_of("%s cpl %u then %s then %s", cause->name, cpl, second->name, third ? third->name : "-");
}

// Table "Conditions for Generating a Double Fault": whether these two are one.
static int is_double(enum class first, enum class then) {
    static const u8 table[3][3] = {
        [BENIGN] = {[BENIGN] = 0, [CONTRIBUTORY] = 0, [PAGE_FAULT] = 0},
        [CONTRIBUTORY] = {[BENIGN] = 0, [CONTRIBUTORY] = 1, [PAGE_FAULT] = 0},
        [PAGE_FAULT] = {[BENIGN] = 0, [CONTRIBUTORY] = 1, [PAGE_FAULT] = 1},
    };
    return table[first][then];
}

static struct rule rule_of(const struct second *s, u32 vector) {
    return RAISES(s->vector, s->error == OF_GATE ? vector * 8 + 2 : s->error);
}

static struct rule but_for_ext(struct rule want) {
    if (want.vector >= TS && want.vector <= GP && want.vector == trap.vector)
        want.error = (want.error & ~1u) | (trap.error & 1);
    return want;
}

static u32 task_register(void) {
    u32 r = 0;
    asm volatile("str %w0" : "+r"(r));
    return r;
}

// Back to the first task; all handlers as they should be.
static void reset(void) {
    for (u32 n = 0; n < SERVED; n++)
        gdt[SERVER(n) >> 3] &= ~(2ull << 40);
    if (task_register() != TSS0)
        load_tr(TSS0);
    asm volatile("clts");
    start_servers();
    default_idt(cause->vector == PF_ || cause->class == BENIGN ? cause->vector : PF_);
    default_idt(PF_);
    tss0.ss1 = DATA1, tss0.esp1 = (u32)user_stack_top - 4096;
}

static int can_be(const struct second *s) { return (cause->rings >> cpl & 1) && (s->where != BY_STACK || cpl > 1); }

static void one_pair(void) {
    reset();
    third = 0;
    second->spoil(cause->vector);
    struct context c = ring_context(cpl, cause->fn);
    happen(&c);
    struct rule want = is_double(cause->class, second->class) ? RAISES(DFAULT, 0) : rule_of(second, cause->vector);
    row(but_for_ext(want), the_row);
    if (second->vector == PF_ && trap.vector == PF_)
        state("cr2", trap.cr2 & ~0xfffu, second->spoil == stack_page_absent      ? WINDOW + 0x1000
                                        : second->spoil == stack_page_read_only ? WINDOW + 0x3000
                                                                                : WINDOW + 0x5000,
              the_row);
}

// INT1 and #AC do not happen everywhere: they have groups of their own.
static int is_solo(void) { return cause->fn == int1_ || cause->vector == AC_; }

static const char *const class_names[] = {"benign", "contributory", "page-fault"};
static const char *const vector_names[] = {[TS] = "ts", [NP] = "np", [SS] = "ss", [GP] = "gp", [PF_] = "pf"};

static void pairs(void) {
    for (u32 class = BENIGN; class <= PAGE_FAULT; class++) for (u32 vector = TS; vector <= PF_; vector++) {
        group(name_of("%s-then-%s", class_names[class], vector_names[vector]));
        EACH_CAUSE if (cause->class == class && !is_solo()) {
            for (second = seconds; second < seconds + SECONDS; second++) for (cpl = 0; cpl < 4; cpl += cpl ? 1 : 2)
                if (second->vector == vector && second->spoil != stack_too_small && can_be(second))
                    one_pair();
            reset();
            default_idt(cause->vector);
        }
        end_group();
    }
    group("all-then-no-room");
    EACH_CAUSE for (second = seconds; second < seconds + SECONDS; second++) {
        cpl = 3;
        if (second->spoil == stack_too_small && !is_solo() && can_be(second))
            one_pair();
        reset();
        default_idt(cause->vector);
    }
    end_group();
    EACH_CAUSE if (is_solo()) {
        group(name_of("%s-then-all", cause->name));
        for (second = seconds; second < seconds + SECONDS; second++)
            for (cpl = 0; cpl < 4; cpl += 3)
                if (can_be(second))
                    one_pair();
        reset();
        default_idt(cause->vector);
        end_group();
    }
}

// ---- the second one is served, or was to be: its own delivery meets a third. "The processor generally can handle the two
// exceptions serially": the second is then the first of a pair of its own.
static int exclude_each_other(const struct second *a, const struct second *b) {
    // one inner stack and one new TSS cannot be wrong in two ways; the new task is in ring 0 and needs no inner stack
    // (room on the stack is a matter of its own)
    return a->vector == b->vector || a->spoil == stack_too_small || b->spoil == stack_too_small ||
           (a->where == BY_STACK && b->where == BY_STACK) || (a->where >= BY_TASK && b->where >= BY_TASK) ||
           (a->where == IN_TASK && b->where == BY_STACK);
}

static void chains(void) {
    static const char *const names[] = {"contributory", "a-page-fault", "an-absent-stack"};
    for (u32 kind = 0; kind < 3; kind++) {
        group(name_of("a-second-that-is-%s-then-a-third", names[kind]));
        EACH_CAUSE {
            if (is_solo() || (cause->vector != VEC && cause->vector != UD && cause->vector != DE && cause->vector != GP))
                continue;
            cpl = 3;
            for (second = seconds; second < seconds + SECONDS; second++) for (third = seconds; third < seconds + SECONDS; third++) {
                u32 its_kind = second->vector == SS ? 2 : second->class == PAGE_FAULT;
                if (its_kind != kind || is_double(cause->class, second->class) || second->vector == cause->vector)
                    continue;
                if (exclude_each_other(second, third))
                    continue;
                const struct second *kept = third;
                reset();
                second->spoil(cause->vector);
                third->spoil(second->vector);
                struct context c = ring_context(cpl, cause->fn);
                happen(&c);
                third = kept;
                struct rule want = is_double(second->class, third->class) ? RAISES(DFAULT, 0) : rule_of(third, second->vector);
                row(but_for_ext(want), the_row);
            }
            reset();
            default_idt(cause->vector);
        }
        end_group();
    }
}

// ---- a second one that is benign: #AC, for the frame of a handler in ring 3. Whatever came first, it is served.
static void then_alignment(void) {
    cpl = 3, third = 0;
    static const struct second alignment = {"ac", 0, AC_, BENIGN, 0, BY_GATE};
    second = &alignment;
    u32 old = cr0();
    for (u32 class = BENIGN; class <= PAGE_FAULT; class++) {
        group(name_of("%s-then-ac", class_names[class]));
        EACH_CAUSE {
            if (cause->class != class || cause->vector == AC_ || !can_be(second))
                continue;
            reset();
            set_idt(cause->vector, gate(UCODE, (u32)ring_return, A_INT32 | DPL(3), 0));
            struct context c = ring_context(cpl, cause->fn);
            c.esp -= 2, c.eflags |= AC;
            set_cr0(old | AM);
            happen(&c);
            set_cr0(old);
            row(RAISES(AC_, 0), the_row);
            reset();
            default_idt(cause->vector);
        }
        end_group();
    }
}

// ---- a double fault that is served: what its handler does after that is a new beginning.
static void after_a_double_fault(void) {
    static const struct {
        void (*piece)(void);
        u32 vector, error;
    } pieces[] = {
        {ud2_, UD, NO_ERROR}, {absent_fs, NP, ABSENT}, {read_window, PF_, 0}, {divide, DE, NO_ERROR}, {int_50, VEC, NO_ERROR},
    };
    group("faults-of-the-handler-of-the-double-fault");
    third = 0;
    EACH_CAUSE if (cause->vector == GP || cause->vector == PF_) for (u32 n = 0; n < sizeof pieces / sizeof *pieces; n++) {
        cpl = 3, second = seconds;
        reset();
        default_idt(VEC), default_idt(DE);
        set_idt(DFAULT, gate(KCODE, (u32)pieces[n].piece, A_INT32, 0));
        gate_absent(cause->vector == GP ? GP : PF_);
        u32 served_by_it = pieces[n].vector == cause->vector;
        if (served_by_it) // its gate is the spoilt one
            continue;
        struct context c = ring_context(cpl, cause->fn);
        happen(&c);
        row(RAISES(pieces[n].vector, pieces[n].error), the_row);
    }
    cause = causes;
    reset();
    default_idt(GP);
    end_group();
}

// ---- the row of the table that nothing comes back from: the double fault meets one more contributory exception or page fault.
static const struct cause *cause_of(u32 vector) {
    const struct cause *c = causes;
    while (c->vector != vector)
        c++;
    return c;
}

static void shut_down(u32 n) {
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) empty = {0, 0};
    cpl = 3;
    cause = cause_of(GP);
    second = seconds; // the gate absent
    reset();
    if (n <= SECONDS) {
        third = &seconds[n - 1];
        second->spoil(GP);
        third->spoil(DFAULT);
    } else if (n == SECONDS + 1) { // three page faults
        cause = cause_of(PF_);
        stack_page_absent(PF_);
        stack_page_absent(DFAULT);
    } else if (n == SECONDS + 2) { // one that began with nothing
        cause = cause_of(UD);
        gate_absent(UD), gate_absent(NP), gate_absent(DFAULT);
    } else if (n == SECONDS + 3) { // a page fault that is met by a contributory exception
        cause = cause_of(PF_);
        stack_null(PF_);
        code_null(DFAULT);
    } else if (n == SECONDS + 4) { // no IDT at all
        cause = cause_of(VEC);
        asm volatile("lidt %0" ::"m"(empty));
    } else {
        say("NOTE no-such-shutdown\n");
        return;
    }
    say("NOTE shutting-down: %s, %s\n", cause->name, third ? third->name : "and others");
    struct context c = ring_context(cpl, cause->fn);
    go(&c);
    say("FAIL survived: vector %u error %x\n", trap.vector, trap.error);
}

void guest(void) {
    paging_on();
    set_cr0(cr0() | WP);
    set(ABSENT, desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    set(DATA_OF_0, desc(0, 0xfffff, A_RW, G | BIG));
    start_servers();
    if (asked_for("shutdown")) {
        shut_down(asked_for("shutdown"));
        return;
    }
    pairs();
    chains();
    then_alignment();
    after_a_double_fault();
    stop_servers();
}
