// Tasks that serve #DF, #TS, #NP, #SS and #GP: it does not matter what state the fault found, and their link names the task that it
// belongs to.
#ifndef SERVERS_H
#define SERVERS_H
#include "guest.h"

static const u8 served[] = {DFAULT, TS, NP, SS, GP};
#define SERVED sizeof served
#define SERVER(n) SCRATCH(32 + (n))
static struct tss32 servers[SERVED];
static u32 server_stacks[SERVED][16];

static void start_servers(void) {
    for (u32 n = 0; n < SERVED; n++) {
        struct tss32 *t = &servers[n];
        if (!t->esp) {
            u32 *top = &server_stacks[n][16];
            *--top = 2, *--top = KCODE, *--top = 0; // what the stub pops behind the error code
            t->eip = stub(served[n]), t->cs = KCODE, t->ss = t->ds = t->es = t->fs = t->gs = KDATA;
            t->esp = (u32)top, t->eflags = 2, t->iomap = 104;
        }
        t->cr3 = cr3();
        set(SERVER(n), desc((u32)t, 103, A_TSS32, 0));
        set_idt(served[n], gate(SERVER(n), 0, A_TASK, 0));
    }
}

static void stop_servers(void) {
    for (u32 n = 0; n < SERVED; n++)
        default_idt(served[n]);
}

// The task that the server of this vector interrupted.
__attribute__((unused)) static u32 served_task(u32 vector) {
    for (u32 n = 0; n < SERVED; n++)
        if (served[n] == vector)
            return servers[n].link & 0xffff;
    return 0;
}

#endif
