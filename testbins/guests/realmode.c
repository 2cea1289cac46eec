// Real mode and the way there and back: IVT, 16-bit INT and IRET, segment arithmetic, 64 KiB limit faults, what is #UD, and
// "big real mode", where hidden limits from protected mode stay. SDM 3A "Switching Back to Real-Address Mode"; SDM 3B "8086
// Emulation", section "Real-Address Mode".
#include "lib/guest.h"

// Places below 1 MiB: the switch code, the vector stubs, the registers, the program, its stack and its data.
#define SWITCH 0x8000
#define STUBS 0x7800
#define REGS 0x7000
#define PROGRAM 0x9000
#define CS86 0x900
#define SS86 0x2000
#define DS86 0x3000

#define CODE16_SEL SCRATCH(0) // base SWITCH
#define DATA16_SEL SCRATCH(1) // base 0, 64 KiB
#define DATA_BIG_SEL SCRATCH(2) // base 0, 4 GiB

struct regs {
    u32 eax, ebx, ecx, edx, esi, edi, ebp, esp; // 0-28
    u16 ds, es, ss, fs, gs, flags;              // 32-42; in: what POPF loads, out: inside the handler
    u16 vector, ip, cs, old_flags;              // 44-50, from the frame
};
static volatile struct regs *const regs = (volatile struct regs *)REGS;
struct table_pointer {
    u16 limit;
    u32 base;
} __attribute__((packed));
__attribute__((used)) static struct table_pointer ivt = {0x3ff, 0}, old_idt;

void real_switch(void); // loads `regs`, runs the program, comes back with `regs` as the trap found them
extern char switch_start[], switch_end[], to_real[], real_trap[];

asm(".text\n"
    "real_switch:\n"
    "    pushal\n"
    "    movl %esp, switch_esp\n"
    "    sidt old_idt\n"
    "    lidt ivt\n"
    "    movl $0x108, %eax\n" // DATA16_SEL
    "    movl %eax, %ds; movl %eax, %es; movl %eax, %ss; movl %eax, %gs\n"
    "    ljmp $0x100, $to_real - switch_start\n" // FS keeps the limit it has: 4 GiB if a test wants that
    "back:\n"
    "    movl $0x10, %eax\n"
    "    movl %eax, %ds; movl %eax, %es; movl %eax, %ss; movl %eax, %fs; movl %eax, %gs\n"
    "    movl switch_esp, %esp\n"
    "    lidt old_idt\n"
    "    popal\n"
    "    ret\n"
    ".code16\n"
    "switch_start:\n"
    "to_real:\n"
    "    movl %cr0, %eax; andb $0xfe, %al; movl %eax, %cr0\n"
    "    ljmp $0x800, $1f - switch_start\n"
    "1:  movw $0x700, %ax; movw %ax, %ds\n"
    "    movw 36, %ss; movl 28, %esp\n"
    "    movw 34, %es; movw 40, %gs\n"
    "    cmpw $0, 38; je 2f; movw 38, %fs\n" // 0: leave FS alone
    "2:  pushw 42; popfw\n"
    "    movl 0, %eax; movl 4, %ebx; movl 8, %ecx; movl 12, %edx; movl 16, %esi; movl 20, %edi; movl 24, %ebp\n"
    "    movw 32, %ds\n"
    "    ljmp *%cs:program - switch_start\n"
    "program: .word 0, 0x900\n"
    "real_trap:\n" // vector, ip, cs, flags on the stack
    "    pushl %eax; pushw %ds; pushfw\n"
    "    movw $0x700, %ax; movw %ax, %ds\n"
    "    popw 42; popw 32; popl 0; popw 44; popw 46; popw 48; popw 50\n"
    "    movl %ebx, 4; movl %ecx, 8; movl %edx, 12; movl %esi, 16; movl %edi, 20; movl %ebp, 24; movl %esp, 28\n"
    "    movw %es, 34; movw %ss, 36; movw %fs, 38; movw %gs, 40\n"
    "    cli; cld\n"
    "    movl %cr0, %eax; orb $1, %al; movl %eax, %cr0\n"
    "    ljmpl $0x8, $back\n"
    "switch_end:\n"
    ".code32\n"
    ".data\n switch_esp: .long 0\n.text\n");

