// Interrupt, trap and call gates of both widths: frames, flags, stack switches, privilege checks and their error codes.
// SDM 3A "Exception- and Interrupt-Handler Procedures", "Gate Descriptors", "Accessing a Code Segment Through a Call Gate",
// "Stack Switching"; SDM 2A "INT n" and "CALL", Operation.
#include "lib/guest.h"

#define VEC 0x50
#define GATE SCRATCH(0)
#define SEG SCRATCH(1)  // a code segment whose base is ring_return
#define STK SCRATCH(2)

__attribute__((used)) static struct {
    u32 offset;
    u16 selector;
} __attribute__((packed)) far_pointer;
__attribute__((used)) static struct {
    u16 offset, selector;
} far_pointer16;
static u32 stack1[64], stack2[64];

CODE(int_50, "int $0x50");
CODE(far_call, "lcall *far_pointer");
CODE(far_call16, "lcallw *far_pointer16");
CODE(far_jump, "ljmp *far_pointer");

static u32 frame_at(u32 n) { return ((volatile u32 *)trap.esp)[n]; }
static u32 frame16_at(u32 n) { return ((volatile u16 *)trap.esp)[n]; }

// The trap that brought us home was the INT 30h at the gate's target.
static void arrived(const char *name, u32 cs) {
    check_trap(name_of("%s-arrives", name), RET_VECTOR, NO_ERROR, (u32)ring_return + 2);
    check(name_of("%s-cs", name), trap.cs, cs);
}

static void interrupt_gates(void) {
    u32 home = (u32)ring_return;
    static const struct {
        const char *name;
        u32 type, clears_if;
    } kinds[] = {{"int32", A_INT32, 1}, {"trap32", A_TRAP32, 0}};
    for (u32 n = 0; n < 2; n++) {
        set_idt(VEC, gate(KCODE | 3, home, kinds[n].type | DPL(3), 0)); // the RPL in a gate does not matter
        ring_eflags = 2 | IF | NT | CF | OF | DF;
        struct context c = ring_context(3, int_50);
        go(&c);
        const char *name = kinds[n].name;
        arrived(name, KCODE);
        check(name_of("%s-uses-ss0", name), trap.ss, KDATA);
        check(name_of("%s-frame-of-five-dwords-at-esp0", name), (u32)trap_stack_top - trap.esp, 20);
        check(name_of("%s-saves-eip", name), frame_at(0), (u32)int_50 + 2);
        check(name_of("%s-saves-cs", name), frame_at(1) & 0xffff, UCODE);
        check(name_of("%s-saves-eflags", name), frame_at(2), ring_eflags);
        check(name_of("%s-saves-esp", name), frame_at(3), c.esp);
        check(name_of("%s-saves-ss", name), frame_at(4) & 0xffff, UDATA);
        check(name_of("%s-flags-inside", name), trap.eflags, 2 | CF | OF | DF | (kinds[n].clears_if ? 0 : IF));
        check(name_of("%s-keeps-ds", name), trap.ds, UDATA);
    }
    ring_eflags = 2 | TF;
    in_ring(3, int_50);
    arrived("int-n-single-stepped", KCODE);
    check("int-n-clears-tf", trap.eflags & TF, 0);
    check("int-n-saves-tf", frame_at(2) & TF, TF);
    ring_eflags = 2;

    struct context c = ring_context(0, int_50);
    go(&c);
    arrived("same-level", KCODE);
    check("same-level-frame-of-three-dwords", c.esp - trap.esp, 12);
    check("same-level-saves-eip", frame_at(0), (u32)int_50 + 2);
    check("same-level-saves-cs", frame_at(1) & 0xffff, KCODE);

    // 16-bit gates: the frame is of words.
    set(SEG, desc(home, 0xffff, A_XR, BIG));
    for (u32 n = 0; n < 2; n++) {
        const char *name = n ? "trap16" : "int16";
        set_idt(VEC, gate(SEG, 0, (n ? A_TRAP16 : A_INT16) | DPL(3), 0));
        ring_eflags = 2 | IF | CF;
        c = ring_context(3, int_50);
        go(&c);
        check_trap(name_of("%s-arrives", name), RET_VECTOR, NO_ERROR, 2);
        check(name_of("%s-frame-of-five-words", name), (u32)trap_stack_top - trap.esp, 10);
        check(name_of("%s-saves-ip", name), frame16_at(0), ((u32)int_50 + 2) & 0xffff);
        check(name_of("%s-saves-cs", name), frame16_at(1), UCODE);
        check(name_of("%s-saves-flags", name), frame16_at(2), ring_eflags);
        check(name_of("%s-saves-sp", name), frame16_at(3), c.esp & 0xffff);
        check(name_of("%s-saves-ss", name), frame16_at(4), UDATA);
        check(name_of("%s-flags-inside", name), trap.eflags, 2 | CF | (n ? IF : 0));
        ring_eflags = 2;
        c = ring_context(0, int_50);
        go(&c);
        check(name_of("%s-same-level-frame-of-three-words", name), c.esp - trap.esp, 6);
    }
}

