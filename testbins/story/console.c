// The first serial port, a 16550A at 3F8h: what the kernel and the processes say goes into a ring of memory, and the
// transmitter's interrupt fetches it from there. Nobody spins waiting for a line that is slower than the processor.
#include "kernel.h"

#define COM1 0x3F8
enum { DATA = COM1, ENABLE = COM1 + 1, IDENTIFY = COM1 + 2, FIFO = COM1 + 2, LINE = COM1 + 3, MODEM = COM1 + 4, STATUS = COM1 + 5 };
#define HOLDING_EMPTY 0x20
#define ALL_SENT 0x40

static char ring[4096];
static u32 ring_in, ring_out; // counted up for ever; their difference is what waits
static u32 fifo_depth;
static int sending;

void console_init(void) {
    outb(ENABLE, 0);
    outb(LINE, 0x80); // divisor latch
    outb(DATA, 1);    // 115200 baud
    outb(ENABLE, 0);
    outb(LINE, 0x03); // 8 bits, no parity, 1 stop bit
    outb(FIFO, 0x07); // on, and both emptied
    fifo_depth = (inb(IDENTIFY) & 0xC0) == 0xC0 ? 16 : 1;
    outb(MODEM, 0x0B); // OUT2 lets the interrupt through to the 8259A
    outb(ENABLE, 0x02); // tell us when the transmitter has room
}

// Hands the transmitter as much as it takes, if it is ready for more.
static void pump(void) {
    if (ring_in == ring_out) {
        sending = 0;
        return;
    }
    sending = 1;
    if (inb(STATUS) & HOLDING_EMPTY)
        for (u32 i = 0; i < fifo_depth && ring_in != ring_out; i++)
            outb(DATA, (u8)ring[ring_out++ % sizeof ring]);
}

void console_interrupt(void) {
    while (!(inb(IDENTIFY) & 1)) // bit 0 clear: a cause is pending; reading it takes back "transmitter empty"
        pump();
}

void console_write(const char *text, u32 size) {
    for (u32 i = 0; i < size; i++) {
        while (ring_in - ring_out == sizeof ring)
            wait_for_interrupt();
        ring[ring_in++ % sizeof ring] = text[i];
    }
    if (!sending)
        pump();
}

void console_drain(void) {
    while (sending)
        wait_for_interrupt();
    while (!(inb(STATUS) & ALL_SENT)) // the last character is on the wire: the timer wakes us to look again
        wait_for_interrupt();
}

static void print_list(const char *text, va_list values) {
    char line[256];
    console_write(line, format(line, sizeof line, text, values));
}

void print(const char *text, ...) {
    va_list values;
    va_start(values, text);
    print_list(text, values);
    va_end(values);
}

void leave(u8 status) {
    outb(0xF4, status);
    for (;;) // no such port on this machine
        __asm__ volatile("cli; hlt");
}

// The kernel itself cannot go on. Nothing that needs interrupts is used here.
void fail(const char *text, ...) {
    char line[256];
    va_list values;
    va_start(values, text);
    u32 size = format(line, sizeof line, text, values);
    va_end(values);
    for (; ring_out != ring_in; ring_out++) {
        while (!(inb(STATUS) & HOLDING_EMPTY)) {
        }
        outb(DATA, (u8)ring[ring_out % sizeof ring]);
    }
    for (u32 i = 0; i < size; i++) {
        while (!(inb(STATUS) & HOLDING_EMPTY)) {
        }
        outb(DATA, (u8)line[i]);
    }
    while (!(inb(STATUS) & ALL_SENT)) {
    }
    leave(1);
}

// The compiler calls these for arrays and structures.
void *memset(void *to, int value, u32 count) {
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, u32 count) {
    void *at = to;
    u32 words = count / 4, rest = count % 4;
    __asm__ volatile("rep movsl" : "+D"(at), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(rest) : : "memory");
    return to;
}
