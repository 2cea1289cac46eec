// Decimal adjustment by the manual's algorithm for every AL, AF and CF, XLAT, LAHF/SAHF, SALC, flag instructions, BSWAP, XADD,
// CMPXCHG, CMPXCHG8B, SETcc, Jcc, CMOVcc, ENTER's levels, PUSH and POP of ESP. SDM 2A and 2B, the instructions' pages.
#include "lib/guest.h"

struct result {
    u32 ax, flags;
};

// Runs a one-operand adjustment on AX with the given flags.
#define ADJUST(name, text)                                                                                             \
    static struct result name(u32 ax, u32 flags) {                                                                     \
        struct result r;                                                                                               \
        asm volatile("pushl %3; popfl; " text "; pushfl; popl %1" : "=a"(r.ax), "=r"(r.flags) : "0"(ax), "r"(flags | 2) : "cc"); \
        return r;                                                                                                      \
    }
ADJUST(daa_, "daa")
ADJUST(das_, "das")
ADJUST(aaa_, "aaa")
ADJUST(aas_, "aas")
ADJUST(aam_, "aam")
ADJUST(aam_7, ".byte 0xd4, 7")
ADJUST(aad_, "aad")
ADJUST(aad_16, ".byte 0xd5, 16")
ADJUST(lahf_, "lahf")
ADJUST(sahf_, "sahf")
ADJUST(salc_, ".byte 0xd6")

static u32 szp(u32 al) {
    u32 ones = 0;
    for (u32 n = 0; n < 8; n++)
        ones += al >> n & 1;
    return (al & 0x80 ? SF : 0) | (al ? 0 : ZF) | (ones & 1 ? 0 : PF);
}

// The manual's algorithm; OF is undefined.
static u32 decimal(u32 al, u32 flags, int subtract, u32 *out_flags) {
    u32 old = al, carry = flags & CF, cf = 0, af = 0;
    if ((al & 15) > 9 || flags & AF) {
        cf = carry | (subtract ? al < 6 : al > 0xf9);
        al = (subtract ? al - 6 : al + 6) & 0xff;
        af = AF;
    }
    if (old > 0x99 || carry) {
        al = (subtract ? al - 0x60 : al + 0x60) & 0xff;
        cf = CF;
    } else if (!subtract) {
        cf = 0;
    }
    *out_flags = szp(al) | af | cf;
    return al;
}

static u32 ascii(u32 ax, u32 flags, int subtract, u32 *out_flags) {
    if ((ax & 15) > 9 || flags & AF) {
        ax = subtract ? (ax - 6) - 0x100 : ax + 0x106;
        *out_flags = AF | CF;
    } else {
        *out_flags = 0;
    }
    return ax & 0xff0f;
}

static void exhaustive(void) {
    u32 bad[4] = {0, 0, 0, 0}, first[4] = {0, 0, 0, 0};
    for (u32 n = 0; n < 1024; n++) {
        u32 al = n & 255, flags = (n & 256 ? AF : 0) | (n & 512 ? CF : 0), want;
        struct result got = daa_(al, flags);
        u32 value = decimal(al, flags, 0, &want);
        if (got.ax != value || (got.flags & (SF | ZF | AF | PF | CF)) != want)
            if (!bad[0]++)
                first[0] = n;
        got = das_(al, flags);
        value = decimal(al, flags, 1, &want);
        if (got.ax != value || (got.flags & (SF | ZF | AF | PF | CF)) != want)
            if (!bad[1]++)
                first[1] = n;
        for (u32 ah = 0; ah < 256; ah += 51) {
            got = aaa_(al | ah << 8, flags);
            value = ascii(al | ah << 8, flags, 0, &want);
            if (got.ax != value || (got.flags & (AF | CF)) != want)
                if (!bad[2]++)
                    first[2] = n;
            got = aas_(al | ah << 8, flags);
            value = ascii(al | ah << 8, flags, 1, &want);
            if (got.ax != value || (got.flags & (AF | CF)) != want)
                if (!bad[3]++)
                    first[3] = n;
        }
    }
    static const char *const names[] = {"daa", "das", "aaa", "aas"};
    for (u32 n = 0; n < 4; n++) {
        check(name_of("%s-differences", names[n]), bad[n], 0);
        if (bad[n])
            note(names[n], "first at AL + 100h*AF + 200h*CF:", first[n]);
    }
}

