// SMEP and SMAP: what ring 0 may fetch from and read in user pages, AC, STAC and CLAC, and the processor's own accesses, which
// AC does not excuse. SDM 3A "Determination of Access Rights", "Access Rights"; SDM 2 "STAC", "CLAC".
#include "lib/guest.h"

enum { E_P = 1, E_W = 2, E_U = 4, E_I = 16 };
#define CODE_PAGE WINDOW
#define DATA_PAGE (WINDOW + 0x1000)
#define STACK_PAGE (WINDOW + 0x2000)
#define SYSTEM_PAGE (WINDOW + 0x3000)

CODE(load, "movl (%ecx), %eax");
CODE(store, "movl %eax, (%ecx)");
CODE(rmw, "addl $1, (%ecx)");
CODE(jump, "jmp *%ecx");
CODE(load_fs, "movw %ax, %fs");
CODE(stac_, ".byte 0x0f, 0x01, 0xcb");
CODE(clac_, ".byte 0x0f, 0x01, 0xca");
CODE(stac_load_clac, ".byte 0x0f, 0x01, 0xcb; movl (%ecx), %eax; .byte 0x0f, 0x01, 0xca");
CODE(lock_stac, ".byte 0xf0, 0x0f, 0x01, 0xcb");
CODE(string, "rep movsb");

static u32 kernel(void (*fn)(void), u32 flags, u32 eax, u32 ecx) {
    struct context c = ring_context(0, fn);
    c.eax = eax, c.ecx = ecx, c.eflags = 2 | flags;
    c.esi = DATA_PAGE, c.edi = (u32)frame(9);
    return go(&c);
}

// Ring 3 has only the window's pages: the code is copied there.
static u32 user(void (*fn)(void), char *end, u32 eax, u32 ecx) {
    memcpy((void *)frame(0), fn, end - (char *)fn);
    struct context c = ring_context(3, fn);
    c.eip = CODE_PAGE, c.esp = STACK_PAGE + 0x1000, c.eax = eax, c.ecx = ecx;
    return go(&c);
}
#define USER(fn, eax, ecx) user(fn, fn##_end, eax, ecx)

static void supervisor_everything(void) {
    paging_on();
    for (u32 at = 0; at < 32u << 20; at += 4096)
        *pte(at) &= ~U;
    map(CODE_PAGE, frame(0), P | W | U);
    map(DATA_PAGE, frame(1), P | W | U);
    map(STACK_PAGE, frame(2), P | W | U);
    map(SYSTEM_PAGE, frame(3), P | W | U);
    set_cr3(cr3());
}

static void smep(void) {
    *(volatile u8 *)frame(1) = 0xcc;
    kernel(jump, 0, 0, DATA_PAGE);
    check_trap("kernel-runs-user-code-without-smep", BP, NO_ERROR, 0);
    map(DATA_PAGE + 0x10000, 0, 0);
    kernel(jump, 0, 0, DATA_PAGE + 0x10000);
    check_trap("fetch-not-present-without-smep-has-no-i", PF_, 0, 0);
    if (!has(F_SMEP)) {
        skip("smep", "CPUID has no SMEP");
        return;
    }
    set_cr4(cr4() | CR4_SMEP);
    kernel(jump, 0, 0, DATA_PAGE);
    check_trap("smep-kernel-fetch-from-a-user-page", PF_, E_P | E_I, DATA_PAGE);
    check("smep-cr2", trap.cr2, DATA_PAGE);
    kernel(jump, AC, 0, DATA_PAGE);
    check_trap("smep-ignores-ac", PF_, E_P | E_I, DATA_PAGE);
    kernel(load, 0, 0, DATA_PAGE);
    check_trap("smep-does-not-stop-reads", RET_VECTOR, NO_ERROR, 0);
    USER(jump, 0, DATA_PAGE);
    check_trap("smep-user-fetch", BP, NO_ERROR, 0);
    kernel(jump, 0, 0, DATA_PAGE + 0x10000);
    check_trap("fetch-not-present-with-smep-has-i", PF_, E_I, 0);
    USER(jump, 0, DATA_PAGE + 0x10000);
    check_trap("user-fetch-not-present-with-smep-has-i", PF_, E_I | E_U, 0);
    // U in the PDE alone does not make a user page.
    map(DATA_PAGE, frame(1), P | W);
    kernel(jump, 0, 0, DATA_PAGE);
    check_trap("smep-supervisor-page", BP, NO_ERROR, 0);
    map(DATA_PAGE, frame(1), P | W | U);
    set_cr4(cr4() & ~CR4_SMEP);
    kernel(jump, 0, 0, DATA_PAGE);
    check_trap("smep-off-again", BP, NO_ERROR, 0);
}

