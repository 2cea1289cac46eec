// Global pages: what drops them and what does not. That an entry *stays* is not promised by the manual, so survival is a NOTE;
// that it goes is a check. SDM 3A "Global Pages", "Operations that Invalidate TLBs and Paging-Structure Caches".
#include "lib/guest.h"

#define AT (WINDOW + 0x5000)

static u32 value(void) { return *(volatile u32 *)AT; }

// Frame 1's page table entry at AT, used once so that it is in the TLB; then the entry in memory names frame 2.
static void stale(u32 bits) {
    map(AT, frame(1), P | W | U | bits);
    value();
    *pte(AT) = frame(2) | P | W | U | bits;
}

static struct tss32 task;
static u32 directory2[1024] __attribute__((aligned(4096)));

void guest(void) {
    if (!has(F_PGE)) {
        skip("pge", "CPUID has no PGE");
        return;
    }
    paging_on();
    *(u32 *)frame(1) = 1, *(u32 *)frame(2) = 2;
    set_cr4(cr4() | CR4_PGE);
    stale(GLOBAL);
    set_cr3(cr3());
    note("global-after-mov-cr3", "1 is the old frame, 2 the new:", value());
    invlpg(AT);
    check("global-after-invlpg", value(), 2);
    stale(GLOBAL);
    set_cr4(cr4() & ~CR4_PGE);
    check("global-after-clearing-pge", value(), 2);
    stale(GLOBAL);
    set_cr4(cr4() | CR4_PGE);
    check("global-after-setting-pge", value(), 2);
    stale(GLOBAL);
    set_cr4(cr4() ^ CR4_PSE);
    check("global-after-changing-pse", value(), 2);
    set_cr4(cr4() ^ CR4_PSE);
    stale(GLOBAL);
    set_cr0(cr0() & ~PG);
    set_cr0(cr0() | PG);
    check("global-after-clearing-and-setting-pg", value(), 2);
    stale(0);
    set_cr3(cr3());
    check("not-global-after-mov-cr3", value(), 2);
    // G counts in the entry that maps the page, not in a PDE that names a table.
    stale(0);
    *pde(WINDOW) |= GLOBAL;
    set_cr3(cr3());
    check("g-in-a-pde-of-a-table-is-ignored", value(), 2);
    *pde(WINDOW) &= ~GLOBAL;
    // With PGE clear, G is ignored.
    set_cr4(cr4() & ~CR4_PGE);
    stale(GLOBAL);
    set_cr3(cr3());
    check("g-without-pge-after-mov-cr3", value(), 2);
    set_cr4(cr4() | CR4_PGE);
    // A 4 MiB global page.
    if (has(F_PSE)) {
        u32 table = *pde(WINDOW), big = WINDOW + 0x400000;
        set_cr4(cr4() | CR4_PSE);
        *(u32 *)0x1000000 = 11, *(u32 *)0x1400000 = 12;
        *pde(big) = 0x1000000 | P | W | PS | GLOBAL;
        check("global-4m", *(volatile u32 *)big, 11);
        *pde(big) = 0x1400000 | P | W | PS | GLOBAL;
        set_cr3(cr3());
        note("global-4m-after-mov-cr3", "11 is the old frame, 12 the new:", *(volatile u32 *)big);
        invlpg(big + 0x1000);
        check("global-4m-after-invlpg", *(volatile u32 *)big, 12);
        *pde(WINDOW) = table;
    }
    // A task switch that changes CR3 drops what is not global.
    set(SCRATCH(0), desc((u32)&task, 103, A_TSS32, 0));
    for (u32 n = 0; n < 2; n++) {
        memset(&task, 0, 104);
        task.cs = KCODE, task.ss = task.ds = task.es = KDATA, task.eflags = 2, task.esp = (u32)user_stack_top;
        stale(n ? GLOBAL : 0);
        memcpy(directory2, page_directory, 4096);
        task.eip = (u32)ring_return, task.cr3 = (u32)directory2, task.iomap = 104;
        CATCH(asm volatile("ljmp $0x100, $0"));
        if (n)
            note("global-after-task-switch", "1 is the old frame, 2 the new:", value());
        else
            check("not-global-after-task-switch", value(), 2);
        set_cr3((u32)page_directory);
        load_tr(TSS0);
        set(SCRATCH(0), desc((u32)&task, 103, A_TSS32, 0));
    }
}