static void adjustments(void) {
    struct result r = aam_(0xab, 0);
    check("aam", r.ax, 0x1101);
    check("aam-flags", r.flags & (SF | ZF | PF), szp(0x01));
    check("aam-other-base", aam_7(30, 0).ax, 0x0402);
    check("aad", aad_(0x0309, 0).ax, 39);
    check("aad-flags", aad_(0x0308, 0).flags & (SF | ZF | PF), szp(38));
    check("aad-other-base", aad_16(0x0a0b, 0).ax, 0xab);
    check("lahf", lahf_(0x12, SF | CF | OF).ax >> 8 & 0xff, SF | CF | 2);
    check("sahf", sahf_(0xd500, OF).flags & 0xcff, OF | SF | ZF | AF | PF | CF | 2);
    check("sahf-reserved-bits", sahf_(0xff00, 0).flags & 0xff, 0xd7);
    check("sahf-clears", sahf_(0, OF | CF | ZF).flags & 0xcff, OF | 2);
    check("salc-set", salc_(0x1200, CF).ax, 0x12ff);
    check("salc-clear", salc_(0x1234, 0).ax, 0x1200);
}

#define FLAGS_AFTER(text, before)                                                                                      \
    ({                                                                                                                 \
        u32 f_;                                                                                                        \
        asm volatile("pushl %1; popfl; " text "; pushfl; popl %0; cld" : "=r"(f_) : "r"((before) | 2) : "cc", "memory");    \
        f_ & ~IF;                                                                                                      \
    })

static void flag_instructions(void) {
    check("stc", FLAGS_AFTER("stc", ZF), 2 | ZF | CF);
    check("clc", FLAGS_AFTER("clc", ZF | CF), 2 | ZF);
    check("cmc", FLAGS_AFTER("cmc", 0) | FLAGS_AFTER("cmc", CF) << 16, (2 | CF) | 2 << 16);
    check("std", FLAGS_AFTER("std", CF), 2 | CF | DF);
    check("cld", FLAGS_AFTER("cld", DF | OF), 2 | OF);
}

static void exchanges(void) {
    u32 a = 0x11223344, f;
    if (has_cpuid()) {
        asm volatile("bswap %0" : "+r"(a));
        check("bswap", a, 0x44332211);
    }
    static u32 memory;
    u32 b;
    memory = 10, b = 7;
    asm volatile("xaddl %0, %1; pushfl; popl %2" : "+r"(b), "+m"(memory), "=r"(f)::"cc");
    check("xadd", b | memory << 8, 10 | 17 << 8);
    memory = 5;
    u32 eax = 5;
    asm volatile("cmpxchgl %3, %1; pushfl; popl %2" : "+a"(eax), "+m"(memory), "=r"(f) : "r"(9) : "cc");
    check("cmpxchg-equal", memory | eax << 8 | (f & ZF) << 16, 9 | 5 << 8 | ZF << 16);
    asm volatile("cmpxchgl %3, %1; pushfl; popl %2" : "+a"(eax), "+m"(memory), "=r"(f) : "r"(11) : "cc");
    check("cmpxchg-different", memory | eax << 8 | (f & (ZF | CF)) << 16, 9 | 9 << 8 | CF << 16);
    if (has(8)) {
        static u64 wide;
        wide = 0x1122334455667788;
        u32 d = 0x11223344;
        eax = 0x55667788;
        asm volatile("cmpxchg8b %2; pushfl; popl %3" : "+a"(eax), "+d"(d), "+m"(wide), "=r"(f) : "b"(1), "c"(2) : "cc");
        check("cmpxchg8b-equal", (wide == 0x200000001) | (f & ZF) << 8, 1 | ZF << 8);
        asm volatile("cmpxchg8b %2; pushfl; popl %3" : "+a"(eax), "+d"(d), "+m"(wide), "=r"(f) : "b"(5), "c"(6) : "cc");
        check("cmpxchg8b-different", eax | d << 8 | (f & ZF) << 16, 1 | 2 << 8);
        EXPECT_FAULT("cmpxchg8b-of-a-register", UD, NO_ERROR, INSN(".byte 0x0f, 0xc7, 0xc8", ::: "eax", "edx"));
    }
    u8 table[256];
    for (u32 n = 0; n < 256; n++)
        table[n] = 255 - n;
    u32 x = 0x1203;
    asm volatile("xlatb" : "+a"(x) : "b"(table), "m"(table));
    check("xlat", x, 0x12fc);
}

