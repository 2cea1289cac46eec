// 4 MiB pages of two-level paging: CR4.PSE, PSE-36, reserved bits, rights, accessed and dirty, INVLPG of any part. SDM 3A
// "32-Bit Paging", tables of the PDE that maps a 4-MByte page.
#include "lib/guest.h"

enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8 };
#define TARGET 0x1000000 // 16 MiB

CODE(load, "movl (%ecx), %eax");
CODE(store, "movl %eax, (%ecx)");

static u32 run(int ring, void (*fn)(void), u32 eax, u32 ecx) {
    struct context c = ring_context(ring, fn);
    c.eax = eax, c.ecx = ecx;
    return go(&c);
}

static void set_pde(u32 value) {
    *pde(WINDOW) = value;
    set_cr3(cr3());
}

void guest(void) {
    if (!has(F_PSE)) {
        skip("pse", "CPUID has no PSE");
        return;
    }
    paging_on();
    u32 table = *pde(WINDOW);
    // Without CR4.PSE the PS bit is ignored: the PDE names a table.
    map(WINDOW, frame(0), P | W | U);
    *(volatile u32 *)frame(0) = 0x1111;
    set_pde(table | PS);
    check("ps-ignored-without-cr4-pse", *(volatile u32 *)WINDOW, 0x1111);
    set_cr4(cr4() | CR4_PSE);
    set_pde(TARGET | P | W | U | PS);
    *(volatile u32 *)TARGET = 0x2222, *(volatile u32 *)(TARGET + 0x3ffffc) = 0x3333;
    check("4m-first-dword", *(volatile u32 *)WINDOW, 0x2222);
    check("4m-last-dword", *(volatile u32 *)(WINDOW + 0x3ffffc), 0x3333);
    check("4m-read-sets-accessed-only", *pde(WINDOW) & (A | D), A);
    *(volatile u32 *)(WINDOW + 0x234560) = 0x4444;
    check("4m-write", *(volatile u32 *)(TARGET + 0x234560), 0x4444);
    check("4m-write-sets-dirty", *pde(WINDOW) & (A | D), A | D);
    // Rights are the PDE's alone.
    set_cr0(cr0() | WP);
    for (u32 n = 0; n < 16; n++) {
        u32 bits = (n & 1 ? W : 0) | (n & 2 ? U : 0), user = n >> 2 & 1, write = n >> 3;
        set_pde(TARGET | P | PS | bits);
        run(user ? 3 : 0, write ? store : load, 0, WINDOW + 0x100000);
        int denied = user ? !(bits & U) || (write && !(bits & W)) : write && !(bits & W);
        check_trap(name_of("4m-%s-%s-%s-%s", bits & U ? "u" : "s", bits & W ? "rw" : "ro", user ? "user" : "kernel",
                           write ? "writes" : "reads"),
                   denied ? PF_ : RET_VECTOR, denied ? E_P | (write ? E_W : 0) | (user ? E_U : 0) : NO_ERROR, 0);
        if (denied && write)
            check(name_of("4m-%s-%s-%s-denied-leaves-dirty-clear", bits & U ? "u" : "s", bits & W ? "rw" : "ro",
                          user ? "user" : "kernel"),
                  *pde(WINDOW) & D, 0);
    }
    set_cr0(cr0() & ~WP);
    // Bits 20:13 are address bits 39:32 with PSE-36 (up to MAXPHYADDR), else reserved; bit 21 always is.
    u32 top = cpuid(0x80000000, 0).eax >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
    if (top > 40)
        top = 40;
    for (u32 bit = has(F_PSE36) ? 13 + (top - 32) : 13; bit <= 21; bit++) {
        set_pde(TARGET | P | W | U | PS | 1u << bit);
        run(0, load, 0, WINDOW);
        check_trap(name_of("4m-rsvd-bit-%u", bit), PF_, E_P | E_RSVD, (u32)load);
    }
    set_pde(TARGET | P | W | U | PS | 1u << 12);
    run(0, load, 0, WINDOW);
    if (has(F_PAT))
        check_trap("4m-pat-bit-is-allowed", RET_VECTOR, NO_ERROR, 0);
    else
        check_trap("4m-pat-bit-is-reserved", PF_, E_P | E_RSVD, (u32)load);
    // INVLPG of any address in it drops the whole page.
    set_pde(TARGET | P | W | U | PS);
    check("4m-before-the-change", *(volatile u32 *)WINDOW, 0x2222);
    map(0x1400000, 0x1400000, P | W | U);
    *(volatile u32 *)0x1400000 = 0x5555;
    *pde(WINDOW) = 0x1400000 | P | W | U | PS;
    invlpg(WINDOW + 0x3ff000);
    check("4m-invlpg-of-another-part", *(volatile u32 *)WINDOW, 0x5555);
    // From one big page to a table and back.
    *pde(WINDOW) = table;
    invlpg(WINDOW);
    check("4m-replaced-by-a-table", *(volatile u32 *)WINDOW, 0x1111);
    *pde(WINDOW) = TARGET | P | W | U | PS;
    invlpg(WINDOW);
    check("table-replaced-by-4m", *(volatile u32 *)WINDOW, 0x2222);
    // Crossing from a big page into a 4 KiB page of the next table.
    *pde(WINDOW + 0x400000) = (u32)new_table() | P | W | U;
    map(WINDOW + 0x400000, frame(1), P | W | U);
    *(volatile u32 *)frame(1) = 0x66666666;
    check("4m-crossing-into-4k", *(volatile u32 *)(WINDOW + 0x3ffffe), 0x66660000);
    map(WINDOW + 0x400000, 0, 0);
    run(0, store, 0, WINDOW + 0x3ffffe);
    check_trap("4m-crossing-into-nothing", PF_, E_W, (u32)store);
    check("4m-crossing-into-nothing-wrote-nothing", *(volatile u32 *)(TARGET + 0x3ffffc), 0x3333);
}
