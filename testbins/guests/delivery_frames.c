// What delivery through an interrupt or trap gate leaves: the frame, word for word, on stacks of both sizes, and every register and
// flag that the handler finds; for events of every kind, from every ring to every ring. SDM 3A "Exception- and Interrupt-Handler
// Procedures", "Flag Usage By Exception- or Interrupt-Handler Procedure", "Error Code"; SDM 2A "INT n/INTO/INT3/INT1", Operation;
// RF: SDM 3B "Instruction-Breakpoint Exception Condition".
#include "lib/rows.h"
#include "lib/causes.h"

#define TARGET SCRATCH(1)
#define INNER SCRATCH(2) // the stack that the TSS names
#define OUTER SCRATCH(3) // the interrupted one
#define OUR_TSS SCRATCH(4)

// ---- the row at hand
static u32 cpl, ring, conforming, gate_type, inner_big, outer_big, wide_tss, flags;

static const char *the_row(void) {
    return name_of("%s cpl %u to ring %u conforming %u gate-type %2x inner-big %u outer-big %u tss %u eflags %x", cause->name, cpl,
                   ring, conforming, gate_type, inner_big, outer_big, wide_tss ? 32 : 16, flags);
}

#define STATE(what, got, want) state(what, got, want, the_row)
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

static struct {
    u16 link, stacks[6], rest[15];
} __attribute__((packed)) tss16;
static u32 inner_memory[128], outer_memory[128];
#define TOP 0x1f0

#define ARITHMETIC (CF | PF | AF | ZF | SF | OF)
#define ANY_FLAG (AC | ID | NT | IOPL(3) | DF | ARITHMETIC)

// What the piece itself does to EFLAGS before its event: XOR in `divide` and `bound_` (which leaves AF undefined).
static u32 flags_at_event(u32 f) {
    if (cause->fn == divide || cause->fn == bound_)
        f = (f & ~ARITHMETIC) | ZF | PF;
    return f;
}
static u32 defined_flags(void) { return cause->fn == divide || cause->fn == bound_ ? ~(u32)AF : 0xffffffff; }

static u32 esp_wrong, rf_rows[2], rf_wrong[2]; // of what is no fault, and of faults

// `n` words or dwords from the handler's stack pointer.
static u32 slot(u32 n) {
    u32 sp_mask = (ring != cpl ? inner_big : outer_big) ? 0xffffffff : 0xffff;
    u32 base = (u32)(ring != cpl ? inner_memory : outer_memory), size = gate_type & 8 ? 4 : 2;
    u32 at = base + ((trap.esp + n * size) & sp_mask);
    return size == 4 ? *(u32 *)at : *(u16 *)at;
}

static void pushed(const struct context *c, u32 with_error) {
    u32 size = gate_type & 8 ? 4 : 2, mask = size == 4 ? 0xffffffff : 0xffff, inward = ring != cpl;
    u32 count = 3 + with_error + 2 * inward, n = 0;
    u32 sp_mask = (inward ? inner_big : outer_big) ? 0xffffffff : 0xffff;
    STATE("stack pointer", trap.esp & sp_mask, TOP - count * size);
    // "SS:ESP := TSS(NewSS:NewESP)": in full, also where pushes use SP alone
    if (inward && !inner_big && trap.esp >> 16 != (wide_tss ? 0x1234 : 0) && esp_wrong++ == 0)
        say("first wrong esp: %s: %x\n", the_row(), trap.esp);
    STATE("stack segment", trap.ss, inward ? INNER | ring : OUTER | cpl);
    if (with_error)
        STATE("error code", slot(n++) & 0xffff, error_of_cause(cpl));
    STATE("eip", slot(n++), ((u32)cause->fn + cause->saved) & mask);
    STATE("cs", slot(n++) & 0xffff, c->cs);
    u32 image = flags_at_event(c->eflags) & defined_flags(), got = slot(n++) & defined_flags();
    STATE("eflags but for rf", got & ~RF, image & mask & ~RF);
    if (size == 4) {
        rf_rows[cause->fault]++;
        if (!!(got & RF) != (int)cause->fault && rf_wrong[cause->fault]++ == 0)
            say("first wrong rf: %s: saved eflags %x\n", the_row(), got);
    }
    if (inward) {
        // IRET to an outer 16-bit stack loads SP alone: what is above it is nobody's
        u32 sp = outer_big ? mask : 0xffff;
        STATE("esp", slot(n++) & sp, c->esp & sp);
        STATE("ss", slot(n++) & 0xffff, c->ss);
    }
}

