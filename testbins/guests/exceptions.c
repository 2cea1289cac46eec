// Every exception once: its vector, error code, class (which EIP is saved) and the RF it saves.
// SDM 3A "Exception Classifications", "Error Code", "Exception and Interrupt Reference"; RF: SDM 3B "Instruction-Breakpoint
// Exception Condition".
#include "lib/guest.h"

#define IDT_BIT 2
#define EXT 1

__attribute__((used)) static u32 bounds[2] = {10, 20};
__attribute__((used)) static u32 words[4] __attribute__((aligned(16)));

CODE(user_hlt, "hlt");
CODE(user_int_50, "int $0x50");
CODE(user_int_51, "int $0x51");
CODE(user_push, "pushl $1");
CODE(user_return, "ret");
CODE(user_misaligned, "movl words + 1, %eax; ret");
CODE(user_write_code, "movl $1, %cs:words");
CODE(user_long, ".fill 11, 1, 0x2e; movl words, %eax"); // 11 prefixes and A1 moffs32: 16 bytes

// #DE: a fault, no error code.
static void divide_error(void) {
    EXPECT_FAULT("de-divide-by-zero", DE, NO_ERROR, INSN("divl %0", ::"r"(0), "a"(1), "d"(0)));
    EXPECT_FAULT("de-quotient-too-large", DE, NO_ERROR, INSN("divl %0", ::"r"(2), "a"(0), "d"(2)));
    EXPECT_FAULT("de-idiv-minimum-by-minus-one", DE, NO_ERROR,
                 INSN("idivl %0", ::"r"(-1), "a"(0x80000000), "d"(0xffffffff)));
    EXPECT_FAULT("de-idiv-byte", DE, NO_ERROR, INSN("idivb %b0", ::"c"(1), "a"(0x80)));
    EXPECT_FAULT("de-aam-zero", DE, NO_ERROR, INSN(".byte 0xd4, 0x00", ::"a"(5)));
    check("de-saves-rf-set", trap.eflags & RF, RF);
    EXPECT_NONE("de-largest-quotient-is-fine", asm volatile("divl %0" ::"r"(2), "a"(0xffffffff), "d"(1)));
}

// #DB: single step and INT1 are traps.
static void debug(void) {
    set_dr6(0xffff0ff0);
    insn_at = insn_end = 0;
    CATCH(INSN_AFTER("pushfl; orl $0x100, (%esp); popfl", "nop"));
    check_trap("db-single-step-traps-after-the-next-instruction", DB, NO_ERROR, insn_end);
    check("db-single-step-sets-bs", dr6() & 0xe00f, 0x4000);
    check("db-single-step-saves-tf", trap.eflags & TF, TF);
    check("db-single-step-saves-rf-clear", trap.eflags & RF, 0);
    set_dr6(0xffff0ff0);
    EXPECT_TRAP("db-int1", DB, NO_ERROR, INSN(".byte 0xf1"));
    EXPECT_TRAP("db-int-1", DB, NO_ERROR, INSN("int $1"));
    check("db-int-1-leaves-dr6", dr6() & 0xe00f, 0);
}

// #BP and #OF: traps, no error code.
static void traps(void) {
    EXPECT_TRAP("bp-int3", BP, NO_ERROR, INSN("int3"));
    EXPECT_TRAP("bp-cd-03", BP, NO_ERROR, INSN(".byte 0xcd, 0x03"));
    check("bp-saves-rf-clear", trap.eflags & RF, 0);
    EXPECT_TRAP("of-into-with-of", OF_, NO_ERROR, INSN_AFTER("pushl $0x802; popfl", "into"));
    EXPECT_NONE("of-into-without-of", asm volatile("pushl $2; popfl; into"));
    EXPECT_TRAP("of-int-4", OF_, NO_ERROR, INSN("int $4"));
}

// #BR: a fault.
static void bound(void) {
    EXPECT_FAULT("br-below", BR, NO_ERROR, INSN("bound %0, bounds", ::"r"(9)));
    EXPECT_FAULT("br-above", BR, NO_ERROR, INSN("bound %0, bounds", ::"r"(21)));
    EXPECT_FAULT("br-is-signed", BR, NO_ERROR, INSN("bound %0, bounds", ::"r"(-1)));
    EXPECT_NONE("br-bounds-are-inclusive", asm volatile("bound %0, bounds; bound %1, bounds" ::"r"(10), "r"(20)));
}

