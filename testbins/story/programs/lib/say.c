// A line for the reader.
#include "program.h"

void say(const char *text, ...) {
    char line[160];
    va_list values;
    va_start(values, text);
    u32 size = format(line, sizeof line, text, values);
    va_end(values);
    system_call(SYS_WRITE, (u32)line, size);
}

void *memset(void *to, int value, u32 count);
void *memset(void *to, int value, u32 count) {
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
    return to;
}
