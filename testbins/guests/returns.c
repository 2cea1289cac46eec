// RETF and IRET: to the same and to outer rings, released parameters, nulled segment registers, flags by privilege, and every
// refusal with its error code. SDM 2B "RET", 2A "IRET/IRETD", Operation; 3A "Accessing a Code Segment Through a Call Gate".
#include "lib/guest.h"

static u32 stack[256];
static u32 *frame_start = stack + 128;

CODE(retf, "lret");
CODE(retf_8, "lret $8");
CODE(retf16, "lretw");
CODE(iret_, "iretl");
CODE(iret16, "iretw");
CODE(popf_, "popfl");
CODE(popf16, "popfw");

// Runs fn in `ring` with the given dwords on its stack.
static struct context with_frame(int ring, void (*fn)(void), u32 a, u32 b, u32 c, u32 d, u32 e, u32 f, u32 g) {
    struct context context = ring_context(ring, fn);
    u32 list[] = {a, b, c, d, e, f, g};
    memcpy(frame_start, list, sizeof list);
    context.esp = (u32)frame_start;
    return context;
}

static u32 run(int ring, void (*fn)(void), u32 a, u32 b, u32 c, u32 d, u32 e, u32 f, u32 g) {
    struct context context = with_frame(ring, fn, a, b, c, d, e, f, g);
    return go(&context);
}

static void home(const char *name) { check_trap(name, RET_VECTOR, NO_ERROR, (u32)ring_return + 2); }

static u32 popped(void) { return trap.esp - (u32)frame_start; }

static void far_returns(void) {
    u32 back = (u32)ring_return, esp = (u32)user_stack_top - 64;
    run(0, retf, back, KCODE, 0, 0, 0, 0, 0);
    home("retf-same-level");
    check("retf-same-level-pops-8", popped(), 8);
    run(3, retf, back, UCODE, 0, 0, 0, 0, 0);
    home("retf-same-level-ring-3");
    run(0, retf_8, back, KCODE, 0, 0, 0, 0, 0);
    check("retf-n-same-level-releases-n", popped(), 16);
    run(0, retf, back, 0xdead0000 | KCODE, 0, 0, 0, 0, 0);
    home("retf-ignores-the-upper-word-of-cs");

    run(0, retf, back, UCODE, esp, UDATA, 0, 0, 0);
    home("retf-outward");
    check("retf-outward-cs", trap.cs, UCODE);
    check("retf-outward-ss", trap.ss, UDATA);
    check("retf-outward-esp", trap.esp, esp);
    // RETF n outward releases n from the inner stack before it reads SS:ESP, and n from the outer one afterwards.
    run(0, retf_8, back, UCODE, 0x11111111, 0x22222222, esp, UDATA, 0);
    home("retf-n-outward");
    check("retf-n-outward-releases-n-on-both", trap.esp, esp + 8);
    check("retf-n-outward-ss", trap.ss, UDATA);
    run(0, retf, back, CODE1, esp, DATA1, 0, 0, 0);
    home("retf-to-ring-1");
    check("retf-to-ring-1-cs", trap.cs, CODE1);

    // Segment registers that the outer ring may not use become null; conforming code and outer data stay.
    struct context c = with_frame(0, retf, back, UCODE, esp, UDATA, 0, 0, 0);
    c.ds = UDATA, c.es = KDATA, c.fs = CONF0, c.gs = DATA1;
    go(&c);
    home("retf-nulls-segments-arrives");
    check("retf-outward-keeps-outer-data", trap.ds, UDATA);
    check("retf-outward-nulls-inner-data", trap.es, 0);
    check("retf-outward-keeps-conforming-code", trap.fs, CONF0);
    check("retf-outward-nulls-ring-1-data", trap.gs, 0);
    set(SCRATCH(3), desc(0, 0xfffff, A_XR, G | BIG)); // readable, nonconforming, dpl 0
    c = with_frame(0, retf, back, UCODE, esp, UDATA, 0, 0, 0);
    c.fs = SCRATCH(3), c.gs = UDATA & ~3, c.ds = UDATA;
    go(&c);
    check("retf-outward-nulls-nonconforming-code", trap.fs, 0);
    check("retf-outward-looks-at-dpl-not-rpl", trap.gs, UDATA & ~3);
    c = with_frame(0, retf, back, CODE1, esp, DATA1, 0, 0, 0);
    c.ds = UDATA, c.es = KDATA, c.fs = DATA1, c.gs = DATA2;
    go(&c);
    check("retf-to-ring-1-keeps-ring-1-data", trap.fs, DATA1);
    check("retf-to-ring-1-keeps-ring-2-data", trap.gs, DATA2);
    check("retf-to-ring-1-nulls-ring-0-data", trap.es, 0);

    // 16-bit operand size: words on the stack, IP is 16 bits.
    set(SCRATCH(4), desc((u32)ring_return, 0xffff, A_XR, BIG));
    run(0, retf16, SCRATCH(4) << 16 | 0, 0, 0, 0, 0, 0, 0);
    check_trap("retf16-same-level", RET_VECTOR, NO_ERROR, 2);
    check("retf16-pops-4", popped(), 4);
}

