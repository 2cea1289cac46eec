// I/O permission: IOPL against CPL, then the bitmap of the TSS with its end-byte rule. SDM 1 "Input/Output", sections
// "I/O Privilege Level" and "I/O Permission Bit Map".
#include "lib/guest.h"

#define TSS SCRATCH(0)
#define PORT 0x80 // POST codes: writing it does nothing

CODE(out_b, "outb %al, %dx");
CODE(out_w, "outw %ax, %dx");
CODE(out_l, "outl %eax, %dx");
CODE(in_b, "inb %dx, %al");
CODE(in_imm, "inb $0x80, %al");
CODE(out_imm, "outb %al, $0x80");
CODE(outs_b, "outsb");
CODE(ins_b, "insb");
CODE(cli_, "cli");

__attribute__((used)) static u8 room[64];

static u32 run(int ring, void (*fn)(void), u32 port, u32 iopl) {
    struct context c = ring_context(ring, fn);
    c.edx = port, c.eflags = 2 | IOPL(iopl), c.esi = (u32)room, c.edi = (u32)room + 32;
    return go(&c);
}

static void allowed(const char *name, void (*fn)(void), u32 port) {
    run(3, fn, port, 0);
    check_trap(name, RET_VECTOR, NO_ERROR, 0);
}

static void denied(const char *name, void (*fn)(void), u32 port) {
    run(3, fn, port, 0);
    check_trap(name, GP, 0, (u32)fn);
}

static void limit(u32 bytes) {
    set(TSS, desc((u32)&tss0, bytes - 1, A_TSS32, 0));
    load_tr(TSS);
}

static void bit(u32 port, u32 on) {
    tss0.bitmap[port / 8] = (tss0.bitmap[port / 8] & ~(1 << port % 8)) | on << port % 8;
}

void guest(void) {
    // IOPL decides first: CPL <= IOPL needs no bitmap.
    for (u32 ring = 0; ring < 4; ring++)
        for (u32 iopl = 0; iopl < 4; iopl++) {
            run(ring, out_b, PORT, iopl);
            check_trap(name_of("out-ring-%u-iopl-%u", ring, iopl), ring <= iopl ? RET_VECTOR : GP,
                       ring <= iopl ? NO_ERROR : 0, 0);
            run(ring, cli_, 0, iopl);
            check_trap(name_of("cli-ring-%u-iopl-%u", ring, iopl), ring <= iopl ? RET_VECTOR : GP,
                       ring <= iopl ? NO_ERROR : 0, 0);
        }
    // The bitmap: a clear bit allows.
    bit(PORT, 0);
    allowed("bit-clear-out", out_b, PORT);
    allowed("bit-clear-in", in_b, PORT);
    allowed("bit-clear-in-imm", in_imm, 0);
    allowed("bit-clear-out-imm", out_imm, 0);
    allowed("bit-clear-outs", outs_b, PORT);
    allowed("bit-clear-ins", ins_b, PORT);
    denied("bit-set-next", out_b, PORT + 1);
    denied("bit-set-before", out_b, PORT - 1);
    run(1, out_b, PORT, 0);
    check_trap("bit-clear-ring-1", RET_VECTOR, NO_ERROR, 0);
    run(3, cli_, 0, 2);
    check_trap("the-bitmap-is-not-for-cli", GP, 0, (u32)cli_);
    // Wider accesses need every bit.
    denied("word-half-allowed", out_w, PORT);
    bit(PORT + 1, 0);
    allowed("word-allowed", out_w, PORT);
    denied("dword-half-allowed", out_l, PORT);
    bit(PORT + 2, 0), bit(PORT + 3, 0);
    allowed("dword-allowed", out_l, PORT);
    denied("dword-last-bit-set", out_l, PORT + 1);
    // Across a byte of the bitmap.
    bit(PORT + 7, 0);
    denied("word-across-bytes-second-set", out_w, PORT + 7);
    bit(PORT + 8, 0);
    allowed("word-across-bytes", out_w, PORT + 7);

    // The limit: the byte of the port and the one behind it must both be inside.
    tss0.iomap = 104;
    limit(104 + PORT / 8 + 2);
    allowed("end-byte-inside", out_b, PORT);
    limit(104 + PORT / 8 + 1);
    denied("end-byte-outside", out_b, PORT);
    limit(104 + PORT / 8);
    denied("its-byte-outside", out_b, PORT);
    limit(104 + 8192);
    // (Of port FFFFh the byte is 8191, so the byte behind, 8192, must be inside.)
    tss0.bitmap[8191] = 0;
    denied("port-ffff-without-end-byte", out_b, 0xffff);
    limit(104 + 8193);
    allowed("port-ffff-with-end-byte", in_b, 0xffff);
    tss0.bitmap[8192] = 0xff;
    denied("word-at-ffff-reaches-the-end-byte", out_w, 0xffff);
    tss0.iomap = 104 + 8193;
    denied("base-beyond-the-limit-is-no-bitmap", out_b, PORT);
    tss0.iomap = 0xffff;
    denied("base-ffff-is-no-bitmap", out_b, PORT);
    tss0.iomap = 104 + 16;
    bit(PORT + 128, 0);
    allowed("base-moves-the-bitmap", out_b, PORT);
    bit(PORT + 128, 1);
    denied("base-moves-the-bitmap-set", out_b, PORT);
    tss0.iomap = 104;

    // A 16-bit TSS has no bitmap.
    set(TSS, desc((u32)&tss0, 104 + 8192, A_TSS16, 0));
    load_tr(TSS);
    // (Its ring-0 stack is at offsets 2 and 4, where the 32-bit one has the upper half of the link and ESP0.)
    u32 link = tss0.link, esp0 = tss0.esp0;
    u32 stack16 = set(SCRATCH(1), desc((u32)trap_stack_top - 0x4000, 0x3fff, A_RW, 0));
    tss0.link = (link & 0xffff) | 0x3ffc << 16, tss0.esp0 = (esp0 & 0xffff0000) | stack16;
    denied("tss16-has-no-bitmap", out_b, PORT);
    tss0.link = link, tss0.esp0 = esp0;

    // The bitmap is read through paging, as supervisor.
    load_tr(TSS0);
    paging_on();
    memset((void *)frame(0), 0, 4096), memset((void *)frame(1), 0, 4096);
    map(WINDOW, frame(0), P | W);
    map(WINDOW + 0x1000, 0, 0);
    memcpy((void *)frame(0), &tss0, 104);
    ((struct tss32 *)frame(0))->iomap = 0xff8;
    set(TSS, desc(WINDOW, 0x1fff, A_TSS32, 0));
    load_tr(TSS);
    allowed("bitmap-in-a-supervisor-page", in_b, 8);
    run(3, out_b, 0x48, 0);
    check_trap("bitmap-on-an-absent-page", PF_, 0, (u32)out_b);
    check("bitmap-on-an-absent-page-cr2", trap.cr2, WINDOW + 0x1001);
    // Port 3Ch: its bits are in the last byte of the first page, the byte behind is on the absent one.
    run(3, out_b, 0x3c, 0);
    check_trap("bitmap-end-byte-on-an-absent-page", PF_, 0, (u32)out_b);
    check("bitmap-end-byte-on-an-absent-page-cr2", trap.cr2, WINDOW + 0x1000);
    load_tr(TSS0);
}