static void interrupt_targets(void) {
    // The offset of a 16-bit gate is 16 bits, whatever the upper word says. (There is an INT 30h at the other place too.)
    memcpy((void *)(ring_return + 0x100000), ring_return, 2);
    set(SEG, desc((u32)ring_return, 0xfffff, A_XR, BIG | G));
    set_idt(VEC, gate(SEG, 0x100000, A_INT16 | DPL(3), 0));
    expect_in_ring("int16-ignores-the-upper-word-of-the-offset", 3, int_50, RET_VECTOR, NO_ERROR, ANYWHERE);
    check("int16-ignores-the-upper-word-of-the-offset-eip", trap.eip, 2);

    u32 home = (u32)ring_return;
    tss0.esp1 = (u32)(stack1 + 64), tss0.esp2 = (u32)(stack2 + 64);
    set_idt(VEC, gate(CODE1, home, A_INT32 | DPL(3), 0));
    in_ring(3, int_50);
    arrived("to-ring-1", CODE1);
    check("to-ring-1-uses-ss1-esp1", trap.ss << 16 | ((u32)(stack1 + 64) - trap.esp), DATA1 << 16 | 20);
    in_ring(1, int_50);
    arrived("ring-1-to-ring-1", CODE1);
    in_ring(0, int_50);
    check_trap("ring-0-to-ring-1-is-refused", GP, CODE1 & ~3, (u32)int_50);
    set_idt(VEC, gate(CODE2, home, A_TRAP32 | DPL(3), 0));
    in_ring(3, int_50);
    arrived("to-ring-2", CODE2);
    check("to-ring-2-uses-ss2-esp2", trap.ss << 16 | ((u32)(stack2 + 64) - trap.esp), DATA2 << 16 | 20);
    set_idt(VEC, gate(CONF0, home, A_INT32 | DPL(3), 0));
    struct context c = ring_context(3, int_50);
    go(&c);
    arrived("conforming", CONF0 | 3);
    check("conforming-stays-on-the-stack", c.esp - trap.esp, 12);
    set_idt(VEC, gate(UCODE, home, A_INT32 | DPL(3), 0));
    in_ring(0, int_50);
    check_trap("ring-0-to-ring-3-is-refused", GP, UCODE & ~3, (u32)int_50);
    set_idt(VEC, gate(CODE1, home, A_INT32 | DPL(2), 0));
    in_ring(3, int_50);
    check_trap("gate-dpl-below-cpl", GP, VEC * 8 + 2, (u32)int_50);
    in_ring(2, int_50);
    arrived("gate-dpl-equal-to-cpl", CODE1);
    set(SEG, desc(home, 1, A_XR, BIG));
    set_idt(VEC, gate(SEG, 2, A_INT32 | DPL(3), 0));
    in_ring(3, int_50);
    check_trap("offset-beyond-the-code-limit", GP, 0, (u32)int_50);
    set_idt(VEC, gate(SEG, home, 0x80 | 0xd | DPL(3), 0)); // 13 is a reserved type
    in_ring(3, int_50);
    check_trap("reserved-gate-type", GP, VEC * 8 + 2, (u32)int_50);
    set_idt(VEC, gate(KCODE, home, A_CALL32 | DPL(3), 0));
    in_ring(3, int_50);
    check_trap("call-gate-in-the-idt", GP, VEC * 8 + 2, (u32)int_50);
}

