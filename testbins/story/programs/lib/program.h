// What every ring-3 program of the story is written against.
#ifndef PROGRAM_H
#define PROGRAM_H
#include "../../format.h"
#include "../../layout.h"

static inline u32 system_call(u32 number, u32 first, u32 second) {
    __asm__ volatile("int $0x80" : "+a"(number) : "b"(first), "c"(second) : "memory");
    return number;
}
static inline void yield(void) {
    system_call(SYS_YIELD, 0, 0);
}
static inline u32 fork(void) {
    return system_call(SYS_FORK, 0, 0);
}
static inline u32 getpid(void) {
    return system_call(SYS_GETPID, 0, 0);
}
static inline void *sbrk(u32 size) {
    return (void *)system_call(SYS_SBRK, size, 0);
}
static inline void wait(void) {
    system_call(SYS_WAIT, 0, 0);
}
// The physical address of the frame behind `what`.
static inline u32 frame_behind(const volatile void *what) {
    return system_call(SYS_FRAME, (u32)what, 0);
}
static inline void finish(u32 errors, u32 sum) {
    system_call(SYS_EXIT, errors, sum);
}
void say(const char *text, ...) __attribute__((format(printf, 1, 2)));
void main(u32 argument);
#endif
