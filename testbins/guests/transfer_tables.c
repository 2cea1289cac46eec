// Every row of the manual's tables of checks on far transfers: JMP FAR, CALL FAR, call gates, RET FAR, IRET and INT n against
// every type, privilege and presence of every descriptor involved. SDM 2A "CALL", "INT n", "IRET", "JMP", 2B "RET", Operation;
// SDM 3A "Privilege Level Checking When Transferring Program Control Between Code Segments".
#include "lib/rows.h"

#define GATE SCRATCH(0)
#define TARGET SCRATCH(1)
#define STACK SCRATCH(2)
#define VEC 0x50

__attribute__((used)) static struct {
    u32 offset;
    u16 selector;
} __attribute__((packed)) far_pointer;

CODE(far_call, "lcall *far_pointer");
CODE(far_jump, "ljmp *far_pointer");
CODE(far_return, "lret");
CODE(interrupt_return, "iret");
CODE(int_50, "int $0x50");

// The row at hand.
static u32 cpl, rpl, type, dpl, present, gate_dpl, gate_type;

static const char *the_row(void) {
    return name_of("cpl %u rpl %u type %2x dpl %u present %u gate-dpl %u gate-type %2x", cpl, rpl, type, dpl, present,
                   gate_dpl, gate_type);
}

#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

static int is_code(u32 t) { return (t & 0x18) == 0x18; }
static int is_conforming(u32 t) { return (t & 0x1c) == 0x1c; }
static int is_writable_data(u32 t) { return (t & 0x1a) == 0x12; }

static int is_expand_down(u32 t) { return (t & 0x1c) == 0x14; }

static void put(u32 selector) {
    // flat, or as good as flat: an expand-down segment begins behind its limit
    set(selector, desc(0, is_expand_down(type) ? 0 : 0xfffff, type | DPL(dpl) | present << 7, G | BIG));
}

static u32 max(u32 a, u32 b) { return a > b ? a : b; }

// ---- straight to a descriptor. SDM 2A "JMP" and "CALL", Operation, from "Read type and access rights" on.
static struct rule straight(void) {
    if (is_conforming(type)) {
        // "IF DPL > CPL THEN #GP(segment selector)"; "IF not present THEN #NP(segment selector)"
        if (dpl > cpl)
            return RAISES(GP, TARGET);
        return present ? ARRIVES : RAISES(NP, TARGET);
    }
    if (is_code(type)) {
        // "IF (RPL > CPL) or (DPL != CPL) THEN #GP(segment selector)"
        if (rpl > cpl || dpl != cpl)
            return RAISES(GP, TARGET);
        return present ? ARRIVES : RAISES(NP, TARGET);
    }
    if (type == 1 || type == 9 || type == 5) {
        // An available TSS, a task gate: "IF DPL < CPL or DPL < RPL THEN #GP"; "IF not present THEN #NP"
        if (dpl < max(cpl, rpl))
            return RAISES(GP, TARGET);
        return RAISES(NP, TARGET);
    }
    if (type == 4 || type == 12) {
        // A call gate: "IF call gate DPL < CPL or RPL THEN #GP(call-gate selector)"; "IF not present THEN #NP"
        if (dpl < max(cpl, rpl))
            return RAISES(GP, TARGET);
        // what put() made has 0FFFFh for a selector: "IF beyond its descriptor table limits THEN #GP(code-segment selector)"
        return present ? RAISES(GP, 0xfffc) : RAISES(NP, TARGET);
    }
    // "ELSE #GP(segment selector)": data, and the busy TSS, LDT, interrupt gates and reserved types
    return RAISES(GP, TARGET);
}

static void straight_to(const char *name, void (*fn)(void), u32 first, u32 behind) {
    group(name);
    EACH(cpl, 4) EACH(rpl, 4) EACH(dpl, 4) EACH(present, 2) for (type = first; type < behind; type++) {
        // a task switch that goes through is the business of another guest
        if ((type == 1 || type == 9 || type == 5) && present && dpl >= max(cpl, rpl))
            continue;
        put(TARGET);
        if (type == 4 || type == 12)
            set(TARGET, gate(0xffff, 0, type | DPL(dpl) | present << 7, 0));
        far_pointer.selector = TARGET | rpl;
        far_pointer.offset = (u32)ring_return;
        in_ring(cpl, fn);
        row(straight(), the_row);
        // CPL becomes the RPL of CS; in a conforming segment it stays
        if (trap.vector == RET_VECTOR && (trap.cs != (TARGET | cpl)))
            group_wrong++;
    }
    end_group();
}

