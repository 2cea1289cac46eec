// What a feature guest writes against: see docs/guests.md. One header for C and assembly.
#ifndef GUEST_H
#define GUEST_H

// Selectors of the initial GDT (boot.S). SCRATCH(n) are 96 free slots.
#define KCODE 0x08
#define KDATA 0x10
#define UCODE 0x1b
#define UDATA 0x23
#define CODE1 0x29
#define DATA1 0x31
#define CODE2 0x3a
#define DATA2 0x42
#define TSS0 0x48
#define CONF0 0x50
#define CONF3 0x58
#define NPDATA 0x60
#define NPCODE 0x68
#define XCODE 0x70
#define RODATA 0x78
#define SCRATCH(n) (0x100 + (n) * 8)

#define NO_ERROR 0xffffffff  // trap.error of a vector that pushes none
#define NO_VECTOR 0xffff     // trap.vector when nothing was trapped
#define RET_VECTOR 0x30      // INT 30h (dpl 3): the way home from other rings and modes

// EFLAGS
#define CF 0x1
#define PF 0x4
#define AF 0x10
#define ZF 0x40
#define SF 0x80
#define TF 0x100
#define IF 0x200
#define DF 0x400
#define OF 0x800
#define IOPL(n) ((n) << 12)
#define NT 0x4000
#define RF 0x10000
#define VM 0x20000
#define AC 0x40000
#define VIF 0x80000
#define VIP 0x100000
#define ID 0x200000

// Offsets into struct trap and struct context, for trap.S; tables.c checks them.
#define T_GS 0
#define T_FS 4
#define T_ES 8
#define T_DS 12
#define T_EDI 16
#define T_ESI 20
#define T_EBP 24
#define T_OUR_ESP 28
#define T_EBX 32
#define T_EDX 36
#define T_ECX 40
#define T_EAX 44
#define T_VECTOR 48
#define T_ERROR 52
#define T_EIP 56
#define T_CS 60
#define T_EFLAGS 64
#define T_ESP 68
#define T_SS 72
#define T_CR2 76
#define T_FRAME_ESP 80
#define T_FRAME_SS 84
#define C_EDI 0
#define C_ESI 4
#define C_EBP 8
#define C_EBX 12
#define C_EDX 16
#define C_ECX 20
#define C_EAX 24
#define C_DS 28
#define C_ES 32
#define C_FS 36
#define C_GS 40
#define C_EIP 44
#define C_CS 48
#define C_EFLAGS 52
#define C_ESP 56
#define C_SS 60

#ifndef ASM

// Loop variables around CATCH() do not change inside it, so that what catch_set() kept is what they are.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wclobbered"
#endif
// Fixed addresses and addresses from the linker script are memory here.
#pragma GCC diagnostic ignored "-Warray-bounds"
#pragma GCC diagnostic ignored "-Wstringop-overflow"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int i32;

enum { DE, DB, NMI, BP, OF_, BR, UD, NM, DFAULT, CSO, TS, NP, SS, GP, PF_, MF = 16, AC_, MC, XM };

// The last trap, as the stub found it.
struct trap {
    u32 gs, fs, es, ds, edi, esi, ebp, our_esp, ebx, edx, ecx, eax;
    u32 vector, error, eip, cs, eflags, esp, ss; // esp and ss: the interrupted ones
    u32 cr2, frame_esp, frame_ss;                // frame_esp: ESP after the frame was popped
    u32 count;                                   // traps so far
};
// What go() loads.
struct context {
    u32 edi, esi, ebp, ebx, edx, ecx, eax, ds, es, fs, gs, eip, cs, eflags, esp, ss;
};
struct tss32 {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, iomap;
    u8 bitmap[8192 + 1 + 35];
} __attribute__((packed, aligned(4)));

extern volatile struct trap trap;
extern volatile u32 insn_at, insn_end; // set by INSN()
extern volatile u64 gdt[128], idt[256], ldt[64];
extern struct tss32 tss0;
extern char trap_stack_top[], user_stack_top[], main_stack_top[], trap_stubs[], ring_return[], image_end[];

// ---- reporting (report.c) ----
void say(const char *format, ...); // %s %c %u %d %x %08x-like widths %%
void check(const char *name, u32 got, u32 want);
void check_true(const char *name, int condition);
void check_trap(const char *name, u32 vector, u32 error, u32 eip); // against `trap`; eip 0: not compared
void skip(const char *name, const char *reason);
int qemu_goes_down(const char *name); // `if (!qemu_goes_down(name)) EXPECT_...(name, ...)`
void note(const char *name, const char *text, u32 value);
void finish(void) __attribute__((noreturn));
const char *name_of(const char *format, ...); // builds a check's name in one of 16 static buffers, in turn

