// Debug registers: instruction, data and I/O breakpoints, lengths, DR6, RF, general detect, single step, INT1, and how they meet.
// SDM 3B "Debug Registers", "Debug Exceptions", "Instruction-Breakpoint Exception Condition".
#include "lib/guest.h"

enum { EXEC, WRITE, IO, ACCESS }; // R/W field
enum { LEN1 = 0, LEN2 = 1, LEN4 = 3 };
#define DR6_INIT 0xffff0ff0

__attribute__((used)) static u32 data[16] __attribute__((aligned(64)));
static volatile u32 stops, where[8], causes[8];

static int on_debug(void) {
    if (stops < 8)
        where[stops] = trap.eip, causes[stops] = dr6() & 0xe00f;
    stops++;
    set_dr6(DR6_INIT);
    return RESUME;
}

// With RF set by the handler, an instruction breakpoint lets its instruction go.
static int on_instruction(void) {
    on_debug();
    trap.eflags |= RF;
    return RESUME;
}

static void arm(u32 n, u32 at, u32 kind, u32 length) {
    set_dr0(0), set_dr1(0), set_dr2(0), set_dr3(0); // a register that is not enabled may still report in DR6
    switch (n) {
    case 0: set_dr0(at); break;
    case 1: set_dr1(at); break;
    case 2: set_dr2(at); break;
    default: set_dr3(at);
    }
    stops = 0;
    set_dr6(DR6_INIT);
    set_dr7(0x400 | 2u << 2 * n | (kind | length << 2) << (16 + 4 * n)); // Gn
}

static void disarm(void) { set_dr7(0x400); }

CODE(target, ".globl target_1, target_2\n movl $1, %eax\n target_1: movl $2, %ecx\n target_2: movl $3, %edx");
extern char target_1[], target_2[];
CODE(loop_3, "movl $3, %ecx\n 1: .globl loop_body\n loop_body: loop 1b");
extern char loop_body[];

static void instruction_breakpoints(void) {
    for (u32 n = 0; n < 4; n++) {
        arm(n, (u32)target_1, EXEC, LEN1);
        hooks[DB] = on_instruction;
        in_ring(0, target);
        hooks[DB] = 0;
        check(name_of("exec-dr%u-stops-once", n), stops, 1);
        check(name_of("exec-dr%u-is-a-fault", n), where[0], (u32)target_1);
        check(name_of("exec-dr%u-dr6", n), causes[0], 1u << n);
        disarm();
    }
    // It is a fault: before the instruction, which RF lets go. The image has RF clear unless someone sets it.
    arm(0, (u32)target_1, EXEC, LEN1);
    in_ring(0, target);
    check_trap("exec-before-the-instruction", DB, NO_ERROR, (u32)target_1);
    check("exec-nothing-done-yet", trap.ecx != 2 && trap.eax == 1, 1);
    // RF in the EFLAGS that IRET loads.
    struct context c = ring_context(0, (void (*)(void))target_1);
    c.eflags = 2 | RF;
    arm(0, (u32)target_1, EXEC, LEN1);
    go(&c);
    check_trap("rf-lets-the-first-instruction-go", RET_VECTOR, NO_ERROR, 0);
    c.eip = (u32)target;
    go(&c);
    check_trap("rf-only-for-one-instruction", DB, NO_ERROR, (u32)target_1);
    arm(0, (u32)loop_body, EXEC, LEN1);
    hooks[DB] = on_instruction;
    in_ring(0, loop_3);
    hooks[DB] = 0;
    check("exec-stops-each-time-round", stops, 3);
    arm(0, (u32)target_1 + 1, EXEC, LEN1);
    in_ring(0, target);
    check_trap("exec-only-at-the-first-byte", RET_VECTOR, NO_ERROR, 0);
    arm(0, (u32)target_1, EXEC, LEN1);
    in_ring(3, target);
    check_trap("exec-in-ring-3", DB, NO_ERROR, (u32)target_1);
    arm(0, (u32)target_1, WRITE, LEN1);
    in_ring(0, target);
    check_trap("data-breakpoints-do-not-see-fetches", RET_VECTOR, NO_ERROR, 0);
    // Not enabled: DR6 may still say so, but nothing stops.
    arm(0, (u32)target_1, EXEC, LEN1);
    set_dr7(0x400);
    in_ring(0, target);
    check_trap("not-enabled", RET_VECTOR, NO_ERROR, 0);
    set_dr7(0x401);
    in_ring(0, target);
    check_trap("local-enable", DB, NO_ERROR, (u32)target_1);
    disarm();
}