// ---- through a call gate. SDM 2A "CALL", Operation, CALL-GATE; SDM 2A "JMP", CALL-GATE.
static struct rule through_gate(int is_call) {
    if (gate_dpl < max(cpl, rpl))
        return RAISES(GP, GATE);
    // (the gate is present) "IF call gate code-segment selector is NULL THEN #GP(0)"; "IF not a code segment or DPL > CPL
    // THEN #GP(code-segment selector)"
    if (!is_code(type) || dpl > cpl)
        return RAISES(GP, TARGET);
    // JMP: "IF non-conforming and DPL != CPL THEN #GP(code-segment selector)"
    if (!is_call && !is_conforming(type) && dpl != cpl)
        return RAISES(GP, TARGET);
    return present ? ARRIVES : RAISES(NP, TARGET);
}

static u32 stacks[4][64];

static void through(const char *name, void (*fn)(void), int is_call, u32 is_present, int to_conforming) {
    group(name);
    present = is_present;
    EACH(cpl, 4) EACH(type, 32) EACH(dpl, 4) {
        if (is_conforming(type) != to_conforming)
            continue;
        // every pair of gate DPL and RPL with a target of the caller's own level; one pair with all others
        u32 all = type == 0x1a && dpl == cpl && present;
        for (gate_dpl = all ? 0 : 3; gate_dpl < 4; gate_dpl++)
            for (rpl = 0; rpl < (all ? 4u : 1u); rpl++)
                for (gate_type = 4; gate_type <= 12; gate_type += 8) {
                    put(TARGET);
                    // a 16-bit gate reaches 64 KiB: its segment begins where it goes to
                    if (gate_type == 4)
                        set(TARGET, desc((u32)ring_return, 0xfffff, type | DPL(dpl) | present << 7, G | BIG));
                    u32 offset = gate_type == 4 ? 0 : (u32)ring_return;
                    set(GATE, gate(TARGET | 3, offset, gate_type | DPL(gate_dpl) | 0x80, 0));
                    far_pointer.selector = GATE | rpl;
                    tss0.esp1 = (u32)(stacks[1] + 64), tss0.esp2 = (u32)(stacks[2] + 64);
                    in_ring(cpl, fn);
                    row(through_gate(is_call), the_row);
                    u32 level = is_conforming(type) ? cpl : dpl;
                    if (trap.vector == RET_VECTOR && trap.cs != (TARGET | level))
                        group_wrong++;
                }
    }
    end_group();
    gate_dpl = gate_type = 0;
}

// ---- the gates of the IDT. SDM 2A "INT n", Operation, PROTECTED-MODE and TRAP-OR-INTERRUPT-GATE.
static struct rule interrupt(void) {
    // "IF gate type is not a task, interrupt or trap gate THEN #GP(error_code(vector,1,EXT))"
    if (gate_type != 6 && gate_type != 7 && gate_type != 14 && gate_type != 15 && gate_type != 5)
        return RAISES(GP, VEC * 8 + 2);
    // "IF software interrupt and gate DPL < CPL THEN #GP"; "IF gate not present THEN #NP"
    if (gate_dpl < cpl)
        return RAISES(GP, VEC * 8 + 2);
    if (!present)
        return RAISES(NP, VEC * 8 + 2);
    return ARRIVES;
}

static void interrupt_gates(void) {
    group("idt-gates");
    EACH(cpl, 4) EACH(gate_type, 32) EACH(gate_dpl, 4) EACH(present, 2) {
        if (gate_type == 5 && present && gate_dpl >= cpl)
            continue;
        // a 16-bit gate's segment begins where it goes to
        int narrow = gate_type == 6 || gate_type == 7;
        set(TARGET, desc(narrow ? (u32)ring_return : 0, 0xfffff, A_XR, G | BIG));
        set_idt(VEC, gate(TARGET, narrow ? 0 : (u32)ring_return, gate_type | DPL(gate_dpl) | present << 7, 0));
        in_ring(cpl, int_50);
        row(interrupt(), the_row);
    }
    end_group();
    group("idt-targets");
    gate_dpl = 3;
    EACH(cpl, 4) EACH(type, 32) EACH(dpl, 4) EACH(present, 2) for (gate_type = 14; gate_type < 16; gate_type++) {
        put(TARGET);
        set_idt(VEC, gate(TARGET | 3, (u32)ring_return, gate_type | DPL(3) | 0x80, 0));
        tss0.esp1 = (u32)(stacks[1] + 64), tss0.esp2 = (u32)(stacks[2] + 64);
        in_ring(cpl, int_50);
        // "IF not a code segment or DPL > CPL THEN #GP(error_code(selector,0,EXT))"; "IF not present THEN #NP"
        struct rule want = !is_code(type) || dpl > cpl ? RAISES(GP, TARGET) : present ? ARRIVES : RAISES(NP, TARGET);
        row(want, the_row);
    }
    end_group();
}

