// Double faults. When the kernel's own stack is bad, the processor cannot push a frame to report it: the fault that says so faults
// itself. A task gate helps: it switches to another TSS with a stack, a CR3 and registers of its own, and leaves everything that
// went wrong in the old TSS for us to read. SDM 3A "Task Switching", "Interrupt 8-Double Fault Exception (#DF)".
#include "kernel.h"

struct tss fault_tss;
static u8 fault_stack[4096] __attribute__((aligned(16)));
void double_fault_entry(void); // trap.S

void double_fault_init(void) {
    fault_tss.cr3 = (u32)kernel_directory - KERNEL;
    fault_tss.eip = (u32)double_fault_entry;
    fault_tss.esp = (u32)fault_stack + sizeof fault_stack;
    fault_tss.eflags = 2;
    fault_tss.cs = KERNEL_CODE;
    fault_tss.ss = fault_tss.ds = fault_tss.es = KERNEL_DATA;
    fault_tss.io_map = sizeof fault_tss;
}

// Where the main task goes on: on the culprit's kernel stack, empty again.
static void after_double_fault(void) {
    __asm__ volatile("clts"); // each task switch sets CR0.TS; nobody here has an FPU context to save
    end_current(DOUBLE_FAULT);
}

static u32 task_register(void) {
    u32 value;
    __asm__ volatile("str %0" : "=r"(value));
    return value;
}

// Runs in the fault task, called with each double fault. The IRET behind it (NT is set) switches back to the main task, so what we
// write into its TSS is where it resumes. CR3 in a TSS is only ever read by the processor: we must put it there.
void double_fault(void) {
    u32 address = read_cr2();
    print("   The fault task runs (TR=%02x, back link to %02x). The page fault that could not be told: CR2=%08x.\n", task_register(),
          fault_tss.link, address);
    if (current->pid == 0 || address - kernel_stack_guard(current->pid) >= PAGE)
        fail("   #DF with EIP=%08x ESP=%08x CR2=%08x: this is the kernel's own fault\n", main_tss.eip, main_tss.esp, address);
    print("   %-8s killed: #DF. Its TSS holds CS:EIP=%02x:%08x, ESP=%08x:\n            its kernel stack grew into the guard page.\n",
          current->name, main_tss.cs, main_tss.eip, main_tss.esp);
    main_tss.cs = KERNEL_CODE;
    main_tss.eip = (u32)after_double_fault;
    main_tss.eflags = 2;
    main_tss.ss = main_tss.ds = main_tss.es = KERNEL_DATA;
    main_tss.fs = main_tss.gs = 0;
    main_tss.esp = kernel_stack_top(current) - 16;
    main_tss.cr3 = current->cr3;
}

// A system call with a bug: it recurses as deep as the caller likes.
u32 __attribute__((noinline)) dig(u32 depth) {
    volatile u32 room[32];
    room[depth % 32] = depth;
    return depth ? dig(depth - 1) + room[depth % 32] : 0;
}