// One access, and whether it stops behind it.
#define ACCESS_TEST(name, hit, text, ...)                                                                              \
    do {                                                                                                               \
        stops = 0;                                                                                                     \
        set_dr6(DR6_INIT);                                                                                             \
        hooks[DB] = on_debug;                                                                                          \
        INSN(text, __VA_ARGS__);                                                                                       \
        hooks[DB] = 0;                                                                                                 \
        check(name, stops, hit);                                                                                       \
        if (hit && stops)                                                                                              \
            check(name_of("%s-traps-behind", name), where[0], insn_end);                                               \
    } while (0)

static void data_breakpoints(void) {
    arm(1, (u32)&data[2], WRITE, LEN4);
    ACCESS_TEST("write-hits", 1, "movl $5, data + 8", ::: "memory");
    check("write-dr6", causes[0], 2);
    check("write-has-happened", data[2], 5);
    ACCESS_TEST("write-ignores-reads", 0, "movl data + 8, %%eax", ::: "eax");
    ACCESS_TEST("write-of-the-last-byte", 1, "movb $1, data + 11", ::: "memory");
    ACCESS_TEST("write-behind", 0, "movb $1, data + 12", ::: "memory");
    ACCESS_TEST("write-before", 0, "movb $1, data + 7", ::: "memory");
    ACCESS_TEST("write-overlapping-from-below", 1, "movl $1, data + 5", ::: "memory");
    ACCESS_TEST("write-overlapping-from-above", 1, "movl $1, data + 11", ::: "memory");
    ACCESS_TEST("write-by-rmw", 1, "addl $1, data + 8", ::: "memory", "cc");
    arm(1, (u32)&data[2], ACCESS, LEN4);
    ACCESS_TEST("access-hits-reads", 1, "movl data + 8, %%eax", ::: "eax");
    ACCESS_TEST("access-hits-writes", 1, "movl $1, data + 8", ::: "memory");
    arm(2, (u32)&data[4] + 2, WRITE, LEN2);
    ACCESS_TEST("length-2-first", 1, "movb $1, data + 18", ::: "memory");
    ACCESS_TEST("length-2-second", 1, "movb $1, data + 19", ::: "memory");
    ACCESS_TEST("length-2-before", 0, "movb $1, data + 17", ::: "memory");
    ACCESS_TEST("length-2-behind", 0, "movb $1, data + 20", ::: "memory");
    arm(3, (u32)&data[4] + 1, WRITE, LEN1);
    ACCESS_TEST("length-1-hit", 1, "movb $1, data + 17", ::: "memory");
    ACCESS_TEST("length-1-next", 0, "movb $1, data + 18", ::: "memory");
    ACCESS_TEST("length-1-within-a-dword", 1, "movl $1, data + 16", ::: "memory");
    // The address is taken down to a multiple of the length.
    arm(0, (u32)&data[4] + 1, WRITE, LEN4);
    ACCESS_TEST("length-4-is-aligned-down", 1, "movb $1, data + 16", ::: "memory");
    ACCESS_TEST("length-4-is-aligned-down-end", 0, "movb $1, data + 20", ::: "memory");
    disarm();
}

static void several(void) {
    // Two at once: both bits.
    arm(0, (u32)&data[2], WRITE, LEN4);
    set_dr3((u32)&data[2]);
    set_dr7(0x400 | 2 | 0x80 | (WRITE | LEN4 << 2) << 16 | (ACCESS | LEN4 << 2) << 28);
    ACCESS_TEST("two-breakpoints-one-trap", 1, "movl $5, data + 8", ::: "memory");
    check("two-breakpoints-dr6", causes[0], 9);
    disarm();
    // With single step.
    arm(0, (u32)&data[2], WRITE, LEN4);
    set_dr6(DR6_INIT);
    insn_at = insn_end = 0;
    CATCH(INSN_AFTER("pushfl; orl $0x100, (%esp); popfl", "movl $5, data + 8"));
    check_trap("data-and-single-step", DB, NO_ERROR, insn_end);
    check("data-and-single-step-dr6", dr6() & 0xe00f, 0x4001);
    disarm();
    // Bits 13 to 15 are set by the processor and only cleared by software.
    arm(0, (u32)&data[2], WRITE, LEN4);
    set_dr6(DR6_INIT | 0x4000);
    CATCH(INSN("movl $5, data + 8"));
    check("dr6-bs-is-sticky", dr6() & 0xe00f, 0x4001);
    disarm();
    set_dr6(DR6_INIT);
}

