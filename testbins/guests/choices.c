// What the manual leaves to the processor, as NOTEs: undefined bits, undefined destinations, the order of accesses.
// SDM 2A "LAR", "BSWAP"; 2B "PUSHA/PUSHAD"; 3A "16-Bit Task-State Segment (TSS)", "Control Registers" (CR2).
#include "lib/tasks.h"

CODE16(home_16, "int $0x30");
CODE(pusha_, "pushal");

static void undefined_results(void) {
    u32 value;
    asm volatile("larl %1, %0" : "=r"(value) : "r"(KDATA));
    note("lar-bits-16-to-19", "of a limit of FFFFFh:", value >> 16 & 0xf);
    value = 0x12345678;
    asm volatile(".byte 0x66; bswapl %0" : "+r"(value));
    note("bswap-of-16-bits", "of 12345678h:", value);
}

// Upper halves of the registers after a switch to a 16-bit task.
static void task_16(void) {
    reset();
    memset(&small, 0, sizeof small);
    set(TA, desc((u32)&small, sizeof small - 1, A_TSS16, 0));
    set(SCRATCH(4), desc(0, 0xffff, A_XR, 0));
    set(SCRATCH(5), desc(0, 0xffff, A_RW, 0));
    small.ip = copy_low(0x8000, home_16, home_16_end), small.cs = SCRATCH(4), small.flags = 2, small.ax = 0x1234;
    small.ds = small.es = KDATA, small.ss = SCRATCH(5), small.sp = 0x9000;
    CATCH(asm volatile("movl $0xabcd5678, %%eax; ljmp *far_pointer" ::: "eax", "memory"));
    note("eax-after-a-switch-to-a-16-bit-task", "AX is 1234h, EAX was ABCD5678h:", trap.eax);
    reset();
}

// Which address a page fault of an access in several parts reports.
static void addresses(void) {
    paging_on();
    map(WINDOW, frame(0), 0), map(WINDOW + 0x1000, frame(1), 0);
    struct context c = ring_context(3, pusha_);
    c.esp = WINDOW + 0x1010;
    go(&c);
    note("pusha-across-two-absent-pages", "CR2 less the first page's address:", trap.cr2 - WINDOW);

    // the accessed bit of a descriptor in a page that may not be written
    map(WINDOW, frame(0), P | W);
    *(volatile u64 *)(WINDOW + 8) = desc(0, 0xfffff, A_RW, G | BIG);
    map(WINDOW, frame(0), P);
    set(SCRATCH(6), desc(WINDOW, 15, A_LDT, 0));
    asm volatile("lldt %w0" ::"r"(SCRATCH(6)) : "memory");
    set_cr0(cr0() | WP);
    CATCH(asm volatile("movw %w0, %%es" ::"r"(0xc)));
    note("accessed-bit-in-a-read-only-page", "CR2 less the descriptor's address:", trap.cr2 - (WINDOW + 8));
    set_cr0(cr0() & ~WP);
}

void guest(void) {
    undefined_results();
    task_16();
    addresses();
    check("comes-to-its-end", trap.vector, PF_);
}
