// Processes: made from a program's image or from another process, run in turn, ended by themselves or by the kernel.
#include "kernel.h"

struct process processes[PROCESSES]; // the first one is the kernel itself, waiting in run()
struct process *current = &processes[NOBODY];
int tick_due;
static u32 made = 1, living;

// A kernel stack each, in the upper page of a pair: paging_init() takes the lower one away as a guard.
static u8 kernel_stacks[PROCESSES][2][4096] __attribute__((aligned(4096)));

u32 kernel_stack_guard(u32 i) {
    return (u32)kernel_stacks[i][0];
}

u32 kernel_stack_top(const struct process *p) {
    return (u32)kernel_stacks[p - processes][1] + PAGE;
}

void processes_init(void) {
    struct process *kernel = &processes[NOBODY];
    memcpy(kernel->name, "kernel", 7);
    kernel->state = READY;
    kernel->cr3 = read_cr3();
}

static struct process *new_process(const char *name) {
    if (made == PROCESSES)
        fail("   there are too many processes\n");
    struct process *p = &processes[made];
    u32 size = length(name);
    memcpy(p->name, name, size < sizeof p->name - 1 ? size : sizeof p->name - 1);
    p->pid = made++;
    p->state = READY;
    p->heap_end = HEAP;
    address_space_init(p);
    living++;
    return p;
}

// The first time p is switched to, switch_stacks() returns into trap_return, which "returns" to where `f` says.
static void prepare(struct process *p, const struct frame *f) {
    struct frame *to = (struct frame *)(kernel_stack_top(p) - sizeof *to);
    *to = *f;
    u32 *stack = (u32 *)to;
    *--stack = (u32)trap_return;
    stack -= 4; // EBP, EBX, ESI, EDI
    p->kernel_esp = (u32)stack;
}

// Nothing of the program is read yet but its head: every page comes by a fault, the first with the first instruction.
struct process *spawn(const char *name, const char *program, u32 argument) {
    struct process *p = new_process(name);
    for (p->program = programs; p->program->name; p->program++) {
        const char *have = p->program->name;
        u32 i = 0;
        while (have[i] && have[i] == program[i])
            i++;
        if (have[i] == program[i])
            break;
    }
    if (!p->program->name)
        fail("   there is no program named %s\n", program);
    memcpy(&p->head, p->program->start, sizeof p->head);
    if (p->head.magic != IMAGE_MAGIC)
        fail("   the image of %s does not begin with its head\n", program);

    struct frame f = {0};
    f.eip = p->head.entry;
    f.cs = USER_CODE;
    f.ss = f.ds = f.es = f.fs = f.gs = USER_DATA;
    f.esp = STACK_TOP;
    f.eax = argument;
    f.eflags = 0x1202; // IF, and IOPL 1: ring 1 may use ports and mask interrupts, rings 2 and 3 may not
    prepare(p, &f);
    return p;
}

// The child is the parent, resumed after the same system call with another answer in EAX.
u32 fork_current(const struct frame *f) {
    struct process *p = new_process("child");
    p->parent = current->pid;
    p->program = current->program;
    p->head = current->head;
    p->heap_end = current->heap_end;
    p->shares = current->shares;
    p->expected_sum = current->child_sum;
    address_space_copy(p, current);
    prepare(p, f);
    ((struct frame *)(kernel_stack_top(p) - sizeof *f))->eax = 0;
    return p->pid;
}

u32 wait_for_child(void) {
    u32 me = current->pid;
    for (;;) {
        u32 alive = 0;
        for (u32 i = 1; i < made; i++)
            alive += processes[i].parent == me && processes[i].state != DONE;
        if (!alive)
            return 0;
        current->state = WAITING;
        schedule();
    }
}

void end_current(u32 vector) {
    struct process *p = current;
    p->vector = vector;
    address_space_free(p);
    p->state = DONE;
    if (processes[p->parent].state == WAITING && p->parent)
        processes[p->parent].state = READY;
    if (--living == 0)
        processes[NOBODY].state = READY;
    schedule();
    fail("   process %u ran after its end\n", p->pid);
}

// ---- taking turns -----------------------------------------------------------------------------------------------------------

static struct process *next_in_turn(void) {
    for (u32 i = 1; i <= PROCESSES; i++) {
        struct process *p = &processes[((u32)(current - processes) + i) % PROCESSES];
        if (p->state == READY)
            return p;
    }
    fail("   every process waits for another one\n");
}

// Gives the processor to the next process that can run. The one context switch there is: a stack, an address space, and the stack
// that the next interrupt from an outer ring will find.
void schedule(void) {
    struct process *from = current, *to = next_in_turn();
    if (to == from)
        return;
    current = to;
    to->switches++;
    main_tss.esp0 = kernel_stack_top(to);
    write_cr3(to->cr3);
    for (; to->stale_count; to->stale_count--)
        invlpg(to->stale[to->stale_count - 1]);
    switch_stacks(&from->kernel_esp, to->kernel_esp);
}

void run(void) {
    while (living) {
        current->state = WAITING;
        schedule();
    }
}