// ---- the inner stack. SDM 2A "CALL", Operation, MORE-PRIVILEGE; "INT n", INTER-PRIVILEGE-LEVEL-INTERRUPT.
static void inner_stack(const char *name, void (*fn)(void), u32 is_present) {
    group(name);
    present = is_present;
    cpl = 3;
    for (u32 ring = 0; ring < 3; ring++) {
        static const u16 code[] = {KCODE, CODE1, CODE2};
        set(GATE, gate(code[ring], (u32)ring_return, A_CALL32 | DPL(3), 0));
        set_idt(VEC, gate(code[ring], (u32)ring_return, A_INT32 | DPL(3), 0));
        far_pointer.selector = GATE;
        gate_dpl = ring;
        EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) {
            put(STACK);
            u32 old0 = tss0.ss0, old_esp0 = tss0.esp0;
            if (ring == 0)
                tss0.ss0 = STACK | rpl;
            if (ring == 1)
                tss0.ss1 = STACK | rpl, tss0.esp1 = (u32)(stacks[1] + 64);
            if (ring == 2)
                tss0.ss2 = STACK | rpl, tss0.esp2 = (u32)(stacks[2] + 64);
            // "IF stack segment selector's RPL != DPL of the code segment, or the stack segment's DPL is not, or it is not a
            // writable data segment THEN #TS(SS selector)"; "IF not present THEN #SS(SS selector)"
            struct rule want = rpl != ring || dpl != ring || !is_writable_data(type) ? RAISES(TS, STACK)
                               : present                                             ? ARRIVES
                                                                                     : RAISES(SS, STACK);
            // with a bad SS0 no handler of ring 0 can be reached from ring 3: these rows would be double faults
            if (ring == 0 && want.vector != RET_VECTOR) {
                tss0.ss0 = old0, tss0.esp0 = old_esp0;
                continue;
            }
            in_ring(cpl, fn);
            tss0.ss0 = old0, tss0.esp0 = old_esp0;
            row(want, the_row);
        }
        tss0.ss1 = DATA1, tss0.ss2 = DATA2;
    }
    end_group();
    gate_dpl = 0;
}

// ---- returns. SDM 2B "RET", RETURN-SAME-PRIVILEGE-LEVEL and RETURN-OUTER-PRIVILEGE-LEVEL; SDM 2A "IRET", PROTECTED-MODE-RETURN.
static struct rule return_to(void) {
    // "IF return code segment selector addresses no code segment, or RPL < CPL, or conforming with DPL > RPL, or
    // non-conforming with DPL != RPL THEN #GP(selector)"; "IF not present THEN #NP(selector)"
    if (!is_code(type) || rpl < cpl || (is_conforming(type) ? dpl > rpl : dpl != rpl))
        return RAISES(GP, TARGET);
    return present ? ARRIVES : RAISES(NP, TARGET);
}

static u32 image[16];

static void push_frame(struct context *c, int is_iret, u32 cs, u32 ss) {
    static const u16 data[] = {KDATA, DATA1, DATA2, UDATA};
    u32 n = 0;
    image[n++] = (u32)ring_return;
    image[n++] = cs;
    if (is_iret)
        image[n++] = 2;
    image[n++] = (u32)user_stack_top - 64;
    image[n++] = ss ? ss : data[rpl];
    c->esp = (u32)image;
}

static void return_code(const char *name, void (*fn)(void), int is_iret) {
    group(name);
    EACH(cpl, 4) EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) EACH(present, 2) {
        put(TARGET);
        struct context c = ring_context(cpl, fn);
        push_frame(&c, is_iret, TARGET | rpl, 0);
        go(&c);
        row(return_to(), the_row);
        if (trap.vector == RET_VECTOR && trap.cs != (TARGET | rpl))
            group_wrong++;
    }
    end_group();
}

