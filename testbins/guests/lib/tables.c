// GDT, IDT, LDT and the main TSS, the interrupt controllers silenced, and the way into guest().
#include "guest.h"

volatile u64 idt[256] __attribute__((aligned(8)));
volatile u64 ldt[64] __attribute__((aligned(8)));
struct tss32 tss0;
struct {
    u16 limit;
    u32 base;
} __attribute__((packed)) idt_pointer = {sizeof idt - 1, (u32)idt};

void serial_init(void);

#define SAME(macro, type, field) _Static_assert(macro == __builtin_offsetof(struct type, field), #macro)
SAME(T_GS, trap, gs);
SAME(T_EAX, trap, eax);
SAME(T_VECTOR, trap, vector);
SAME(T_SS, trap, ss);
SAME(T_CR2, trap, cr2);
SAME(T_FRAME_SS, trap, frame_ss);
SAME(C_EAX, context, eax);
SAME(C_GS, context, gs);
SAME(C_SS, context, ss);
_Static_assert(__builtin_offsetof(struct tss32, bitmap) == 104, "TSS");

u64 desc(u32 base, u32 limit, u32 access, u32 flags) {
    u32 low = (limit & 0xffff) | base << 16;
    u32 high = (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000);
    return low | (u64)high << 32;
}

u64 gate(u32 selector, u32 offset, u32 access, u32 params) {
    return (u64)((offset & 0xffff0000) | access << 8 | params) << 32 | selector << 16 | (offset & 0xffff);
}

static volatile u64 *slot(u32 selector) { return selector & 4 ? &ldt[selector >> 3] : &gdt[selector >> 3]; }

u32 set(u32 selector, u64 descriptor) {
    *slot(selector) = descriptor;
    return selector;
}

u32 access_byte(u32 selector) { return *slot(selector) >> 40 & 0xff; }

u32 stub(u32 vector) { return (u32)trap_stubs + vector * 16; }

void set_idt(u32 vector, u64 descriptor) { idt[vector] = descriptor; }

// Everything may be reached by INT n of ring 0; #BP, #OF and the return vector of any ring.
void default_idt(u32 vector) {
    u32 dpl = vector == BP || vector == OF_ || vector == RET_VECTOR ? 3 : 0;
    set_idt(vector, gate(KCODE, stub(vector), A_INT32 | DPL(dpl), 0));
}

void load_ldt(void) {
    set(LDT_SEL, desc((u32)ldt, sizeof ldt - 1, A_LDT, 0));
    asm volatile("lldt %w0" ::"r"(LDT_SEL) : "memory");
}

void load_tr(u32 selector) {
    gdt[selector >> 3] &= ~((u64)2 << 40);
    asm volatile("ltr %w0" ::"r"(selector) : "memory");
}

static void silence_pics(void) {
    outb(0x20, 0x11), outb(0xa0, 0x11); // ICW1
    outb(0x21, 0x20), outb(0xa1, 0x28); // vectors 20h-2Fh
    outb(0x21, 4), outb(0xa1, 2);       // cascade on IRQ 2
    outb(0x21, 1), outb(0xa1, 1);       // 8086 mode
    outb(0x21, 0xff), outb(0xa1, 0xff); // all masked
}

void guest_start(void) {
    serial_init();
    silence_pics();
    for (u32 v = 0; v < 256; v++)
        default_idt(v);
    asm volatile("lidt %0" ::"m"(idt_pointer));
    tss0.ss0 = KDATA, tss0.ss1 = DATA1, tss0.ss2 = DATA2;
    tss0.esp0 = (u32)trap_stack_top;
    tss0.iomap = 104;
    memset(tss0.bitmap, 0xff, sizeof tss0.bitmap);
    set(TSS0, desc((u32)&tss0, 104 + 8192, A_TSS32, 0));
    load_tr(TSS0);
    guest();
    finish();
}