// REP: the trap comes behind the iteration that hit.
CODE(rep_stos, "rep stosl");

static void repeated(void) {
    arm(0, (u32)&data[2], WRITE, LEN4);
    struct context c = ring_context(0, rep_stos);
    c.edi = (u32)data, c.ecx = 8;
    go(&c);
    check_trap("rep-stops-within", DB, NO_ERROR, (u32)rep_stos);
    check("rep-stops-behind-the-iteration-that-hit", trap.ecx | (trap.edi - (u32)data) << 8, 5 | 12 << 8);
    disarm();
    set_dr6(DR6_INIT);
    c.eflags = 2 | TF;
    go(&c);
    check_trap("rep-single-steps-by-iteration", DB, NO_ERROR, (u32)rep_stos);
    check("rep-single-steps-by-iteration-count", trap.ecx, 7);
    check("rep-single-step-saves-tf", trap.eflags & TF, TF);
}

static void io_breakpoints(void) {
    if (!has(F_DE)) {
        skip("io", "CPUID has no DE");
        return;
    }
    set_cr4(cr4() | CR4_DE);
    arm(0, 0x80, IO, LEN1);
    ACCESS_TEST("io-out-hits", 1, "outb %%al, $0x80", ::"a"(0));
    check("io-dr6", causes[0], 1);
    ACCESS_TEST("io-in-hits", 1, "inb $0x80, %%al", ::: "eax");
    ACCESS_TEST("io-other-port", 0, "outb %%al, $0xed", ::"a"(0));
    ACCESS_TEST("io-not-memory", 0, "movb 0x80, %%al", ::: "eax");
    arm(0, 0x80, IO, LEN4);
    ACCESS_TEST("io-length-4", 1, "outb %%al, $0x83", ::"a"(0));
    ACCESS_TEST("io-length-4-behind", 0, "outb %%al, $0x84", ::"a"(0));
    disarm();
    EXPECT_FAULT("dr4-with-de", UD, NO_ERROR, INSN(".byte 0x0f, 0x21, 0xe0", ::: "eax"));
    EXPECT_FAULT("dr5-with-de", UD, NO_ERROR, INSN(".byte 0x0f, 0x23, 0xe8", ::"a"(0)));
    set_cr4(cr4() & ~CR4_DE);
    u32 alias;
    set_dr6(DR6_INIT | 4);
    asm volatile(".byte 0x0f, 0x21, 0xe0" : "=a"(alias)); // MOV eax, dr4
    check("dr4-is-dr6-without-de", alias, DR6_INIT | 4);
    set_dr7(0x402);
    asm volatile(".byte 0x0f, 0x21, 0xe8" : "=a"(alias));
    check("dr5-is-dr7-without-de", alias, 0x402);
    disarm();
}

static void registers(void) {
    set_dr0(0x12345678), set_dr3(0x9abcdef0);
    check("dr0-reads-back", dr0(), 0x12345678);
    check("dr3-reads-back", dr3(), 0x9abcdef0);
    set_dr7(0);
    check("dr7-bit-10-is-one", dr7(), 0x400);
    set_dr7(0xf000d000 & ~0x2000);
    check("dr7-bits-12-14-15-are-zero", dr7() & 0xd400, 0x400);
    disarm();
    set_dr6(0);
    check("dr6-fixed-ones", dr6() & 0x0ff0, 0x0ff0);
    check("dr6-bit-12-is-zero", (set_dr6(0xffffffff), dr6()) & 0x1000, 0);
    set_dr6(DR6_INIT);
    // General detect: any MOV with a debug register faults before it, and GD is clear in the handler.
    for (u32 n = 0; n < 2; n++) {
        set_dr7(0x400 | 0x2000);
        insn_at = 0;
        CATCH(if (n) INSN("movl %%db0, %%eax", ::: "eax"); else INSN("movl %%eax, %%db1", ::));
        const char *how = n ? "read" : "write";
        check_trap(name_of("general-detect-%s", how), DB, NO_ERROR, insn_at);
        check(name_of("general-detect-%s-clears-gd", how), dr7() & 0x2000, 0);
        check(name_of("general-detect-%s-dr6", how), dr6() & 0xe00f, 0x2000);
        set_dr7(0x400);
        set_dr6(DR6_INIT);
    }
}

CODE(user_dr, "movl %db7, %eax");

void guest(void) {
    instruction_breakpoints();
    data_breakpoints();
    several();
    repeated();
    io_breakpoints();
    registers();
    expect_in_ring("dr-in-ring-3", 3, user_dr, GP, 0, 0);
}
