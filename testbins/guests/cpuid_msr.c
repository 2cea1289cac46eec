// CPUID and EFLAGS.ID, model-specific registers, the time-stamp counter and CR4.TSD. SDM 2A "CPUID", 2B "RDMSR", "WRMSR", "RDTSC";
// SDM 1 "Identification of Earlier IA-32 Processors".
#include "lib/guest.h"

CODE(rdmsr_, "rdmsr");
CODE(wrmsr_, "wrmsr");
CODE(rdtsc_, "rdtsc");
CODE(cpuid_, "cpuid");
CODE(toggle_id, "pushfl; popl %eax; movl %eax, %ebx; xorl $0x200000, %eax; pushl %eax; popfl; pushfl; popl %eax; xorl %ebx, %eax");

static void identification(void) {
    set_eflags(eflags() | AC);
    check_true("ac-can-be-set-so-486-or-later", eflags() & AC);
    set_eflags(eflags() & ~AC);
    in_ring(3, toggle_id);
    check("id-can-be-toggled-in-ring-3", trap.eax & ID, has_cpuid() ? ID : 0);
    if (!has_cpuid()) {
        skip("cpuid", "EFLAGS.ID does not stick");
        EXPECT_FAULT("cpuid-is-ud", UD, NO_ERROR, INSN("cpuid", ::: "eax", "ebx", "ecx", "edx"));
        return;
    }
    struct cpuid zero = cpuid(0, 0), one = cpuid(1, 0), again = cpuid(1, 0);
    note("highest-leaf", "", zero.eax);
    check_true("highest-leaf-is-at-least-1", zero.eax >= 1);
    u32 printable = 1;
    u32 vendor[] = {zero.ebx, zero.edx, zero.ecx};
    for (u32 n = 0; n < 12; n++)
        printable &= ((u8 *)vendor)[n] >= ' ' && ((u8 *)vendor)[n] < 127;
    check("vendor-is-text", printable, 1);
    check("leaf-1-is-stable", one.eax == again.eax && one.edx == again.edx, 1);
    check_true("family-is-at-least-4", (one.eax >> 8 & 15) >= 4);
    expect_in_ring("cpuid-in-ring-3", 3, cpuid_, RET_VECTOR, NO_ERROR, ANYWHERE);
    // Every feature bit must mean that its CR4 bit can be set, and its absence #GP.
    static const struct {
        const char *name;
        u32 feature, bit;
    } controls[] = {{"vme", F_VME, CR4_VME}, {"de", F_DE, CR4_DE}, {"pse", F_PSE, CR4_PSE}, {"tsc", F_TSC, CR4_TSD},
                    {"pae", F_PAE, CR4_PAE}, {"pge", F_PGE, CR4_PGE}, {"smep", F_SMEP, CR4_SMEP},
                    {"smap", F_SMAP, CR4_SMAP}, {"umip", F_UMIP, CR4_UMIP}};
    for (u32 n = 0; n < sizeof controls / sizeof *controls; n++) {
        int present = has(controls[n].feature);
        const char *name = name_of("cr4-%s-%s", controls[n].name, present ? "can-be-set" : "is-reserved");
        u32 old = cr4();
        if (!present && qemu_goes_down(name))
            continue;
        EXPECT_FAULT(name, present ? NO_VECTOR : GP, present ? NO_ERROR : 0,
                     INSN("movl %0, %%cr4", ::"r"(old | controls[n].bit) : "memory"));
        set_cr4(old);
    }
    check("cmov-goes-with-p6", has(F_CMOV) || (one.eax >> 8 & 15) < 6, 1);
    if (has(F_PSE36))
        check_true("pse36-implies-pse", has(F_PSE));
    struct cpuid extended = cpuid(0x80000000, 0);
    if (extended.eax >= 0x80000001 && extended.eax < 0x80010000)
        check_true("extended-leaves-have-a-sane-top", extended.eax <= 0x800000ff);
    // A leaf beyond the highest gives the data of the highest basic one (Intel) or zeros; it must not fault.
    EXPECT_NONE("leaf-beyond-the-highest", cpuid(zero.eax + 100, 0));
}

