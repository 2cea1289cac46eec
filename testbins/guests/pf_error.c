// #PF: every combination of rights and access, the error code and CR2, accessed and dirty bits, restart of the instruction,
// and accesses that cross a page. SDM 3A "Determination of Access Rights", "Page-Fault Exceptions", "Accessed and Dirty
// Flags"; implicit supervisor accesses: "Access Rights".
#include "lib/guest.h"

enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };
#define PAGE(n) (WINDOW + (n) * 0x1000)

CODE(load, "movl (%ecx), %eax");
CODE(store, "movl %eax, (%ecx)");
CODE(jump, "jmp *%ecx");
CODE(rmw, "addl $0, (%ecx)");
CODE(compare_exchange, ".byte 0x0f, 0xb1, 0x11"); // CMPXCHG [ecx], edx
CODE(exchange, "xchgl %eax, (%ecx)");
CODE(set_bit, "btsl $3, (%ecx)");
CODE(compare, "cmpl $0, (%ecx)");
CODE(push, "pushl %eax");
CODE(pop_to, "popl (%ecx)");
CODE(push_all, "pushal");
CODE(string, "cld; rep movsb");
CODE(load_fs, "movw %ax, %fs");
CODE(call_it, "call *%ecx");

static u32 in_user(void (*fn)(void), u32 eax, u32 ecx) {
    struct context c = ring_context(3, fn);
    c.eax = eax, c.ecx = ecx;
    return go(&c);
}

// The same in ring 0.
static u32 in_kernel(void (*fn)(void), u32 eax, u32 ecx) {
    struct context c = ring_context(0, fn);
    c.eax = eax, c.ecx = ecx;
    return go(&c);
}

static void set_entries(u32 pde_bits, u32 pte_bits) {
    u32 *table = (u32 *)(*pde(WINDOW) & ~0xfff);
    *pde(WINDOW) = (u32)table | pde_bits;
    table[0] = frame(0) | pte_bits;
    set_cr3(cr3());
}

static void matrix(void) {
    static const char *const rights[] = {"s-ro", "s-rw", "u-ro", "u-rw"};
    static const u32 bits[] = {0, W, U, U | W};
    for (u32 n = 0; n < 128; n++) {
        u32 dir = n & 3, tab = n >> 2 & 3, user = n >> 4 & 1, write = n >> 5 & 1, wp = n >> 6;
        set_entries(P | bits[dir], P | bits[tab]);
        set_cr0(wp ? cr0() | WP : cr0() & ~WP);
        (user ? in_user : in_kernel)(write ? store : load, 0, WINDOW + 8);
        u32 both = bits[dir] & bits[tab];
        int denied = user ? !(both & U) || (write && !(both & W)) : write && wp && !(both & W);
        const char *name = name_of("pde-%s-pte-%s-%s-%s-wp%u", rights[dir], rights[tab], user ? "user" : "kernel",
                                   write ? "writes" : "reads", wp);
        if (denied)
            check_trap(name, PF_, E_P | (write ? E_W : 0) | (user ? E_U : 0), (u32)(write ? store : load));
        else
            check_trap(name, RET_VECTOR, NO_ERROR, 0);
    }
    set_cr0(cr0() & ~WP);
    for (u32 n = 0; n < 8; n++) {
        u32 user = n & 1, write = n >> 1 & 1, in_table = n >> 2;
        set_entries(in_table ? P | W | U : W | U, in_table ? W | U : P | W | U);
        (user ? in_user : in_kernel)(write ? store : load, 0, WINDOW + 0x7fc);
        check_trap(name_of("%s-not-present-%s-%s", in_table ? "pte" : "pde", user ? "user" : "kernel",
                           write ? "writes" : "reads"),
                   PF_, (write ? E_W : 0) | (user ? E_U : 0), (u32)(write ? store : load));
        check(name_of("%s-not-present-%s-%s-cr2", in_table ? "pte" : "pde", user ? "user" : "kernel",
                      write ? "writes" : "reads"),
              trap.cr2, WINDOW + 0x7fc);
    }
    set_entries(P | W | U, 0);
    in_kernel(load, 0, WINDOW + 0x123);
    check("an-all-zero-pte-is-just-not-present", trap.error, 0);
    set_entries(P | W | U, 0xfffffffe);
    in_kernel(load, 0, WINDOW + 0x123);
    check("bits-of-a-not-present-pte-are-ignored", trap.error, 0);
}

