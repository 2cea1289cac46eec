// The local APIC and the I/O APIC: identity, priorities, spurious vector, EOI, interrupts to itself, the timer, virtual wire
// mode, the 8254 and COM1 through the I/O APIC, edges and levels, the base register. SDM 3A "Advanced Programmable
// Interrupt Controller (APIC)"; Intel 82093AA data sheet.
#include "lib/guest.h"

#define LOCAL 0xfee00000
#define IO 0xfec00000
enum { APIC_ID = 0x20, VERSION = 0x30, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ISR = 0x100,
       TMR = 0x180, IRR = 0x200, ESR = 0x280, ICR = 0x300, ICR_HIGH = 0x310, TIMER = 0x320, LINT0 = 0x350, LINT1 = 0x360,
       ERROR = 0x370, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0 };
#define MASKED 0x10000
#define SELF 0x40000

static u32 get(u32 at) { return *(volatile u32 *)(LOCAL + at); }
static void put(u32 at, u32 value) { *(volatile u32 *)(LOCAL + at) = value; }
static u32 io_get(u32 index) { return *(volatile u32 *)IO = index, *(volatile u32 *)(IO + 0x10); }
static void io_put(u32 index, u32 value) { *(volatile u32 *)IO = index, *(volatile u32 *)(IO + 0x10) = value; }
static void redirect(u32 input, u32 low) { io_put(0x11 + 2 * input, 0), io_put(0x10 + 2 * input, low); }

static char log[64];
__attribute__((used)) static volatile u32 events;
static u32 eoi_at_once = 1, seen_isr, seen_ppr;

static int on_any(void) {
    if (events < sizeof log - 1)
        log[events++] = trap.vector, log[events] = 0;
    u32 word = trap.vector / 32 * 0x10;
    seen_isr = get(ISR + word) >> trap.vector % 32 & 1, seen_ppr = get(PPR);
    if (eoi_at_once)
        put(EOI, 0);
    return RESUME;
}

// No EOI: it has no bit in service.
static int on_spurious(void) { return events++, RESUME; }

static int on_pic(void) {
    log[0] = trap.vector, events++;
    seen_isr = (outb(0x20, 0x0b), inb(0x20));
    outb(0x20, 0x20);
    return RESUME;
}

static int on_serial(void) {
    events++;
    if (events == 3)
        outb(0x3f9, 0); // the level falls
    put(EOI, 0);
    return RESUME;
}

static void let_in(void) {
    u32 n = 5000;
    asm volatile("sti; 1: loop 1b; cli" : "+c"(n)::"memory");
}

static void timer_8254(u32 count) {
    outb(0x43, 0x30);
    outb(0x40, count), outb(0x40, count >> 8);
}

static void identity(void) {
    check("id", get(APIC_ID), 0);
    check("version-and-highest-entry", get(VERSION) & 0xff00ff, 0x50014);
    check("io-version-and-highest-entry", io_get(1) & 0xff0000, 0x170000);
    put(SVR, 0x0ff);
    check("disabling-masks-all-entries", get(TIMER) & get(LINT0) & get(LINT1) & get(ERROR) & MASKED, MASKED);
    put(SVR, 0x1ff);
    put(TIMER, MASKED), put(LINT0, MASKED), put(LINT1, MASKED), put(ERROR, MASKED);
    put(TPR, 0x5a);
    check("tpr-reads-back", get(TPR), 0x5a);
    check("ppr-is-tpr-when-nothing-is-served", get(PPR), 0x5a);
    put(TPR, 0);
    put(LDR, 0x01000000), put(DFR, 0xffffffff);
    check("ldr-reads-back", get(LDR), 0x01000000);
}

static void to_itself(void) {
    events = 0;
    put(ICR, SELF | 0x4000 | 0x50);
    check("requested", get(IRR + 0x20), 1 << 16);
    check("command-is-idle", get(ICR) & 0x1000, 0);
    let_in();
    check("taken", events, 1);
    check("vector", log[0], 0x50);
    check("in-service-in-the-handler", seen_isr, 1);
    check("ppr-in-the-handler", seen_ppr & 0xf0, 0x50);
    check("not-in-service-after-eoi", get(ISR + 0x20), 0);
    events = 0;
    put(ICR_HIGH, 0), put(ICR, 0x4000 | 0x51);
    put(ICR_HIGH, 0x01000000), put(ICR, 0x4800 | 0x62);
    let_in();
    check("by-id-and-by-logical-destination", events, 2);
    check("higher-first", log[0] << 8 | log[1], 0x6251);
    events = 0;
    put(ICR, 0x80000 | 0x4000 | 0x53); // all
    put(ICR, 0xc0000 | 0x4000 | 0x54); // all but itself
    let_in();
    check("all-includes-itself", events == 1 && log[0] == 0x53, 1);
}

