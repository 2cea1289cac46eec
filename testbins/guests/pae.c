// PAE paging: PDPTE registers and their reserved bits, NX, 2 MiB pages, reserved bits of every level. SDM 3A "PAE Paging",
// "PDPTE Registers", "Page-Fault Exceptions".
#include "lib/guest.h"

enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };
#define NX (1ull << 63)
#define EFER 0xc0000080
#define NXE 0x800
#define BIG_PAGE (WINDOW + 0x200000)

CODE(load, "movl (%ecx), %eax");
CODE(store, "movl %eax, (%ecx)");
CODE(jump, "jmp *%ecx");

static u32 run(int ring, void (*fn)(void), u32 eax, u32 ecx) {
    struct context c = ring_context(ring, fn);
    c.eax = eax, c.ecx = ecx;
    return go(&c);
}

static void flush(void) { set_cr3(cr3()); }

static u32 max_physical(void) {
    return cpuid(0x80000000, 0).eax >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
}

static void rights(void) {
    static const u32 bits[] = {0, W, U, U | W};
    static const char *const names[] = {"s-ro", "s-rw", "u-ro", "u-rw"};
    set_cr0(cr0() | WP);
    for (u32 n = 0; n < 64; n++) {
        u32 dir = n & 3, tab = n >> 2 & 3, user = n >> 4 & 1, write = n >> 5;
        *pae_pde(WINDOW) = (*pae_pde(WINDOW) & ~0xfffull) | P | bits[dir];
        *pae_pte(WINDOW) = frame(0) | P | bits[tab];
        flush();
        run(user ? 3 : 0, write ? store : load, 0, WINDOW + 8);
        u32 both = bits[dir] & bits[tab], denied = user ? !(both & U) || (write && !(both & W)) : write && !(both & W);
        check_trap(name_of("pde-%s-pte-%s-%s-%s", names[dir], names[tab], user ? "user" : "kernel",
                           write ? "writes" : "reads"),
                   denied ? PF_ : RET_VECTOR, denied ? E_P | (write ? E_W : 0) | (user ? E_U : 0) : NO_ERROR, 0);
    }
    set_cr0(cr0() & ~WP);
    *pae_pde(WINDOW) |= P | W | U;
    *pae_pte(WINDOW) = frame(0) | P | W | U;
    flush();
    *(volatile u32 *)WINDOW = 5;
    check("accessed-and-dirty", (*pae_pde(WINDOW) & (A | D)) | (*pae_pte(WINDOW) & (A | D)) << 8, A | (A | D) << 8);
    check("a-pdpte-has-no-accessed-flag", pdpt[WINDOW >> 30] & A, 0);
}

static void reserved_bits(void) {
    u32 top = max_physical();
    note("maxphyaddr", "bits", top);
    u64 *entry[] = {pae_pte(WINDOW), pae_pde(WINDOW)};
    static const char *const names[] = {"pte", "pde"};
    for (u32 n = 0; n < 2; n++) {
        u64 old = *entry[n];
        u32 bits[] = {top < 52 ? top : 52, 51, 52, 62};
        for (u32 b = 0; b < 4; b++) {
            if (bits[b] < top)
                continue;
            *entry[n] = old | 1ull << bits[b];
            flush();
            const char *name = name_of("rsvd-%s-bit-%s", names[n], b == 0 ? "maxphyaddr" : b == 1 ? "51" : b == 2 ? "52" : "62");
            run(0, load, 0, WINDOW);
            check_trap(name, PF_, E_P | E_RSVD, (u32)load);
            run(3, store, 0, WINDOW);
            check_trap(name_of("%s-user-write", name), PF_, E_P | E_RSVD | E_W | E_U, (u32)store);
        }
        *entry[n] = (old | 1ull << 62) & ~P;
        flush();
        run(0, load, 0, WINDOW);
        check_trap(name_of("rsvd-%s-ignored-when-not-present", names[n]), PF_, 0, (u32)load);
        *entry[n] = old;
    }
    flush();
}

