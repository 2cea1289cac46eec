// What the stubs in trap.S call, and the helpers around them.
#include "guest.h"

volatile struct trap trap;
volatile u32 insn_at, insn_end;
volatile hook_fn hooks[256];
u32 ring_eflags = 2;
extern u32 catch_buf[6];
void catch_resume(void) __attribute__((noreturn));
void unexpected_trap(void) __attribute__((noreturn));

void trap_handler(void) {
    trap.count++;
    hook_fn hook = hooks[trap.vector & 255];
    if (hook && hook() == RESUME)
        return;
    if (!catch_buf[0])
        unexpected_trap();
    catch_resume();
}

void catch_begin(void) {
    trap.vector = NO_VECTOR;
    trap.error = NO_ERROR;
    trap.eip = 0;
}

void catch_end(void) { catch_buf[0] = 0; }

struct context ring_context(int ring, void (*fn)(void)) {
    static const u16 code[4] = {KCODE, CODE1, CODE2, UCODE}, data[4] = {KDATA, DATA1, DATA2, UDATA};
    u32 *stack = (u32 *)user_stack_top;
    *--stack = (u32)ring_return;
    struct context c = {.ds = data[ring], .es = data[ring], .fs = data[ring], .gs = data[ring], .ss = data[ring],
                        .cs = code[ring], .eip = (u32)fn, .esp = (u32)stack, .eflags = ring_eflags};
    return c;
}

u32 in_ring(int ring, void (*fn)(void)) {
    struct context c = ring_context(ring, fn);
    return go(&c);
}

void expect_in_ring(const char *name, int ring, void (*fn)(void), u32 vector, u32 error, u32 at) {
    in_ring(ring, fn);
    check_trap(name, vector, error, at == ANYWHERE ? 0 : (u32)fn + at);
}

u32 copy_low(u32 to, void (*code)(void), char *end) {
    memcpy((void *)to, (void *)code, (u32)end - (u32)code);
    return to;
}

// (dwords first: each is an instruction's iteration, and guests are counted and compared by them)
void *memset(void *to, int value, u32 count) {
    void *at = to;
    u32 dwords = count / 4, bytes = count % 4;
    asm volatile("rep stosl" : "+D"(at), "+c"(dwords) : "a"((u8)value * 0x01010101u) : "memory");
    asm volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, u32 count) {
    void *at = to;
    u32 dwords = count / 4, bytes = count % 4;
    asm volatile("rep movsl" : "+D"(at), "+S"(from), "+c"(dwords)::"memory");
    asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes)::"memory");
    return to;
}

int has_cpuid(void) {
    set_eflags(eflags() | ID);
    u32 on = eflags() & ID;
    set_eflags(eflags() & ~ID);
    return on && !(eflags() & ID);
}

struct cpuid cpuid(u32 leaf, u32 subleaf) {
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

int has(u32 feature) {
    if (!has_cpuid())
        return 0;
    u32 leaf = feature < 64 ? 1 : feature < 128 ? 7 : 0x80000001;
    if (cpuid(leaf & 0x80000000, 0).eax < leaf)
        return 0;
    struct cpuid c = cpuid(leaf, 0);
    u32 word = feature < 32 ? c.edx : feature < 64 ? c.ecx : feature < 96 ? c.ebx : feature < 128 ? c.ecx
                                                         : feature < 160  ? c.edx
                                                                          : c.ecx;
    return word >> (feature & 31) & 1;
}

u64 rdmsr(u32 msr) {
    u64 v;
    asm volatile("rdmsr" : "=A"(v) : "c"(msr));
    return v;
}

void wrmsr(u32 msr, u64 value) { asm volatile("wrmsr" ::"A"(value), "c"(msr) : "memory"); }

// Multiboot Specification, "Boot information format".
extern struct {
    u32 flags, mem_lower, mem_upper, boot_device;
    const char *cmdline;
} *boot_info;

u32 asked_for(const char *word) {
    if (!(boot_info->flags & 4))
        return 0;
    for (const char *at = boot_info->cmdline; *at; at++) {
        u32 n = 0, value = 0;
        while (word[n] && at[n] == word[n])
            n++;
        if (word[n] || at[n] != '=')
            continue;
        for (n++; at[n] >= '0' && at[n] <= '9'; n++)
            value = value * 10 + at[n] - '0';
        return value;
    }
    return 0;
}
