// What happened, and who deals with it.
#include "kernel.h"

// ---- saying why -------------------------------------------------------------------------------------------------------------

// The instructions of the offenders, by their first bytes. The kernel reads them through the process's own page tables.
static const char *name_instruction(u32 eip) {
    const u8 *code = (const u8 *)eip;
    if (code[0] == 0xF4)
        return "HLT: only ring 0 may stop the processor";
    if (code[0] == 0xFA || code[0] == 0xFB)
        return "CLI: its CPL is above IOPL, interrupts are not its to mask";
    if (code[0] == 0xEE || code[0] == 0xE6)
        return "OUT: its CPL is above IOPL and no bitmap opens the port";
    if (code[0] == 0x0F && code[1] == 0x22 && (code[2] >> 3) % 8 == 3)
        return "MOV CR3: only ring 0 chooses the page directory";
    if (code[0] == 0x0F && code[1] == 0x01 && (code[2] >> 3) % 8 == 2)
        return "LGDT: only ring 0 chooses the descriptor table";
    if (code[0] == 0x9A)
        return "CALL through a gate whose DPL is below its CPL";
    return "an access beyond a segment's limit";
}

static void describe_page_fault(const struct frame *f, u32 address, const char *why) {
    print("   %-8s killed: #PF, error code %u (%s page, %s, %s), at %08x, EIP=%08x:\n            %s.\n", current->name, f->error,
          f->error & E_P ? "present" : "absent", f->error & E_W ? "write" : "read", f->error & E_U ? "ring 3" : "supervisor", address,
          f->eip, why);
}

static void describe_protection_fault(const struct frame *f) {
    print("   %-8s killed: #GP, error code %02x (", current->name, f->error);
    if (f->error)
        print("selector %02x of the %s", f->error & ~7u, f->error & 2 ? "IDT" : f->error & 4 ? "LDT" : "GDT");
    else
        print("no selector");
    print("), in ring %u, EIP=%08x:\n            %s.\n", f->cs & 3, f->eip, name_instruction(f->eip));
}

static void __attribute__((noreturn)) kernel_bug(const struct frame *f, u32 address) {
    fail("   The kernel broke: vector %u, error code %x, CS:EIP=%02x:%08x, CR2=%08x, in process %u\n", f->vector, f->error, f->cs, f->eip,
         address, current->pid);
}

// ---- dealing with it ----------------------------------------------------------------------------------------------------------

static void page_fault(const struct frame *f) {
    u32 address = read_cr2(); // before anything else can fault
    // The kernel reads and writes processes' memory in system calls, and may find it absent just as they do.
    int by_kernel = (f->cs & 3) == 0;
    if (by_kernel && (current->pid == NOBODY || address >= KERNEL))
        kernel_bug(f, address);
    const char *why = handle_page_fault(address, f->error);
    if (why) {
        describe_page_fault(f, address, why);
        end_current(PAGE_FAULT);
    }
}

static void interrupt(u32 irq) {
    if (!irq_begin(irq))
        return;
    if (irq == IRQ_TIMER) {
        ticks++;
        tick_due = 1;
    } else if (irq == IRQ_SERIAL) {
        console_interrupt();
    } else if (irq == IRQ_DISK) {
        disk_interrupt();
    }
    irq_end(irq);
}

// Called by trap.S with all that was pushed. Returning resumes what was interrupted.
void trap(struct frame *f) {
    int from_kernel = (f->cs & 3) == 0;
    if (f->vector == PAGE_FAULT)
        page_fault(f);
    else if (f->vector == SYSTEM_CALL)
        system_call(f);
    else if (f->vector >= IRQ0 && f->vector < IRQ0 + 16)
        interrupt(f->vector - IRQ0);
    else if (from_kernel)
        kernel_bug(f, read_cr2());
    else if (f->vector == GENERAL_PROTECTION) {
        describe_protection_fault(f);
        end_current(f->vector);
    } else {
        print("   %-8s killed: vector %u, error code %x, in ring %u, EIP=%08x.\n", current->name, f->vector, f->error, f->cs & 3, f->eip);
        end_current(f->vector);
    }

    // Preemption: a process loses the processor only on its way back to an outer ring, never inside the kernel.
    if (tick_due && !from_kernel) {
        tick_due = 0;
        current->preempted++;
        schedule();
    }
}