static void refused(const char *what, void (*fn)(void), u32 cs, u32 eflags_or_esp, u32 esp_or_ss, u32 ss, int ring, u32 vector,
                    u32 error) {
    run(ring, fn, (u32)ring_return, cs, eflags_or_esp, esp_or_ss, ss, 0, 0);
    check_trap(name_of("%s-%s", fn == retf ? "retf" : "iret", what), vector, error, (u32)fn);
}

// The same refusals for both: the frame of IRET has EFLAGS in third place.
static void refusals(const char *what, int ring, u32 cs, u32 ss, u32 vector, u32 error) {
    u32 esp = (u32)user_stack_top - 64;
    refused(what, retf, cs, esp, ss, 0, ring, vector, error);
    refused(what, iret_, cs, 2, esp, ss, ring, vector, error);
}

static void all_refusals(void) {
    refusals("cs-null", 0, 0, 0, GP, 0);
    refusals("cs-null-with-rpl", 0, 3, UDATA, GP, 0);
    refusals("cs-beyond-the-gdt", 0, 0x400, 0, GP, 0x400);
    refusals("cs-is-data", 0, KDATA, 0, GP, KDATA);
    refusals("cs-is-a-tss", 0, TSS0, 0, GP, TSS0);
    refusals("cs-inward", 3, KCODE, 0, GP, KCODE);
    refusals("cs-inward-from-2", 2, CODE1, 0, GP, CODE1 & ~3);
    refusals("cs-dpl-not-rpl", 0, KCODE | 3, UDATA, GP, KCODE);
    refusals("cs-rpl-below-dpl", 0, UCODE & ~3, 0, GP, UCODE & ~3);
    refusals("cs-conforming-dpl-above-rpl", 0, CONF3 | 2, UDATA, GP, CONF3);
    refusals("cs-not-present", 0, NPCODE, 0, NP, NPCODE);
    refusals("ss-null", 0, UCODE, 0, GP, 0);
    refusals("ss-null-with-rpl", 0, UCODE, 3, GP, 0);
    refusals("ss-beyond-the-gdt", 0, UCODE, 0x403, GP, 0x400);
    refusals("ss-rpl-not-cs-rpl", 0, UCODE, UDATA & ~3, GP, UDATA & ~3);
    refusals("ss-rpl-of-another-ring", 0, UCODE, DATA2, GP, DATA2 & ~3);
    refusals("ss-dpl-not-cs-rpl", 0, UCODE, KDATA | 3, GP, KDATA);
    refusals("ss-is-code", 0, UCODE, UCODE, GP, UCODE & ~3);
    set(SCRATCH(5), desc(0, 0xfffff, A_RO | DPL(3), G | BIG));
    refusals("ss-read-only", 0, UCODE, SCRATCH(5) | 3, GP, SCRATCH(5));
    set(SCRATCH(5), desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    // Choice: for IRET the manual's Operation says #SS(selector), its list of exceptions #NP(selector); RET says #SS in both.
    refusals("ss-not-present", 0, UCODE, SCRATCH(5) | 3, SS, SCRATCH(5));
    set(SCRATCH(6), desc(0, 1, A_XR, BIG));
    refusals("eip-beyond-the-limit", 0, SCRATCH(6), 0, GP, 0);
    set(SCRATCH(6), desc(0, 1, A_XR | DPL(3), BIG));
    refusals("eip-beyond-the-limit-outward", 0, SCRATCH(6) | 3, UDATA, GP, 0);
    // Conforming code may be returned to with any outer RPL.
    run(0, retf, (u32)ring_return, CONF0 | 3, (u32)user_stack_top - 64, UDATA, 0, 0, 0);
    home("retf-to-conforming-with-rpl-3");
    check("retf-to-conforming-with-rpl-3-cs", trap.cs, CONF0 | 3);
    // The frame itself beyond the stack's limit.
    set(SCRATCH(7), desc(0, (u32)frame_start + 3, A_RW | DPL(3), BIG));
    struct context c = with_frame(3, retf, (u32)ring_return, UCODE, 0, 0, 0, 0, 0);
    c.ss = SCRATCH(7) | 3;
    go(&c);
    check_trap("retf-frame-beyond-the-stack-limit", SS, 0, (u32)retf);
}

static void interrupt_returns(void) {
    u32 back = (u32)ring_return, esp = (u32)user_stack_top - 64, all = CF | PF | AF | ZF | SF | DF | OF;
    run(0, iret_, back, KCODE, 2 | all, 0, 0, 0, 0);
    home("iret-same-level");
    check("iret-same-level-pops-12", popped(), 12);
    check("iret-loads-flags", trap.eflags, 2 | all);
    run(0, iret_, back, UCODE, 2 | all | IF | IOPL(3), esp, UDATA, 0, 0);
    home("iret-outward");
    check("iret-outward-ss-esp", trap.ss << 16 | (esp - trap.esp), UDATA << 16);
    check("iret-in-ring-0-loads-iopl-and-if", trap.eflags, 2 | all | IF | IOPL(3));
    struct context c = with_frame(0, iret_, back, UCODE, 2, esp, UDATA, 0, 0);
    c.ds = UDATA, c.es = KDATA, c.fs = CONF0, c.gs = DATA2;
    go(&c);
    home("iret-nulls-segments-arrives");
    check("iret-outward-nulls-inner-segments", trap.ds | trap.es << 8 | trap.fs << 16 | trap.gs << 24,
          UDATA | CONF0 << 16);
    set(SCRATCH(4), desc((u32)ring_return, 0xffff, A_XR, BIG));
    c = with_frame(0, iret16, SCRATCH(4) << 16, 2 | CF | OF, 0, 0, 0, 0, 0);
    c.eflags = 2 | (has_cpuid() ? ID : 0);
    go(&c);
    check_trap("iret16-same-level", RET_VECTOR, NO_ERROR, 2);
    check("iret16-pops-6", popped(), 6);
    check("iret16-keeps-the-upper-word-of-eflags", trap.eflags, 2 | CF | OF | (has_cpuid() ? ID : 0));

    // Ring 3: IOPL and VM never change, IF only with CPL <= IOPL.
    ring_eflags = 2;
    run(3, iret_, back, UCODE, 2 | all | IF | IOPL(3) | VM, 0, 0, 0, 0);
    home("iret-in-ring-3");
    check("iret-in-ring-3-leaves-if-iopl-vm", trap.eflags, 2 | all);
    ring_eflags = 2 | IOPL(3);
    run(3, iret_, back, UCODE, 2 | IF, 0, 0, 0, 0);
    check("iret-with-cpl-up-to-iopl-changes-if-not-iopl", trap.eflags, 2 | IF | IOPL(3));
    ring_eflags = 2 | IOPL(1) | IF;
    run(2, iret_, back, CODE2, 2, 0, 0, 0, 0);
    check("iret-in-ring-2-iopl-1-leaves-if", trap.eflags, 2 | IF | IOPL(1));
    run(1, iret_, back, CODE1, 2, 0, 0, 0, 0);
    check("iret-in-ring-1-iopl-1-clears-if", trap.eflags, 2 | IOPL(1));
    ring_eflags = 2;
    // AC, ID and NT may be set by anyone.
    run(3, iret_, back, UCODE, 2 | AC | NT | (has_cpuid() ? ID : 0), 0, 0, 0, 0);
    check("iret-in-ring-3-loads-ac-nt-id", trap.eflags, 2 | AC | NT | (has_cpuid() ? ID : 0));
    // RF is loaded, and cleared by the next instruction that completes: the INT that brings us home saves it clear.
    run(0, iret_, back, KCODE, 2 | RF, 0, 0, 0, 0);
    home("iret-with-rf");
    // TF: the trap comes after the instruction behind the IRET's target.
    set_dr6(0xffff0ff0);
    c = with_frame(0, iret_, (u32)iret_ + 1, KCODE, 2 | TF, 0, 0, 0, 0); // lands on an INT 30h
    go(&c);
    check_trap("iret-with-tf-onto-an-int", RET_VECTOR, NO_ERROR, (u32)iret_ + 3);
}

// POPF by privilege: SDM 2B "POPF", table of the flags' effects.
static void flags_by_privilege(void) {
    u32 all = CF | PF | AF | ZF | SF | DF | OF | NT | AC;
    static const struct {
        const char *name;
        int ring;
        u32 before, value, after;
    } cases[] = {
        {"ring-0-changes-if-iopl", 0, 2, 2 | IF | IOPL(2), 2 | IF | IOPL(2)},
        {"ring-1-iopl-1-changes-if-not-iopl", 1, 2 | IOPL(1), 2 | IF | IOPL(3), 2 | IF | IOPL(1)},
        {"ring-3-iopl-3-changes-if-not-iopl", 3, 2 | IOPL(3), 2 | IF, 2 | IF | IOPL(3)},
        {"ring-3-iopl-2-leaves-if", 3, 2 | IOPL(2), 2 | IF, 2 | IOPL(2)},
        {"ring-3-iopl-0-leaves-if-set", 3, 2 | IF, 2, 2 | IF},
        {"vm-rf-vif-vip-not-loaded", 3, 2, 2 | VM | RF | VIF | VIP, 2},
        {"ring-0-vm-rf-vif-vip-not-loaded", 0, 2, 2 | VM | RF | VIF | VIP, 2},
        {"reserved-bits-stay", 0, 2, 0xffc08028, 2},
    };
    for (u32 n = 0; n < sizeof cases / sizeof *cases; n++) {
        ring_eflags = cases[n].before;
        run(cases[n].ring, popf_, cases[n].value, 0, 0, 0, 0, 0, 0);
        check(name_of("popf-%s", cases[n].name), trap.eflags, cases[n].after);
    }
    ring_eflags = 2;
    run(3, popf_, 2 | all, 0, 0, 0, 0, 0, 0);
    check("popf-loads-the-others", trap.eflags, 2 | all);
    ring_eflags = 2 | AC;
    run(3, popf16, CF | NT, 0, 0, 0, 0, 0, 0);
    check("popf16-keeps-the-upper-word", trap.eflags, 2 | CF | NT | AC);
    check("popf16-pops-2", popped(), 2);
    ring_eflags = 2;
}

void guest(void) {
    far_returns();
    all_refusals();
    interrupt_returns();
    flags_by_privilege();
}
