// Does one thing that no process may do. The argument says which.
#include "lib/program.h"

// It is meant to run off its stack.
#pragma GCC diagnostic ignored "-Winfinite-recursion"
static u32 __attribute__((noinline)) deeper(u32 n) {
    volatile u32 room[64];
    room[n % 64] = n;
    return deeper(n + 1) + room[n % 64];
}

void main(u32 argument) {
    switch (argument) {
    case 0:
        __asm__ volatile("movl %0, %%cr3" : : "r"(0x100000));
        break;
    case 1:
        __asm__ volatile("hlt");
        break;
    case 2:
        __asm__ volatile("cli");
        break;
    case 3:
        __asm__ volatile("outb %b0, %w1" : : "a"('!'), "d"(0x3F8));
        break;
    case 4: {
        u8 table[6] = {0};
        __asm__ volatile("lgdt %0" : : "m"(table));
        break;
    }
    case 5:
        (void)*(volatile u32 *)(KERNEL + 0x100000);
        break;
    case 6: // a weaver has a page there; we have none
        *(volatile u32 *)(HEAP + 0x3000) = 0xDEAD;
        break;
    case 7:
        deeper(0);
        break;
    case 8: // the gate's DPL is 2
        __asm__ volatile("lcall %0, $0" : : "i"(GATE_TO_RING1));
        break;
    case 9: // asks the library of ring 2 to read the kernel's memory on its behalf
        __asm__ volatile("pushl %0\n\tpushl $0\n\tlcall %1, $0\n\t" : : "r"(KERNEL + 0x100000), "i"(GATE_TO_RING2) : "eax", "ecx", "edx");
        break;
    case 10: // makes the kernel recurse until its own stack is gone
        system_call(SYS_DIG, 1000000, 0);
    }
    say("I got away with it!");
    finish(1, 0);
}