// A real-mode program, ended by INT 30h. Its first byte is at 0900:0000.
#define REAL(name, text)                                                                                               \
    extern char name[], name##_end[];                                                                                  \
    asm(".text\n.code16\n.globl " #name "\n" #name ":\n" text "\nint $0x30\n.globl " #name "_end\n" #name              \
        "_end:\n.code32\n")

static void setup(void) {
    set(CODE16_SEL, desc(SWITCH, 0xffff, A_XR, 0));
    set(DATA16_SEL, desc(0, 0xffff, A_RW, 0));
    set(DATA_BIG_SEL, desc(0, 0xfffff, A_RW, G | BIG));
    memcpy((void *)SWITCH, switch_start, switch_end - switch_start);
    for (u32 v = 0; v < 64; v++) {
        u8 *s = (u8 *)(STUBS + 8 * v);
        u32 target = real_trap - switch_start + SWITCH - STUBS; // both within 64 KiB of segment 780h
        s[0] = 0x6a, s[1] = v, s[2] = 0xe9; // PUSH v; JMP rel16
        *(u16 *)(s + 3) = target - (8 * v + 5);
        ((volatile u32 *)0)[v] = 0x07800000 | 8 * v;
    }
    memset((void *)regs, 0, sizeof *regs);
    regs->ds = DS86, regs->es = 0x4000, regs->fs = 0x5000, regs->gs = 0x6000, regs->ss = SS86, regs->esp = 0x1000;
    regs->flags = 2;
}

static void run(const char *start, const char *end) {
    memcpy((void *)PROGRAM, start, end - start);
    real_switch();
    load_tr(TSS0);
}

