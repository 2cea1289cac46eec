// Which second fault makes a double fault: every pair of a first event and a second one from the tables, through a task gate and
// through an interrupt gate. SDM 3A "Double Fault Exception (#DF)", "Interrupt and Exception Classes", "Conditions for Generating
// a Double Fault".
#include "lib/guest.h"

// The first event is raised by an instruction in ring 3; its IDT entry is spoilt so that delivery fails with the second one.
// The handler of the second is fine.

__attribute__((used)) static u32 bounds[2] = {5, 6};
CODE(raise_de, "xorl %ecx, %ecx; divl %ecx");
CODE(raise_bp, "int3");
CODE(raise_of, "pushl $0x802; popfl; into");
CODE(raise_br, "xorl %eax, %eax; bound %eax, bounds");
CODE(raise_ud, "ud2");
CODE(raise_nm, "fninit");
CODE(raise_gp, "hlt");
CODE(raise_pf, "movl 0x40000000, %eax");
CODE(raise_int, "int $0x50");
CODE(raise_ss, "movl $0x183, %eax; movw %ax, %ss"); // SCRATCH(16), ring 3, not present
CODE(raise_np3, "movl $0x183, %eax; movw %ax, %fs"); // the same


enum { BENIGN, CONTRIBUTORY, PAGE_FAULT };
static const struct {
    const char *name;
    void (*fn)(void);
    u32 vector, class;
    int ext; // what EXT is for a second fault
} firsts[] = {
    {"de", raise_de, DE, CONTRIBUTORY, 1}, {"bp", raise_bp, BP, BENIGN, 0},
    {"of", raise_of, OF_, BENIGN, 0},      {"br", raise_br, BR, BENIGN, 1},
    {"ud", raise_ud, UD, BENIGN, 1},       {"nm", raise_nm, NM, BENIGN, 1},
    {"np", raise_np3, NP, CONTRIBUTORY, 1}, {"ss", raise_ss, SS, CONTRIBUTORY, 1},
    {"gp", raise_gp, GP, CONTRIBUTORY, 1}, {"pf", raise_pf, PF_, PAGE_FAULT, 1},
    {"int", raise_int, 0x50, BENIGN, 0},
};

enum { SECOND_NP, SECOND_GP, SECOND_TS, SECOND_SS, SECOND_PF, SECONDS };
static const struct {
    const char *name;
    u32 vector, class;
} seconds[] = {{"np", NP, CONTRIBUTORY}, {"gp", GP, CONTRIBUTORY}, {"ts", TS, CONTRIBUTORY}, {"ss", SS, CONTRIBUTORY},
               {"pf", PF_, PAGE_FAULT}};

static struct tss32 df_task;
static u32 df_stack[64];

static void df_gate(int task) {
    if (!task) {
        default_idt(DFAULT);
        return;
    }
    memset(&df_task, 0, 104);
    u32 *top = &df_stack[64];
    *--top = 2, *--top = KCODE, *--top = 0; // what the stub pops behind the error code
    df_task.eip = stub(DFAULT), df_task.cs = KCODE;
    df_task.ss = df_task.ds = df_task.es = df_task.fs = df_task.gs = KDATA;
    df_task.esp = (u32)top, df_task.eflags = 2, df_task.cr3 = cr3(), df_task.iomap = 104;
    set(SCRATCH(17), desc((u32)&df_task, 103, A_TSS32, 0));
    set_idt(DFAULT, gate(SCRATCH(17), 0, A_TASK, 0));
}

static void spoil(u32 vector, u32 second) {
    switch (second) {
    case SECOND_NP:
        set_idt(vector, gate(KCODE, stub(vector), (A_INT32 | DPL(3)) & 0x7f, 0));
        break;
    case SECOND_GP: // a gate to a null selector
        set_idt(vector, gate(0, stub(vector), A_INT32 | DPL(3), 0));
        break;
    case SECOND_TS:
    case SECOND_SS: // into ring 1, whose stack in the TSS is bad
        set_idt(vector, gate(CODE1, stub(vector), A_INT32 | DPL(3), 0));
        tss0.ss1 = second == SECOND_TS ? 0 : SCRATCH(18) | 1;
        break;
    case SECOND_PF: // into ring 1, whose stack is on an absent page
        set_idt(vector, gate(CODE1, stub(vector), A_INT32 | DPL(3), 0));
        tss0.ss1 = DATA1, tss0.esp1 = WINDOW + 0x2000;
        break;
    }
}

static void pairs(int task) {
    for (u32 f = 0; f < sizeof firsts / sizeof *firsts; f++)
        for (u32 s = 0; s < SECONDS; s++) {
            if (firsts[f].vector == seconds[s].vector)
                continue; // its own handler is the spoilt one: see the guest's end
            const char *name = name_of("%s-then-%s%s", firsts[f].name, seconds[s].name, task ? "-task-gate" : "");
            df_gate(task);
            spoil(firsts[f].vector, s);
            struct context c = ring_context(3, firsts[f].fn);
            c.esp -= 64;
            if (firsts[f].vector == NM)
                set_cr0(cr0() | TS_BIT);
            go(&c);
            asm volatile("clts");
            int twice = (firsts[f].class == CONTRIBUTORY && seconds[s].class == CONTRIBUTORY) ||
                        (firsts[f].class == PAGE_FAULT && seconds[s].class != BENIGN);
            u32 ext = firsts[f].ext, error = 0;
            if (!twice)
                error = s == SECOND_NP   ? firsts[f].vector * 8 + 2 + ext
                        : s == SECOND_GP ? ext
                        : s == SECOND_TS ? ext
                        : s == SECOND_SS ? SCRATCH(18) + ext
                                         : 2; // a write by the processor, absent page
            check_trap(name, twice ? DFAULT : seconds[s].vector, error, 0);
            if (twice && !task)
                check(name_of("%s-cs", name), trap.cs, UCODE);
            default_idt(firsts[f].vector);
            tss0.ss1 = DATA1, tss0.esp1 = (u32)user_stack_top - 4096;
            if (task)
                load_tr(TSS0);
        }
    df_gate(0);
}

void guest(void) {
    set(SCRATCH(16), desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    set(SCRATCH(18), desc(0, 0xfffff, (A_RW | DPL(1)) & 0x7f, G | BIG));
    paging_on();
    pairs(0);
    pairs(1);
    // A page fault whose own delivery page-faults.
    spoil(PF_, SECOND_PF);
    in_ring(3, raise_pf);
    check_trap("pf-then-pf", DFAULT, 0, 0);
    check("pf-then-pf-cr2-is-the-second", trap.cr2, WINDOW + 0x2000 - 4);
    default_idt(PF_);
    spoil(NP, SECOND_NP);
    in_ring(3, raise_np3);
    check_trap("np-then-np", DFAULT, 0, 0);
    default_idt(NP);
    // Three faults one after another when no two of them make a double fault: #UD, its gate absent: #NP, whose stack faults: #PF.
    spoil(UD, SECOND_NP);
    spoil(NP, SECOND_PF);
    in_ring(3, raise_ud);
    check_trap("ud-then-np-then-pf", PF_, 2, 0);
    default_idt(UD);
    default_idt(NP);
    // Contributory faults delivered without trouble are no double fault, however many.
    tss0.ss1 = DATA1;
    in_ring(3, raise_gp);
    in_ring(3, raise_gp);
    check_trap("two-faults-one-after-the-other", GP, 0, 0);
}