// #UD: a fault.
static void undefined_opcode(void) {
    EXPECT_FAULT("ud-ud2", UD, NO_ERROR, INSN("ud2"));
    EXPECT_FAULT("ud-ud1", UD, NO_ERROR, INSN(".byte 0x0f, 0xb9, 0xc0"));
    EXPECT_FAULT("ud-ud0", UD, NO_ERROR, INSN(".byte 0x0f, 0xff, 0xc0"));
    EXPECT_FAULT("ud-mov-to-cs", UD, NO_ERROR, INSN(".byte 0x8e, 0xc8", ::"a"(KDATA)));
    EXPECT_FAULT("ud-mov-to-segment-register-6", UD, NO_ERROR, INSN(".byte 0x8e, 0xf0", ::"a"(KDATA)));
    EXPECT_FAULT("ud-lea-of-register", UD, NO_ERROR, INSN(".byte 0x8d, 0xc0"));
    EXPECT_FAULT("ud-les-of-register", UD, NO_ERROR, INSN(".byte 0xc4, 0xc0"));
    EXPECT_FAULT("ud-bound-of-register", UD, NO_ERROR, INSN(".byte 0x62, 0xc0"));
    EXPECT_FAULT("ud-far-jmp-to-register", UD, NO_ERROR, INSN(".byte 0xff, 0xe8"));
    EXPECT_FAULT("ud-far-call-to-register", UD, NO_ERROR, INSN(".byte 0xff, 0xd8"));
    EXPECT_FAULT("ud-group-5-slash-7", UD, NO_ERROR, INSN(".byte 0xff, 0xf8"));
    EXPECT_FAULT("ud-group-4-slash-2", UD, NO_ERROR, INSN(".byte 0xfe, 0xd0"));
    EXPECT_FAULT("ud-mov-imm-slash-1", UD, NO_ERROR, INSN(".byte 0xc7, 0xc8, 0, 0, 0, 0", ::: "eax"));
    EXPECT_FAULT("ud-mov-from-cr1", UD, NO_ERROR, INSN(".byte 0x0f, 0x20, 0xc8"));
    EXPECT_FAULT("ud-mov-to-cr5", UD, NO_ERROR, INSN(".byte 0x0f, 0x22, 0xe8"));
    EXPECT_FAULT("ud-lock-on-register", UD, NO_ERROR, INSN(".byte 0xf0, 0x01, 0xc0"));
    EXPECT_FAULT("ud-lock-on-cmp", UD, NO_ERROR, INSN(".byte 0xf0, 0x39, 0x05; .long words"));
    EXPECT_FAULT("ud-lock-on-load", UD, NO_ERROR, INSN(".byte 0xf0, 0x03, 0x05; .long words"));
    EXPECT_FAULT("ud-lock-on-nop", UD, NO_ERROR, INSN(".byte 0xf0, 0x90"));
    EXPECT_NONE("ud-lock-on-add-to-memory-is-fine", asm volatile("lock addl $1, words"));
}

// #NM: SDM 3A "Device Not Available Exception"; WAIT looks at MP and TS, ESC at EM and TS.
static void device_not_available(void) {
    u32 old = cr0() & ~(EM | MP | TS_BIT);
    set_cr0(old | EM);
    EXPECT_FAULT("nm-em-and-esc", NM, NO_ERROR, INSN("fninit"));
    EXPECT_NONE("nm-em-and-wait-is-fine", asm volatile("fwait"));
    set_cr0(old | TS_BIT);
    EXPECT_FAULT("nm-ts-and-esc", NM, NO_ERROR, INSN("fninit"));
    EXPECT_NONE("nm-ts-and-wait-is-fine", asm volatile("fwait"));
    set_cr0(old | TS_BIT | MP);
    EXPECT_FAULT("nm-ts-mp-and-wait", NM, NO_ERROR, INSN("fwait"));
    asm volatile("clts");
    EXPECT_NONE("nm-clts-clears-ts", asm volatile("fwait"));
    check("nm-clts-clears-only-ts", cr0() & (EM | MP | TS_BIT), MP);
    set_cr0(old);
}