static void handler_state(const struct context *c) {
    u32 level = conforming ? cpl : ring;
    STATE("cs", trap.cs, TARGET | level);
    // "the processor clears the TF flag ... VM, RF, and NT"; "through an interrupt gate ... the IF flag"; nothing else
    u32 cleared = TF | NT | RF | VM | (gate_type & 1 ? 0 : IF);
    STATE("eflags", trap.eflags & defined_flags(), flags_at_event(c->eflags) & ~cleared & defined_flags());
    STATE("ds es", (trap.ds & 0xffff) | trap.es << 16, c->ds | c->es << 16);
    STATE("fs gs", (trap.fs & 0xffff) | trap.gs << 16, c->fs | c->gs << 16);
    STATE("ebx edx", trap.ebx ^ trap.edx << 1, c->ebx ^ c->edx << 1);
    STATE("ebp esi edi", trap.ebp ^ trap.esi << 1 ^ trap.edi << 2, c->ebp ^ c->esi << 1 ^ c->edi << 2);
}

static void one_row(void) {
    memset(inner_memory, 0xcc, sizeof inner_memory);
    memset(outer_memory, 0xcc, sizeof outer_memory);
    u32 narrow = !(gate_type & 8);
    set(TARGET, desc(narrow ? (u32)ring_return : 0, 0xfffff, (conforming ? A_XRC : A_XR) | DPL(ring), G | BIG));
    set(INNER, desc((u32)inner_memory, sizeof inner_memory - 1, A_RW | DPL(ring), inner_big ? BIG : 0));
    set(OUTER, desc((u32)outer_memory, sizeof outer_memory - 1, A_RW | DPL(cpl), outer_big ? BIG : 0));
    set_idt(cause->vector, gate(TARGET, narrow ? 0 : (u32)ring_return, gate_type | 0x80 | DPL(3), 0));
    // home from rings 1 to 3 is by SS0:ESP0, where that is not what is tried
    tss0.ss0 = KDATA, tss0.esp0 = (u32)trap_stack_top, tss16.stacks[0] = 0x3f0, tss16.stacks[1] = SCRATCH(5);
    if (!conforming && ring < cpl) {
        u32 *at = ring == 0 ? &tss0.esp0 : ring == 1 ? &tss0.esp1 : &tss0.esp2;
        at[0] = inner_big ? TOP : TOP | 0x12340000, at[1] = INNER | ring;
        tss16.stacks[2 * ring] = TOP, tss16.stacks[2 * ring + 1] = INNER | ring;
    }
    if (!wide_tss) {
        set(OUR_TSS, desc((u32)&tss16, 43, A_TSS16, 0));
        load_tr(OUR_TSS);
        tss16.link = KDATA;
    }
    struct context c = ring_context(cpl, cause->fn);
    c.ss = OUTER | cpl, c.esp = TOP, c.eflags = flags & (has_cpuid() ? ~0 : ~ID);
    c.ebx = 0xb1b2b3b4, c.edx = 0xd1d2d3d4, c.esi = 0x51525354, c.edi = 0xd5d6d7d8, c.ebp = 0xb5b6b7b8;
    c.es = UDATA, c.fs = CONF0, c.gs = 0;
    happen(&c);
    row(ARRIVES, the_row);
    if (trap.vector == RET_VECTOR) {
        if (conforming)
            ring = cpl; // no stack switch
        pushed(&c, cause->error != NO_ERROR);
        if (conforming)
            ring = 0;
        handler_state(&c);
    }
    if (!wide_tss)
        load_tr(TSS0);
    tss0.ss0 = KDATA, tss0.esp0 = (u32)trap_stack_top, tss0.ss1 = DATA1, tss0.ss2 = DATA2;
}

static int had_here(void) { return cause->rings >> cpl & 1; }