static void big_pages(void) {
    u64 old = *pae_pde(BIG_PAGE);
    u32 at = 0x1200000; // 18 MiB
    *pae_pde(BIG_PAGE) = at | P | W | U | PS;
    flush();
    *(volatile u32 *)(at + 0x123450) = 0x2222, *(volatile u32 *)(at + 0x1ffffc) = 0x3333;
    check("2m-reads", *(volatile u32 *)(BIG_PAGE + 0x123450), 0x2222);
    check("2m-read-sets-accessed-only", *pae_pde(BIG_PAGE) & (A | D), A);
    check("2m-reads-its-last-dword", *(volatile u32 *)(BIG_PAGE + 0x1ffffc), 0x3333);
    *(volatile u32 *)(BIG_PAGE + 0x123454) = 0x4444;
    check("2m-writes", *(volatile u32 *)(at + 0x123454), 0x4444);
    check("2m-write-sets-dirty", *pae_pde(BIG_PAGE) & (A | D), A | D);
    for (u32 bit = 13; bit <= 20; bit++) {
        *pae_pde(BIG_PAGE) = at | P | W | U | PS | 1u << bit;
        flush();
        run(0, load, 0, BIG_PAGE);
        check_trap(name_of("2m-rsvd-bit-%u", bit), PF_, E_P | E_RSVD, (u32)load);
    }
    *pae_pde(BIG_PAGE) = at | P | W | U | PS | 1u << 12; // PAT
    flush();
    run(0, load, 0, BIG_PAGE);
    if (has(F_PAT))
        check_trap("2m-pat-bit-is-allowed", RET_VECTOR, NO_ERROR, 0);
    else
        check_trap("2m-pat-bit-is-reserved", PF_, E_P | E_RSVD, (u32)load);
    *pae_pde(BIG_PAGE) = at | P | PS;
    flush();
    run(3, load, 0, BIG_PAGE);
    check_trap("2m-supervisor", PF_, E_P | E_U, (u32)load);
    u32 pse = cr4() & CR4_PSE;
    set_cr4(cr4() & ~CR4_PSE);
    *pae_pde(BIG_PAGE) = at | P | W | U | PS;
    flush();
    check("2m-does-not-need-cr4-pse", *(volatile u32 *)(BIG_PAGE + 0x123450), 0x2222);
    set_cr4(cr4() | pse);
    *pae_pde(BIG_PAGE) = old;
    flush();
}

static void pdptes(void) {
    u32 top = max_physical();
    u64 old = pdpt[1];
    // P and reserved bits: refused by MOV CR3, which then changes nothing.
    static const u8 bits[] = {1, 2, 5, 6, 7, 8};
    for (u32 n = 0; n < sizeof bits; n++) {
        pdpt[1] = old | 1u << bits[n];
        EXPECT_FAULT(name_of("pdpte-rsvd-bit-%u", bits[n]), GP, 0, INSN("movl %0, %%cr3", ::"r"((u32)pdpt) : "memory"));
    }
    pdpt[1] = old | 1ull << (top < 52 ? top : 52);
    EXPECT_FAULT("pdpte-rsvd-bit-maxphyaddr", GP, 0, INSN("movl %0, %%cr3", ::"r"((u32)pdpt) : "memory"));
    pdpt[1] = old | NX;
    EXPECT_FAULT("pdpte-rsvd-bit-63", GP, 0, INSN("movl %0, %%cr3", ::"r"((u32)pdpt) : "memory"));
    pdpt[1] = old | 0x18; // PWT and PCD
    EXPECT_NONE("pdpte-pwt-and-pcd-are-allowed", set_cr3((u32)pdpt));
    pdpt[1] = 0xfffffffffffffffe;
    EXPECT_NONE("pdpte-not-present-may-have-anything", set_cr3((u32)pdpt));
    run(3, load, 0, WINDOW + 4);
    check_trap("pdpte-not-present", PF_, E_U, (u32)load);
    check("pdpte-not-present-cr2", trap.cr2, WINDOW + 4);

    // They are registers: memory counts only when they are loaded.
    pdpt[1] = old;
    invlpg(WINDOW);
    run(0, load, 0, WINDOW);
    check_trap("pdpte-change-needs-mov-cr3", PF_, 0, (u32)load);
    flush();
    run(0, load, 0, WINDOW);
    check_trap("pdpte-change-seen-after-mov-cr3", RET_VECTOR, NO_ERROR, 0);
    pdpt[1] = 0;
    invlpg(WINDOW);
    run(0, load, 0, WINDOW);
    check_trap("pdpte-clear-needs-mov-cr3", RET_VECTOR, NO_ERROR, 0);
    pdpt[1] = old;
    flush();
    // Setting PG loads them too.
    pdpt[1] = old | 2;
    paging_off();
    EXPECT_FAULT("pdpte-rsvd-when-pg-is-set", GP, 0, INSN("movl %0, %%cr0", ::"r"(cr0() | PG) : "memory"));
    set_cr0(cr0() & ~PG);
    pdpt[1] = old;
    set_cr0(cr0() | PG);
    // CR3 addresses 32 bytes, not a page.
    static u64 other[8] __attribute__((aligned(64)));
    memcpy(&other[4], pdpt, 32);
    EXPECT_NONE("cr3-is-32-byte-aligned", set_cr3((u32)&other[4]); *(volatile u32 *)WINDOW);
    set_cr3((u32)pdpt);
}

