// How an operating system fools a process: paging, preemption, swapping, protection and the four rings, told on the serial port.
//
// The kernel's main line: it wakes, then plays one scene after the other with processes that believe to be alone, and in the end
// compares what each of them found with what it knows must come out.
#include "kernel.h"

static void chapter(const char *title) {
    static u32 number;
    print("\n%u. %s\n", ++number, title);
}

// ---- what must come out -------------------------------------------------------------------------------------------------------

// The generator after `n` steps, in log n of them: a step composed with itself is again of the form a x + c.
static u32 jump(u32 x, u32 n) {
    for (u32 a = STEP_A, c = STEP_C; n; n /= 2) {
        if (n & 1)
            x = a * x + c;
        c = a * c + c;
        a = a * a;
    }
    return x;
}

// A weaver's sum without its cloth: the words below `rewritten` are those of `round`, the others those of round 0.
static u32 woven(u32 seed, u32 words, u32 round, u32 rewritten) {
    u32 sum = 0;
    for (u32 i = 0; i < words; i++)
        sum = add_to_sum(sum, thread(seed, i < rewritten ? round : 0, i));
    return sum;
}

static u32 sorted(void) {
    u32 sum = 0;
    for (u32 i = 0; i < 8192; i++)
        sum = add_to_sum(sum, i * 8191);
    return sum;
}

static struct process *honest(const char *name, const char *program, u32 argument, u32 sum) {
    struct process *p = spawn(name, program, argument);
    p->expected_sum = sum;
    return p;
}

static void weaver(const char *name, u32 seed, u32 pages) {
    u32 argument = seed << 8 | pages;
    honest(name, "weaver", argument, woven(argument, pages * 1024, 3, pages * 1024));
}

static void offender(const char *name, u32 offence, u32 vector) {
    spawn(name, "offender", offence)->expected_vector = vector;
}

// ---- the scenes -----------------------------------------------------------------------------------------------------------------

static void waking(void) {
    chapter("Waking up");
    print("   The loader left us at 1 MiB in ring 0, CR0=%08x: protected mode, paging off.\n", first_cr0);
    print("   A page directory at %08x and one table map the first 4 MiB at %08x; MOV CR0 began paging: CR0=%08x.\n",
          (u32)kernel_directory - KERNEL, KERNEL, read_cr0());
    print("   %s\n", global_pages ? "The processor has global pages: the kernel's translations outlive MOV CR3."
                                   : "The processor has no global pages: each MOV CR3 drops the kernel's translations too.");
    print("   GDT, IDT and TSS are in place; the timer ticks %u times a second, from now on as vector 20h.\n", TIMER_HZ);
    disk_init();
    print("   Swap disk \"%s\": %u slots of 4 KiB. Memory for processes: %u frames from %08x on.\n", disk_model, SLOTS - 1, FRAMES, FRAMES_BASE);
}

static void one_address(void) {
    chapter("One address, two worlds");
    honest("castor", "twin", 0xAAAA0000, 0xAAAA000A);
    honest("pollux", "twin", 0xBBBB0000, 0xBBBB000A);
    run();
}

static void preemption(void) {
    chapter("Nobody has to give way");
    print("   Two processes compute a million steps each and never call the kernel. The timer divides the processor.\n");
    struct process *a = honest("spinner", "spinner", 1, jump(1, 1000000));
    struct process *b = honest("whirler", "spinner", 2, jump(2, 1000000));
    u32 before = ticks;
    run();
    print("   %u ticks: spinner was preempted %u times, whirler %u times.\n", ticks - before, a->preempted, b->preempted);
    if (ticks - before >= 4 && !(a->preempted + b->preempted)) // fewer ticks, on a stalled host, would prove nothing
        a->errors++;
}

static void more_than_there_is(void) {
    chapter("More memory than there is");
    print("   Two weavers, a sieve and a sorter: 84 pages of data, besides text and stacks, in %u frames.\n", FRAMES);
    u32 evicted = frames_evicted, written = frames_written, dropped = frames_dropped, first = 0, back = 0;
    struct process *p = &processes[0];
    while (p->state != FREE)
        p++;
    weaver("weaver", 0x51, 36); // more than there are frames, were it alone
    weaver("webster", 0x52, 24);
    honest("sieve", "sieve", 0, 202288087);
    honest("sorter", "sorter", 5167, sorted());
    run();
    for (; p->state != FREE; p++) {
        first += p->faults - p->ins;
        back += p->ins;
    }
    print("   %u page faults: %u pages touched for the first time or made anew, %u read back from the disk.\n", first + back, first, back);
    print("   %u frames taken back by the clock: %u dirty, written to the disk; %u clean, dropped.\n", frames_evicted - evicted,
          frames_written - written, frames_dropped - dropped);
    if (frames_written == written || !back)
        fail("   nothing was swapped: this was no test\n");
}