// The stack that the TSS names for ring 1, in the order of "INT n" (INTER-PRIVILEGE-LEVEL-INTERRUPT) and of CALL.
static void stack_checks(const char *kind, void (*fn)(void)) {
    static const struct {
        const char *name;
        u32 ss, vector, error;
    } cases[] = {
        {"null", 0, TS, 0},
        {"null-with-rpl", 1, TS, 0},
        {"beyond-the-gdt", 0x400 | 1, TS, 0x400},
        {"rpl-above", KDATA | 2, TS, KDATA},
        {"dpl-above", UDATA & ~3, TS, UDATA & ~3},
        {"right-dpl-wrong-rpl", DATA1 & ~3, TS, DATA1 & ~3},
        {"right-rpl-wrong-dpl", KDATA | 1, TS, KDATA},
        {"read-only", SCRATCH(8) | 1, TS, SCRATCH(8)},
        {"code", CODE1, TS, CODE1 & ~3},
        {"system", TSS0 | 1, TS, TSS0},
        {"not-present", SCRATCH(9) | 1, SS, SCRATCH(9)},
        {"too-small", SCRATCH(10) | 1, SS, SCRATCH(10)},
    };
    set(SCRATCH(8), desc(0, 0xfffff, A_RO | DPL(1), G | BIG));
    set(SCRATCH(9), desc(0, 0xfffff, (A_RW | DPL(1)) & 0x7f, G | BIG));
    set(SCRATCH(10), desc(0, 0xfff, A_RW | DPL(1), BIG));
    for (u32 n = 0; n < sizeof cases / sizeof *cases; n++) {
        tss0.ss1 = cases[n].ss;
        tss0.esp1 = (u32)(stack1 + 64);
        in_ring(3, fn);
        check_trap(name_of("%s-ss1-%s", kind, cases[n].name), cases[n].vector, cases[n].error, (u32)fn);
    }
    tss0.ss1 = DATA1;
    // A TSS too short to hold SS1:ESP1.
    set(SCRATCH(11), desc((u32)&tss0, 103, A_TSS32, 0));
    load_tr(SCRATCH(11));
    in_ring(3, fn);
    check_trap(name_of("%s-tss-of-103-is-enough", kind), RET_VECTOR, NO_ERROR, 0);
    gdt[SCRATCH(11) >> 3] = desc((u32)&tss0, 16, A_TSS32, 0); // holds ESP1, SS1 ends at 17
    load_tr(SCRATCH(11));
    in_ring(3, fn);
    check_trap(name_of("%s-tss-too-short", kind), TS, SCRATCH(11), (u32)fn);
    load_tr(TSS0);
}

static void to_gate(u64 descriptor) {
    set(GATE, descriptor);
    far_pointer.selector = far_pointer16.selector = GATE | 3;
    far_pointer.offset = 0xbad00bad, far_pointer16.offset = 0xbad; // ignored
}

// CALL through a gate with `params` parameters from ring 3 to `ring`.
static void call_inward(u32 ring, u32 params, int wide) {
    static const u16 code[] = {KCODE, CODE1, CODE2}, data[] = {KDATA, DATA1, DATA2};
    const char *name = name_of("call%s-to-ring-%u-%u-params", wide ? "32" : "16", ring, params);
    tss0.esp1 = (u32)(stack1 + 64), tss0.esp2 = (u32)(stack2 + 64);
    u32 top = ring == 0 ? (u32)trap_stack_top : ring == 1 ? tss0.esp1 : tss0.esp2;
    set(SEG, desc((u32)ring_return, 0xffff, A_XR | DPL(ring), BIG));
    if (wide)
        to_gate(gate(code[ring], (u32)ring_return, A_CALL32 | DPL(3), params));
    else
        to_gate(gate(SEG, 0, A_CALL16 | DPL(3), params));
    struct context c = ring_context(3, far_call);
    u32 size = wide ? 4 : 2;
    c.esp -= 128;
    for (u32 n = 0; n < 64; n++)
        *(u16 *)(c.esp + 2 * n) = 0x1000 + n;
    go(&c);
    check_trap(name_of("%s-arrives", name), RET_VECTOR, NO_ERROR, wide ? (u32)ring_return + 2 : 2);
    check(name_of("%s-ss", name), trap.ss, data[ring]);
    check(name_of("%s-esp", name), top - trap.esp, (4 + params) * size);
    u32 same = 1, mask = wide ? 0xffffffff : 0xffff;
    for (u32 n = 0; n < params; n++)
        same &= wide ? frame_at(2 + n) == *(u32 *)(c.esp + 4 * n) : frame16_at(2 + n) == 0x1000 + n;
    check(name_of("%s-copied", name), same, 1);
    u32 eip = wide ? frame_at(0) : frame16_at(0), cs = wide ? frame_at(1) : frame16_at(1);
    u32 esp = wide ? frame_at(2 + params) : frame16_at(2 + params), ss = wide ? frame_at(3 + params) : frame16_at(3 + params);
    check(name_of("%s-return-address", name), eip, ((u32)far_call + 6) & mask);
    check(name_of("%s-return-cs", name), cs & 0xffff, UCODE);
    check(name_of("%s-old-esp", name), esp, c.esp & mask);
    check(name_of("%s-old-ss", name), ss & 0xffff, UDATA);
}

