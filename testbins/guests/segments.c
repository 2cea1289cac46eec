// Segment registers: what may be loaded where, limits in every form, null, the accessed bit, LDT and TR, hidden parts, wrap.
// SDM 3A "Segment Descriptors", "Limit Checking", "Type Checking", "Privilege Level Checking When Accessing Data Segments",
// "Privilege Level Checking When Loading the SS Register".
#include "lib/guest.h"

#define SEL SCRATCH(0)

__attribute__((used)) static u32 arena[0x24000 / 4] __attribute__((aligned(4096)));
__attribute__((used)) static u32 value = 0x11223344;
__attribute__((used)) static struct {
    u32 offset;
    u16 selector;
} __attribute__((packed)) pointer;

CODE(load_fs, "movw %ax, %fs");
CODE(load_ss, "movw %ax, %ss");
CODE(load_ds, "movw %ax, %ds");
CODE(pop_es, "pushl %eax; popl %es");
CODE(push4, "pushl %eax");
CODE(push4_at_ebx, "movl %ebx, %esp; pushl %eax"); // (IRET to a 16-bit stack need not load the upper half of ESP)
CODE(pop4_at_ebx, "movl %ebx, %esp; popl %eax");
CODE(push2, "pushw %ax");
CODE(pop4, "popl %eax");
CODE(read_byte, "movb %fs:(%ecx), %al");
CODE(read_word, "movw %fs:(%ecx), %ax");
CODE(read_dword, "movl %fs:(%ecx), %eax");
CODE(write_byte, "movb %al, %fs:(%ecx)");
CODE(write_dword, "movl %eax, %fs:(%ecx)");
CODE(read_cs, "movl %cs:value, %eax");
CODE(read_ebp, "movb (%ebp), %al");
CODE(read_ds, "movb (%ecx), %al");
CODE(lea_anything, ".byte 0x64, 0x8d, 0x01"); // LEA eax, fs:[ecx]
CODE(lfs_it, "lfs pointer, %ebx");

static u32 run(int ring, void (*fn)(void), u32 eax, u32 ecx) {
    struct context c = ring_context(ring, fn);
    c.eax = eax, c.ecx = ecx;
    return go(&c);
}

static const char *const type_names[32] = {
    "reserved-0", "tss16",  "ldt",        "tss16-busy", "call16",    "task-gate",       "int16",      "trap16",
    "reserved-8", "tss32",  "reserved-a", "tss32-busy", "call32",    "reserved-d",      "int32",      "trap32",
    "ro",         "ro-a",   "rw",         "rw-a",       "ro-down",   "ro-down-a",       "rw-down",    "rw-down-a",
    "x",          "x-a",    "xr",         "xr-a",       "x-conform", "x-conform-a",     "xr-conform", "xr-conform-a"};

#define LOAD(register) INSN("movw %w0, %%" #register, ::"r"(SEL))

static void every_type_into_every_register(void) {
    for (u32 type = 0; type < 32; type++) {
        u32 data_ok = type >= 16 && (type < 24 || (type & 2)), stack_ok = type >= 16 && type < 24 && (type & 2);
        u32 accessed = 0x80 | type | 1;
        for (u32 reg = 0; reg < 4; reg++) {
            static const char *const regs[] = {"ds", "es", "fs", "gs"};
            set(SEL, desc(0, 0xfffff, 0x80 | type, G | BIG));
            insn_at = insn_end = 0;
            CATCH(switch (reg) {
                case 0: INSN("movw %w0, %%ds; movw %w1, %%ds", ::"r"(SEL), "r"(KDATA)); break;
                case 1: INSN("movw %w0, %%es; movw %w1, %%es", ::"r"(SEL), "r"(KDATA)); break;
                case 2: LOAD(fs); break;
                case 3: LOAD(gs); break;
            });
            check_trap(name_of("load-%s-with-%s", regs[reg], type_names[type]), data_ok ? NO_VECTOR : GP,
                       data_ok ? NO_ERROR : SEL, insn_at);
            check(name_of("load-%s-with-%s-accessed", regs[reg], type_names[type]), access_byte(SEL),
                  data_ok ? accessed : 0x80 | type);
        }
        set(SEL, desc(0, 0xfffff, 0x80 | type, G | BIG));
        EXPECT_FAULT(name_of("load-ss-with-%s", type_names[type]), stack_ok ? NO_VECTOR : GP, stack_ok ? NO_ERROR : SEL,
                     INSN("movw %w0, %%ss; movw %w1, %%ss", ::"r"(SEL), "r"(KDATA)));
        // Not present: #NP, for the stack #SS, but only where the type would do.
        set(SEL, desc(0, 0xfffff, type, G | BIG));
        EXPECT_FAULT(name_of("load-gs-with-absent-%s", type_names[type]), data_ok ? NP : GP, SEL, LOAD(gs));
        EXPECT_FAULT(name_of("load-ss-with-absent-%s", type_names[type]), stack_ok ? SS : GP, SEL,
                     INSN("movw %w0, %%ss; movw %w1, %%ss", ::"r"(SEL), "r"(KDATA)));
    }
}