static void offenders(void) {
    chapter("Nobody leaves his cell");
    print("   Eight offenders, among two weavers who only want to work.\n");
    weaver("penelope", 0x53, 12);
    offender("crown", 0, GENERAL_PROTECTION);
    offender("halt", 1, GENERAL_PROTECTION);
    offender("deaf", 2, GENERAL_PROTECTION);
    offender("shout", 3, GENERAL_PROTECTION);
    offender("forge", 4, GENERAL_PROTECTION);
    weaver("arachne", 0x54, 12);
    offender("spy", 5, PAGE_FAULT);
    offender("poke", 6, PAGE_FAULT);
    offender("plunge", 7, PAGE_FAULT);
    run();
}

static void sharing(void) {
    chapter("Two of one, and one for two");
    struct process *p = honest("parent", "forker", 0x5500, woven(0x5500, 6 * 1024, 0, 0));
    p->child_sum = woven(0x5500, 6 * 1024, 1, 3 * 1024);
    run();
    u32 copies = p->copies + p[1].copies;
    print("   %u pages were copied on write, all others never.\n", copies);
    honest("ping", "player", 0, jump(0, 200));
    honest("pong", "player", 1, jump(0, 200));
    run();
}

// A processor checks every access against its segment's limit. QEMU's translator does not; it names itself in a CPUID leaf that
// processors do not have.
static int limits_are_checked(void) {
    u32 eax = 0x40000000, ebx = 0, ecx = 0, edx;
    if (has_cpuid)
        __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ebx != 0x54474354; // "TCGT"
}

static void rings(void) {
    chapter("The rings between");
    print("   To paging, rings 0, 1 and 2 are one: supervisor. Segment limits keep rings 1 and 2 below %08x.\n", KERNEL);
    honest("caller", "caller", 0, 21);
    run();
    offender("crasher", 8, GENERAL_PROTECTION);
    if (limits_are_checked())
        offender("abettor", 9, GENERAL_PROTECTION);
    else
        print("   (No abettor here: QEMU's TCG does not check segment limits, so it would get away.)\n");
    run();
}

static void the_kernel_stumbles(void) {
    chapter("The kernel stumbles, and gets up");
    print("   A system call recurses until the kernel's stack is gone: a page fault, whose frame cannot be pushed.\n");
    weaver("witness", 0x56, 12);
    offender("digger", 10, DOUBLE_FAULT);
    offender("delver", 10, DOUBLE_FAULT);
    run();
}

// ---- the account ------------------------------------------------------------------------------------------------------------------

static u32 account(void) {
    static const char *const signs[] = {[DOUBLE_FAULT] = "#DF", [GENERAL_PROTECTION] = "#GP", [PAGE_FAULT] = "#PF"};
    u32 failures = 0;
    chapter("The account");
    print("   pid name     outcome             sum      verdict  faults swap-in swap-out copies switches\n");
    for (struct process *p = &processes[1]; p < &processes[PROCESSES] && p->state != FREE; p++) {
        int ended = p->vector == 0, right = p->vector == p->expected_vector && (!ended || (p->sum == p->expected_sum && !p->errors));
        failures += !right;
        print("   %3u %-8s ", p->pid, p->name);
        if (ended)
            print("%-19s %08x ", "finished", p->sum);
        else
            print("killed by %-9s %-8s ", p->vector < 15 && signs[p->vector] ? signs[p->vector] : "another vector", "-");
        print("%-8s %6u %7u %8u %6u %8u\n", right ? "ok" : "WRONG", p->faults, p->ins, p->outs, p->copies, p->switches);
    }
    u32 lost = FRAMES - frames_free() + slots_used() + pool_used();
    print("   Frames free: %u of %u. Swap slots in use: %u. Page tables in use: %u.\n", frames_free(), FRAMES, slots_used(), pool_used());
    return failures + lost;
}

void story(const u32 *loader_info);
void story(const u32 *loader_info) {
    // Until the tables are there nothing may go wrong; then the console, then the timer, then the tale.
    paging_init();
    segments_init();
    console_init();
    timer_init();
    processes_init();
    print("THE STORY KERNEL, or how an operating system fools a process\n");
    // Multiboot: flags bit 0 says that the third word holds the KiB from 1 MiB on.
    const u32 needed = (FRAMES_BASE + FRAMES * PAGE) / 1024 - 1024;
    const u32 *info = (const u32 *)((u32)loader_info + KERNEL);
    if ((u32)loader_info >= PAGE && (u32)loader_info < 0xA0000 && info[0] & 1 && info[2] < needed)
        fail("   There are only %u KiB above 1 MiB: the story needs %u.\n", info[2], needed);
    waking();
    one_address();
    preemption();
    more_than_there_is();
    offenders();
    sharing();
    rings();
    the_kernel_stumbles();
    u32 failures = account();
    print(failures ? "\nThe story went wrong; failures: %u.\n" : "\nAll is well: every checksum right, every offender stopped, nothing lost.\n", failures);
    console_drain();
    leave(failures != 0);
}