static void return_stack(const char *name, void (*fn)(void), int is_iret, u32 is_present) {
    static const u16 code[] = {KCODE, CODE1, CODE2, UCODE};
    group(name);
    present = is_present;
    EACH(cpl, 3) for (gate_dpl = cpl + 1; gate_dpl < 4; gate_dpl++)
        EACH(rpl, 4) EACH(type, 32) EACH(dpl, 4) {
            put(STACK);
            struct context c = ring_context(cpl, fn);
            push_frame(&c, is_iret, code[gate_dpl] | gate_dpl, STACK | rpl);
            go(&c);
            // "IF stack segment selector RPL != RPL of the return code segment, or it is not a writable data segment, or its
            // DPL != RPL of the return code segment THEN #GP(selector)"; "IF not present THEN #SS(selector)"
            struct rule want = rpl != gate_dpl || dpl != gate_dpl || !is_writable_data(type) ? RAISES(GP, STACK)
                               : present                                                   ? ARRIVES
                                                                                           : RAISES(SS, STACK);
            row(want, the_row);
        }
    end_group();
    gate_dpl = 0;
}

// What an outer return leaves in DS, ES, FS and GS: "IF segment register points to data or non-conforming code segment and CPL
// > segment descriptor DPL THEN SegmentSelector := 0" (SDM 2B "RET").
static void dropped_segments(const char *name, void (*fn)(void), int is_iret) {
    static const u16 code[] = {KCODE, CODE1, CODE2, UCODE};
    u32 wrong = 0, rows = 0;
    EACH(cpl, 3) for (rpl = cpl + 1; rpl < 4; rpl++) EACH(dpl, 4) for (type = 0x10; type < 0x20; type++) {
        int readable = !is_code(type) || (type & 2);
        if (!readable || (!is_conforming(type) && dpl < cpl))
            continue; // cannot be loaded there
        present = 1;
        put(TARGET);
        struct context c = ring_context(cpl, fn);
        push_frame(&c, is_iret, code[rpl] | rpl, 0);
        c.fs = c.gs = TARGET | cpl;
        go(&c);
        u32 keeps = is_conforming(type) || dpl >= rpl;
        u32 want = keeps ? TARGET | cpl : 0;
        rows++;
        if (trap.vector != RET_VECTOR || (trap.fs & 0xffff) != want || (trap.gs & 0xffff) != want) {
            if (wrong++ == 0)
                say("first wrong row of %s: %s: fs %x gs %x vector %u\n", name, the_row(), trap.fs, trap.gs, trap.vector);
        }
    }
    check(name_of("%s-rows", name), wrong, 0);
    check_true(name_of("%s-is-not-empty", name), rows > 100);
}

void guest(void) {
    asm volatile("lldt %w0" ::"r"(0));
    straight_to("jmp-to-system", far_jump, 0, 16);
    straight_to("jmp-to-data", far_jump, 16, 24);
    straight_to("jmp-to-code", far_jump, 24, 28);
    straight_to("jmp-to-conforming", far_jump, 28, 32);
    straight_to("call-to-system", far_call, 0, 16);
    straight_to("call-to-data", far_call, 16, 24);
    straight_to("call-to-code", far_call, 24, 28);
    straight_to("call-to-conforming", far_call, 28, 32);
    through("call-gate", far_call, 1, 1, 0);
    through("call-gate-absent-target", far_call, 1, 0, 0);
    through("call-gate-conforming", far_call, 1, 1, 1);
    through("call-gate-absent-conforming", far_call, 1, 0, 1);
    through("jmp-gate", far_jump, 0, 1, 0);
    through("jmp-gate-absent-target", far_jump, 0, 0, 0);
    through("jmp-gate-conforming", far_jump, 0, 1, 1);
    through("jmp-gate-absent-conforming", far_jump, 0, 0, 1);
    interrupt_gates();
    inner_stack("call-inner-stack", far_call, 1);
    inner_stack("call-absent-inner-stack", far_call, 0);
    inner_stack("int-inner-stack", int_50, 1);
    inner_stack("int-absent-inner-stack", int_50, 0);
    return_code("retf-code", far_return, 0);
    return_code("iret-code", interrupt_return, 1);
    return_stack("retf-stack", far_return, 0, 1);
    return_stack("retf-absent-stack", far_return, 0, 0);
    return_stack("iret-stack", interrupt_return, 1, 1);
    return_stack("iret-absent-stack", interrupt_return, 1, 0);
    dropped_segments("retf-drops", far_return, 0);
    dropped_segments("iret-drops", interrupt_return, 1);
}
