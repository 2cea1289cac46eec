// Everything that asks for a task switch, for the guests that try each.
#ifndef SWITCHES_H
#define SWITCHES_H
#include "tasks.h"

#define OLD SCRATCH(5)
#define NEW SCRATCH(6)
#define ABSENT SCRATCH(8) // what the initiator `np` loads: for the guest to make

CODE(int3_, "int3");
CODE(into_, "into");
CODE(ud2_, "ud2");
CODE(spin, "1: jmp 1b");
CODE(load_absent_fs, "movw $0x140, %ax; movw %ax, %fs"); // ABSENT
CODE(read_window, "movl 0x40000000, %eax");
CODE(divide, "xorl %ecx, %ecx; divl %ecx");

// ---- what asks for the switch
enum kind { JMP_, CALL_, EVENT, RETURN };
static const struct initiator {
    const char *name;
    void (*fn)(void);
    enum kind kind;
    u32 vector;    // of the task gate in the IDT
    u32 saved_eip; // the old task's, from the piece's beginning
    u32 error;     // pushed on the new task's stack
    u32 uses_gate; // a task gate in the GDT
    u32 is_fault;  // an exception, not INT n, INT3, INTO or an interrupt
} initiators[] = {
    {"jmp", far_jump, JMP_, 0, 6, NO_ERROR, 0, 0},
    {"jmp-gate", far_jump, JMP_, 0, 6, NO_ERROR, 1, 0},
    {"call", far_call, CALL_, 0, 6, NO_ERROR, 0, 0},
    {"call-gate", far_call, CALL_, 0, 6, NO_ERROR, 1, 0},
    {"int-n", int_50, EVENT, VEC, 2, NO_ERROR, 0, 0},
    {"int3", int3_, EVENT, BP, 1, NO_ERROR, 0, 0},
    {"into", into_, EVENT, OF_, 1, NO_ERROR, 0, 0},
    {"irq", spin, EVENT, 0x20, 0, NO_ERROR, 0, 0},
    {"de", divide, EVENT, DE, 2, NO_ERROR, 0, 1},
    {"ud", ud2_, EVENT, UD, 0, NO_ERROR, 0, 1},
    {"np", load_absent_fs, EVENT, NP, 4, ABSENT, 0, 1},
    {"pf", read_window, EVENT, PF_, 0, 0, 0, 1},
    {"iret", iret_, RETURN, 0, 1, NO_ERROR, 0, 0},
};
#define INITIATORS (sizeof initiators / sizeof *initiators)

static const struct initiator *how; // the one at hand

// IRQ 0 requested, and unmasked.
static void request(void) {
    outb(0x43, 0x30), outb(0x40, 30), outb(0x40, 0);
    for (u32 n = 0; n < 3000000; n++)
        if (outb(0x20, 0x0a), inb(0x20) & 1)
            break;
    outb(0x21, 0xfe);
}

// Makes `how` ask for its switch in this context.
static void ask(struct context *c) {
    if (how->vector == 0x20)
        request(), c->eflags |= IF;
    go(c);
    if (how->vector == 0x20)
        outb(0x21, 0xff), outb(0x20, 0x20);
}

#endif
