// External interrupts: 8259A masks, priorities, in-service bits and EOI, 8254 as their source with the UART and the RTC, HLT,
// EXT in error codes, IF by POPF and IRET. SDM 3A "External (Hardware Generated) Interrupts", "Masking Maskable Hardware
// Interrupts", "Error Code"; Intel 8259A and 8254 data sheets.
#include "lib/guest.h"

static char log[64];
__attribute__((used)) static volatile u32 events;
static u32 eoi_at_once = 1, seen_eip, seen_isr;

static void event(char c) {
    if (events < sizeof log - 1)
        log[events++] = c, log[events] = 0;
}

static void check_log(const char *name, const char *want) {
    u32 got = 0, wanted = 0;
    for (u32 n = 0; n < events; n++)
        got = got * 16 + log[n];
    for (; *want; want++)
        wanted = wanted * 16 + *want;
    check(name, got, wanted);
}

static u32 irr(void) { return outb(0x20, 0x0a), inb(0x20); }
static u32 isr(void) { return outb(0x20, 0x0b), inb(0x20); }
static void mask(u32 master, u32 slave) { outb(0x21, master), outb(0xa1, slave); }

static int on_timer(void) {
    event('T');
    seen_eip = trap.eip, seen_isr = isr();
    if (eoi_at_once)
        outb(0x20, 0x20);
    return RESUME;
}

static int on_serial(void) {
    event('S');
    outb(0x3f9, 0);
    inb(0x3fa); // reading IIR drops the THR-empty cause
    if (eoi_at_once)
        outb(0x20, 0x20);
    return RESUME;
}

static int on_rtc(void) {
    event('R');
    seen_isr = isr() | (outb(0xa0, 0x0b), inb(0xa0)) << 8;
    outb(0x70, 0x0c), inb(0x71);
    outb(0xa0, 0x20), outb(0x20, 0x20);
    return RESUME;
}

// Reprogramming the timer drops a request that is not yet acknowledged: the 8259A then says IRQ 7, with no bit in service.
static int on_spurious(void) { return RESUME; }

// One-shot on channel 0: IRQ 0 when `count` periods of 1.193182 MHz are over (mode 0).
static void timer(u32 count) {
    outb(0x43, 0x30);
    outb(0x40, count), outb(0x40, count >> 8);
}

// With IF clear: until the controller has seen the request.
static int wait_request(u32 bit) {
    for (u32 n = 0; n < 3000000; n++)
        if (irr() & bit)
            return 1;
    return 0;
}

// Long enough for whatever is requested to arrive.
static void let_in(void) {
    u32 n = 2000;
    asm volatile("sti; 1: loop 1b; cli" : "+c"(n)::"memory");
}

static void one_pending_timer(void) {
    events = 0;
    timer(50);
    wait_request(1);
}

static void timer_and_halt(void) {
    mask(0xfe, 0xff);
    events = 0;
    timer(0xffff);
    check("request-is-low-before-the-count", irr() & 1, 0);
    timer(200);
    asm volatile("1: sti; hlt; cli; cmpl $0, events; je 1b" ::: "memory");
    check_log("hlt-wakes", "T");
    check("request-is-in-service-in-the-handler", seen_isr, 1);
    check("request-is-gone-afterwards", irr() & 1, 0);
    check("eoi-clears-in-service", isr(), 0);
    u32 behind;
    one_pending_timer();
    asm volatile("movl $1f, %0; sti; hlt; 1: cli" : "=r"(behind)::"memory");
    check("hlt-saves-eip-behind-itself", seen_eip, behind);
    // Mode 2 goes on by itself.
    events = 0;
    outb(0x43, 0x34), outb(0x40, 300 & 0xff), outb(0x40, 300 >> 8);
    asm volatile("1: sti; hlt; cli; cmpl $3, events; jb 1b" ::: "memory");
    check_true("mode-2-repeats", events >= 3);
    timer(0xffff);
    // HLT again and again: each wakes once.
    for (u32 n = 0; n < 3; n++) {
        events = 0;
        timer(1000);
        asm volatile("1: sti; hlt; cli; cmpl $0, events; je 1b" ::: "memory");
        check_log(name_of("hlt-and-one-shot-%u", n), "T");
    }
}

static void masks(void) {
    mask(0xff, 0xff);
    one_pending_timer();
    asm volatile("sti; nop; nop; cli");
    check_log("masked-in-the-controller", "");
    check("masked-but-requested", irr() & 1, 1);
    mask(0xfe, 0xff);
    asm volatile("nop; nop");
    check_log("held-by-if", "");
    asm volatile("sti; nop; nop; cli");
    check_log("unmasked-and-if", "T");
    check("imr-reads-back", inb(0x21), 0xfe);
}