// #TS: error code is the selector at fault. #NP, #SS and #GP with selectors are in segments.c and gates.c in full.
static void selectors(void) {
    set_idt(0x51, gate(CODE1, (u32)user_hlt, A_INT32 | DPL(3), 0));
    tss0.ss1 = UDATA;
    expect_in_ring("ts-stack-of-wrong-privilege-in-the-tss", 3, user_int_51, TS, UDATA & ~3, 0);
    tss0.ss1 = 0;
    expect_in_ring("ts-null-stack-in-the-tss", 3, user_int_51, TS, 0, 0);
    tss0.ss1 = DATA1;
    default_idt(0x51);

    EXPECT_FAULT("np-data-segment", NP, NPDATA, INSN("movw %w0, %%fs", ::"r"(NPDATA)));
    set(SCRATCH(2), desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    EXPECT_FAULT("np-error-code-has-no-rpl", NP, SCRATCH(2), INSN("movw %w0, %%fs", ::"r"(SCRATCH(2) | 3)));
    EXPECT_FAULT("np-code-segment", NP, NPCODE, INSN("ljmp $0x68, $0"));
    EXPECT_FAULT("ss-not-present-stack", SS, NPDATA, INSN("movw %w0, %%ss", ::"r"(NPDATA)));

    set(SCRATCH(0), desc(0, 0xfff, A_RW, BIG));
    asm volatile("movw %w0, %%fs" ::"r"(SCRATCH(0)));
    EXPECT_FAULT("gp-data-limit", GP, 0, INSN("movb %%fs:0x1000, %%al", ::: "eax"));
    struct context c = ring_context(3, user_push);
    set(SCRATCH(1), desc(0, 0xfff, A_RW | DPL(3), BIG));
    c.ss = SCRATCH(1) | 3, c.esp = 0x1004;
    go(&c);
    check_trap("ss-stack-limit", SS, 0, (u32)user_push);
}

// #GP
static void general_protection(void) {
    expect_in_ring("gp-hlt-in-ring-3", 3, user_hlt, GP, 0, 0);
    expect_in_ring("gp-hlt-in-ring-1", 1, user_hlt, GP, 0, 0);
    expect_in_ring("gp-write-to-code-segment", 3, user_write_code, GP, 0, 0);
    expect_in_ring("gp-instruction-of-16-bytes", 3, user_long, GP, 0, 0);
    check("gp-saves-rf-set", trap.eflags & RF, RF);
    asm volatile("movw %w0, %%gs" ::"r"(0));
    EXPECT_FAULT("gp-null-selector-used", GP, 0, INSN("movl %%gs:words, %%eax", ::: "eax"));
    EXPECT_FAULT("gp-selector-beyond-the-gdt", GP, 0x400, INSN("movw %w0, %%fs", ::"r"(0x403)));
    load_ldt();
    EXPECT_FAULT("gp-selector-beyond-the-ldt-has-ti", GP, 0x204, INSN("movw %w0, %%fs", ::"r"(0x207)));
    asm volatile("lldt %w0" ::"r"(0));
    EXPECT_FAULT("gp-ldt-selector-without-ldt", GP, 4, INSN("movw %w0, %%fs", ::"r"(7)));
    if (!qemu_goes_down("gp-pg-without-pe"))
        EXPECT_FAULT("gp-pg-without-pe", GP, 0, INSN("movl %0, %%cr0", ::"r"((cr0() | PG) & ~PE)));
    EXPECT_FAULT("gp-nw-without-cd", GP, 0, INSN("movl %0, %%cr0", ::"r"((cr0() | NW) & ~CD)));
    set_cr0(cr0() & ~NW);
    if (has_cpuid() && !qemu_goes_down("gp-reserved-bit-of-cr4"))
        EXPECT_FAULT("gp-reserved-bit-of-cr4", GP, 0, INSN("movl %0, %%cr4", ::"r"(cr4() | 1u << 31)));
    EXPECT_FAULT("gp-ltr-null", GP, 0, INSN("ltr %w0", ::"r"(0)));
    load_tr(TSS0); // for those who let it pass
    EXPECT_FAULT("gp-ltr-busy", GP, TSS0, INSN("ltr %w0", ::"r"(TSS0)));
}

// Error codes that name the IDT: index * 8 + IDT, EXT when the event was not INT n, INT3 or INTO.
static void idt_errors(void) {
    expect_in_ring("gp-int-n-with-dpl-0-gate", 3, user_int_50, GP, 0x50 * 8 + IDT_BIT, 0);
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) small = {0x50 * 8 - 1, (u32)idt}, whole = {sizeof idt - 1, (u32)idt};
    asm volatile("lidt %0" ::"m"(small));
    EXPECT_FAULT("gp-int-n-beyond-the-idt", GP, 0x50 * 8 + IDT_BIT, INSN("int $0x50"));
    asm volatile("lidt %0" ::"m"(whole));
    set_idt(0x51, gate(KCODE, stub(0x51), A_INT32 & 0x7f, 0));
    EXPECT_FAULT("np-int-n-gate", NP, 0x51 * 8 + IDT_BIT, INSN("int $0x51"));
    default_idt(0x51);
    set_idt(BP, gate(KCODE, stub(BP), (A_INT32 & 0x7f) | DPL(3), 0));
    EXPECT_FAULT("np-int3-gate-has-no-ext", NP, BP * 8 + IDT_BIT, INSN("int3"));
    default_idt(BP);
    set_idt(UD, gate(KCODE, stub(UD), A_INT32 & 0x7f, 0));
    EXPECT_FAULT("np-gate-of-a-fault-has-ext", NP, UD * 8 + IDT_BIT + EXT, INSN("ud2"));
    default_idt(UD);
    set_idt(0x51, 0);
    EXPECT_FAULT("gp-empty-idt-slot", GP, 0x51 * 8 + IDT_BIT, INSN("int $0x51"));
    default_idt(0x51);
    // The same for a code selector in the gate: the error code is that selector.
    set_idt(0x51, gate(0, stub(0x51), A_INT32, 0));
    EXPECT_FAULT("gp-gate-with-null-selector", GP, 0, INSN("int $0x51"));
    set_idt(0x51, gate(KDATA, stub(0x51), A_INT32, 0));
    EXPECT_FAULT("gp-gate-to-data", GP, KDATA, INSN("int $0x51"));
    set_idt(0x51, gate(NPCODE, stub(0x51), A_INT32, 0));
    EXPECT_FAULT("np-gate-to-absent-code", NP, NPCODE, INSN("int $0x51"));
    default_idt(0x51);
    set_idt(UD, gate(NPCODE, stub(UD), A_INT32, 0));
    EXPECT_FAULT("np-absent-code-for-a-fault-has-ext", NP, NPCODE + EXT, INSN("ud2"));
    default_idt(UD);
    // INT n to a vector that has an error code as an exception pushes none.
    set_idt(GP, gate(KCODE, stub(0x52), A_INT32, 0));
    EXPECT_TRAP("int-13-pushes-no-error-code", 0x52, NO_ERROR, INSN("int $13"));
    default_idt(GP);
}