static void privileges(void) {
    for (u32 cpl = 0; cpl < 4; cpl++)
        for (u32 rpl = 0; rpl < 4; rpl++)
            for (u32 dpl = 0; dpl < 4; dpl++) {
                const char *who = name_of("cpl%u-rpl%u-dpl%u", cpl, rpl, dpl);
                set(SEL, desc(0, 0xfffff, A_RW | DPL(dpl), G | BIG));
                run(cpl, load_fs, SEL | rpl, 0);
                int ok = dpl >= cpl && dpl >= rpl;
                check_trap(name_of("data-%s", who), ok ? RET_VECTOR : GP, ok ? NO_ERROR : SEL, ok ? 0 : (u32)load_fs);
                set(SEL, desc(0, 0xfffff, A_XR | DPL(dpl), G | BIG));
                run(cpl, load_fs, SEL | rpl, 0);
                check_trap(name_of("code-%s", who), ok ? RET_VECTOR : GP, ok ? NO_ERROR : SEL, 0);
                set(SEL, desc(0, 0xfffff, A_XRC | DPL(dpl), G | BIG));
                run(cpl, load_fs, SEL | rpl, 0);
                check_trap(name_of("conforming-%s", who), RET_VECTOR, NO_ERROR, 0);
                set(SEL, desc(0, 0xfffff, A_RW | DPL(dpl), G | BIG));
                run(cpl, load_ss, SEL | rpl, 0);
                ok = cpl == rpl && cpl == dpl;
                check_trap(name_of("stack-%s", who), ok ? RET_VECTOR : GP, ok ? NO_ERROR : SEL, ok ? 0 : (u32)load_ss);
            }
}

static void nulls(void) {
    for (u32 n = 0; n < 4; n++) {
        EXPECT_NONE(name_of("null-%u-may-be-loaded", n), asm volatile("movw %w0, %%fs" ::"r"(n)));
        EXPECT_FAULT(name_of("null-%u-read", n), GP, 0,
                     INSN_AFTER("movw %w0, %%fs", "movb %%fs:value, %%al", ::"r"(n) : "eax"));
        EXPECT_FAULT(name_of("null-%u-write", n), GP, 0,
                     INSN_AFTER("movw %w0, %%fs", "movb %%al, %%fs:value", ::"r"(n)));
        EXPECT_FAULT(name_of("null-%u-not-in-ss", n), GP, 0,
                     INSN("movw %w0, %%ss; movw %w1, %%ss", ::"r"(n), "r"(KDATA)));
    }
    u32 read;
    asm volatile("movw %w1, %%fs; movl %%fs, %0" : "=r"(read) : "r"(3));
    check("null-keeps-its-rpl", read & 0xffff, 3);
    EXPECT_NONE("null-does-not-matter-to-lea", asm volatile("movw %w0, %%fs; .byte 0x64, 0x8d, 0x01" : : "r"(0) : "eax"));
    run(3, load_ss, 3, 0);
    check_trap("null-not-in-ss-of-ring-3", GP, 0, (u32)load_ss);
}