static void fetches(void) {
    set_entries(P | W | U, W | U);
    in_user(jump, 0, WINDOW + 0x10);
    check_trap("fetch-not-present-user", PF_, E_U, WINDOW + 0x10);
    check("fetch-cr2", trap.cr2, WINDOW + 0x10);
    in_kernel(jump, 0, WINDOW + 0x20);
    check_trap("fetch-not-present-kernel", PF_, 0, WINDOW + 0x20);
    set_entries(P | W | U, P | W);
    in_user(jump, 0, WINDOW + 0x10);
    check_trap("fetch-supervisor-page-from-ring-3", PF_, E_P | E_U, WINDOW + 0x10);
    // An instruction whose last bytes are on an absent page: EIP is its start, CR2 the absent page.
    map(PAGE(0), frame(0), P | W | U);
    map(PAGE(1), 0, 0);
    *(volatile u8 *)(PAGE(1) - 2) = 0xb8; // mov eax, imm32
    in_user(jump, 0, PAGE(1) - 2);
    check_trap("fetch-across-pages", PF_, E_U, PAGE(1) - 2);
    check("fetch-across-pages-cr2", trap.cr2, PAGE(1));
    // A short instruction that ends exactly at the end of its page needs nothing of the next one.
    *(volatile u8 *)(PAGE(1) - 1) = 0xcc;
    in_user(jump, 0, PAGE(1) - 1);
    check_trap("fetch-up-to-the-end-of-a-page", BP, NO_ERROR, PAGE(1));
    // CALL to an absent page: the call has completed, the return address is pushed, the fault is the target's.
    struct context c = ring_context(3, call_it);
    c.ecx = PAGE(1) + 4;
    go(&c);
    check_trap("call-to-an-absent-page", PF_, E_U, PAGE(1) + 4);
    check("call-to-an-absent-page-has-pushed", trap.esp, c.esp - 4);
}

// Read-modify-write instructions fault as writes even if nothing would change.
static void write_intent(void) {
    static const struct {
        const char *name;
        void (*fn)(void);
        u32 error;
    } list[] = {
        {"add-zero", rmw, E_P | E_W | E_U},
        {"cmpxchg-that-fails", compare_exchange, E_P | E_W | E_U},
        {"xchg", exchange, E_P | E_W | E_U},
        {"bts", set_bit, E_P | E_W | E_U},
    };
    set_entries(P | W | U, P | U);
    for (u32 n = 0; n < 4; n++) {
        in_user(list[n].fn, 0xdead, WINDOW);
        check_trap(name_of("write-intent-%s", list[n].name), PF_, list[n].error, (u32)list[n].fn);
    }
    in_user(compare, 0, WINDOW);
    check_trap("write-intent-cmp-only-reads", RET_VECTOR, NO_ERROR, 0);
}

static void accessed_and_dirty(void) {
    set_entries(P | W | U, P | W | U);
    *(volatile u32 *)WINDOW;
    check("a-read-sets-accessed-in-both", (*pde(WINDOW) & A) | (*pte(WINDOW) & (A | D)) << 8, A | A << 8);
    *(volatile u32 *)WINDOW = 1;
    check("a-write-sets-dirty-in-the-pte-only", (*pde(WINDOW) & (A | D)) | (*pte(WINDOW) & (A | D)) << 8,
          A | (A | D) << 8);
    *pte(WINDOW) &= ~D;
    invlpg(WINDOW);
    *(volatile u32 *)WINDOW = 1;
    check("dirty-is-set-again-after-invlpg", *pte(WINDOW) & D, D);
    set_entries(P | W | U, P | U);
    in_user(store, 0, WINDOW);
    check("a-denied-write-does-not-set-dirty", *pte(WINDOW) & D, 0);
    set_entries(P | W | U, P | W);
    in_user(rmw, 0, WINDOW);
    check("a-denied-rmw-does-not-set-dirty", *pte(WINDOW) & D, 0);
}

// Demand paging: the hook maps the page and the instruction restarts.
static u32 faults, last_error;
static int map_on_demand(void) {
    u32 page = trap.cr2 >> 12 & 1023;
    faults++, last_error = trap.error;
    if (trap.cr2 - WINDOW >= 0x400000 || page >= 8)
        return CATCH_IT;
    map(trap.cr2 & ~0xfff, frame(page), P | W | U);
    return RESUME;
}

