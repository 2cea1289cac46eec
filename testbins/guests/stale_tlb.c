// Page tables changed without telling the processor. What may be stale is a NOTE (it depends on the TLB, and for pagewalk on its
// options); what must be fresh is a check. SDM 3A "Caching Translation Information", sections "Operations that Invalidate TLBs and
// Paging-Structure Caches", "Required Invalidation", "Optional Invalidation".
#include "lib/guest.h"

#define PAGE(n) (WINDOW + (n) * 0x1000)

CODE(call_ecx, "call *%ecx");
CODE(user_invlpg, "invlpg 0x40000000");
static struct tss32 task;
static u32 directory2[1024] __attribute__((aligned(4096)));

static u32 read(u32 at) { return *(volatile u32 *)at; }

// PAGE(1) shows frame 1 and has been used; then its entry is made to name frame 2, behind the processor's back.
static void stale(void) {
    map(PAGE(1), frame(1), P | W | U);
    read(PAGE(1));
    *(volatile u32 *)pte(PAGE(1)) = frame(2) | P | W | U;
}

static u32 faults;
static int count_fault(void) { return ++faults > 3 ? CATCH_IT : RESUME; }

void guest(void) {
    paging_on();
    for (u32 n = 0; n < 8; n++) {
        *(u32 *)frame(n) = n;
        map(PAGE(n), frame(n), P | W | U);
    }
    stale();
    note("changed-entry", "1 is stale, 2 is fresh:", read(PAGE(1)));
    invlpg(PAGE(1));
    check("fresh-after-invlpg", read(PAGE(1)), 2);
    stale();
    invlpg(PAGE(1) + 0xfff);
    check("fresh-after-invlpg-of-its-last-byte", read(PAGE(1)), 2);
    stale();
    invlpg(PAGE(2));
    note("after-invlpg-of-the-next-page", "1 is stale, 2 is fresh:", read(PAGE(1)));
    invlpg(PAGE(1));
    stale();
    set_cr3(cr3());
    check("fresh-after-mov-cr3", read(PAGE(1)), 2);
    stale();
    set_cr0(cr0() & ~PG);
    set_cr0(cr0() | PG);
    check("fresh-after-clearing-and-setting-pg", read(PAGE(1)), 2);
    stale();
    set_cr0(cr0() ^ WP);
    note("after-changing-wp", "1 is stale, 2 is fresh:", read(PAGE(1)));
    set_cr0(cr0() ^ WP);
    if (has(F_PGE)) {
        stale();
        set_cr4(cr4() ^ CR4_PGE);
        check("fresh-after-changing-pge", read(PAGE(1)), 2);
        set_cr4(cr4() ^ CR4_PGE);
    }
    if (has(F_PSE)) {
        stale();
        set_cr4(cr4() ^ CR4_PSE);
        note("after-changing-pse", "1 is stale, 2 is fresh:", read(PAGE(1)));
        set_cr4(cr4() ^ CR4_PSE);
    }
    // A task switch that changes CR3.
    stale();
    memcpy(directory2, page_directory, 4096);
    task.cs = KCODE, task.ss = task.ds = task.es = KDATA, task.eflags = 2, task.esp = (u32)user_stack_top;
    task.eip = (u32)ring_return, task.cr3 = (u32)directory2, task.iomap = 104;
    set(SCRATCH(0), desc((u32)&task, 103, A_TSS32, 0));
    CATCH(asm volatile("ljmp $0x100, $0"));
    check("fresh-after-a-task-switch", read(PAGE(1)), 2);
    load_tr(TSS0);
    set_cr3((u32)page_directory);

    // An absent page is never cached: making it present needs nothing.
    map(PAGE(3), 0, 0);
    CATCH(read(PAGE(3)));
    *(volatile u32 *)pte(PAGE(3)) = frame(4) | P | W | U;
    check("absent-to-present-needs-no-invlpg", read(PAGE(3)), 4);
    // Nor an absent page table.
    u32 far = WINDOW + 0x800000;
    CATCH(read(far));
    u32 *table = new_table();
    table[0] = frame(5) | P | W | U;
    *(volatile u32 *)pde(far) = (u32)table | P | W | U;
    check("absent-table-to-present-needs-no-invlpg", read(far), 5);
    // More rights: a stale entry may fault once, and the fault itself drops it.
    set_cr0(cr0() | WP);
    map(PAGE(1), frame(1), P | U);
    read(PAGE(1));
    *(volatile u32 *)pte(PAGE(1)) = frame(1) | P | W | U;
    faults = 0;
    hooks[PF_] = count_fault;
    CATCH(*(volatile u32 *)PAGE(1) = 1);
    note("more-rights", "spurious faults:", faults);
    check_true("more-rights-at-most-one-fault-count", faults <= 1);
    hooks[PF_] = 0;
    set_cr0(cr0() & ~WP);
    // Less: only after INVLPG is it sure.
    *(volatile u32 *)pte(PAGE(1)) = 0;
    CATCH(read(PAGE(1)));
    note("present-to-absent", "14 is fresh, 65535 stale:", trap.vector);
    invlpg(PAGE(1));
    EXPECT_FAULT("present-to-absent-after-invlpg", PF_, 0, INSN("movl 0x40001000, %%eax", ::: "eax"));
    // A and D cleared in memory.
    map(PAGE(1), frame(1), P | W | U);
    *(volatile u32 *)PAGE(1) = 1;
    *(volatile u32 *)pte(PAGE(1)) &= ~(A | D);
    *(volatile u32 *)PAGE(1) = 1;
    note("cleared-accessed-and-dirty", "0 stays clear, 60h is set again:", *pte(PAGE(1)) & (A | D));
    *(volatile u32 *)pte(PAGE(1)) &= ~(A | D);
    invlpg(PAGE(1));
    *(volatile u32 *)PAGE(1) = 1;
    check("accessed-and-dirty-after-invlpg", *pte(PAGE(1)) & (A | D), A | D);
    // A clean entry in the TLB: the first write sets D whatever is cached.
    map(PAGE(1), frame(1), P | W | U);
    read(PAGE(1));
    check("read-leaves-dirty-clear", *pte(PAGE(1)) & (A | D), A);
    *(volatile u32 *)PAGE(1) = 1;
    check("first-write-sets-dirty", *pte(PAGE(1)) & (A | D), A | D);

    // A page directory entry: INVLPG drops the cached upper levels with the page.
    u32 *other = new_table();
    for (u32 n = 0; n < 8; n++)
        other[n] = frame(n ^ 7) | P | W | U;
    for (u32 n = 1; n < 8; n++) {
        map(PAGE(n), frame(n), P | W | U);
        *(u32 *)frame(n) = n;
        read(PAGE(n));
    }
    u32 old = *pde(WINDOW);
    *(volatile u32 *)pde(WINDOW) = (u32)other | P | W | U;
    invlpg(PAGE(5));
    check("changed-pde-after-invlpg", read(PAGE(5)), 2);
    note("changed-pde-another-page", "6 is stale, 1 is fresh:", read(PAGE(6)));
    set_cr3(cr3());
    check("changed-pde-after-mov-cr3", read(PAGE(6)), 1);
    *(volatile u32 *)pde(WINDOW) = old;
    set_cr3(cr3());

    // The instruction side: code seen through a changed mapping.
    for (u32 n = 1; n < 3; n++)
        memcpy((void *)frame(n), n == 1 ? "\xb8\x01\x00\x00\x00\xc3" : "\xb8\x02\x00\x00\x00\xc3", 6);
    struct context c = ring_context(0, call_ecx);
    c.ecx = PAGE(1);
    map(PAGE(1), frame(1), P | W | U);
    go(&c);
    *(volatile u32 *)pte(PAGE(1)) = frame(2) | P | W | U;
    go(&c);
    note("code-changed-entry", "1 is stale, 2 is fresh:", trap.eax);
    invlpg(PAGE(1));
    go(&c);
    check("code-fresh-after-invlpg", trap.eax, 2);
    map(PAGE(1), frame(1), P | W | U);
    go(&c);
    check("code-fresh-after-invlpg-again", trap.eax, 1);
    *(volatile u32 *)pte(PAGE(1)) = frame(2) | P | W | U;
    set_cr3(cr3());
    go(&c);
    check("code-fresh-after-mov-cr3", trap.eax, 2);
    // INVLPG itself touches nothing: an absent page, and one behind every table.
    EXPECT_NONE("invlpg-of-an-absent-page", invlpg(0xff000000));
    expect_in_ring("invlpg-in-ring-3", 3, user_invlpg, GP, 0, 0);
}