static void where_it_comes(void) {
    u32 at;
    one_pending_timer();
    asm volatile("movl $1f, %0; pushl $0x202; popfl; 1: nop; cli" : "=r"(at)::"memory");
    check("popf-has-no-shadow", seen_eip, at);
    one_pending_timer();
    asm volatile("movl $1f, %0; pushl $0x202; pushl %%cs; pushl $1f; iretl; 1: nop; cli" : "=r"(at)::"memory");
    check("iret-has-no-shadow", seen_eip, at);
    one_pending_timer();
    asm volatile("movl $1f, %0; sti; nop; 1: nop; cli" : "=r"(at)::"memory");
    check("sti-has-a-shadow-of-one-instruction", seen_eip, at);
    one_pending_timer();
    asm volatile("sti; cli; nop");
    check_log("sti-cli-lets-nothing-in", "");
    asm volatile("sti; nop; cli");
    check_log("and-then-it-comes", "T");
}

static void priorities(void) {
    mask(0xff, 0xff);
    events = 0;
    outb(0x3f9, 2); // THR empty: requests IRQ 4 at once
    u32 uart = wait_request(0x10); // (nothing is printed meanwhile: that would use the UART)
    timer(50);
    u32 timer_too = wait_request(1);
    mask(0xee, 0xff);
    let_in();
    check("uart-requests", uart, 1);
    check("timer-requests-too", timer_too, 1);
    check_log("irq-0-comes-before-irq-4", "TS");
    // While IRQ 0 is in service nothing below it comes, until its EOI.
    mask(0xff, 0xff);
    outb(0x3f9, 2);
    wait_request(0x10);
    one_pending_timer();
    eoi_at_once = 0;
    mask(0xee, 0xff);
    let_in();
    u32 first = events, in_service = isr();
    outb(0x20, 0x20);
    let_in();
    check("irq-4-waits-for-the-eoi-of-irq-0", first, 1);
    check("irq-0-in-service", in_service, 1);
    check_log("irq-4-after-the-eoi", "TS");
    check("irq-4-in-service", isr(), 0x10);
    // A higher one comes although a lower one is in service.
    timer(50);
    wait_request(1);
    let_in();
    check_log("irq-0-interrupts-irq-4", "TST");
    check("both-in-service", isr(), 0x11);
    outb(0x20, 0x20);
    check("eoi-ends-the-highest", isr(), 0x10);
    outb(0x20, 0x64);
    check("specific-eoi-ends-its-own", isr(), 0);
    eoi_at_once = 1;
    outb(0x3f9, 0);
}

static void slave(void) {
    mask(0xfb, 0xfe);
    events = 0;
    outb(0x70, 0x0a), outb(0x71, 0x26); // 1024 Hz
    outb(0x70, 0x0b);
    u32 b = inb(0x71);
    outb(0x70, 0x0b), outb(0x71, b | 0x40); // periodic interrupts on
    outb(0x70, 0x0c), inb(0x71);
    // The timer ends the wait if the RTC stays silent.
    mask(0xfa, 0xfe);
    timer(0xffff);
    asm volatile("1: sti; hlt; cli; cmpl $0, events; je 1b" ::: "memory");
    outb(0x70, 0x0b), outb(0x71, b & ~0x40);
    check("irq-8-comes-through-the-slave", log[0], 'R');
    check("irq-8-in-service-in-both", seen_isr, 0x104);
    outb(0x70, 0x0c), inb(0x71);
    mask(0xff, 0xff);
}

CODE(spin, "1: jmp 1b");

static void delivery(void) {
    // From ring 3, through a gate with dpl 0, which only matters to INT n.
    mask(0xfe, 0xff);
    hooks[0x20] = 0;
    events = 0;
    timer(100);
    ring_eflags = 2 | IF | IOPL(0);
    expect_in_ring("interrupt-in-ring-3-ignores-the-gate-dpl", 3, spin, 0x20, NO_ERROR, 0);
    check("interrupt-saves-if-set", trap.eflags & IF, IF);
    outb(0x20, 0x20);
    ring_eflags = 2;
    // A bad gate: EXT is set.
    set_idt(0x20, gate(KCODE, stub(0x20), A_INT32 & 0x7f, 0));
    one_pending_timer();
    CATCH(asm volatile("sti; nop; nop; cli"));
    check_trap("interrupt-through-an-absent-gate", NP, 0x20 * 8 + 2 + 1, 0);
    outb(0x20, 0x20);
    set_idt(0x20, gate(0x3f8, stub(0x20), A_INT32, 0));
    one_pending_timer();
    CATCH(asm volatile("sti; nop; nop; cli"));
    check_trap("interrupt-through-a-bad-selector", GP, 0x3f8 + 1, 0);
    outb(0x20, 0x20);
    default_idt(0x20);
    hooks[0x20] = on_timer;
}

void guest(void) {
    hooks[0x20] = on_timer, hooks[0x24] = on_serial, hooks[0x28] = on_rtc, hooks[0x27] = on_spurious;
    outb(0x3fc, 0x0b); // OUT2 lets the UART interrupt
    timer_and_halt();
    masks();
    where_it_comes();
    priorities();
    slave();
    delivery();
    mask(0xff, 0xff);
    outb(0x3fc, 3);
}