static void no_execute(void) {
    *(volatile u8 *)frame(0) = 0xcc;
    run(0, jump, 0, WINDOW);
    check_trap("fetch-from-an-executable-page", BP, NO_ERROR, 0);
    if (!has(F_NX)) {
        skip("nx", "CPUID has no NX");
        return;
    }
    u64 pte = *pae_pte(WINDOW), dir = *pae_pde(WINDOW);
    wrmsr(EFER, rdmsr(EFER) & ~NXE);
    *pae_pte(WINDOW) = pte | NX;
    flush();
    run(3, load, 0, WINDOW);
    check_trap("nx-is-reserved-without-nxe", PF_, E_P | E_RSVD | E_U, (u32)load);
    *pae_pte(WINDOW) = 0;
    flush();
    run(3, jump, 0, WINDOW);
    check_trap("fetch-not-present-without-nxe-has-no-i", PF_, E_U, WINDOW);
    wrmsr(EFER, rdmsr(EFER) | NXE);
    flush();
    run(3, jump, 0, WINDOW);
    check_trap("fetch-not-present-with-nxe-has-i", PF_, E_U | E_I, WINDOW);
    run(0, jump, 0, WINDOW);
    check_trap("fetch-not-present-with-nxe-kernel", PF_, E_I, WINDOW);
    *pae_pte(WINDOW) = pte | NX;
    flush();
    run(3, jump, 0, WINDOW);
    check_trap("nx-pte-user", PF_, E_P | E_U | E_I, WINDOW);
    check("nx-cr2", trap.cr2, WINDOW);
    run(0, jump, 0, WINDOW);
    check_trap("nx-pte-kernel", PF_, E_P | E_I, WINDOW);
    run(3, load, 0, WINDOW);
    check_trap("nx-does-not-stop-reads", RET_VECTOR, NO_ERROR, 0);
    run(3, store, 0xcc, WINDOW);
    check_trap("nx-does-not-stop-writes", RET_VECTOR, NO_ERROR, 0);
    *pae_pte(WINDOW) = pte;
    *pae_pde(WINDOW) = dir | NX;
    flush();
    run(3, jump, 0, WINDOW);
    check_trap("nx-pde", PF_, E_P | E_U | E_I, WINDOW);
    *pae_pde(WINDOW) = dir;
    flush();
    u64 big = *pae_pde(BIG_PAGE);
    *pae_pde(BIG_PAGE) = 0x1200000 | P | W | U | PS | NX;
    flush();
    run(0, jump, 0, BIG_PAGE);
    check_trap("nx-2m", PF_, E_P | E_I, BIG_PAGE);
    *pae_pde(BIG_PAGE) = big;
    // An instruction that runs from an executable page into one that is not.
    *pae_pte(WINDOW + 0x1000) = frame(1) | P | W | U | NX;
    flush();
    *(volatile u8 *)(WINDOW + 0xfff) = 0xb8;
    run(3, jump, 0, WINDOW + 0xfff);
    check_trap("nx-second-page-of-an-instruction", PF_, E_P | E_U | E_I, WINDOW + 0xfff);
    check("nx-second-page-of-an-instruction-cr2", trap.cr2, WINDOW + 0x1000);
    wrmsr(EFER, rdmsr(EFER) & ~NXE);
}

void guest(void) {
    if (!has(F_PAE)) {
        skip("pae", "CPUID has no PAE");
        return;
    }
    pae_on();
    *pae_pte(WINDOW) = frame(0) | P | W | U;
    rights();
    reserved_bits();
    big_pages();
    pdptes();
    no_execute();
}