// #PF in short (pf_error.c has the rest), and #AC.
static void page_fault_and_alignment(void) {
    paging_on();
    EXPECT_FAULT("pf-not-present-read", PF_, 0, INSN("movl 0x40000123, %%eax", ::: "eax"));
    check("pf-cr2", trap.cr2, 0x40000123);
    check("pf-saves-rf-set", trap.eflags & RF, RF);
    EXPECT_FAULT("pf-not-present-write", PF_, 2, INSN("movl $1, 0x40000456"));
    check("pf-cr2-write", trap.cr2, 0x40000456);
    paging_off();

    set_cr0(cr0() | AM);
    if (!(cr0() & AM)) {
        skip("ac-misaligned", "CR0.AM does not stick");
        return;
    }
    ring_eflags = 2 | AC;
    expect_in_ring("ac-misaligned-in-ring-3", 3, user_misaligned, AC_, 0, 0);
    expect_in_ring("ac-never-in-ring-2", 2, user_misaligned, RET_VECTOR, NO_ERROR, ANYWHERE);
    ring_eflags = 2;
    expect_in_ring("ac-needs-eflags-ac", 3, user_misaligned, RET_VECTOR, NO_ERROR, ANYWHERE);
    set_cr0(cr0() & ~AM);
}

void guest(void) {
    expect_in_ring("ring-3-and-back", 3, user_return, RET_VECTOR, NO_ERROR, ANYWHERE);
    divide_error();
    debug();
    traps();
    bound();
    undefined_opcode();
    device_not_available();
    selectors();
    general_protection();
    idt_errors();
    page_fault_and_alignment();
}
