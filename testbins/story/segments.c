// The descriptor tables: who may run where. Segments are flat for rings 0 and 3. Those of rings 1 and 2 end below the kernel: to
// paging, rings 0, 1 and 2 are all "supervisor", so only a segment limit can keep rings 1 and 2 out of the kernel's pages.
// SDM 3A "Segment Descriptors", "Call Gates", "Task-State Segment (TSS)", "IDT Descriptors".
#include "kernel.h"

enum { CODE = 0x9A, DATA = 0x92, TSS_AVAILABLE = 0x89, CALL_GATE = 0x8C, INTERRUPT_GATE = 0x8E, TASK_GATE = 0x85 };
#define DPL(ring) ((ring) << 5)

struct descriptor {
    u32 low, high;
};
static struct descriptor gdt[13];
static struct descriptor idt[SYSTEM_CALL + 1];
struct tss main_tss;
void enter_ring1(void); // inner_gates.S
void enter_ring2(void);

// `limit` is the last valid offset. From 1 MiB on it counts in pages.
static void segment(u32 selector, u32 type, u32 base, u32 limit) {
    u32 flags = 0;
    if (type != TSS_AVAILABLE)
        flags = 0x00400000; // 32-bit
    if (limit > 0xFFFFF) {
        flags |= 0x00800000;
        limit >>= 12;
    }
    struct descriptor *d = &gdt[selector / 8];
    d->low = limit % 0x10000 | base << 16;
    d->high = (base & 0xFF000000) | flags | (limit & 0xF0000) | type << 8 | (base >> 16) % 0x100;
}

static struct descriptor gate(u32 type, u32 selector, u32 offset, u32 parameters) {
    return (struct descriptor){selector << 16 | offset % 0x10000, (offset & 0xFFFF0000) | type << 8 | parameters};
}

void segments_init(void) {
    segment(KERNEL_CODE, CODE | DPL(0), 0, 0xFFFFFFFF);
    segment(KERNEL_DATA, DATA | DPL(0), 0, 0xFFFFFFFF);
    segment(USER_CODE, CODE | DPL(3), 0, 0xFFFFFFFF);
    segment(USER_DATA, DATA | DPL(3), 0, 0xFFFFFFFF);
    segment(RING1_CODE, CODE | DPL(1), 0, KERNEL - 1);
    segment(RING1_DATA, DATA | DPL(1), 0, KERNEL - 1);
    segment(RING2_CODE, CODE | DPL(2), 0, KERNEL - 1);
    segment(RING2_DATA, DATA | DPL(2), 0, KERNEL - 1);
    segment(MAIN_TSS, TSS_AVAILABLE, (u32)&main_tss, sizeof main_tss - 1);
    segment(FAULT_TSS, TSS_AVAILABLE, (u32)&fault_tss, sizeof fault_tss - 1);
    gdt[GATE_TO_RING2 / 8] = gate(CALL_GATE | DPL(3), RING2_CODE, (u32)enter_ring2, 2);
    gdt[GATE_TO_RING1 / 8] = gate(CALL_GATE | DPL(2), RING1_CODE, (u32)enter_ring1, 2);

    // Interrupt gates clear IF: the kernel is not interrupted. Only INT 80h may be called from ring 3; any other INT n is #GP.
    for (u32 v = 0; v < 0x30; v++)
        idt[v] = gate(INTERRUPT_GATE | DPL(0), KERNEL_CODE, vectors[v], 0);
    idt[SYSTEM_CALL] = gate(INTERRUPT_GATE | DPL(3), KERNEL_CODE, vectors[0x30], 0);
    idt[DOUBLE_FAULT] = gate(TASK_GATE | DPL(0), FAULT_TSS, 0, 0);

    // Where the processor finds a stack when it enters a more privileged ring. Rings 1 and 2 have theirs at the same address in
    // every process; ring 0's is set at each switch.
    main_tss.ss0 = KERNEL_DATA;
    main_tss.ss1 = RING1_DATA;
    main_tss.esp1 = STACK1_TOP;
    main_tss.ss2 = RING2_DATA;
    main_tss.esp2 = STACK2_TOP;
    main_tss.io_map = sizeof main_tss; // beyond the limit: no port is open by bitmap
    double_fault_init();

    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) gdtr = {sizeof gdt - 1, (u32)gdt}, idtr = {sizeof idt - 1, (u32)idt};
    __asm__ volatile("lgdt %0\n\t"
                     "lidt %1\n\t"
                     "ljmp %2, $1f\n"
                     "1:\tmovw %w3, %%ss\n\t"
                     "movw %w3, %%ds\n\t"
                     "movw %w3, %%es\n\t"
                     "movw %w4, %%fs\n\t"
                     "movw %w4, %%gs\n\t"
                     "lldt %w4\n\t"
                     "ltr %w5"
                     :
                     : "m"(gdtr), "m"(idtr), "i"(KERNEL_CODE), "r"(KERNEL_DATA), "r"(0), "r"(MAIN_TSS)
                     : "memory");
}
