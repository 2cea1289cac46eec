// LAR, LSL, VERR, VERW and ARPL: every descriptor type against every privilege, and what they leave alone when they fail.
// SDM 2A "LAR", "LSL", 2B "VERR/VERW", 2A "ARPL"; 3A "Privilege Level Checking" and "Pointer Validation".
#include "lib/guest.h"

#define SEL SCRATCH(0)

CODE(lar_, "lar %eax, %ebx");
CODE(lsl_, "lsl %eax, %ebx");
CODE(lar16, "larw %ax, %bx");
CODE(lsl16, "lslw %ax, %bx");
CODE(verr_, "verr %ax");
CODE(verw_, "verw %ax");
CODE(arpl_, "arpl %cx, %ax");

static struct context run(int ring, void (*fn)(void), u32 selector) {
    struct context c = ring_context(ring, fn);
    c.eax = selector, c.ebx = 0x5a5a5a5a, c.eflags = 2 | CF | SF; // CF and SF must survive
    go(&c);
    return c;
}

// The rules of the manual, one predicate each, over the access byte.
static int is_code_or_data(u32 access) { return access & 0x10; }
static int is_conforming(u32 access) { return (access & 0x1c) == 0x1c; }
static int lar_type(u32 access) {
    // System types that LAR knows: all TSS, LDT, call gates and the task gate; not interrupt and trap gates.
    return is_code_or_data(access) || (0x1a3eu >> (access & 15) & 1);
}
static int lsl_type(u32 access) {
    // System types with a limit: the TSSs and the LDT.
    return is_code_or_data(access) || (0x0a0eu >> (access & 15) & 1);
}
static int visible(u32 access, u32 cpl, u32 rpl) {
    u32 dpl = access >> 5 & 3;
    return is_conforming(access) || (dpl >= cpl && dpl >= rpl);
}

static void table(void) {
    static const u8 privileges[][3] = {{0, 0, 0}, {0, 0, 3}, {0, 3, 0}, {3, 3, 3}, {3, 3, 0}, {3, 0, 3}, {1, 2, 1}, {2, 1, 2}};
    for (u32 type = 0; type < 32; type++)
        for (u32 n = 0; n < sizeof privileges / sizeof *privileges; n++) {
            u32 cpl = privileges[n][0], rpl = privileges[n][1], dpl = privileges[n][2];
            u32 access = 0x80 | type | DPL(dpl);
            const char *who = name_of("type-%2x-cpl%u-rpl%u-dpl%u", type, cpl, rpl, dpl);
            u64 descriptor = desc(0x12345678, 0xabcde, access, 0xd);
            set(SEL, descriptor);
            u32 high = descriptor >> 32, seen = visible(access, cpl, rpl);

            run(cpl, lar_, SEL | rpl);
            int ok = seen && lar_type(access);
            check(name_of("lar-%s", who), (trap.ebx & 0xfff0ff00) ^ (trap.eflags & (ZF | CF | SF)),
                  ok ? (high & 0x00f0ff00) ^ (ZF | CF | SF) : 0x5a505a00 ^ (CF | SF));
            run(cpl, lsl_, SEL | rpl);
            ok = seen && lsl_type(access);
            check(name_of("lsl-%s", who), trap.ebx ^ (trap.eflags & (ZF | CF | SF)),
                  ok ? 0xabcdefff ^ (ZF | CF | SF) : 0x5a5a5a5a ^ (CF | SF));
            run(cpl, verr_, SEL | rpl);
            ok = seen && is_code_or_data(access) && ((access & 8) == 0 || (access & 2));
            check(name_of("verr-%s", who), trap.eflags & (ZF | CF | SF), ok ? ZF | CF | SF : CF | SF);
            run(cpl, verw_, SEL | rpl);
            ok = seen && is_code_or_data(access) && (access & 0xa) == 2;
            check(name_of("verw-%s", who), trap.eflags & (ZF | CF | SF), ok ? ZF | CF | SF : CF | SF);
            check(name_of("not-accessed-%s", who), access_byte(SEL), access);
        }
}

static void selectors(void) {
    static void (*const fns[])(void) = {lar_, lsl_, verr_, verw_};
    static const char *const names[] = {"lar", "lsl", "verr", "verw"};
    for (u32 n = 0; n < 4; n++) {
        run(0, fns[n], 0);
        check(name_of("%s-null", names[n]), trap.eflags & ZF, 0);
        run(0, fns[n], 3);
        check(name_of("%s-null-with-rpl", names[n]), trap.eflags & ZF, 0);
        run(0, fns[n], 0x400);
        check(name_of("%s-beyond-the-gdt", names[n]), trap.eflags & ZF, 0);
        run(0, fns[n], 0x1fc);
        check(name_of("%s-no-ldt", names[n]), trap.eflags & ZF, 0);
        run(3, fns[n], 0xdead0000 | UDATA);
        check(name_of("%s-ignores-the-upper-word", names[n]), trap.eflags & ZF, ZF);
    }
    set(SEL, desc(0, 0xfffff, A_RW & 0x7f, G));
    run(0, lar_, SEL);
    check("lar-of-an-absent-segment", trap.eflags & ZF, ZF);
    check("lar-of-an-absent-segment-shows-p-clear", trap.ebx & 0xff00, (A_RW & 0x7f) << 8);
    run(0, lsl_, SEL);
    check("lsl-of-an-absent-segment", trap.eflags & ZF, ZF);
    run(0, verr_, SEL);
    check("verr-of-an-absent-segment", trap.eflags & ZF, ZF);
    set(SEL, desc(0, 0xabcde, A_RW, BIG));
    run(0, lsl_, SEL);
    check("lsl-byte-granular", trap.ebx, 0xabcde);
    run(0, lsl16, SEL);
    check("lsl-16-bit-truncates", trap.ebx, 0x5a5abcde);
    run(0, lar16, SEL);
    check("lar-16-bit-is-the-access-byte", trap.ebx, 0x5a5a0000 | A_RW << 8);
}

static void adjust(void) {
    for (u32 dest = 0; dest < 4; dest++)
        for (u32 source = 0; source < 4; source++) {
            struct context c = ring_context(3, arpl_);
            c.eax = 0x12345670 | dest, c.ecx = 0x8 | source, c.eflags = 2 | CF | OF;
            go(&c);
            u32 lower = dest < source;
            check(name_of("arpl-%u-by-%u", dest, source), trap.eax, 0x12345670 | (lower ? source : dest));
            check(name_of("arpl-%u-by-%u-flags", dest, source), trap.eflags, 2 | CF | OF | (lower ? ZF : 0));
        }
}

void guest(void) {
    asm volatile("lldt %w0" ::"r"(0));
    table();
    selectors();
    adjust();
}
