// String instructions and REP: results, flags that end them, DF, address-size wrap, faults midway that leave partial progress,
// interrupts between iterations. SDM 2B "REP/REPE/REPZ/REPNE/REPNZ" and the instructions' pages.
#include "lib/guest.h"

#define PAGE(n) (WINDOW + (n) * 0x1000)

__attribute__((used)) static u8 from[4096] __attribute__((aligned(4096))), to[4096] __attribute__((aligned(4096)));

CODE(rep_movsb, "rep movsb");
CODE(rep_movsd, "rep movsl");
CODE(rep_stosd, "rep stosl");
CODE(rep_stosw, "rep stosw");
CODE(rep_lodsb, "rep lodsb");
CODE(repe_cmpsb, "repe cmpsb");
CODE(repne_scasb, "repne scasb");
CODE(repe_scasd, "repe scasl");
CODE(repne_movsb, ".byte 0xf2; movsb");
CODE(movsb_16, ".byte 0x67, 0xf3, 0xa4"); // 16-bit addresses: CX, SI, DI
CODE(movs_fs, "rep movsb %fs:(%esi), %es:(%edi)");
CODE(single_scas, "scasb");
CODE(long_rep, "sti; nop; rep movsb; cli");
CODE(loop_, "1: incl %eax; loop 1b");
CODE(loop_16, "1: incl %eax; .byte 0x67; loop 1b");
CODE(jecxz_, "xorl %eax, %eax; jecxz 1f; incl %eax; 1:");
CODE(jcxz_, "xorl %eax, %eax; .byte 0x67; jecxz 1f; incl %eax; 1:");

static struct context ready(void (*fn)(void), u32 ecx, u32 esi, u32 edi, u32 eax) {
    struct context c = ring_context(0, fn);
    c.ecx = ecx, c.esi = esi, c.edi = edi, c.eax = eax;
    return c;
}

static void run(void (*fn)(void), u32 ecx, u32 esi, u32 edi, u32 eax, u32 flags) {
    struct context c = ready(fn, ecx, esi, edi, eax);
    c.eflags = 2 | flags;
    go(&c);
}

static void left(const char *name, u32 ecx, u32 esi, u32 edi) {
    check(name_of("%s-ecx", name), trap.ecx, ecx);
    check(name_of("%s-esi", name), trap.esi, esi);
    check(name_of("%s-edi", name), trap.edi, edi);
}

static void fill(void) {
    for (u32 n = 0; n < 4096; n++)
        from[n] = n * 7 + (n >> 8), to[n] = 0xee;
}

static u32 same(const u8 *a, const u8 *b, u32 count) {
    for (u32 n = 0; n < count; n++)
        if (a[n] != b[n])
            return n;
    return count;
}

static void results(void) {
    u32 f = (u32)from, t = (u32)to;
    fill();
    run(rep_movsb, 1000, f + 3, t + 5, 0, CF | ZF);
    left("movsb", 0, f + 1003, t + 1005);
    check("movsb-copies", same(from + 3, to + 5, 1000) | to[4] << 16 | to[1005] << 24, 1000 | 0xee << 16 | 0xeeu << 24);
    check("movsb-leaves-flags", trap.eflags, 2 | CF | ZF);
    fill();
    run(rep_movsd, 100, f + 1, t + 2, 0, 0);
    left("movsd", 0, f + 401, t + 402);
    check("movsd-copies", same(from + 1, to + 2, 400), 400);
    fill();
    run(rep_movsb, 16, f + 31, t + 31, 0, DF);
    left("movsb-down", 0, f + 15, t + 15);
    check("movsb-down-copies", same(from + 16, to + 16, 16) | to[15] << 8 | to[32] << 16, 16 | 0xee << 8 | 0xee << 16);
    run(rep_movsd, 4, f + 64, t + 64, 0, DF);
    left("movsd-down", 0, f + 48, t + 48);
    check("movsd-down-copies", same(from + 52, to + 52, 16), 16);
    // Overlap: bytes one by one, as if written out.
    fill();
    from[0] = 0x5a;
    run(rep_movsb, 50, f, f + 1, 0, 0);
    u32 spread = 0;
    for (u32 n = 0; n < 51; n++)
        spread += from[n] == 0x5a;
    check("movsb-overlapping-spreads", spread, 51);
    fill();
    run(rep_movsd, 8, f, f + 1, 0, 0);
    check("movsd-overlapping", from[4] | from[5] << 8 | from[8] << 16 | from[32] << 24,
          0x15 | 0x15 << 8 | 0x31 << 16 | 0xd9u << 24);
    fill();
    run(rep_stosd, 5, 1, t + 2, 0x11223344, 0);
    left("stosd", 0, 1, t + 22);
    check("stosd-fills", *(u32 *)(to + 18) == 0x11223344 && to[22] == 0xee && to[1] == 0xee, 1);
    run(rep_stosw, 2, 1, t + 40, 0x1234, DF);
    left("stosw-down", 0, 1, t + 36);
    run(rep_lodsb, 10, f, 9, 0xffffffff, 0);
    check("lodsb-keeps-the-last", trap.eax, 0xffffff00 | from[9]);
    left("lodsb", 0, f + 10, 9);
    run(rep_movsb, 0, 1, 2, 0, 0);
    check_trap("zero-count-touches-nothing", RET_VECTOR, NO_ERROR, 0);
    left("zero-count", 0, 1, 2);
    fill();
    run(repne_movsb, 5, f, t, 0, ZF);
    check("f2-before-movs-repeats-too", trap.ecx | same(from, to, 5) << 8, 5 << 8);
}