static void unmap_all(void) {
    for (u32 n = 0; n < 8; n++) {
        map(PAGE(n), 0, 0);
        memset((void *)frame(n), 0x11 * (n + 1), 4096);
    }
    faults = 0;
}

static u32 at(u32 linear) { return *(volatile u32 *)(frame(linear >> 12 & 1023) + (linear & 0xfff)); }

static void restart(void) {
    set_entries(P | W | U, 0);
    hooks[PF_] = map_on_demand;
    unmap_all();
    in_user(store, 0x12345678, PAGE(1) + 0x100);
    check("restart-store", at(PAGE(1) + 0x100), 0x12345678);
    check("restart-store-faulted-once", faults, 1);
    unmap_all();
    in_user(store, 0xaabbccdd, PAGE(2) - 2);
    check("restart-store-across-pages-low", at(PAGE(1) + 0xffc), 0xccdd2222);
    check("restart-store-across-pages-high", at(PAGE(2)), 0x3333aabb);
    check("restart-store-across-pages-faulted-twice", faults, 2);
    unmap_all();
    in_user(rmw, 0, PAGE(3));
    check("restart-rmw", faults | last_error << 8, 1 | (E_W | E_U) << 8);

    unmap_all();
    struct context c = ring_context(3, push);
    c.esp = PAGE(2), c.eax = 77;
    go(&c);
    check("restart-push", at(PAGE(2) - 4), 77);
    check("restart-push-esp", trap.esp, PAGE(2) - 4);
    unmap_all();
    c = ring_context(3, push_all);
    c.esp = PAGE(2) + 16, c.eax = 0xa0, c.ecx = 0xc0, c.edx = 0xd0, c.ebx = 0xb0, c.ebp = 0xbb, c.esi = 0x51, c.edi = 0xd1;
    go(&c);
    check("restart-pushal-first", at(PAGE(2) + 12), 0xa0);
    check("restart-pushal-saves-old-esp", at(PAGE(2) - 4), PAGE(2) + 16);
    check("restart-pushal-last", at(PAGE(2) - 16), 0xd1);
    check("restart-pushal-esp", trap.esp, PAGE(2) - 16);
    unmap_all();
    c = ring_context(3, pop_to);
    c.esp = PAGE(0), c.ecx = PAGE(4);
    go(&c);
    check("restart-pop-to-memory", at(PAGE(4)), 0x11111111);
    check("restart-pop-to-memory-esp", trap.esp, PAGE(0) + 4);
    unmap_all();
    c = ring_context(3, string);
    c.esi = PAGE(0) + 0xff0, c.edi = PAGE(4) + 0xff8, c.ecx = 32;
    go(&c);
    check("restart-rep-movsb-registers", trap.ecx | (trap.esi - c.esi) << 8 | (trap.edi - c.edi) << 16, 32 << 8 | 32 << 16);
    check("restart-rep-movsb-start", at(PAGE(4) + 0xff8), 0x11111111);
    check("restart-rep-movsb-middle", at(PAGE(5) + 4), 0x11111111);
    check("restart-rep-movsb-end", at(PAGE(5) + 20), 0x22222222);
    check("restart-rep-movsb-four-pages", faults, 4);
    hooks[PF_] = 0;
}

