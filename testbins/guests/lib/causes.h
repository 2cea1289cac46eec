// Events of every kind that go through the IDT, for the guests that deliver each.
#ifndef CAUSES_H
#define CAUSES_H
#include "guest.h"

#define VEC 0x50
#define IRQ0 0x20

CODE(int_50, "int $0x50");
CODE(int3_, "int3");
CODE(into_, "into");
CODE(int1_, ".byte 0xf1");
CODE(ud2_, "ud2");
CODE(step_, "nop");
CODE(spin, "1: jmp 1b");
CODE(divide, "xorl %ecx, %ecx; divl %ecx");
CODE(read_window, "movl 0x40300000, %eax"); // in the window, where nothing is mapped
CODE(bound_, "xorl %ecx, %ecx; boundl %ecx, cause_bounds");
CODE(fninit_, "fninit");
CODE(absent_fs, "movw $0x140, %ax; movw %ax, %fs"); // ABSENT
CODE(absent_ss, "movw $0x143, %ax; movw %ax, %ss"); // ABSENT, from ring 3
CODE(hlt_, "hlt");
CODE(bad_return, "iretl"); // with NT, and a link that names no task
CODE(divide_by_zero_x87, "fninit; fldcw cause_control; fld1; fldz; fdivrp; fwait");
CODE(misaligned, "movl cause_bounds + 1, %eax");
__attribute__((used)) static u16 cause_control = 0x37b; // but for the zero divide, all is masked
__attribute__((used)) static u32 cause_bounds[2] = {5, 6};
#define ABSENT SCRATCH(8) // a data segment of dpl 3 that is not present: for the guest to make

// SDM 3A, table "Interrupt and Exception Classes".
enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

struct cause {
    const char *name;
    void (*fn)(void);
    u32 vector;
    enum class class;
    u32 software; // INT n, INT3, INTO: the gate's DPL counts, EXT stays clear
    u32 error;    // the error code pushed, or NO_ERROR
    u32 at;       // where in the piece the event is
    u32 saved;    // where in the piece the saved EIP is
    u32 fault;    // whether RF is saved set (SDM 3B "Instruction-Breakpoint Exception Condition")
    u32 flags;    // EFLAGS that it needs
    u32 rings;    // in which rings it can be had, a bit each
};
static const struct cause causes[] = {
    {"int-n", int_50, VEC, BENIGN, 1, NO_ERROR, 0, 2, 0, 0, 15},
    {"int3", int3_, BP, BENIGN, 1, NO_ERROR, 0, 1, 0, 0, 15},
    {"into", into_, OF_, BENIGN, 1, NO_ERROR, 0, 1, 0, OF, 15},
    {"int1", int1_, DB, BENIGN, 0, NO_ERROR, 0, 1, 0, 0, 15},
    {"step", step_, DB, BENIGN, 0, NO_ERROR, 1, 1, 0, TF, 15},
    {"irq", spin, IRQ0, BENIGN, 0, NO_ERROR, 0, 0, 0, IF, 15},
    {"de", divide, DE, CONTRIBUTORY, 0, NO_ERROR, 2, 2, 1, 0, 15},
    {"br", bound_, BR, BENIGN, 0, NO_ERROR, 2, 2, 1, 0, 15},
    {"ud", ud2_, UD, BENIGN, 0, NO_ERROR, 0, 0, 1, 0, 15},
    {"nm", fninit_, NM, BENIGN, 0, NO_ERROR, 0, 0, 1, 0, 15},
    {"np", absent_fs, NP, CONTRIBUTORY, 0, ABSENT, 4, 4, 1, 0, 15},
    {"ss", absent_ss, SS, CONTRIBUTORY, 0, ABSENT, 4, 4, 1, 0, 8},
    {"ts", bad_return, TS, CONTRIBUTORY, 0, KDATA, 0, 0, 1, NT, 15},
    {"gp", hlt_, GP, CONTRIBUTORY, 0, 0, 0, 0, 1, 0, 14},
    {"pf", read_window, PF_, PAGE_FAULT, 0, 0, 0, 0, 1, 0, 15},
    {"mf", divide_by_zero_x87, MF, BENIGN, 0, NO_ERROR, 14, 14, 1, 0, 15},
    {"ac", misaligned, AC_, BENIGN, 0, 0, 0, 0, 1, AC, 8},
};
#define CAUSES (sizeof causes / sizeof *causes)
#define EACH_CAUSE for (cause = causes; cause < causes + CAUSES; cause++)

static const struct cause *cause; // the one at hand

// IRQ 0 requested, and unmasked.
__attribute__((unused)) static void request(void) {
    outb(0x43, 0x30), outb(0x40, 2), outb(0x40, 0);
    for (u32 n = 0; n < 3000000; n++)
        if (outb(0x20, 0x0a), inb(0x20) & 1)
            break;
    outb(0x21, 0xfe);
}

// Runs the cause in this context, with what it needs.
static void happen(struct context *c) {
    u32 old = cr0();
    c->eflags |= cause->flags;
    if (cause->vector == IRQ0)
        request();
    if (cause->vector == NM)
        set_cr0(old | TS_BIT);
    if (cause->vector == AC_)
        set_cr0(old | AM);
    if (cause->vector == TS)
        tss0.link = KDATA;
    if (cause->vector == MF)
        set_cr0((old | NE) & ~(EM | TS_BIT));
    go(c);
    if (cause->vector == MF)
        asm volatile("clts; fninit");
    if (cause->vector == IRQ0)
        outb(0x21, 0xff), outb(0x20, 0x20);
    set_cr0(old);
}

// The error code that the cause pushes from this ring: #PF has U/S.
__attribute__((unused)) static u32 error_of_cause(u32 ring) { return cause->vector == PF_ && ring == 3 ? 4 : cause->error; }

// EXT in error codes of faults met on the way (SDM 3A "Error Code").
__attribute__((unused)) static u32 ext(void) { return !cause->software; }

#endif
