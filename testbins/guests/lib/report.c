// COM1, the named lines, and the exit through port F4h.
#include "guest.h"

static u32 passed, failed, skipped;

static void put(char c) {
    for (u32 tries = 0; !(inb(0x3fd) & 0x20) && tries < 100000; tries++)
        ;
    outb(0x3f8, c);
}

void serial_init(void) {
    outb(0x3f9, 0);    // no interrupts
    outb(0x3fb, 0x80); // DLAB
    outb(0x3f8, 1);    // 115200
    outb(0x3f9, 0);
    outb(0x3fb, 3); // 8n1
    outb(0x3fa, 7); // FIFOs on and empty
    outb(0x3fc, 3); // DTR, RTS
}

static char *to, *end; // where format_into() writes; nothing is written at or behind `end`

static void add(char c) {
    if (to < end)
        *to++ = c;
}

static void number(u32 value, u32 base, u32 width) {
    char digits[12];
    u32 n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n < width)
        digits[n++] = '0';
    while (n)
        add(digits[--n]);
}

// %s %c %u %d %x (hex), %4x (padded to 4), %%
static void format_into(char *buffer, u32 size, const char *format, __builtin_va_list args) {
    to = buffer, end = buffer + size - 1;
    for (; *format; format++) {
        if (*format != '%') {
            add(*format);
            continue;
        }
        u32 width = 0;
        while (*++format >= '0' && *format <= '9')
            width = width * 10 + (*format - '0');
        switch (*format) {
        case 's':
            for (const char *s = __builtin_va_arg(args, const char *); *s;)
                add(*s++);
            break;
        case 'c':
            add(__builtin_va_arg(args, int));
            break;
        case 'u':
            number(__builtin_va_arg(args, u32), 10, width);
            break;
        case 'd': {
            i32 v = __builtin_va_arg(args, i32);
            if (v < 0)
                add('-');
            number(v < 0 ? -(u32)v : (u32)v, 10, width);
            break;
        }
        case 'x':
            number(__builtin_va_arg(args, u32), 16, width);
            break;
        default:
            add(*format);
        }
    }
    *to = 0;
}

void say(const char *format, ...) {
    static char line[512];
    __builtin_va_list args;
    __builtin_va_start(args, format);
    format_into(line, sizeof line, format, args);
    __builtin_va_end(args);
    for (char *c = line; *c; c++)
        put(*c);
}

const char *name_of(const char *format, ...) {
    static char names[16][128];
    static u32 next;
    char *name = names[next++ % 16];
    __builtin_va_list args;
    __builtin_va_start(args, format);
    format_into(name, sizeof names[0], format, args);
    __builtin_va_end(args);
    return name;
}

void check(const char *name, u32 got, u32 want) {
    if (got == want) {
        passed++;
        say("PASS %s\n", name);
    } else {
        failed++;
        say("FAIL %s: expected 0x%x, got 0x%x\n", name, want, got);
    }
}

void check_true(const char *name, int condition) { check(name, condition != 0, 1); }

static void say_trap(u32 vector, u32 error, u32 eip) {
    static const char *const names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "CSO",
                                        "#TS", "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM"};
    if (vector == NO_VECTOR) {
        say("nothing");
        return;
    }
    if (vector < 20)
        say("%s", names[vector]);
    else
        say("vector %2xh", vector);
    if (error != NO_ERROR)
        say("(0x%x)", error);
    if (eip)
        say(" at 0x%x", eip);
}

void check_trap(const char *name, u32 vector, u32 error, u32 eip) {
    u32 got_error = trap.vector == NO_VECTOR ? NO_ERROR : trap.error;
    int same = trap.vector == vector && got_error == error && (!eip || vector == NO_VECTOR || trap.eip == eip);
    if (same) {
        passed++;
        say("PASS %s\n", name);
        return;
    }
    failed++;
    say("FAIL %s: expected ", name);
    say_trap(vector, error, eip);
    say(", got ");
    say_trap(trap.vector, got_error, trap.eip);
    say("\n");
}

// True, and a FAIL line, under QEMU's TCG: for checks whose laxness there would end the whole guest.
int qemu_goes_down(const char *name) {
    static int under_tcg = -1;
    if (under_tcg < 0)
        under_tcg = has_cpuid() && has(32 + 31) && cpuid(0x40000000, 0).ebx == 0x54474354; // "TCGT"
    if (!under_tcg)
        return 0;
    failed++;
    say("FAIL %s: not tried, QEMU would go down\n", name);
    return 1;
}

void skip(const char *name, const char *reason) {
    skipped++;
    say("SKIP %s: %s\n", name, reason);
}

void note(const char *name, const char *text, u32 value) { say("NOTE %s: %s 0x%x\n", name, text, value); }

void finish(void) {
    say("DONE: %u passed, %u failed, %u skipped\n", passed, failed, skipped);
    outb(0xf4, failed ? 1 : 0);
    for (;;)
        asm volatile("cli; hlt");
}

// A trap that nobody expected ends the guest, since what follows would be noise.
void unexpected_trap(void) {
    failed++;
    say("FAIL unexpected-trap: expected nothing, got ");
    say_trap(trap.vector, trap.error, trap.eip);
    say(", cs 0x%x eflags 0x%x cr2 0x%x ss:esp 0x%x:0x%x\n", trap.cs, trap.eflags, trap.cr2, trap.ss, trap.esp);
    finish();
}
