// Alignment checking: CR0.AM, EFLAGS.AC and CPL 3; which accesses count and which do not. SDM 3A "Alignment Check Exception
// (#AC)" with its table of alignments.
#include "lib/guest.h"

__attribute__((used)) static u8 room[256] __attribute__((aligned(64)));

CODE(read_w, "movw (%ecx), %ax");
CODE(read_d, "movl (%ecx), %eax");
CODE(write_d, "movl %eax, (%ecx)");
CODE(read_b, "movb (%ecx), %al");
CODE(rmw_d, "addl $1, (%ecx)");
CODE(push_, "movl %ecx, %esp; pushl %eax");
CODE(pop_, "movl %ecx, %esp; popl %eax");
CODE(push_w, "movl %ecx, %esp; pushw %ax");
CODE(movs_, "movl %ecx, %esi; movl $room + 128, %edi; movsl");
CODE(lods_w, "movl %ecx, %esi; lodsw");
CODE(call_, "movl %ecx, %esp; call 1f; 1:");
CODE(lea_, "leal (%ecx), %eax");
CODE(bt_, "btl $0, (%ecx)");
CODE(jump_odd, "jmp 1f; .byte 0x90; 1: nop");

static u32 run(int ring, void (*fn)(void), u32 offset, u32 flags) {
    struct context c = ring_context(ring, fn);
    c.ecx = (u32)room + 64 + offset, c.eflags = 2 | flags;
    return go(&c);
}

static void table(void) {
    static const struct {
        const char *name;
        void (*fn)(void);
        u32 first_ok; // alignment that the access needs
        u32 at;       // the offset of the access within fn
    } rows[] = {
        {"read-byte", read_b, 1, 0}, {"read-word", read_w, 2, 0}, {"read-dword", read_d, 4, 0},
        {"write-dword", write_d, 4, 0}, {"rmw-dword", rmw_d, 4, 0}, {"push-dword", push_, 4, 2},
        {"pop-dword", pop_, 4, 2}, {"push-word", push_w, 2, 2}, {"movs-dword", movs_, 4, 7}, {"lods-word", lods_w, 2, 2},
        {"call", call_, 4, 2}, {"lea", lea_, 1, 0}, {"bt-dword", bt_, 4, 0},
    };
    for (u32 n = 0; n < sizeof rows / sizeof *rows; n++)
        for (u32 offset = 0; offset < 4; offset++) {
            int fault = offset % rows[n].first_ok != 0;
            run(3, rows[n].fn, offset, AC);
            check_trap(name_of("%s-offset-%u", rows[n].name, offset), fault ? AC_ : RET_VECTOR, fault ? 0 : NO_ERROR,
                       fault ? (u32)rows[n].fn + rows[n].at : 0);
        }
}

void guest(void) {
    *(i32 *)(room + 64) = -1, *(i32 *)(room + 68) = 1;
    set_cr0(cr0() | AM);
    if (!(cr0() & AM)) {
        skip("ac", "CR0.AM does not stick");
        return;
    }
    table();
    run(3, read_d, 1, 0);
    check_trap("needs-eflags-ac", RET_VECTOR, NO_ERROR, 0);
    for (u32 ring = 0; ring < 3; ring++) {
        run(ring, read_d, 1, AC);
        check_trap(name_of("not-in-ring-%u", ring), RET_VECTOR, NO_ERROR, 0);
    }
    set_cr0(cr0() & ~AM);
    run(3, read_d, 1, AC);
    check_trap("needs-cr0-am", RET_VECTOR, NO_ERROR, 0);
    set_cr0(cr0() | AM);
    // The handler in ring 0 runs unchecked although AC stays set in it.
    run(3, read_d, 1, AC);
    check("ac-saved-in-eflags", trap.eflags & AC, AC);
    // The processor's own accesses are not the program's.
    run(3, jump_odd, 0, AC);
    check_trap("fetches-do-not-count", RET_VECTOR, NO_ERROR, 0);
    // A limit is checked before the alignment. (Which of #AC and #PF comes first differs: a NOTE.)
    paging_on();
    map(WINDOW, 0, 0);
    struct context c = ring_context(3, read_d);
    c.ecx = WINDOW + 1, c.eflags = 2 | AC;
    go(&c);
    note("misaligned-and-absent", "vector (14 or 17)", trap.vector);
    paging_off();
    set(SCRATCH(0), desc(0, 0xff, A_RW | DPL(3), BIG));
    c = ring_context(3, read_d);
    c.ds = SCRATCH(0) | 3, c.ecx = 0x101, c.eflags = 2 | AC;
    go(&c);
    check_trap("limit-before-alignment", GP, 0, (u32)read_d);
    set_cr0(cr0() & ~AM);
}
