// INS and OUTS: ports, counts, direction, faults before the port is touched, permissions. SDM 2A "INS", 2B "OUTS". The port is
// the scratch register of the UART (3FFh), which holds a byte.
#include "lib/guest.h"

#define PORT 0x3ff
#define PAGE(n) (WINDOW + (n) * 0x1000)

__attribute__((used)) static u8 room[256];

CODE(insb_, "insb");
CODE(outsb_, "outsb");
CODE(rep_insb, "rep insb");
CODE(rep_outsb, "rep outsb");
CODE(outsb_fs, "outsb %fs:(%esi), %dx");
CODE(insb_16, ".byte 0x67; insb");

static struct context ready(void (*fn)(void), u32 ecx, u32 esi, u32 edi) {
    struct context c = ring_context(0, fn);
    c.ecx = ecx, c.esi = esi, c.edi = edi, c.edx = PORT;
    return c;
}

static void left(const char *name, u32 ecx, u32 esi, u32 edi) {
    check(name_of("%s-ecx", name), trap.ecx, ecx);
    check(name_of("%s-esi", name), trap.esi, esi);
    check(name_of("%s-edi", name), trap.edi, edi);
}

void guest(void) {
    u32 at = (u32)room;
    outb(PORT, 0x5a);
    struct context c = ready(insb_, 7, 1, at);
    go(&c);
    left("insb", 7, 1, at + 1);
    check("insb-reads", room[0] | room[1] << 8, 0x5a);
    room[10] = 0xc3;
    c = ready(outsb_, 7, at + 10, 2);
    go(&c);
    left("outsb", 7, at + 11, 2);
    check("outsb-writes", inb(PORT), 0xc3);
    c = ready(rep_insb, 5, 1, at + 20);
    go(&c);
    left("rep-insb", 0, 1, at + 25);
    check("rep-insb-reads", room[20] == 0xc3 && room[24] == 0xc3 && room[25] == 0, 1);
    for (u32 n = 0; n < 5; n++)
        room[30 + n] = n + 0x10;
    c = ready(rep_outsb, 5, at + 30, 2);
    go(&c);
    left("rep-outsb", 0, at + 35, 2);
    check("rep-outsb-writes-in-order", inb(PORT), 0x14);
    c = ready(rep_outsb, 5, at + 34, 2);
    c.eflags = 2 | DF;
    go(&c);
    left("rep-outsb-down", 0, at + 29, 2);
    check("rep-outsb-down-writes-in-order", inb(PORT), 0x10);
    c = ready(rep_insb, 0, 1, 2);
    go(&c);
    left("zero-count", 0, 1, 2);
    // OUTS takes a segment override, INS always writes to ES.
    set(SCRATCH(0), desc(at + 30, 0xff, A_RW, BIG));
    c = ready(outsb_fs, 0, 3, 0);
    c.fs = SCRATCH(0);
    go(&c);
    check("outsb-override", inb(PORT), 0x13);
    c = ready(insb_, 0, 0, 1);
    c.es = SCRATCH(0);
    go(&c);
    check("insb-uses-es", room[31], 0x13);
    c = ready(insb_16, 0, 0, 0x12340002);
    c.es = SCRATCH(0);
    go(&c);
    check("insb-16-bit-address", trap.edi | room[32] << 8, 0x12340003 | 0x13 << 8);

    // Faults: the memory operand is checked before the port is read or written.
    paging_on();
    map(PAGE(0), frame(0), P | W | U), map(PAGE(1), 0, 0), map(PAGE(2), frame(2), P | U);
    memset((void *)frame(0), 0x77, 4096);
    outb(PORT, 0x5a);
    c = ready(rep_outsb, 5, PAGE(1), 0);
    go(&c);
    check_trap("outsb-absent", PF_, 0, (u32)rep_outsb);
    check("outsb-absent-writes-no-port", inb(PORT), 0x5a);
    left("outsb-absent", 5, PAGE(1), 0);
    c = ready(rep_outsb, 5, PAGE(1) - 2, 0);
    go(&c);
    check_trap("rep-outsb-into-absent", PF_, 0, (u32)rep_outsb);
    left("rep-outsb-into-absent", 3, PAGE(1), 0);
    check("rep-outsb-into-absent-wrote-two", inb(PORT), 0x77);
    c = ready(rep_insb, 5, 0, PAGE(1) - 3);
    go(&c);
    check_trap("rep-insb-into-absent", PF_, 2, (u32)rep_insb);
    left("rep-insb-into-absent", 2, 0, PAGE(1));
    set_cr0(cr0() | WP);
    c = ready(insb_, 5, 0, PAGE(2));
    go(&c);
    check_trap("insb-into-read-only", PF_, 3, (u32)insb_);
    set_cr0(cr0() & ~WP);
    paging_off();
    // Permission comes before the memory operand.
    c = ring_context(3, outsb_);
    c.edx = PORT, c.esi = at;
    go(&c);
    check_trap("outsb-without-permission", GP, 0, (u32)outsb_);
    tss0.bitmap[PORT / 8] &= ~(1 << PORT % 8);
    go(&c);
    check_trap("outsb-with-permission", RET_VECTOR, NO_ERROR, 0);
}