static void comparisons(void) {
    u32 f = (u32)from, t = (u32)to;
    fill();
    memcpy(to, from, 100);
    run(repe_cmpsb, 100, f, t, 0, 0);
    left("cmpsb-equal", 0, f + 100, t + 100);
    check("cmpsb-equal-flags", trap.eflags & (ZF | CF | SF | OF), ZF);
    to[40]++;
    run(repe_cmpsb, 100, f, t, 0, 0);
    left("cmpsb-differs", 59, f + 41, t + 41);
    check("cmpsb-differs-flags", trap.eflags & (ZF | CF | SF | OF), CF | SF);
    to[40] = from[40];
    run(repe_cmpsb, 41, f, t, 0, 0);
    check("cmpsb-ends-by-count-with-zf", trap.eflags & ZF, ZF);
    run(repe_cmpsb, 0, f, t, 0, CF | SF);
    check("cmpsb-zero-count-leaves-flags", trap.eflags, 2 | CF | SF);
    memset(to, 7, 64);
    to[20] = 9;
    run(repne_scasb, 64, 0, t, 9, 0);
    left("scasb-finds", 43, 0, t + 21);
    check("scasb-finds-zf", trap.eflags & ZF, ZF);
    run(repne_scasb, 20, 0, t, 9, 0);
    left("scasb-finds-nothing", 0, 0, t + 20);
    check("scasb-finds-nothing-zf", trap.eflags & ZF, 0);
    run(repe_scasd, 16, 0, t, 0x07070707, 0);
    left("scasd-differs", 10, 0, t + 24);
    run(single_scas, 5, 0, t, 7, 0);
    left("scas-without-rep-leaves-ecx", 5, 0, t + 1);
}

static void address_sizes(void) {
    // 16-bit addresses through DS and ES with a base.
    fill();
    set(SCRATCH(0), desc((u32)from, 0xfff, A_RW, BIG));
    set(SCRATCH(1), desc((u32)to, 0xfff, A_RW, BIG));
    struct context c = ready(movsb_16, 0x12340004, 0xabcd0010, 0x56780020, 0);
    c.ds = SCRATCH(0), c.es = SCRATCH(1);
    go(&c);
    left("16-bit", 0x12340000, 0xabcd0014, 0x56780024);
    check("16-bit-copies", same(from + 16, to + 32, 4), 4);
    // SI and DI wrap at 64 KiB, the upper halves stay.
    static u8 big[0x10000] __attribute__((aligned(4096)));
    big[0xfffe] = 1, big[0xffff] = 2, big[0] = 3, big[1] = 4;
    set(SCRATCH(2), desc((u32)big, 0xffff, A_RW, BIG));
    c = ready(movsb_16, 4, 0x1fffe, 0x20, 0);
    c.ds = SCRATCH(2), c.es = SCRATCH(1);
    go(&c);
    left("16-bit-wraps", 0, 0x10002, 0x24);
    check("16-bit-wraps-copies", *(u32 *)(to + 0x20), 0x04030201);
    c = ready(movsb_16, 0x00010000, 5, 6, 0);
    go(&c);
    left("16-bit-zero-cx", 0x00010000, 5, 6);
    // A segment override is for the source only.
    fill();
    c = ready(movs_fs, 8, 0x10, (u32)to, 0);
    c.fs = SCRATCH(0);
    go(&c);
    check("override-source", same(from + 16, to, 8), 8);
    run(loop_, 5, 0, 0, 0, 0);
    check("loop", trap.eax | trap.ecx << 8, 5);
    run(loop_16, 0x10005, 0, 0, 0, 0);
    check("loop-16", trap.eax, 5);
    check("loop-16-keeps-upper-ecx", trap.ecx, 0x10000);
    run(jecxz_, 0x10000, 0, 0, 0, 0);
    check("jecxz-looks-at-ecx", trap.eax, 1);
    run(jcxz_, 0x10000, 0, 0, 0, 0);
    check("jcxz-looks-at-cx", trap.eax, 0);
}

