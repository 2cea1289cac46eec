// Text from values, for the kernel and for the programs alike.
#ifndef FORMAT_H
#define FORMAT_H
#include <stdarg.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

// Writes at most `size` bytes with a closing zero; answers the length. Knows %s %c %u %d %x %%, a width, and the flags - and 0.
u32 format(char *out, u32 size, const char *text, va_list values);

u32 length(const char *text);

// One step of a generator of noise, x -> a x + c modulo 2 to the 32: programs take it one step at a time, and the kernel
// jumps over any number of steps at once to know where they must arrive.
#define STEP_A 1664525u
#define STEP_C 1013904223u
static inline u32 step(u32 x) {
    return STEP_A * x + STEP_C;
}

// What a weaver writes into word `i` in round `round`.
static inline u32 thread(u32 seed, u32 round, u32 i) {
    u32 x = seed ^ i * 0x9E3779B1u ^ round * 0x85EBCA6Bu;
    x = (x ^ x >> 15) * 0x2C1B3C6Du;
    return x ^ x >> 12;
}
static inline u32 add_to_sum(u32 sum, u32 word) {
    return (sum << 1 | sum >> 31) + word;
}
#endif