static void smap(void) {
    if (!has(F_SMAP)) {
        skip("smap", "CPUID has no SMAP");
        return;
    }
    kernel(load, 0, 0, DATA_PAGE);
    check_trap("read-without-smap", RET_VECTOR, NO_ERROR, 0);
    set_cr4(cr4() | CR4_SMAP);
    kernel(load, 0, 0, DATA_PAGE);
    check_trap("smap-read", PF_, E_P, (u32)load);
    check("smap-cr2", trap.cr2, DATA_PAGE);
    kernel(store, 0, 0, DATA_PAGE);
    check_trap("smap-write", PF_, E_P | E_W, (u32)store);
    kernel(rmw, 0, 0, DATA_PAGE);
    check_trap("smap-rmw", PF_, E_P | E_W, (u32)rmw);
    kernel(string, 0, 0, 4);
    check_trap("smap-string", PF_, E_P, (u32)string);
    kernel(load, AC, 0, DATA_PAGE);
    check_trap("smap-read-with-ac", RET_VECTOR, NO_ERROR, 0);
    kernel(store, AC, 0, DATA_PAGE);
    check_trap("smap-write-with-ac", RET_VECTOR, NO_ERROR, 0);
    kernel(stac_, CF | IF, 0, 0);
    check("stac-sets-ac-only", trap.eflags, 2 | CF | IF | AC);
    kernel(clac_, CF | AC, 0, 0);
    check("clac-clears-ac-only", trap.eflags, 2 | CF);
    *(volatile u32 *)frame(1) = 0x7777;
    kernel(stac_load_clac, 0, 0, DATA_PAGE);
    check("stac-load-clac", trap.eax, 0x7777);
    USER(load, 0, DATA_PAGE);
    check_trap("smap-user-read", RET_VECTOR, NO_ERROR, 0);
    USER(stac_, 0, 0);
    check_trap("stac-in-ring-3", UD, NO_ERROR, CODE_PAGE);
    USER(clac_, 0, 0);
    check_trap("clac-in-ring-3", UD, NO_ERROR, CODE_PAGE);
    EXPECT_FAULT("lock-stac", UD, NO_ERROR, INSN(".byte 0xf0, 0x0f, 0x01, 0xcb"));
    map(DATA_PAGE, frame(1), P | W);
    kernel(load, 0, 0, DATA_PAGE);
    check_trap("smap-supervisor-page", RET_VECTOR, NO_ERROR, 0);
    map(DATA_PAGE, frame(1), P | U);
    kernel(store, AC, 0, DATA_PAGE);
    check_trap("smap-with-ac-read-only-user-page-wp0", RET_VECTOR, NO_ERROR, 0);
    set_cr0(cr0() | WP);
    kernel(store, AC, 0, DATA_PAGE);
    check_trap("smap-with-ac-read-only-user-page-wp1", PF_, E_P | E_W, (u32)store);
    set_cr0(cr0() & ~WP);

    // The processor's own reads of tables: never excused, in any ring.
    asm volatile("lldt %w0" ::"r"(set(SCRATCH(0), desc(SYSTEM_PAGE, 0xff, A_LDT, 0))));
    *(volatile u64 *)(frame(3) + 8) = desc(0, 0xfffff, A_RW | DPL(3), G | BIG);
    kernel(load_fs, 0, 0x0c, 0);
    check_trap("smap-implicit-read", PF_, E_P, (u32)load_fs);
    kernel(load_fs, AC, 0x0c, 0);
    check_trap("smap-implicit-read-with-ac", PF_, E_P, (u32)load_fs);
    USER(load_fs, 0x0f, 0);
    check_trap("smap-implicit-read-from-ring-3", PF_, E_P, CODE_PAGE);
    asm volatile("lldt %w0" ::"r"(0));
    set_cr4(cr4() & ~CR4_SMAP);
    kernel(load, 0, 0, DATA_PAGE);
    check_trap("smap-off-again", RET_VECTOR, NO_ERROR, 0);
}

void guest(void) {
    supervisor_everything();
    smep();
    smap();
    if (has(F_SMAP))
        EXPECT_NONE("stac-works-without-cr4-smap", asm volatile(".byte 0x0f, 0x01, 0xcb; .byte 0x0f, 0x01, 0xca"));
    else
        EXPECT_FAULT("stac-without-the-feature", UD, NO_ERROR, INSN(".byte 0x0f, 0x01, 0xcb"));
}
