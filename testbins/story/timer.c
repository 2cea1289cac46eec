// The two 8259A interrupt controllers and channel 0 of the 8254 timer. Out of reset IRQ 0 to 7 would arrive as vectors 8 to 15,
// where the processor's own exceptions are, so the controllers are told to use vectors from 20h on.
#include "kernel.h"

enum { MASTER = 0x20, SLAVE = 0xA0, END_OF_INTERRUPT = 0x20, READ_IN_SERVICE = 0x0B };

volatile u32 ticks;

void timer_init(void) {
    outb(MASTER, 0x11); // ICW1: edge triggered, cascaded, ICW4 follows
    outb(SLAVE, 0x11);
    outb(MASTER + 1, IRQ0); // ICW2: first vector
    outb(SLAVE + 1, IRQ0 + 8);
    outb(MASTER + 1, 1 << IRQ_CASCADE); // ICW3: where the slave hangs, on either side
    outb(SLAVE + 1, IRQ_CASCADE);
    outb(MASTER + 1, 1); // ICW4: 8086 mode
    outb(SLAVE + 1, 1);
    outb(MASTER + 1, (u8) ~(1 << IRQ_TIMER | 1 << IRQ_CASCADE | 1 << IRQ_SERIAL)); // mask all others
    outb(SLAVE + 1, (u8) ~(1 << (IRQ_DISK - 8)));

    u32 divisor = 1193182 / TIMER_HZ;
    outb(0x43, 0x34); // channel 0, low byte then high byte, mode 2: one pulse per period
    outb(0x40, (u8)divisor);
    outb(0x40, (u8)(divisor >> 8));
}

// A request that is withdrawn before it is acknowledged arrives as IRQ 7 (or 15) with no bit in service.
int irq_begin(u32 irq) {
    u16 chip = irq < 8 ? MASTER : SLAVE;
    if (irq % 8 != 7)
        return 1;
    outb(chip, READ_IN_SERVICE);
    if (inb(chip) & 0x80)
        return 1;
    if (chip == SLAVE)
        outb(MASTER, END_OF_INTERRUPT); // for the cascade, which was real
    return 0;
}

void irq_end(u32 irq) {
    if (irq >= 8)
        outb(SLAVE, END_OF_INTERRUPT);
    outb(MASTER, END_OF_INTERRUPT);
}