// A byte, word and dword around a limit. `last`: the last valid offset, `base` puts it into the arena.
static void limit_case(const char *name, u64 descriptor, u32 first_bad, int dword_at, int bad_writes) {
    set(SEL, descriptor);
    struct context c = ring_context(0, read_byte);
    c.fs = SEL;
#define TRY(what, fn, at, vec)                                                                                         \
    c.eip = (u32)fn, c.ecx = (at);                                                                                     \
    go(&c);                                                                                                            \
    check_trap(name_of("%s-%s", name, what), vec, vec == GP ? 0 : NO_ERROR, vec == GP ? (u32)fn : 0)
    TRY("last-byte", read_byte, first_bad - 1, RET_VECTOR);
    TRY("byte-beyond", read_byte, first_bad, GP);
    TRY("last-word", read_word, first_bad - 2, RET_VECTOR);
    TRY("word-half-beyond", read_word, first_bad - 1, GP);
    if (dword_at) {
        TRY("last-dword", read_dword, first_bad - 4, RET_VECTOR);
        TRY("dword-a-byte-beyond", read_dword, first_bad - 3, GP);
        TRY("far-beyond", read_dword, 0xfffffff0, GP);
    }
    if (bad_writes) {
        TRY("write-beyond", write_byte, first_bad, GP);
        TRY("write-half-beyond", write_dword, first_bad - 2, GP);
    }
}

static void limits(void) {
    u32 base = (u32)arena;
    limit_case("limit-bytes", desc(base, 0x1233, A_RW, BIG), 0x1234, 1, 1);
    limit_case("limit-bytes-16-bit", desc(base, 0x1233, A_RW, 0), 0x1234, 1, 1);
    limit_case("limit-64k", desc(base, 0xffff, A_RW, 0), 0x10000, 1, 1);
    limit_case("limit-20-bits", desc(base, 0x20003, A_RW, 0), 0x20004, 1, 1);
    limit_case("limit-pages", desc(base, 2, A_RW, G | BIG), 0x3000, 1, 1);
    limit_case("limit-zero-pages", desc(base, 0, A_RW, G), 0x1000, 1, 1);
    limit_case("limit-read-only", desc(base, 0x1f, A_RO, BIG), 0x20, 1, 0);
    limit_case("limit-code", desc(base, 0x1f, A_XR, BIG), 0x20, 1, 0);
    set(SEL, desc(base, 0, A_RW, BIG));
    struct context c = ring_context(0, read_byte);
    c.fs = SEL, c.ecx = 0;
    go(&c);
    check_trap("limit-zero-holds-one-byte", RET_VECTOR, NO_ERROR, 0);
    c.eip = (u32)read_word;
    go(&c);
    check_trap("limit-zero-holds-no-word", GP, 0, (u32)read_word);
    // LEA forms an address and accesses nothing.
    c.eip = (u32)lea_anything, c.ecx = 0x1000;
    go(&c);
    check_trap("limit-not-checked-by-lea", RET_VECTOR, NO_ERROR, 0);
}

static void down_case(const char *name, u64 descriptor, u32 first_good, u32 top) {
    set(SEL, descriptor);
    struct context c = ring_context(0, read_byte);
    c.fs = SEL;
    TRY("at-the-limit", read_byte, first_good - 1, GP);
    TRY("first-byte", read_byte, first_good, RET_VECTOR);
    TRY("word-half-below", read_word, first_good - 1, GP);
    TRY("first-dword", read_dword, first_good, RET_VECTOR);
    TRY("at-zero", read_byte, 0, GP);
    TRY("last-byte", read_byte, top, RET_VECTOR);
    TRY("last-dword", read_dword, top - 3, RET_VECTOR);
    TRY("dword-over-the-top", read_dword, top - 2, GP);
    TRY("write-below", write_dword, first_good - 1, GP);
    if (top == 0xffff) {
        TRY("byte-over-the-top", read_byte, 0x10000, GP);
    }
}

static void expand_down(void) {
    u32 base = (u32)arena;
    down_case("down-16", desc(base, 0x0fff, A_RW_DOWN, 0), 0x1000, 0xffff);
    down_case("down-16-pages", desc(base, 1, A_RW_DOWN, G), 0x2000, 0xffff);
    // The big one reaches to 4 GiB - 1: its base wraps the top into the arena.
    down_case("down-32", desc(base + 0x10000, 0xfff, A_RW_DOWN, BIG), 0x1000, 0xffffffff);
    set(SEL, desc(base, 0xffff, A_RW_DOWN, 0));
    struct context c = ring_context(0, read_byte);
    c.fs = SEL, c.ecx = 0x8000;
    go(&c);
    check_trap("down-16-with-limit-ffff-is-empty", GP, 0, (u32)read_byte);
    set(SEL, desc(base, 0xfffff, A_RW_DOWN, G | BIG));
    go(&c);
    check_trap("down-32-with-limit-4g-is-empty", GP, 0, (u32)read_byte);
}

