// What runs in rings 1 and 2: a library in ring 2 that programs may call, and a driver in ring 1 that only the library may call.
// Each is entered through a call gate and returns to whoever called. Nothing here may call into the kernel's code.
#include "format.h"
#include "layout.h"

static inline u32 own_cpl(void) {
    u32 cs;
    __asm__ volatile("movl %%cs, %0" : "=r"(cs));
    return cs & 3;
}

static inline u32 call_gate_to_ring1(u32 text, u32 size) {
    u32 answer;
    __asm__ volatile("pushl %2\n\t"
                     "pushl %1\n\t"
                     "lcall %3, $0" // the gate says where; the offset is not looked at
                     : "=a"(answer)
                     : "r"(text), "r"(size), "i"(GATE_TO_RING1)
                     : "ecx", "edx", "memory", "cc");
    return answer;
}

// Ring 1: IOPL is 1, so the driver may speak to the serial port itself. It asks the kernel to empty the transmitter first, and
// keeps interrupts away while it fills the 16 bytes the chip holds. Answers the rings on the way, innermost last, in decimal.
u32 driver(u32 text, u32 size);
u32 driver(u32 text, u32 size) {
    u32 call = SYS_DRAIN, flags;
    __asm__ volatile("int $0x80" : "+a"(call) : : "memory");
    if (size > 16)
        size = 16;
    __asm__ volatile("pushfl\n\tpopl %0\n\tcli" : "=r"(flags) : : "memory");
    __asm__ volatile("rep outsb" : "+S"(text), "+c"(size) : "d"(0x3F8) : "memory");
    __asm__ volatile("pushl %0\n\tpopfl" : : "r"(flags) : "memory", "cc"); // with CPL 1 POPF may set IF again
    return own_cpl();
}

// Ring 2: writes `size` bytes at `text` in capitals, through the driver. Without a text it shows what a ring-2 program may not do.
u32 library(const char *text, u32 size);
u32 library(const char *text, u32 size) {
    if (!text)
        return *(volatile u32 *)size; // size is an address here
    if ((u32)text >= STACK_TOP || size > STACK_TOP - (u32)text)
        return 0; // or ring 3 could read our stack through us
    char line[16];
    u32 ring = 0;
    for (u32 i = 0; i < size;) {
        u32 n = 0;
        for (; n < sizeof line && i < size; n++, i++)
            line[n] = text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i];
        ring = call_gate_to_ring1((u32)line, n);
    }
    return own_cpl() * 10 + ring;
}
