// Goes from ring 3 through a call gate into ring 2, which goes through another one into ring 1, and comes back.
#include "lib/program.h"

static u32 call_library(const char *text, u32 size, u32 *esp_moved) {
    u32 answer, before, after;
    __asm__ volatile("movl %%esp, %1\n\t"
                     "pushl %4\n\t"
                     "pushl %3\n\t"
                     "lcall %5, $0\n\t" // the gate copies both parameters, and its RETF 8 drops them here
                     "movl %%esp, %2"
                     : "=a"(answer), "=&r"(before), "=&r"(after)
                     : "r"(text), "r"(size), "i"(GATE_TO_RING2)
                     : "ecx", "edx", "memory", "cc");
    *esp_moved = after - before;
    return answer;
}

void main(u32 argument) {
    (void)argument;
    static const char text[] = "            this line went through two call gates and left by OUT in ring 1.\n";
    u32 moved, cs;
    say("calls ring 2, which calls ring 1:");
    u32 rings = call_library(text, sizeof text - 1, &moved);
    __asm__ volatile("movl %%cs, %0" : "=r"(cs));
    say("ring %u was reached, then ring %u, and we are back in ring %u, with ESP as it was (%u bytes off).", rings / 10, rings % 10, cs & 3, moved);
    finish(moved || (cs & 3) != 3, rings);
}