static void crossing(void) {
    unmap_all();
    map(PAGE(1), frame(1), P | W | U);
    in_user(store, 0xaabbccdd, PAGE(2) - 1);
    check_trap("crossing-store-second-page-absent", PF_, E_W | E_U, (u32)store);
    check("crossing-store-cr2-is-the-second-page", trap.cr2, PAGE(2));
    check("crossing-store-wrote-nothing", at(PAGE(2) - 4), 0x22222222);
    in_user(store, 0xaabbccdd, PAGE(1) - 1);
    check_trap("crossing-store-first-page-absent", PF_, E_W | E_U, (u32)store);
    check("crossing-store-cr2-is-the-address", trap.cr2, PAGE(1) - 1);
    check("crossing-store-wrote-nothing-above", at(PAGE(1)), 0x22222222);
    map(PAGE(2), frame(2), P | U);
    in_user(store, 0xaabbccdd, PAGE(2) - 3);
    check_trap("crossing-store-second-page-read-only", PF_, E_P | E_W | E_U, (u32)store);
    check("crossing-store-wrote-nothing-below", at(PAGE(2) - 4), 0x22222222);
    in_user(rmw, 0, PAGE(2) - 3);
    check_trap("crossing-rmw-second-page-read-only", PF_, E_P | E_W | E_U, (u32)rmw);
    check("crossing-rmw-wrote-nothing", at(PAGE(2) - 4), 0x22222222);
    in_user(load, 0, PAGE(2) - 3);
    check("crossing-load", trap.eax, 0x33222222);
    struct context c = ring_context(3, push_all);
    c.esp = PAGE(1) + 16;
    go(&c);
    check_trap("crossing-pushal", PF_, E_W | E_U, (u32)push_all);
    check("crossing-pushal-leaves-esp", trap.esp, PAGE(1) + 16);
}

// The processor's own accesses are supervisor's, whatever the CPL.
static void implicit(void) {
    unmap_all();
    u32 sel = 0xf8;
    set(sel, desc(PAGE(6), 0xfff, A_LDT, 0));
    asm volatile("lldt %w0" ::"r"(sel));
    u64 data3 = desc(0, 0xfffff, A_RW | DPL(3), G | BIG);
    in_user(load_fs, 4 | 3, 0);
    check_trap("implicit-ldt-absent", PF_, 0, (u32)load_fs);
    check("implicit-ldt-absent-cr2", trap.cr2 & ~7, PAGE(6));
    *(volatile u64 *)frame(6) = data3;
    map(PAGE(6), frame(6), P | W);
    in_user(load_fs, 4 | 3, 0);
    check_trap("implicit-ldt-in-a-supervisor-page", RET_VECTOR, NO_ERROR, 0);
    check("implicit-sets-the-accessed-bit-of-the-descriptor", *(volatile u32 *)(frame(6) + 4) & 0x100, 0x100);
    *(volatile u64 *)frame(6) = data3;
    set_cr0(cr0() | WP);
    map(PAGE(6), frame(6), P);
    in_user(load_fs, 4 | 3, 0);
    check_trap("implicit-accessed-bit-in-a-read-only-page", PF_, E_P | E_W, (u32)load_fs);
    *(volatile u64 *)frame(6) = data3 | 1ull << 40;
    in_user(load_fs, 4 | 3, 0);
    check_trap("implicit-no-write-when-already-accessed", RET_VECTOR, NO_ERROR, 0);
    set_cr0(cr0() & ~WP);
    asm volatile("lldt %w0" ::"r"(0));
}

// PDE bit 21 is reserved when PS = 1 and CR4.PSE = 1.
static void reserved(void) {
    if (!has(F_PSE)) {
        skip("rsvd", "no PSE");
        return;
    }
    u32 table = *pde(WINDOW);
    set_cr4(cr4() | CR4_PSE);
    for (u32 n = 0; n < 8; n++) {
        u32 user = n & 1, write = n >> 1 & 1, denied = n >> 2;
        *pde(WINDOW) = P | PS | 1 << 21 | (denied ? 0 : W | U);
        set_cr3(cr3());
        (user ? in_user : in_kernel)(write ? store : load, 0, WINDOW);
        check_trap(name_of("rsvd-%s-%s-%s", denied ? "supervisor" : "user-rw", user ? "user" : "kernel",
                           write ? "writes" : "reads"),
                   PF_, E_P | E_RSVD | (write ? E_W : 0) | (user ? E_U : 0), (u32)(write ? store : load));
    }
    *pde(WINDOW) = PS | 1 << 21;
    set_cr3(cr3());
    in_kernel(load, 0, WINDOW);
    check_trap("rsvd-is-not-looked-at-when-not-present", PF_, 0, (u32)load);
    set_cr4(cr4() & ~CR4_PSE);
    *pde(WINDOW) = table;
    set_cr3(cr3());
}

void guest(void) {
    paging_on();
    set_cr2(0x13572468);
    check("cr2-can-be-written", cr2(), 0x13572468);
    matrix();
    fetches();
    write_intent();
    accessed_and_dirty();
    restart();
    crossing();
    implicit();
    reserved();
}