static void faults(void) {
    paging_on();
    map(PAGE(0), frame(0), P | W | U), map(PAGE(1), 0, 0);
    map(PAGE(2), frame(2), P | W | U), map(PAGE(3), 0, 0);
    // Source runs off its page after 12 bytes.
    struct context c = ready(rep_movsb, 100, PAGE(1) - 12, PAGE(2), 0);
    go(&c);
    check_trap("source-fault", PF_, 0, (u32)rep_movsb);
    check("source-fault-cr2", trap.cr2, PAGE(1));
    left("source-fault", 88, PAGE(1), PAGE(2) + 12);
    c = ready(rep_movsb, 100, PAGE(0), PAGE(3) - 5, 0);
    go(&c);
    check_trap("destination-fault", PF_, 2, (u32)rep_movsb);
    left("destination-fault", 95, PAGE(0) + 5, PAGE(3));
    // A dword that straddles: none of it is written.
    memset((void *)frame(2), 0xee, 4096);
    c = ready(rep_stosd, 10, 0, PAGE(3) - 6, 0x01010101);
    go(&c);
    check_trap("straddling-fault", PF_, 2, (u32)rep_stosd);
    check("straddling-fault-cr2", trap.cr2, PAGE(3));
    left("straddling-fault", 9, 0, PAGE(3) - 2);
    check("straddling-fault-wrote-nothing", *(volatile u16 *)(frame(2) + 0xffe), 0xeeee);
    // Downwards.
    c = ready(rep_movsb, 100, PAGE(2) + 3, PAGE(0) + 0x800, 0);
    c.eflags = 2 | DF;
    go(&c);
    check_trap("fault-downwards", PF_, 0, (u32)rep_movsb);
    check("fault-downwards-cr2", trap.cr2, PAGE(2) - 1);
    left("fault-downwards", 96, PAGE(2) - 1, PAGE(0) + 0x7fc);
    // The flags of a comparison that faulted are those of the last iteration that completed.
    memset((void *)frame(0), 1, 4096), memset((void *)frame(2), 1, 4096);
    c = ready(repe_cmpsb, 100, PAGE(1) - 4, PAGE(2), 0);
    go(&c);
    check_trap("cmpsb-fault", PF_, 0, (u32)repe_cmpsb);
    left("cmpsb-fault", 96, PAGE(1), PAGE(2) + 4);
    // A zero count does not look at its addresses.
    c = ready(rep_movsb, 0, PAGE(1), PAGE(3), 0);
    go(&c);
    check_trap("zero-count-does-not-fault", RET_VECTOR, NO_ERROR, 0);
    paging_off();
    // A segment limit midway.
    set(SCRATCH(0), desc((u32)from, 15, A_RW, BIG));
    c = ready(rep_movsb, 100, 10, (u32)to, 0);
    c.ds = SCRATCH(0);
    go(&c);
    check_trap("limit-fault", GP, 0, (u32)rep_movsb);
    left("limit-fault", 94, 16, (u32)to + 6);
}

static volatile u32 ticks, ecx_seen, eip_seen, rf_seen;
static int on_timer(void) {
    ticks++, ecx_seen = trap.ecx, eip_seen = trap.eip, rf_seen = trap.eflags & RF;
    outb(0x20, 0x20);
    return RESUME;
}

static int on_spurious(void) { return RESUME; }

static void interruptible(void) {
    static u8 source[0x100000], target[0x100000];
    hooks[0x20] = on_timer, hooks[0x27] = on_spurious;
    outb(0x21, 0xfe);
    for (u32 n = 0; n < sizeof source; n++)
        source[n] = n >> 4;
    // A megabyte byte by byte is longer than 100 us on anything, so the interrupt must find it midway. (Where the timer belongs to
    // a host it may come late: a few tries.)
    for (u32 n = 0; n < 200 && !(ecx_seen && ecx_seen < sizeof source); n++) {
        outb(0x43, 0x30);
        asm volatile("sti; nop; cli"); // a late one of the try before
        ticks = 0;
        outb(0x40, 120), outb(0x40, 0);
        struct context c = ready(long_rep, sizeof source, (u32)source, (u32)target, 0);
        go(&c);
    }
    outb(0x21, 0xff);
    check_trap("interrupted-rep-ends", RET_VECTOR, NO_ERROR, 0);
    check("interrupted-rep-completes", trap.ecx, 0);
    check("interrupted-rep-copies-all", same(source, target, sizeof source), sizeof source);
    check("interrupted-once", ticks, 1);
    check_true("interrupted-midway", ecx_seen != 0 && ecx_seen < sizeof source);
    check("interrupted-saves-the-rep's-eip", eip_seen, (u32)long_rep + 2);
    check("interrupted-saves-rf", rf_seen, RF);
    hooks[0x20] = hooks[0x27] = 0;
}

void guest(void) {
    results();
    comparisons();
    address_sizes();
    faults();
    interruptible();
}
