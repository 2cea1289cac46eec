// The swap disk: master on the primary ATA channel, programmed I/O, 28-bit sector addresses. The kernel sleeps in HLT until
// IRQ 14 says that a sector can be fetched or has been taken.
#include "kernel.h"

enum { DATA = 0x1F0, COUNT = 0x1F2, LBA = 0x1F3, DRIVE = 0x1F6, COMMAND = 0x1F7, STATUS = 0x1F7, CONTROL = 0x3F6, LOOK = 0x3F6 };
enum { BUSY = 0x80, READY_BIT = 0x40, FAULT = 0x20, REQUEST = 0x08, ERROR = 0x01 };
enum { READ_SECTORS = 0x20, WRITE_SECTORS = 0x30, IDENTIFY_DEVICE = 0xEC };
#define SECTORS_PER_PAGE 8
#define WORDS 256

u32 disk_sectors;
char disk_model[41];
static volatile int answered;

// Reading STATUS takes the drive's interrupt request back, so only the handler reads it. LOOK shows the same bits and does not.
void disk_interrupt(void) {
    (void)inb(STATUS);
    answered = 1;
}

static void read_words(u16 *to) {
    u32 count = WORDS;
    __asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(DATA) : "memory");
}

static void write_words(const u16 *from) {
    u32 count = WORDS;
    __asm__ volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(DATA) : "memory");
}

// Waits until the drive is not busy and, if `bits` are asked for, shows them.
static void poll(u8 bits) {
    for (u32 since = ticks;;) {
        u8 status = inb(LOOK);
        if (!(status & BUSY)) {
            if (status & (ERROR | FAULT))
                fail("   the swap disk reports an error: status %x\n", status);
            if ((status & bits) == bits)
                return;
        }
        if (ticks - since > 10 * TIMER_HZ)
            fail("   the swap disk has not answered for ten seconds: status %x\n", status);
        wait_for_interrupt();
    }
}

static void await_interrupt(u8 bits) {
    for (u32 since = ticks; !answered;) {
        wait_for_interrupt();
        if (ticks - since > 10 * TIMER_HZ)
            fail("   the swap disk has not raised IRQ 14 for ten seconds\n");
    }
    answered = 0;
    poll(bits);
}

void disk_init(void) {
    const char *wanted = "   Give the machine a raw disk of at least 4 MiB as its first IDE drive.\n";
    outb(CONTROL, 0); // interrupts on
    outb(DRIVE, 0xE0);
    for (int i = 0; i < 4; i++) // 400 ns until the status is the chosen drive's
        (void)inb(LOOK);
    u8 status = inb(LOOK);
    if (status == 0xFF || !(status & READY_BIT)) // a floating bus, or nobody there
        fail("   There is no swap disk on the primary ATA channel (status %x).\n%s", status, wanted);
    answered = 0;
    outb(COMMAND, IDENTIFY_DEVICE);
    for (int i = 0; i < 4; i++)
        (void)inb(LOOK);
    if (inb(LOOK) & ERROR)
        fail("   The first IDE drive is not a disk.\n%s", wanted);
    await_interrupt(REQUEST);
    u16 identity[WORDS];
    read_words(identity);
    disk_sectors = identity[60] | (u32)identity[61] << 16;
    for (u32 i = 0; i < 40; i++) // 16-bit words with the first letter in the upper half
        disk_model[i] = (char)(identity[27 + i / 2] >> (i % 2 ? 0 : 8));
    for (u32 i = 40; i && disk_model[i - 1] == ' '; i--)
        disk_model[i - 1] = 0;
    if (disk_sectors < SLOTS * SECTORS_PER_PAGE)
        fail("   The swap disk has only %u sectors.\n%s", disk_sectors, wanted);
}

void disk_page(u32 page, void *memory, int write) {
    u32 sector = page * SECTORS_PER_PAGE;
    u16 *at = memory;
    poll(READY_BIT);
    answered = 0;
    outb(DRIVE, (u8)(0xE0 | sector >> 24)); // LBA, master
    outb(COUNT, SECTORS_PER_PAGE);
    outb(LBA, (u8)sector);
    outb(LBA + 1, (u8)(sector >> 8));
    outb(LBA + 2, (u8)(sector >> 16));
    outb(COMMAND, write ? WRITE_SECTORS : READ_SECTORS);
    for (int i = 0; i < 4; i++)
        (void)inb(LOOK);
    if (write)
        poll(REQUEST); // the first sector is asked for without an interrupt
    for (u32 i = 0; i < SECTORS_PER_PAGE; i++, at += WORDS) {
        if (write) {
            write_words(at);
            await_interrupt(i + 1 < SECTORS_PER_PAGE ? REQUEST : 0);
        } else {
            await_interrupt(REQUEST);
            read_words(at);
        }
    }
}