static void type_checks(void) {
    struct context c = ring_context(0, write_byte);
    c.ecx = 0;
    struct {
        const char *name;
        u32 access, read_ok, write_ok;
    } cases[] = {{"read-only", A_RO, 1, 0}, {"read-write", A_RW, 1, 1}, {"readable-code", A_XR, 1, 0},
                 {"conforming", A_XRC, 1, 0}};
    for (u32 n = 0; n < 4; n++) {
        set(SEL, desc((u32)arena, 0xfff, cases[n].access, BIG));
        c.fs = SEL, c.eip = (u32)read_byte;
        go(&c);
        check_trap(name_of("type-read-%s", cases[n].name), RET_VECTOR, NO_ERROR, 0);
        c.eip = (u32)write_byte;
        go(&c);
        check_trap(name_of("type-write-%s", cases[n].name), cases[n].write_ok ? RET_VECTOR : GP,
                   cases[n].write_ok ? NO_ERROR : 0, cases[n].write_ok ? 0 : (u32)write_byte);
    }
    c = ring_context(0, read_cs);
    go(&c);
    check("type-read-through-cs", trap.eax, value);
    c.cs = XCODE;
    go(&c);
    check_trap("type-read-through-execute-only-cs", GP, 0, (u32)read_cs);
}

// EBP and ESP address the stack segment: #SS. Others the data segment: #GP. In ring 3, so that the handler has a good stack.
static void default_segments(void) {
    set(SEL, desc((u32)arena, 0xfff, A_RW | DPL(3), BIG));
    struct context c = ring_context(3, read_ebp);
    c.ss = SEL | 3, c.esp = 0x800, c.ebp = 0x1000;
    go(&c);
    check_trap("default-ebp-is-ss", SS, 0, (u32)read_ebp);
    c = ring_context(3, read_ds);
    c.ds = SEL | 3, c.ecx = 0x1000;
    go(&c);
    check_trap("default-ecx-is-ds", GP, 0, (u32)read_ds);
}

static void stacks(void) {
    u32 base = (u32)arena, sel = SEL | 3;
    memset(arena, 0, sizeof arena);
    // B = 0: SP is the stack pointer, the upper half of ESP is not used and stays.
    set(SEL, desc(base, 0xffff, A_RW | DPL(3), 0));
    struct context c = ring_context(3, push4_at_ebx);
    c.ss = sel, c.ebx = 0x12340100, c.eax = 0xcafe;
    go(&c);
    check_trap("stack16-push", RET_VECTOR, NO_ERROR, 0);
    check("stack16-push-keeps-the-upper-esp", trap.esp, 0x123400fc);
    check("stack16-push-writes-at-sp", arena[0xfc / 4], 0xcafe);
    c.ebx = 0x10000;
    go(&c);
    check("stack16-push-wraps-sp", trap.esp, 0x1fffc);
    check("stack16-push-wraps-to-the-top", arena[0xfffc / 4], 0xcafe);
    c.ebx = 2;
    go(&c);
    check_trap("stack16-push-across-64k", SS, 0, (u32)push4_at_ebx + 2);
    check("stack16-push-across-64k-leaves-esp", trap.esp, 2);
    c.eip = (u32)pop4_at_ebx, c.ebx = 0x1fffc;
    go(&c);
    check("stack16-pop-wraps-sp", trap.esp, 0x10000);
    c.ebx = 0xfffe;
    go(&c);
    check_trap("stack16-pop-across-64k", SS, 0, (u32)pop4_at_ebx + 2);
    // B = 1 with a limit.
    set(SEL, desc(base, 0xfff, A_RW | DPL(3), BIG));
    c = ring_context(3, push4);
    c.ss = sel, c.esp = 0x1000;
    go(&c);
    check_trap("stack32-push-from-the-top", RET_VECTOR, NO_ERROR, 0);
    c.esp = 0x1001;
    go(&c);
    check_trap("stack32-push-over-the-limit", SS, 0, (u32)push4);
    c.esp = 2;
    go(&c);
    check_trap("stack32-push-below-zero", SS, 0, (u32)push4);
    c.eip = (u32)push2;
    go(&c);
    check_trap("stack32-push-word-down-to-zero", RET_VECTOR, NO_ERROR, 0);
    c.eip = (u32)pop4, c.esp = 0xffd;
    go(&c);
    check_trap("stack32-pop-over-the-limit", SS, 0, (u32)pop4);
    // An expand-down stack that may use 1000h to FFFFh.
    set(SEL, desc(base, 0xfff, A_RW_DOWN | DPL(3), 0));
    c.eip = (u32)push4, c.esp = 0x1004;
    go(&c);
    check_trap("stack-down-push-to-the-limit", RET_VECTOR, NO_ERROR, 0);
    c.esp = 0x1003;
    go(&c);
    check_trap("stack-down-push-below-the-limit", SS, 0, (u32)push4);
}

