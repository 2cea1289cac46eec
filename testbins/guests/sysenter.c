// SYSENTER and SYSEXIT: the flat segments they make from IA32_SYSENTER_CS, what they load and leave, and their refusals. SDM 2B
// "SYSENTER", "SYSEXIT"; 3A "Performing Fast Calls to System Procedures with the SYSENTER and SYSEXIT Instructions".
#include "lib/guest.h"

enum { MSR_CS = 0x174, MSR_ESP, MSR_EIP };

CODE(enter, "sysenter");
CODE(leave, "sysexit");
CODE(landing, "movl %esp, %edi; pushfl; popl %esi");
CODE(read_flat, "movl $0x12, %ecx; sysenter");

static struct context at_ring(int ring, void (*fn)(void)) {
    struct context c = ring_context(ring, fn);
    c.eax = 0xa, c.ebx = 0xb, c.esi = 0x5;
    return c;
}

void guest(void) {
    if (!has(F_SEP)) {
        skip("sysenter", "CPUID has no SEP");
        EXPECT_FAULT("sysenter-without-sep", UD, NO_ERROR, INSN("sysenter"));
        EXPECT_FAULT("sysexit-without-sep", UD, NO_ERROR, INSN("sysexit"));
        return;
    }
    wrmsr(MSR_CS, KCODE), wrmsr(MSR_ESP, (u32)trap_stack_top - 256), wrmsr(MSR_EIP, (u32)landing);
    check("msr-cs-reads-back", rdmsr(MSR_CS), KCODE);
    check("msr-esp-reads-back", rdmsr(MSR_ESP), (u32)trap_stack_top - 256);
    check("msr-eip-reads-back", rdmsr(MSR_EIP), (u32)landing);
    for (u32 ring = 0; ring < 4; ring++) {
        struct context c = at_ring(ring, enter);
        c.eflags = 2 | IF | CF | NT;
        go(&c);
        const char *name = name_of("sysenter-from-ring-%u", ring);
        check_trap(name, RET_VECTOR, NO_ERROR, (u32)landing_end);
        check(name_of("%s-cs-ss", name), trap.cs | trap.ss << 16, KCODE | KDATA << 16);
        check(name_of("%s-esp", name), trap.edi, (u32)trap_stack_top - 256);
        check(name_of("%s-clears-if-only", name), trap.esi, 2 | CF | NT);
        check(name_of("%s-keeps-registers", name), trap.eax | trap.ebx << 8, 0xb0a);
        check(name_of("%s-keeps-ds", name), trap.ds, c.ds);
    }
    // The descriptors are not read: the segments are flat whatever the GDT says.
    u64 old = gdt[SCRATCH(8) >> 3];
    set(SCRATCH(8), 0), set(SCRATCH(9), desc(0x1000, 1, A_RO, 0));
    wrmsr(MSR_CS, SCRATCH(8) | 3);
    struct context c = at_ring(3, enter);
    go(&c);
    check_trap("sysenter-does-not-read-the-gdt", RET_VECTOR, NO_ERROR, (u32)landing_end);
    check("sysenter-clears-rpl", trap.cs | trap.ss << 16, SCRATCH(8) | SCRATCH(9) << 16);
    gdt[SCRATCH(8) >> 3] = old;
    // Refused with a null selector.
    wrmsr(MSR_CS, 0);
    expect_in_ring("sysenter-null-cs", 3, enter, GP, 0, 0);
    expect_in_ring("sysexit-null-cs", 0, leave, GP, 0, 0);
    wrmsr(MSR_CS, 3);
    expect_in_ring("sysenter-null-cs-with-rpl", 3, enter, GP, 0, 0);
    wrmsr(MSR_CS, KCODE);

    // SYSEXIT: CS = MSR + 16, SS = MSR + 24, RPL 3, EIP from EDX, ESP from ECX; IF stays.
    c = at_ring(0, leave);
    c.edx = (u32)landing, c.ecx = (u32)user_stack_top - 512, c.eflags = 2 | CF;
    go(&c);
    check_trap("sysexit", RET_VECTOR, NO_ERROR, (u32)landing_end);
    check("sysexit-cs-ss", trap.cs | trap.ss << 16, UCODE | UDATA << 16);
    check("sysexit-esp", trap.edi, (u32)user_stack_top - 512);
    check("sysexit-keeps-flags", trap.esi, 2 | CF);
    check("sysexit-keeps-ds", trap.ds, KDATA);
    for (u32 ring = 1; ring < 4; ring++)
        expect_in_ring(name_of("sysexit-in-ring-%u", ring), ring, leave, GP, 0, 0);
    // Both ways: from ring 3 to ring 0 and home by INT.
    expect_in_ring("sysenter-again", 3, read_flat, RET_VECTOR, NO_ERROR, ANYWHERE);
    check("sysenter-again-registers", trap.ecx, 0x12);
    wrmsr(MSR_CS, 0);
}