// All pairs of rings, all gates, all stacks; with flags of two kinds.
static void all_frames(void) {
    static const u32 patterns[] = {2, 2 | ANY_FLAG | IF};
    EACH(cpl, 4) EACH(ring, 4) for (gate_type = 6; gate_type < 16; gate_type += gate_type == 7 ? 7 : 1)
        EACH(inner_big, 2) EACH(outer_big, 2) for (u32 n = 0; n < 2; n++) {
            if (!had_here() || ring > cpl || (ring == cpl && inner_big))
                continue;
            wide_tss = 1, conforming = 0, flags = patterns[n];
            one_row();
        }
}

static void small_tss(void) {
    cpl = 3, outer_big = 1, wide_tss = 0, conforming = 0, flags = 2 | CF | AC;
    EACH(ring, 3) EACH(inner_big, 2) for (gate_type = 6; gate_type < 16; gate_type += 8)
        one_row();
}

static void conforming_code(void) {
    ring = 0, wide_tss = conforming = 1, inner_big = 0, flags = 2 | ANY_FLAG | IF;
    EACH(cpl, 4) EACH(outer_big, 2) for (gate_type = 6; gate_type < 16; gate_type += gate_type == 7 ? 7 : 1)
        if (had_here())
            one_row();
}

// Each flag alone, through each kind of gate, at the same level and inward.
static void each_flag(void) {
    static const u32 alone[] = {CF, PF, AF, ZF, SF, TF, IF, DF, OF, IOPL(1), IOPL(2), NT, AC, VIF, VIP, ID};
    wide_tss = 1, conforming = 0, inner_big = outer_big = 1;
    for (cpl = 1; cpl < 4; cpl += 2) for (ring = 0; ring <= cpl; ring += cpl) EACH(gate_type, 16) {
        if ((gate_type & 6) != 6 || !had_here())
            continue;
        for (u32 n = 0; n < sizeof alone / sizeof *alone; n++) {
            flags = 2 | alone[n];
            // TF steps into what is not under test; VIF and VIP come with VME
            if ((alone[n] == TF && !cause->software) || ((alone[n] & (VIF | VIP)) && !has(F_VME)))
                continue;
            one_row();
        }
    }
}

// INT n to every vector: no error code, whatever the exception of that number has.
static u8 int_n_piece[] = {0xcd, 0, 0xcd, RET_VECTOR};

static void every_vector(void) {
    static struct cause at = {"int-n", (void (*)(void))int_n_piece, 0, BENIGN, 1, NO_ERROR, 0, 2, 0, 0, 15};
    cause = &at;
    wide_tss = 1, conforming = 0, inner_big = outer_big = 1, flags = 2;
    for (at.vector = 0; at.vector < 256; at.vector++) for (cpl = 0; cpl < 4; cpl += 3) {
        // (what is raised by the way home, or serves faults, is left alone)
        if (at.vector == RET_VECTOR)
            continue;
        ring = 0, gate_type = at.vector & 1 ? 14 : 15;
        int_n_piece[1] = at.vector;
        one_row();
        default_idt(at.vector);
    }
}

static const struct {
    const char *name;
    void (*rows)(void);
} walks[] = {{"frames", all_frames},
             {"frames-by-a-16-bit-tss", small_tss},
             {"frames-in-conforming-code", conforming_code},
             {"flags", each_flag}};

void guest(void) {
    set(SCRATCH(5), desc((u32)user_stack_top - 0x1000, 0xfff, A_RW, 0)); // ring 0's in a 16-bit TSS
    set(ABSENT, desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    paging_on();
    EACH_CAUSE {
        for (u32 n = 0; n < sizeof walks / sizeof *walks; n++) {
            if (n == 3 && cause->vector != VEC && cause->vector != UD && cause->vector != GP)
                continue;
            group(name_of("%s-%s", cause->name, walks[n].name));
            walks[n].rows();
            default_idt(cause->vector);
            end_group();
        }
    }
    group("int-n-pushes-no-error-code");
    every_vector();
    end_group();
    check("inner-esp-is-loaded-in-full", esp_wrong, 0);
    check("faults-save-rf-set", rf_wrong[1], 0);
    check("others-save-rf-clear", rf_wrong[0], 0);
    check_true("both-are-seen", rf_rows[0] > 100 && rf_rows[1] > 100);
}