static void priorities(void) {
    events = 0;
    eoi_at_once = 0;
    put(ICR, SELF | 0x4000 | 0x51);
    let_in();
    put(ICR, SELF | 0x4000 | 0x52);
    let_in();
    check("same-class-waits", events, 1);
    put(ICR, SELF | 0x4000 | 0x61);
    let_in();
    check("higher-class-interrupts", events == 2 && log[1] == 0x61, 1);
    put(EOI, 0);
    let_in();
    check("eoi-ends-the-highest", events, 2);
    put(EOI, 0);
    let_in();
    check("then-the-waiting-one", events == 3 && log[2] == 0x52, 1);
    put(EOI, 0);
    eoi_at_once = 1;
    events = 0;
    put(TPR, 0x60);
    put(ICR, SELF | 0x4000 | 0x6f);
    let_in();
    check("tpr-holds-its-class", events, 0);
    put(TPR, 0x5f);
    let_in();
    check("and-lets-it-go", events, 1);
    put(TPR, 0);
}

static void apic_timer(void) {
    events = 0;
    put(DIVIDE, 0xb);
    put(TIMER, 0x58);
    put(INITIAL, 5000000);
    u32 early = get(CURRENT);
    asm volatile("1: sti; hlt; cli; cmpl $0, events; je 1b" ::: "memory");
    check_true("counts-down", early <= 5000000 && early > 0);
    check("one-shot", events == 1 && log[0] == 0x58, 1);
    check("count-is-over", get(CURRENT), 0);
    events = 0;
    put(TIMER, 0x20058);
    put(INITIAL, 50000);
    asm volatile("1: sti; hlt; cli; cmpl $3, events; jb 1b" ::: "memory");
    check_true("periodic", events >= 3);
    put(INITIAL, 0);
    events = 0;
    let_in();
    check_true("count-0-stops-it", events <= 1);
    put(TIMER, MASKED | 0x58);
    put(INITIAL, 1000);
    while (get(CURRENT))
        ;
    events = 0;
    let_in();
    check("masked", events, 0);
    check("initial-count-reads-back", get(INITIAL), 1000);
}

static void virtual_wire(void) {
    outb(0x21, 0xfe), outb(0xa1, 0xff);
    events = 0;
    timer_8254(100);
    for (u32 n = 0; n < 3000000 && !(outb(0x20, 0x0a), inb(0x20) & 1); n++)
        ;
    let_in();
    check("lint0-masked", events, 0);
    put(LINT0, 0x8700);
    put(TPR, 0xf0);
    let_in();
    put(TPR, 0);
    check("ext-int-passes-any-tpr", events, 1);
    check("vector-of-the-8259a", log[0], 0x20);
    check("in-service-in-the-8259a", seen_isr, 1);
    put(LINT0, MASKED);
    outb(0x21, 0xff);
}

static void io_apic(void) {
    for (u32 input = 0; input < 24; input++)
        redirect(input, MASKED);
    io_put(0x10 + 2 * 23, 0xffffffff & ~0x0700);
    check("only-these-bits-can-be-written", io_get(0x10 + 2 * 23), 0x1a8ff);
    redirect(23, MASKED);
    events = 0;
    redirect(2, 0x59);
    timer_8254(200);
    asm volatile("1: sti; hlt; cli; cmpl $0, events; je 1b" ::: "memory");
    check("the-8254-is-input-2", events == 1 && log[0] == 0x59, 1);
    check("edges-leave-tmr-clear", get(TMR + 0x20) >> 25 & 1, 0);
    redirect(2, MASKED);
    // COM1 as a level: THR empty stays until the third handler switches it off.
    events = 0;
    outb(0x3fc, 0x0b);
    redirect(4, 0x805a);
    outb(0x3f9, 2);
    let_in();
    outb(0x3f9, 0);
    u32 levels = events;
    check("a-level-comes-again-after-eoi", levels, 3);
    check("levels-set-tmr", get(TMR + 0x20) >> 26 & 1, 1);
    check("remote-irr-is-clear-afterwards", io_get(0x18), 0x805a);
    redirect(4, MASKED);
}

static void errors(void) {
    put(ESR, 0), put(ESR, 0);
    put(ICR, SELF | 0x4000 | 0x05);
    put(ESR, 0);
    check_true("illegal-vector-is-an-error", get(ESR) & 0x60);
    put(ESR, 0);
    check("errors-are-cleared", get(ESR), 0);
}

static void base(void) {
    u64 value = rdmsr(0x1b);
    check("base", (u32)value & ~0xff, 0xfee00900);
    check("cpuid-shows-it", cpuid(1, 0).edx >> 9 & 1, 1);
    wrmsr(0x1b, value & ~0x800ull);
    check("cpuid-hides-it-when-off", cpuid(1, 0).edx >> 9 & 1, 0);
    events = 0;
    hooks[0x20] = on_pic;
    outb(0x21, 0xfe);
    timer_8254(100);
    u32 n = 3000000;
    while (!(outb(0x20, 0x0a), inb(0x20) & 1) && --n)
        ;
    let_in();
    outb(0x21, 0xff);
    check("without-it-the-8259a-has-the-pin", events, 1);
    wrmsr(0x1b, value);
}

void guest(void) {
    if (!has(9)) {
        skip("apic", "the processor has no local APIC");
        return;
    }
    for (u32 vector = 0x50; vector < 0x70; vector++)
        hooks[vector] = on_any;
    hooks[0xff] = on_spurious, hooks[0x20] = on_pic, hooks[0x5a] = on_serial;
    outb(0x21, 0xff), outb(0xa1, 0xff);
    identity();
    to_itself();
    priorities();
    apic_timer();
    virtual_wire();
    io_apic();
    errors();
    base();
}