static void call_gates(void) {
    for (u32 ring = 0; ring < 3; ring++)
        call_inward(ring, ring, 1);
    call_inward(0, 31, 1);
    call_inward(0, 0, 0);
    call_inward(1, 5, 0);

    // The gate decides the width, not the operand size of the instruction.
    to_gate(gate(KCODE, (u32)ring_return, A_CALL32 | DPL(3), 0));
    in_ring(3, far_call16);
    arrived("16-bit-call-through-a-32-bit-gate", KCODE);
    check("16-bit-call-through-a-32-bit-gate-frame", (u32)trap_stack_top - trap.esp, 16);
    check("16-bit-call-through-a-32-bit-gate-eip", frame_at(0), (u32)far_call16 + 7);

    struct context c = ring_context(0, far_call);
    go(&c);
    arrived("call-gate-same-level", KCODE);
    check("call-gate-same-level-frame", c.esp - trap.esp, 8);
    to_gate(gate(CONF0, (u32)ring_return, A_CALL32 | DPL(3), 3));
    c = ring_context(3, far_call);
    go(&c);
    arrived("call-gate-conforming", CONF0 | 3);
    check("call-gate-conforming-no-switch-no-copy", c.esp - trap.esp, 8);
    expect_in_ring("jmp-gate-conforming", 3, far_jump, RET_VECTOR, NO_ERROR, ANYWHERE);
    check("jmp-gate-conforming-cs", trap.cs, CONF0 | 3);
    to_gate(gate(UCODE, (u32)ring_return, A_CALL32 | DPL(3), 0));
    expect_in_ring("jmp-gate-same-level", 3, far_jump, RET_VECTOR, NO_ERROR, ANYWHERE);
}

