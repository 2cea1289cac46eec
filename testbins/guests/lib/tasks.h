// What guests about task switches share: two tasks beside the first, a 16-bit one, and tasks that serve #TS, #NP, #SS and #GP.
#ifndef TASKS_H
#define TASKS_H
#include "guest.h"

#define TA SCRATCH(0)
#define TB SCRATCH(1) // 108h
#define GATE SCRATCH(3)
#define HANDLER(n) SCRATCH(16 + (n)) // the TSS behind the task gate of #TS, #NP, #SS, #GP
#define VEC 0x50
#define HOME ((void (*)(void))ring_return)

struct tss16 {
    u16 link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt, beyond;
};

__attribute__((used)) static struct {
    u32 offset;
    u16 selector;
} __attribute__((packed)) far_pointer;
static struct tss32 a, b, handlers[4];
__attribute__((unused)) static struct tss16 small;
static u32 stacks[4][256], handler_stacks[4][64];

CODE(far_jump, "ljmp *far_pointer");
CODE(far_call, "lcall *far_pointer");
CODE(int_50, "int $0x50");
CODE(iret_, "iretl");

static void prepare(struct tss32 *t, u32 ring, void (*at)(void), u32 stack) {
    static const u16 code[4] = {KCODE, CODE1, CODE2, UCODE}, data[4] = {KDATA, DATA1, DATA2, UDATA};
    memset(t, 0, 104); // what a limit of 67h holds
    t->eip = (u32)at, t->cs = code[ring], t->ss = t->ds = t->es = t->fs = t->gs = data[ring];
    t->esp = (u32)stacks[stack] + sizeof stacks[stack];
    t->eflags = 2, t->cr3 = cr3(), t->iomap = 104;
    t->ss0 = KDATA, t->esp0 = (u32)trap_stack_top, t->ss1 = DATA1, t->esp1 = (u32)stacks[3] + sizeof stacks[3];
}

// Back to the first task, whatever happened; A and B available.
static void reset(void) {
    set(TA, desc((u32)&a, 103, A_TSS32, 0));
    set(TB, desc((u32)&b, 103, A_TSS32, 0));
    load_tr(TSS0);
    asm volatile("lldt %w0; clts" ::"r"(0));
    tss0.link = 0;
    tss0.cr3 = cr3();
    far_pointer.selector = TA, far_pointer.offset = 0xdeadbeef;
    prepare(&a, 0, HOME, 0);
    prepare(&b, 0, HOME, 1);
}

// #TS, #NP, #SS and #GP are served by tasks of their own, so that it does not matter what state the fault found.
__attribute__((unused)) static void task_handlers(int on) {
    for (u32 n = 0; n < 4; n++) {
        struct tss32 *t = &handlers[n];
        memset(t, 0, 104); // what a limit of 67h holds
        u32 *top = &handler_stacks[n][64];
        *--top = 2, *--top = KCODE, *--top = 0; // the frame that the stub will pop behind the error code
        t->eip = stub(TS + n), t->cs = KCODE, t->ss = t->ds = t->es = t->fs = t->gs = KDATA;
        t->esp = (u32)top, t->eflags = 2, t->cr3 = cr3(), t->iomap = 104;
        set(HANDLER(n), desc((u32)t, 103, A_TSS32, 0));
        if (on)
            set_idt(TS + n, gate(HANDLER(n), 0, A_TASK, 0));
        else
            default_idt(TS + n);
    }
}

enum { OLD_TASK = TSS0, NEW_TASK = TA };

#endif