static void pointers(void) {
    pointer.offset = 0x1234, pointer.selector = NPDATA;
    struct context c = ring_context(0, lfs_it);
    c.ebx = 0x55, c.fs = UDATA;
    go(&c);
    check_trap("lfs-absent", NP, NPDATA, (u32)lfs_it);
    check("lfs-that-faults-changes-nothing", trap.ebx | trap.fs << 16, 0x55 | UDATA << 16);
    pointer.selector = RODATA;
    go(&c);
    check("lfs-loads-both", trap.ebx | trap.fs << 16, 0x1234 | RODATA << 16);
    pointer.selector = 0;
    go(&c);
    check("lfs-null", trap.fs, 0);
    run(3, pop_es, 0, 0);
    check("pop-es-null", trap.es, 0);
    run(3, load_ds, KDATA, 0);
    check_trap("ring-3-loads-kernel-data", GP, KDATA, (u32)load_ds);
}

// The hidden part changes only when the register is loaded.
static void hidden_parts(void) {
    set(SEL, desc((u32)arena, 0xfff, A_RW, BIG));
    asm volatile("movw %w0, %%fs" ::"r"(SEL));
    set(SEL, desc((u32)arena, 0, A_RO & 0x7f, 0));
    EXPECT_NONE("hidden-part-outlives-the-descriptor", asm volatile("movl $7, %%fs:0x100" ::: "memory"));
    check("hidden-part-base", arena[0x100 / 4], 7);
    EXPECT_FAULT("hidden-part-reloaded", NP, SEL, INSN("movw %w0, %%fs", ::"r"(SEL)));
    set(SEL, desc((u32)&value, 0xfff, A_RW, BIG));
    u32 read;
    asm volatile("movw %w1, %%gs; movl %%gs:0, %0" : "=r"(read) : "r"(SEL));
    check("base", read, value);
    // Base plus offset wraps at 4 GiB.
    set(SEL, desc(0xfffff000, 0xfffff, A_RW, G | BIG));
    asm volatile("movw %w1, %%gs; movl %%gs:(%2), %0" : "=r"(read) : "r"(SEL), "r"((u32)&value + 0x1000));
    check("base-plus-offset-wraps", read, value);
    set(SEL, desc(0x80000000, 0xfffff, A_RW, G | BIG));
    asm volatile("movw %w1, %%gs; movl %%gs:(%2), %0" : "=r"(read) : "r"(SEL), "r"((u32)&value + 0x80000000));
    check("base-bit-31", read, value);
    // A descriptor that is accessed already is not written.
    set(SEL, desc(0, 0xfffff, A_RW | 1, G | BIG));
    asm volatile("movw %w0, %%gs" ::"r"(SEL));
    check("accessed-stays", access_byte(SEL), A_RW | 1);
    set(SEL, desc(0, 0xfffff, A_RW | DPL(0), G | BIG));
    run(3, load_fs, SEL | 3, 0);
    check("accessed-not-set-by-a-refused-load", access_byte(SEL), A_RW);
    asm volatile("movl %%ds, %0" : "=r"(read) : "0"(0xffffffff));
    check("mov-r32-from-segment", read & 0xffff, KDATA);
}