// ---- catching (trap.S, trap.c) ----
int catch_set(void) __attribute__((returns_twice));
void catch_begin(void);
void catch_end(void);
u32 go(const struct context *c);
enum { CATCH_IT, RESUME };
typedef int (*hook_fn)(void);
extern volatile hook_fn hooks[256]; // called with `trap` filled in; RESUME: IRET with what the hook left in it

// Runs the statements; the value is the vector of the trap that ended them, or NO_VECTOR.
#define CATCH(...)                                                                                                     \
    ({                                                                                                                 \
        catch_begin();                                                                                                 \
        if (catch_set() == 0) {                                                                                        \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
        catch_end();                                                                                                   \
        trap.vector;                                                                                                   \
    })
// One instruction whose address (insn_at) and next address (insn_end) are known afterwards. Operands as in asm().
#define INSN(text, ...) INSN_AFTER("", text, __VA_ARGS__)
// The same with other instructions run immediately before it (flags, segment registers).
#define INSN_AFTER(setup, text, ...)                                                                                   \
    do {                                                                                                               \
        asm volatile("" ::: "memory");                                                                                 \
        asm volatile("movl $770f, insn_at\n\tmovl $771f, insn_end\n\t" setup "\n770:\t" text "\n771:" __VA_ARGS__);   \
        asm volatile("" ::: "memory");                                                                                 \
    } while (0)
// A fault saves the address of the instruction (if INSN was used), a trap the address of the next one.
#define EXPECT_FAULT(name, vector, error, ...)                                                                         \
    do {                                                                                                               \
        insn_at = insn_end = 0;                                                                                        \
        CATCH(__VA_ARGS__);                                                                                            \
        check_trap(name, vector, error, insn_at);                                                                      \
    } while (0)
#define EXPECT_TRAP(name, vector, error, ...)                                                                          \
    do {                                                                                                               \
        insn_at = insn_end = 0;                                                                                        \
        CATCH(__VA_ARGS__);                                                                                            \
        check_trap(name, vector, error, insn_end);                                                                     \
    } while (0)
#define EXPECT_NONE(name, ...)                                                                                         \
    do {                                                                                                               \
        CATCH(__VA_ARGS__);                                                                                            \
        check_trap(name, NO_VECTOR, NO_ERROR, 0);                                                                      \
    } while (0)

// ---- rings and modes ----
extern u32 ring_eflags;                // EFLAGS that in_ring() enters with (2 unless a guest sets it)
u32 in_ring(int ring, void (*fn)(void)); // calls fn in that ring; vector of the trap that ended it, RET_VECTOR if it returned
// in_ring() and check_trap() in one; `at`: how far into fn the saved EIP is, ANYWHERE: not compared.
#define ANYWHERE 0x7fffffff
void expect_in_ring(const char *name, int ring, void (*fn)(void), u32 vector, u32 error, u32 at);
struct context ring_context(int ring, void (*fn)(void));
// A plain piece of assembly as a function, ended by the way home: CODE(name, "text").
#define CODE(name, text)                                                                                               \
    void name(void);                                                                                                   \
    asm(".text\n.globl " #name "\n" #name ":\n" text "\nint $0x30\n.globl " #name "_end\n" #name "_end:\n");                    \
    extern char name##_end[]
// 16-bit code. In virtual-8086 mode the HLT behind it faults and so ends it: #GP(0) at name_end - 1.
#define CODE16(name, text)                                                                                             \
    void name(void);                                                                                                   \
    asm(".text\n.code16\n.globl " #name "\n" #name ":\n" text "\nhlt\n.globl " #name          \
        "_end\n" #name "_end:\n.code32\n");                                                                           \
    extern char name##_end[]
u32 copy_low(u32 to, void (*code)(void), char *end); // copies a piece of code below 1 MiB; returns `to`

// ---- descriptors (tables.c) ----
// access: the byte at offset 5; flags: G=8, B/D=4. desc() takes the raw 20-bit limit.
u64 desc(u32 base, u32 limit, u32 access, u32 flags);
u64 gate(u32 selector, u32 offset, u32 access, u32 params);
#define G 8
#define BIG 4
enum {
    A_TSS16 = 0x81, A_LDT, A_TSS16_BUSY, A_CALL16, A_TASK, A_INT16, A_TRAP16, A_TSS32 = 0x89, A_TSS32_BUSY = 0x8b, A_CALL32,
    A_INT32 = 0x8e, A_TRAP32,
    A_RO = 0x90, A_RW = 0x92, A_RO_DOWN = 0x94, A_RW_DOWN = 0x96, A_X = 0x98, A_XR = 0x9a, A_XC = 0x9c, A_XRC = 0x9e,
};
#define DPL(n) ((n) << 5)
u32 set(u32 selector, u64 descriptor); // writes gdt[selector / 8] (or the LDT's when TI is set); returns the selector
u32 access_byte(u32 selector);
void set_idt(u32 vector, u64 descriptor);
void default_idt(u32 vector);
void load_ldt(void); // LDTR := a descriptor of `ldt` (64 slots), with selector LDT_SEL
#define LDT_SEL 0xf8
void load_tr(u32 selector); // clears its busy bit first
u32 stub(u32 vector);       // address of the recording stub

// ---- paging (paging.c) ----
enum { P = 1, W = 2, U = 4, PWT = 8, PCD = 16, A = 32, D = 64, PS = 128, GLOBAL = 256 };
#define WINDOW 0x40000000 // 4 MiB of linear addresses for tests: one page table, nothing mapped at first
void paging_on(void);     // two-level: 0-32 MiB mapped to itself P|W|U, kernel usable in every ring
void paging_off(void);
u32 *pde(u32 linear);
u32 *pte(u32 linear);
void map(u32 linear, u32 physical, u32 bits); // allocates the table if there is none, and does INVLPG
extern u32 page_directory[1024];
void pae_on(void); // three-level, the same linear addresses
u64 *pae_pde(u32 linear);
u64 *pae_pte(u32 linear);
void pae_map(u32 linear, u64 physical, u64 bits);
extern u64 pdpt[4];
u32 *new_table(void); // a zeroed page
u32 frame(u32 n);     // physical address of the n-th of 64 spare 4 KiB pages
static inline void invlpg(u32 linear) { asm volatile("invlpg (%0)" ::"r"(linear) : "memory"); }

// ---- the processor ----
#define READ_WRITE_CR(n)                                                                                               \
    static inline u32 cr##n(void) { u32 v; asm volatile("movl %%cr" #n ", %0" : "=r"(v)::"memory"); return v; }        \
    static inline void set_cr##n(u32 v) { asm volatile("movl %0, %%cr" #n ::"r"(v) : "memory"); }
READ_WRITE_CR(0)
READ_WRITE_CR(2)
READ_WRITE_CR(3)
READ_WRITE_CR(4)
#define READ_WRITE_DR(n)                                                                                               \
    static inline u32 dr##n(void) { u32 v; asm volatile("movl %%db" #n ", %0" : "=r"(v)); return v; }                  \
    static inline void set_dr##n(u32 v) { asm volatile("movl %0, %%db" #n ::"r"(v) : "memory"); }
READ_WRITE_DR(0)
READ_WRITE_DR(1)
READ_WRITE_DR(2)
READ_WRITE_DR(3)
READ_WRITE_DR(6)
READ_WRITE_DR(7)
enum { PE = 1, MP = 2, EM = 4, TS_BIT = 8, NE = 0x20, WP = 0x10000, AM = 0x40000, NW = 0x20000000, CD = 0x40000000 };
#define PG 0x80000000
enum {
    CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_MCE = 64, CR4_PGE = 128,
    CR4_PCE = 256, CR4_UMIP = 0x800, CR4_SMEP = 0x100000, CR4_SMAP = 0x200000,
};
int has_cpuid(void);
struct cpuid { u32 eax, ebx, ecx, edx; };
struct cpuid cpuid(u32 leaf, u32 subleaf);
// Features: leaf 1 EDX bit n is F(1, n); leaf 1 ECX 32+n; leaf 7 EBX 64+n; leaf 7 ECX 96+n; 80000001h EDX 128+n, ECX 160+n.
enum {
    F_VME = 1, F_DE, F_PSE, F_TSC, F_MSR, F_PAE, F_SEP = 11, F_PGE = 13, F_CMOV = 15, F_PAT, F_PSE36 = 17,
    F_SMEP = 64 + 7, F_SMAP = 64 + 20, F_UMIP = 96 + 2, F_NX = 128 + 20,
};
int has(u32 feature);
u64 rdmsr(u32 msr);
void wrmsr(u32 msr, u64 value);
static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 eflags(void) { u32 v; asm volatile("pushfl; popl %0" : "=r"(v)); return v; }
static inline void set_eflags(u32 v) { asm volatile("pushl %0; popfl" ::"r"(v) : "memory", "cc"); }
void *memset(void *to, int value, u32 count);
void *memcpy(void *to, const void *from, u32 count);

// The number behind `word` on the command line, as in "shutdown=3"; 0 if it is not there.
u32 asked_for(const char *word);

void guest(void); // the guest's own code

#endif
#endif