// The sixteen conditions against every combination of CF, PF, ZF, SF and OF.
static void conditions(void) {
    u32 bad = 0, bad_cmov = 0;
    int cmov = has(F_CMOV);
    for (u32 n = 0; n < 32; n++) {
        u32 f = (n & 1 ? CF : 0) | (n & 2 ? PF : 0) | (n & 4 ? ZF : 0) | (n & 8 ? SF : 0) | (n & 16 ? OF : 0);
        int cf = n & 1, pf = n >> 1 & 1, zf = n >> 2 & 1, sf = n >> 3 & 1, of = n >> 4 & 1;
        u32 want = of | cf << 1 | zf << 2 | (cf | zf) << 3 | sf << 4 | pf << 5 | (sf != of) << 6 | ((sf != of) | zf) << 7;
        u32 got = 0, moved = 0;
#define CONDITION(cc, bit)                                                                                             \
    {                                                                                                                  \
        u32 yes = 0;                                                                                                   \
        asm volatile("pushl %1; popfl; set" cc " %b0" : "+q"(yes) : "r"(f | 2) : "cc");                                \
        got |= yes << bit;                                                                                             \
        asm volatile("xorl %0, %0; pushl %1; popfl; j" cc " 1f; jmp 2f; 1: movl $1, %0; 2:" : "=&r"(yes) : "r"(f | 2) : "cc"); \
        got |= yes << (bit + 8);                                                                                       \
        asm volatile("pushl %1; popfl; setn" cc " %b0" : "+q"(yes) : "r"(f | 2) : "cc");                               \
        got |= (yes & 1) << (bit + 16);                                                                                \
        if (cmov) {                                                                                                    \
            yes = 0;                                                                                                   \
            asm volatile("pushl %1; popfl; cmov" cc " %2, %0" : "+r"(yes) : "r"(f | 2), "r"(1) : "cc");                \
            moved |= yes << bit;                                                                                       \
        }                                                                                                              \
    }
        CONDITION("o", 0) CONDITION("b", 1) CONDITION("e", 2) CONDITION("be", 3)
        CONDITION("s", 4) CONDITION("p", 5) CONDITION("l", 6) CONDITION("le", 7)
        bad += got != (want | want << 8 | (~want & 0xff) << 16);
        bad_cmov += cmov && moved != want;
    }
    check("conditions-of-setcc-and-jcc", bad, 0);
    if (cmov)
        check("conditions-of-cmovcc", bad_cmov, 0);
    else
        skip("conditions-of-cmovcc", "CPUID has no CMOV");
}

CODE(enter_3, "enterl $8, $3; movl %ebp, %eax; movl %esp, %ecx");
CODE(enter_32, "enterl $0, $33; movl %esp, %ecx"); // the level is taken modulo 32
CODE(pop_esp, "pushl $0x12345; popl %esp; movl %esp, %eax; movl %ebx, %esp");
CODE(push_esp, "pushl %esp; popl %eax");
CODE(pop_indexed, "pushl $7; popl 4(%esp)"); // the address uses ESP after the pop

static void stack(void) {
    static u32 frames[64];
    struct context c = ring_context(0, enter_3);
    for (u32 n = 0; n < 64; n++)
        frames[n] = n;
    c.ebp = (u32)&frames[60], c.esp = (u32)&frames[40];
    go(&c);
    check("enter-3-frame-pointer", trap.eax, (u32)&frames[39]);
    check("enter-3-stack", trap.ecx, (u32)&frames[36] - 8);
    check("enter-3-copies", frames[39] == (u32)&frames[60] && frames[38] == 59 && frames[37] == 58 && frames[36] == (u32)&frames[39], 1);
    c = ring_context(0, enter_32);
    c.ebp = (u32)&frames[60], c.esp = (u32)&frames[40];
    go(&c);
    check("enter-33-is-enter-1", trap.ecx, (u32)&frames[38]);
    c = ring_context(0, pop_esp);
    c.ebx = c.esp;
    go(&c);
    check("pop-esp", trap.eax, 0x12345);
    c = ring_context(0, push_esp);
    go(&c);
    check("push-esp-is-the-value-before", trap.eax, c.esp);
    c = ring_context(0, pop_indexed);
    c.esp = (u32)&frames[20];
    go(&c);
    check("pop-to-esp-relative-uses-the-new-esp", frames[21], 7);
}

void guest(void) {
    exhaustive();
    adjustments();
    flag_instructions();
    exchanges();
    conditions();
    stack();
}
