// The one-instruction shadows: STI and loads of SS hold interrupts and debug traps back. SDM 2B "STI", 2B "MOV", "POP"; SDM 3A
// "Masking Exceptions and Interrupts When Switching Stacks"; LSS needs none.
#include "lib/guest.h"

__attribute__((used)) static volatile u32 hits, seen;
__attribute__((used)) static struct {
    u32 esp;
    u16 ss;
} __attribute__((packed)) pointer;

static int on_timer(void) {
    hits++, seen = trap.eip;
    outb(0x20, 0x20);
    return RESUME;
}

// Count 30 on channel 0, and wait until the request stands.
static void pending(void) {
    outb(0x43, 0x30), outb(0x40, 30), outb(0x40, 0);
    for (u32 n = 0; n < 3000000; n++)
        if (outb(0x20, 0x0a), inb(0x20) & 1)
            break;
    hits = 0;
}

static int on_step(void) {
    if (hits++ == 0)
        seen = trap.eip;
    trap.eflags &= ~TF;
    return RESUME;
}

#define STEP "pushfl; orl $0x100, (%%esp); popfl; "

// Runs the text with a request pending; `label 1` in it is where the interrupt should be taken.
#define TAKEN_AT_1(name, text)                                                                                         \
    do {                                                                                                               \
        u32 at;                                                                                                        \
        pending();                                                                                                     \
        asm volatile("movl $1f, %0; movl $0x10, %%ecx; " text : "=&r"(at)::"ecx", "memory", "cc");                     \
        check(name_of("%s-once", name), hits, 1);                                                                      \
        check(name, seen, at);                                                                                         \
    } while (0)

static void interrupt_shadows(void) {
    outb(0x21, 0xfe);
    hooks[0x20] = on_timer;
    TAKEN_AT_1("sti-holds-one-instruction", "sti; nop; 1: nop; cli");
    TAKEN_AT_1("sti-twice-holds-only-once", "sti; sti; 1: nop; cli");
    TAKEN_AT_1("sti-with-if-set-holds-nothing", "pushl $0x202; popfl; 1: sti; nop; cli");
    // (Of several such instructions in a row only the first is sure to hold interrupts back: STI and then MOV SS is left out.)
    TAKEN_AT_1("sti-then-mov-ds-has-no-further-shadow", "sti; movw %%cx, %%ds; 1: nop; cli");
    pointer.ss = KDATA;
    TAKEN_AT_1("sti-then-lss-has-no-further-shadow", "movl %%esp, pointer; sti; lss pointer, %%esp; 1: nop; cli");
    u32 at;
    pending();
    asm volatile("movl $1f, %0; sti; hlt; 1: cli" : "=&r"(at)::"memory");
    check("sti-hlt-does-not-lose-the-wakeup", seen, at);
    pending();
    asm volatile("sti; cli; nop");
    check("sti-cli-takes-nothing", hits, 0);
    outb(0x21, 0xff);
}

static void debug_shadows(void) {
    hooks[DB] = on_step;
    u32 at;
    // A single-step trap after MOV SS comes one instruction later.
    hits = 0;
    asm volatile("movl $1f, %0; movl $0x10, %%ecx; " STEP "movw %%cx, %%ss; nop; 1: nop" : "=&r"(at)::"ecx", "memory");
    check("mov-ss-holds-the-single-step", seen, at);
    hits = 0;
    asm volatile("movl $1f, %0; movl $0x10, %%ecx; pushl %%ecx; " STEP "popl %%ss; nop; 1: nop" : "=&r"(at)::"ecx", "memory");
    check("pop-ss-holds-the-single-step", seen, at);
    hits = 0;
    asm volatile("movl $1f, %0; " STEP "nop; 1: nop" : "=&r"(at)::"memory");
    check("nop-does-not", seen, at);
    hits = 0;
    asm volatile("movl $1f, %0; " STEP "sti; 1: cli" : "=&r"(at)::"memory");
    check("sti-does-not-hold-the-single-step", seen, at);
    pointer.ss = KDATA;
    hits = 0;
    asm volatile("movl $1f, %0; pushfl; popl %%ecx; orl $0x100, %%ecx; pushl %%ecx; leal 4(%%esp), %%ecx; movl %%ecx, pointer; "
                 "popfl; lss pointer, %%esp; 1: nop"
                 : "=&r"(at)::"ecx", "memory");
    check("lss-does-not-hold-the-single-step", seen, at);
    hooks[DB] = 0;
    // A fault of the instruction behind MOV SS is not held.
    EXPECT_FAULT("a-fault-behind-mov-ss-is-not-held", UD, NO_ERROR, INSN_AFTER("movw %w0, %%ss", "ud2", ::"r"(KDATA)));
    EXPECT_TRAP("int3-behind-mov-ss-is-not-held", BP, NO_ERROR, INSN_AFTER("movw %w0, %%ss", "int3", ::"r"(KDATA)));
}

void guest(void) {
    interrupt_shadows();
    debug_shadows();
}