static void tables(void) {
    u32 got;
    load_ldt();
    asm volatile("sldt %w0" : "=r"(got) : "0"(0));
    check("sldt", got & 0xffff, LDT_SEL);
    asm volatile("str %w0" : "=r"(got) : "0"(0));
    check("str", got & 0xffff, TSS0);
    set(0x0c, desc((u32)&value, 3, A_RW, BIG));
    asm volatile("movw %w1, %%fs; movl %%fs:0, %0" : "=r"(got) : "r"(0x0c));
    check("ldt-segment", got, value);
    check("ldt-accessed-bit", ldt[1] >> 40 & 0xff, A_RW | 1);
    set(4, desc((u32)&value, 3, A_RW, BIG));
    EXPECT_NONE("ldt-slot-0-is-not-null", asm volatile("movw %w0, %%fs" ::"r"(4)));
    set(SEL, desc((u32)ldt, 14, A_LDT, 0));
    asm volatile("lldt %w0" ::"r"(SEL));
    EXPECT_FAULT("ldt-descriptor-half-within-the-limit", GP, 0x0c, INSN("movw %w0, %%fs", ::"r"(0x0c)));
    EXPECT_FAULT("lldt-of-data", GP, KDATA, INSN("lldt %w0", ::"r"(KDATA)));
    EXPECT_FAULT("lldt-of-a-tss", GP, TSS0, INSN("lldt %w0", ::"r"(TSS0)));
    EXPECT_FAULT("lldt-from-the-ldt", GP, 0x0c, INSN("lldt %w0", ::"r"(0x0c)));
    EXPECT_FAULT("lldt-beyond-the-gdt", GP, 0x400, INSN("lldt %w0", ::"r"(0x400)));
    set(SEL, desc((u32)ldt, 0xff, A_LDT & 0x7f, 0));
    EXPECT_FAULT("lldt-absent", NP, SEL, INSN("lldt %w0", ::"r"(SEL)));
    EXPECT_NONE("lldt-null", asm volatile("lldt %w0" ::"r"(3)));

    EXPECT_FAULT("ltr-of-data", GP, KDATA, INSN("ltr %w0", ::"r"(KDATA)));
    EXPECT_FAULT("ltr-from-the-ldt", GP, 0x0c, INSN("ltr %w0", ::"r"(0x0c)));
    EXPECT_FAULT("ltr-beyond-the-gdt", GP, 0x400, INSN("ltr %w0", ::"r"(0x400)));
    set(SEL, desc((u32)&tss0, 103, A_TSS32 & 0x7f, 0));
    EXPECT_FAULT("ltr-absent", NP, SEL, INSN("ltr %w0", ::"r"(SEL)));
    set(SEL, desc((u32)&tss0, 103, A_TSS16, 0));
    EXPECT_NONE("ltr-of-a-16-bit-tss", asm volatile("ltr %w0" ::"r"(SEL)));
    check("ltr-marks-the-16-bit-tss-busy", access_byte(SEL), A_TSS16_BUSY);
    load_tr(TSS0);
    check("ltr-marks-the-tss-busy", access_byte(TSS0), A_TSS32_BUSY);

    // The GDT's limit, to the byte.
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) cut = {RODATA + 6, (u32)gdt}, fits = {RODATA + 7, (u32)gdt}, whole = {1023, (u32)gdt}, got_gdt;
    asm volatile("lgdt %0" ::"m"(cut));
    EXPECT_FAULT("gdt-descriptor-a-byte-beyond-the-limit", GP, RODATA, INSN("movw %w0, %%fs", ::"r"(RODATA)));
    asm volatile("lgdt %0" ::"m"(fits));
    EXPECT_NONE("gdt-descriptor-up-to-the-limit", asm volatile("movw %w0, %%fs" ::"r"(RODATA)));
    asm volatile("lgdt %0" ::"m"(whole));
    asm volatile("sgdt %0" : "=m"(got_gdt));
    check("sgdt-limit", got_gdt.limit, 1023);
    check("sgdt-base", got_gdt.base, (u32)gdt);
}

void guest(void) {
    every_type_into_every_register();
    privileges();
    nulls();
    limits();
    expand_down();
    type_checks();
    default_segments();
    stacks();
    pointers();
    hidden_parts();
    tables();
}