static void call_gate_checks(void) {
    u32 home = (u32)ring_return, at = 0;
    to_gate(gate(KCODE, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("jmp-gate-inward", 3, far_jump, GP, KCODE, at);
    to_gate(gate(KCODE, home, A_CALL32 | DPL(2), 0));
    expect_in_ring("call-gate-dpl-below-cpl", 3, far_call, GP, GATE, at);
    expect_in_ring("call-gate-dpl-below-rpl", 0, far_call, GP, GATE, at);
    far_pointer.selector = GATE;
    expect_in_ring("call-gate-dpl-2-from-ring-2", 2, far_call, RET_VECTOR, NO_ERROR, ANYWHERE);
    to_gate(gate(KCODE, home, (A_CALL32 | DPL(3)) & 0x7f, 0));
    expect_in_ring("call-gate-not-present", 3, far_call, NP, GATE, at);
    to_gate(gate(KCODE, home, (A_CALL32 | DPL(1)) & 0x7f, 0));
    expect_in_ring("call-gate-dpl-before-present", 3, far_call, GP, GATE, at);
    to_gate(gate(0, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-null-target", 3, far_call, GP, 0, at);
    to_gate(gate(3, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-null-target-with-rpl", 3, far_call, GP, 0, at);
    to_gate(gate(0x400, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-target-beyond-the-gdt", 3, far_call, GP, 0x400, at);
    to_gate(gate(KDATA, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-target-data", 3, far_call, GP, KDATA, at);
    to_gate(gate(TSS0, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-target-system", 3, far_call, GP, TSS0, at);
    to_gate(gate(UCODE, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-target-outward", 0, far_call, GP, UCODE & ~3, at);
    to_gate(gate(NPCODE, home, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-target-not-present", 3, far_call, NP, NPCODE, at);
    set(SEG, desc(home, 1, A_XR, BIG));
    to_gate(gate(SEG, 2, A_CALL32 | DPL(3), 0));
    expect_in_ring("call-gate-offset-beyond-the-limit", 3, far_call, GP, 0, at);
    to_gate(gate(KCODE, home, A_INT32 | DPL(3), 0));
    expect_in_ring("interrupt-gate-in-the-gdt", 3, far_call, GP, GATE, at);
    to_gate(desc((u32)ldt, 0xff, A_LDT | DPL(3), 0));
    expect_in_ring("call-to-an-ldt", 3, far_call, GP, GATE, at);

    to_gate(gate(CODE1, home, A_CALL32 | DPL(3), 0));
    stack_checks("call", far_call);
    set_idt(VEC, gate(CODE1, home, A_INT32 | DPL(3), 0));
    stack_checks("int", int_50);
}

// Far CALL and JMP straight to a code segment.
static void direct(const char *name, u32 ring, u32 selector, u32 vector, u32 error) {
    far_pointer.selector = selector;
    far_pointer.offset = (u32)ring_return;
    for (u32 jump = 0; jump < 2; jump++) {
        void (*fn)(void) = jump ? far_jump : far_call;
        expect_in_ring(name_of("%s-%s", jump ? "jmp" : "call", name), ring, fn, vector, error,
                       vector == RET_VECTOR ? ANYWHERE : 0);
    }
}

static void direct_transfers(void) {
    direct("own-level", 3, UCODE, RET_VECTOR, NO_ERROR);
    direct("own-level-rpl-0", 3, UCODE & ~3, RET_VECTOR, NO_ERROR);
    check("own-level-cs-rpl-is-cpl", trap.cs, UCODE);
    direct("inward", 3, KCODE, GP, KCODE);
    direct("outward", 0, UCODE & ~3, GP, UCODE & ~3);
    direct("rpl-above-cpl", 0, KCODE | 3, GP, KCODE);
    direct("conforming-inner", 3, CONF0, RET_VECTOR, NO_ERROR);
    check("conforming-inner-cs-rpl-is-cpl", trap.cs, CONF0 | 3);
    direct("conforming-ignores-rpl", 0, CONF0 | 3, RET_VECTOR, NO_ERROR);
    check("conforming-ignores-rpl-cs", trap.cs, CONF0);
    direct("conforming-outer", 0, CONF3, GP, CONF3);
    direct("null", 3, 0, GP, 0);
    direct("null-with-rpl", 3, 3, GP, 0);
    direct("beyond-the-gdt", 3, 0x403, GP, 0x400);
    direct("data", 3, UDATA, GP, UDATA & ~3);
    set(SCRATCH(8), desc(0, 0xfffff, (A_XR | DPL(3)) & 0x7f, G | BIG));
    direct("not-present", 3, SCRATCH(8) | 3, NP, SCRATCH(8));
    direct("privilege-before-present", 3, NPCODE, GP, NPCODE);
    set(SCRATCH(8), desc(0, 1, A_XR | DPL(3), G | BIG)); // 8 KiB
    direct("offset-beyond-the-limit", 3, SCRATCH(8) | 3, GP, 0);
    set(SCRATCH(8), desc(0, 0xfffff, A_X | DPL(3), G | BIG));
    direct("execute-only", 3, SCRATCH(8) | 3, RET_VECTOR, NO_ERROR);
    check("a-transfer-sets-the-accessed-bit", access_byte(SCRATCH(8)), A_X | DPL(3) | 1);
    far_pointer.selector = UCODE, far_pointer.offset = (u32)ring_return;
    struct context c = ring_context(3, far_call);
    go(&c);
    check("far-call-pushes-eight-bytes", c.esp - trap.esp, 8);
    check("far-call-pushes-eip", frame_at(0), (u32)far_call + 6);
    check("far-call-pushes-cs", frame_at(1) & 0xffff, UCODE);
}

void guest(void) {
    interrupt_gates();
    interrupt_targets();
    call_gates();
    call_gate_checks();
    direct_transfers();
}