#define RUN(program, ...)                                                                                              \
    do {                                                                                                               \
        setup();                                                                                                       \
        __VA_ARGS__;                                                                                                   \
        run(program, program##_end);                                                                                   \
    } while (0)

static void ended(const char *name, u32 vector, u32 ip) {
    check(name_of("%s-vector", name), regs->vector, vector);
    check(name_of("%s-ip", name), regs->ip, ip);
}
#define RUNS(name, program, ...)                                                                                       \
    RUN(program, __VA_ARGS__);                                                                                         \
    ended(name, 0x30, program##_end - program)
#define ENDS(name, program, vector, ip, ...)                                                                           \
    RUN(program, __VA_ARGS__);                                                                                         \
    ended(name, vector, ip)

REAL(nothing, "");
REAL(machine_status, "smsww %ax; movl %cr0, %ebx");
REAL(int_32, "int $0x32");
REAL(int_and_back, "pushw %ds; xorw %ax, %ax; movw %ax, %ds;"
                   "movw $handler - int_and_back, 0xc4; movw $0x900, 0xc6; popw %ds; stc; sti; int $0x31; pushfw; popw %cx; "
                   "jmp 1f; handler: pushfw; popw %bx; movw %sp, %dx; iretw; 1:");
REAL(divide, "divw %bx");
REAL(ud2_, "ud2");
REAL(int3_, "int3");
REAL(into_, "into");
REAL(bound_, "boundw %ax, (%bx)");
REAL(step, "pushfw; popw %ax; orb $1, %ah; pushw %ax; popfw; nop");
REAL(read_byte, "movb (%bx), %al");
REAL(read_word, "movw (%bx), %ax");
REAL(read_dword, "movl (%bx), %eax");
REAL(write_word, "movw %ax, (%bx)");
REAL(read_stack, "movw (%bp), %ax");
REAL(read_32, "addr32 movb (%ebx), %al");
REAL(pop_, "popw %ax");
REAL(push_, "pushw %ax");
REAL(push_32, "pushl %eax");
REAL(load_ds, "movw %ax, %ds; movw (%bx), %cx; movw %ds, %dx");
REAL(big_fs, "addr32 movl %fs:(%ebx), %eax; movw $0x10, %cx; movw %cx, %fs; addr32 movl %fs:(%edx), %ecx");
REAL(write_code, "movw $0x1234, %cs:0x800; movw %cs:0x800, %ax");
REAL(far_32, "ljmpl $0x900, $0x10000");
REAL(jump_up, "incw %cx; cmpw $2, %cx; je 1f; jmpw *%ax; 1:"); // comes around only if IP wraps
REAL(flags_, "pushw %ax; popfw; pushfw; popw %bx");
REAL(string, "cld; rep movsb");
REAL(no_lldt, "lldtw %ax");
REAL(no_ltr, "ltrw %ax");
REAL(no_sldt, "sldtw %ax");
REAL(no_str, "strw %ax");
REAL(no_lar, "larw %ax, %bx");
REAL(no_lsl, "lslw %ax, %bx");
REAL(no_verr, "verrw %ax");
REAL(no_arpl, "arplw %ax, %bx");
REAL(clts_, "clts");
REAL(set_pg, "movl %cr0, %eax; orl $0x80000000, %eax; movl %eax, %cr0");
REAL(short_idt, "lidtl (%bx); int $0x31");
REAL(lidt_24, "lidtw (%bx); sidtl 8(%bx); lidtl 16(%bx)");

static void modes(void) {
    RUNS("round-trip", nothing, regs->eax = 0x89abcdef, regs->edi = 0x12345678, regs->ebp = 0x55667788);
    check("round-trip-keeps-32-bit-registers", regs->eax ^ regs->edi ^ regs->ebp, 0x89abcdef ^ 0x12345678 ^ 0x55667788);
    check("round-trip-segments", regs->ds | regs->gs << 16, DS86 | 0x6000 << 16);
    RUNS("machine-status", machine_status);
    check("pe-is-clear", (regs->eax | regs->ebx) & 1, 0);
}

static void interrupts(void) {
    RUN(int_32, regs->flags = 2 | IF | CF | DF);
    ended("int-n", 0x32, 2);
    check("int-n-saves-cs-and-flags", regs->cs | regs->old_flags << 16, CS86 | (2 | IF | CF | DF) << 16);
    check("int-n-clears-if", regs->flags & 0xfff, 2 | CF | DF);
    check("int-n-pushes-three-words", regs->esp, 0x1000);
    RUNS("int-and-iret", int_and_back);
    check("iret-restores-flags", regs->ecx & (IF | CF), IF | CF);
    check("int-clears-if-inside", regs->ebx & (IF | CF), CF);
    check("int-pushed-six-bytes", regs->edx & 0xffff, 0xffa);
    ENDS("de-saves-the-instruction", divide, DE, 0, regs->ebx = 0);
    ENDS("ud2", ud2_, UD, 0);
    ENDS("int3", int3_, BP, 1);
    ENDS("into", into_, OF_, 1, regs->flags = 2 | OF);
    *(volatile u32 *)(DS86 << 4) = 20 << 16 | 10;
    ENDS("bound", bound_, BR, 0, regs->eax = 9, regs->ebx = 0);
    ENDS("single-step", step, DB, 8);
    check("single-step-clears-tf-inside", regs->flags & TF, 0);
    check("single-step-saves-tf", regs->old_flags & TF, TF);
    RUNS("flags", flags_, regs->eax = 0x7ed5);
    check("iopl-and-nt-can-be-set", regs->ebx & 0xffff, 0x7ed7);
    // The table's limit, and another place for it.
    struct table_pointer *p = (struct table_pointer *)(DS86 << 4);
    p->limit = 0xc3, p->base = 0; // vectors 0-30h
    ENDS("int-n-beyond-the-table", short_idt, GP, 4, regs->ebx = 0);
    check("int-n-beyond-the-table-pushes-no-error-code", regs->esp, 0x1000);
    p->limit = 0x3ff, p->base = 0x6000;
    memcpy((void *)0x6000, (void *)0, 0x400);
    *(volatile u32 *)(0x6000 + 4 * 0x31) = 0x07800000 | 8 * 0x2f;
    ENDS("another-table", short_idt, 0x2f, 6, regs->ebx = 0);
    // A 16-bit LIDT loads 24 bits of base.
    p->limit = 0x3ff, p->base = 0xff123456;
    struct table_pointer *normal = (struct table_pointer *)((DS86 << 4) + 16);
    normal->limit = 0x3ff, normal->base = 0;
    RUNS("lidt-16", lidt_24, regs->ebx = 0);
    check("lidt-16-loads-24-bits", ((struct table_pointer *)((DS86 << 4) + 8))->base, 0x123456);
}

static void memory(void) {
    *(volatile u16 *)0x34568 = 0xbeef;
    RUNS("load-ds", load_ds, regs->eax = 0x3456, regs->ebx = 8);
    check("load-ds-base", regs->ecx & 0xffff, 0xbeef);
    check("load-ds-selector", regs->edx & 0xffff, 0x3456);
    RUNS("ffff-0014", load_ds, regs->eax = 0xffff, regs->ebx = 0x14);
    check("ffff-0014-is-above-1-mib", regs->ecx & 0xffff, *(volatile u16 *)0x100004);
    RUNS("byte-at-ffff", read_byte, regs->ebx = 0xffff);
    ENDS("word-at-ffff", read_word, GP, 0, regs->ebx = 0xffff);
    ENDS("dword-at-fffd", read_dword, GP, 0, regs->ebx = 0xfffd);
    ENDS("write-word-at-ffff", write_word, GP, 0, regs->ebx = 0xffff);
    ENDS("stack-word-at-ffff", read_stack, SS, 0, regs->ebp = 0xffff);
    ENDS("32-bit-offset-10000", read_32, GP, 0, regs->ebx = 0x10000);
    check("a-fault-pushes-no-error-code", regs->esp, 0x1000);
    RUNS("32-bit-offset-ffff", read_32, regs->ebx = 0xffff);
    ENDS("pop-at-ffff", pop_, SS, 0, regs->esp = 0xffff);
    RUNS("push-wraps", push_, regs->esp = 0, regs->eax = 0x4321);
    check("push-wraps-value", *(volatile u16 *)((SS86 << 4) + 0xfffe), 0x4321);
    check("push-wraps-sp", regs->esp & 0xffff, 0xfffe);
    RUNS("push-32", push_32, regs->eax = 0x87654321);
    check("push-32-value", *(volatile u32 *)((SS86 << 4) + 0xffc), 0x87654321);
    RUNS("write-code-segment", write_code);
    check("write-code-segment-value", regs->eax & 0xffff, 0x1234);
    *(volatile u8 *)(PROGRAM + 0xffff) = 0x90;
    *(volatile u16 *)(PROGRAM + 0x10000) = 0x30cd; // INT 30h, for those who get there
    ENDS("fetch-beyond-ffff", jump_up, GP, 0, regs->eax = 0xffff);
    ENDS("far-jump-beyond-ffff", far_32, GP, 0);
    *(volatile u8 *)((DS86 << 4) + 0xffff) = 0x5a, *(volatile u8 *)(DS86 << 4) = 0xa5;
    RUNS("string-wraps", string, regs->esi = 0xffff, regs->edi = 0x10, regs->ecx = 2);
    check("string-wraps-bytes", *(volatile u16 *)0x40010, 0xa55a);
    check("string-wraps-registers", (regs->esi & 0xffff) | regs->edi << 16, 1 | 0x12 << 16);
}

__attribute__((used)) static u32 high_word = 0xfeedface;

static void big_real_mode(void) {
    setup();
    regs->fs = 0; // keep what protected mode loaded
    regs->ebx = (u32)&high_word, regs->edx = (u32)&high_word - 0x100; // second: base 100h, limit still 4 GiB
    asm volatile("movw %w0, %%fs" ::"r"(DATA_BIG_SEL));
    run(big_fs, big_fs_end);
    ended("big-real-mode", 0x30, big_fs_end - big_fs);
    check("big-real-mode-reads-above-1-mib", regs->eax, 0xfeedface);
    check("big-real-mode-limit-survives-a-load", regs->ecx, 0xfeedface);
}

static void instructions(void) {
    ENDS("lldt-is-ud", no_lldt, UD, 0);
    ENDS("ltr-is-ud", no_ltr, UD, 0);
    ENDS("sldt-is-ud", no_sldt, UD, 0);
    ENDS("str-is-ud", no_str, UD, 0);
    ENDS("lar-is-ud", no_lar, UD, 0);
    ENDS("lsl-is-ud", no_lsl, UD, 0);
    ENDS("verr-is-ud", no_verr, UD, 0);
    ENDS("arpl-is-ud", no_arpl, UD, 0);
    RUNS("clts-is-allowed", clts_);
    if (!qemu_goes_down("pg-without-pe-vector")) {
        ENDS("pg-without-pe", set_pg, GP, 9);
    }
}

void guest(void) {
    modes();
    interrupts();
    memory();
    big_real_mode();
    instructions();
}
