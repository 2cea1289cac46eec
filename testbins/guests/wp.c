// CR0.WP: read-only pages and ring 0, in both kinds of paging, and what the processor itself writes. SDM 3A "Determination of
// Access Rights", "Page-Level Protection", "Control Registers".
#include "lib/guest.h"

enum { E_P = 1, E_W = 2, E_U = 4 };
#define AT (WINDOW + 0x3000)

CODE(load, "movl (%ecx), %eax");
CODE(store, "movl %eax, (%ecx)");
CODE(rmw, "lock addl $1, (%ecx)");
CODE(push, "pushl %eax");

static u32 run(int ring, void (*fn)(void), u32 ecx) {
    struct context c = ring_context(ring, fn);
    c.ecx = ecx;
    if (fn == push)
        c.esp = ecx + 4;
    return go(&c);
}

static void read_only(u32 user) {
    static const char *const rings[] = {"ring-0", "ring-1", "ring-2", "ring-3"};
    const char *page = user ? "user" : "supervisor";
    for (u32 wp = 0; wp < 2; wp++) {
        set_cr0(wp ? cr0() | WP : cr0() & ~WP);
        for (u32 ring = 0; ring < 4; ring++) {
            const char *who = name_of("%s-%s-page-wp%u", rings[ring], page, wp);
            int denied = ring == 3 || wp;
            u32 error = E_P | E_W | (ring == 3 ? E_U : 0);
            if (ring == 3 && !user)
                continue;
            // (Where ring 0 pushes below its own frame, the write has happened before: use the others for it.)
            run(ring, store, AT);
            check_trap(name_of("store-%s", who), denied ? PF_ : RET_VECTOR, denied ? error : NO_ERROR, 0);
            run(ring, rmw, AT);
            check_trap(name_of("rmw-%s", who), denied ? PF_ : RET_VECTOR, denied ? error : NO_ERROR, 0);
            if (ring) {
                run(ring, push, AT);
                check_trap(name_of("push-%s", who), denied ? PF_ : RET_VECTOR, denied ? error : NO_ERROR, 0);
            }
            run(ring, load, AT);
            check_trap(name_of("load-%s", who), RET_VECTOR, NO_ERROR, 0);
        }
    }
}

void guest(void) {
    paging_on();
    map(AT, frame(0), P | U);
    read_only(1);
    map(AT, frame(0), P);
    read_only(0);

    // The bit counts at once, also for a page that was written a moment ago with WP clear.
    set_cr0(cr0() & ~WP);
    EXPECT_NONE("write-with-wp-clear", *(volatile u32 *)AT = 1);
    check("write-with-wp-clear-sets-dirty", *pte(AT) & D, D);
    set_cr0(cr0() | WP);
    EXPECT_FAULT("setting-wp-counts-at-once", PF_, E_P | E_W, INSN("movl $2, 0x40003000", ::: "memory"));
    set_cr0(cr0() & ~WP);
    EXPECT_NONE("clearing-wp-counts-at-once", *(volatile u32 *)AT = 3);
    // Read-only in the PDE.
    map(AT, frame(0), P | W | U);
    *pde(WINDOW) &= ~W;
    set_cr3(cr3());
    set_cr0(cr0() | WP);
    EXPECT_FAULT("read-only-in-the-pde", PF_, E_P | E_W, INSN("movl $2, 0x40003000", ::: "memory"));
    *pde(WINDOW) |= W;
    set_cr3(cr3());
    // The processor's write of an accessed bit obeys WP.
    map(AT, frame(0), P);
    set(SCRATCH(0), desc(AT, 0xff, A_LDT, 0));
    *(volatile u64 *)(frame(0) + 8) = desc(0, 0xfffff, A_RW, G | BIG);
    asm volatile("lldt %w0" ::"r"(SCRATCH(0)));
    EXPECT_FAULT("accessed-bit-with-wp", PF_, E_P | E_W, INSN("movw %w0, %%fs", ::"r"(0x0c)));
    set_cr0(cr0() & ~WP);
    EXPECT_NONE("accessed-bit-without-wp", asm volatile("movw %w0, %%fs" ::"r"(0x0c)));
    check("accessed-bit-without-wp-is-set", *(volatile u32 *)(frame(0) + 12) >> 8 & 1, 1);
    asm volatile("lldt %w0" ::"r"(0));
    paging_off();

    if (!has(F_PAE)) {
        skip("pae", "CPUID has no PAE");
        return;
    }
    pae_on();
    pae_map(AT, frame(0), P | U);
    set_cr0(cr0() | WP);
    EXPECT_FAULT("pae-write-with-wp", PF_, E_P | E_W, INSN("movl $2, 0x40003000", ::: "memory"));
    set_cr0(cr0() & ~WP);
    EXPECT_NONE("pae-write-without-wp", *(volatile u32 *)AT = 3);
}