static void registers(void) {
    if (!has(F_MSR)) {
        skip("msr", "CPUID has no MSR");
        return;
    }
    expect_in_ring("rdmsr-in-ring-3", 3, rdmsr_, GP, 0, 0);
    expect_in_ring("wrmsr-in-ring-3", 3, wrmsr_, GP, 0, 0);
    expect_in_ring("rdmsr-in-ring-1", 1, rdmsr_, GP, 0, 0);
    EXPECT_FAULT("rdmsr-unknown", GP, 0, INSN("rdmsr", ::"c"(0x7654321) : "eax", "edx"));
    EXPECT_FAULT("wrmsr-unknown", GP, 0, INSN("wrmsr", ::"c"(0x7654321), "a"(0), "d"(0)));
    EXPECT_FAULT("rdmsr-hole-beyond-efer", GP, 0, INSN("rdmsr", ::"c"(0xc0001fff) : "eax", "edx"));
    if (has(F_NX)) {
        EXPECT_NONE("efer-reads", rdmsr(0xc0000080));
        EXPECT_FAULT("efer-reserved-bit", GP, 0, INSN("wrmsr", ::"c"(0xc0000080), "a"(1u << 1), "d"(0)));
        EXPECT_FAULT("efer-reserved-upper-half", GP, 0, INSN("wrmsr", ::"c"(0xc0000080), "a"(0), "d"(1u << 31)));
    }
}

static void time_stamp(void) {
    if (!has(F_TSC)) {
        skip("tsc", "CPUID has no TSC");
        return;
    }
    u64 first, second;
    asm volatile("rdtsc" : "=A"(first));
    asm volatile("rdtsc" : "=A"(second));
    check_true("rdtsc-does-not-go-back", second >= first);
    for (volatile u32 n = 0; n < 10000; n++)
        ;
    asm volatile("rdtsc" : "=A"(second));
    check_true("rdtsc-goes-on", second > first);
    expect_in_ring("rdtsc-in-ring-3", 3, rdtsc_, RET_VECTOR, NO_ERROR, ANYWHERE);
    set_cr4(cr4() | CR4_TSD);
    expect_in_ring("rdtsc-in-ring-3-with-tsd", 3, rdtsc_, GP, 0, 0);
    expect_in_ring("rdtsc-in-ring-1-with-tsd", 1, rdtsc_, GP, 0, 0);
    expect_in_ring("rdtsc-in-ring-0-with-tsd", 0, rdtsc_, RET_VECTOR, NO_ERROR, ANYWHERE);
    set_cr4(cr4() & ~CR4_TSD);
    if (has(F_MSR)) {
        wrmsr(0x10, 0x100000000ull);
        asm volatile("rdtsc" : "=A"(first));
        // P6 keeps only the low half of what is written, later processors all of it.
        check_true("writing-the-counter", (u32)(first >> 32) <= 1 && (u32)first < 0x40000000);
        check_true("rdmsr-10h-is-the-counter", rdmsr(0x10) >= first);
    }
}

static void control_registers(void) {
    u32 old = cr0();
    check("cr0-et-is-one", cr0() & 0x10, 0x10);
    u32 word;
    asm volatile("smsw %0" : "=r"(word));
    check("smsw-is-the-low-word-of-cr0", word & 0xffff, cr0() & 0xffff);
    // LMSW can set PE, MP, EM and TS; it cannot clear PE.
    asm volatile("lmsw %w0" ::"r"(MP | TS_BIT));
    check("lmsw-loads-mp-em-ts-and-keeps-pe", cr0() & 0xf, PE | MP | TS_BIT);
    asm volatile("lmsw %w0" ::"r"(PE));
    check("lmsw-clears-mp-em-ts", cr0() & 0xf, PE);
    asm volatile("lmsw %w0" ::"r"(0xfff1));
    check("lmsw-changes-nothing-else", cr0(), (old & ~0xfu) | PE);
    set_cr0(old);
    set_cr3(0xfffff000);
    check("cr3-reads-back-without-paging", cr3() & 0xfffff000, 0xfffff000);
    set_cr3(0);
}

void guest(void) {
    identification();
    registers();
    time_stamp();
    control_registers();
}
