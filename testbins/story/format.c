// A small printf: decimal, hexadecimal, strings, and columns.
#include "format.h"

u32 length(const char *text) {
    u32 n = 0;
    while (text[n])
        n++;
    return n;
}

struct out {
    char *to;
    u32 size, used;
};

static void put(struct out *o, char c) {
    if (o->used + 1 < o->size)
        o->to[o->used++] = c;
}

// `text` in a column `width` wide, to its left or its right.
static void column(struct out *o, const char *text, u32 width, int left, char fill) {
    u32 n = length(text);
    for (u32 i = n; !left && i < width; i++)
        put(o, fill);
    for (u32 i = 0; i < n; i++)
        put(o, text[i]);
    for (u32 i = n; left && i < width; i++)
        put(o, ' ');
}

static const char *digits(u32 value, u32 base, char room[12]) {
    char *at = room + 11;
    *at = 0;
    do
        *--at = "0123456789ABCDEF"[value % base];
    while (value /= base);
    return at;
}

u32 format(char *out, u32 size, const char *text, va_list values) {
    struct out o = {out, size, 0};
    char room[12];
    for (; *text; text++) {
        if (*text != '%') {
            put(&o, *text);
            continue;
        }
        int left = 0;
        char fill = ' ';
        u32 width = 0;
        for (text++; *text == '-' || *text == '0'; text++) {
            if (*text == '-')
                left = 1;
            else
                fill = '0';
        }
        for (; *text >= '0' && *text <= '9'; text++)
            width = width * 10 + (u32)(*text - '0');
        switch (*text) {
        case 's':
            column(&o, va_arg(values, const char *), width, left, ' ');
            break;
        case 'u':
            column(&o, digits(va_arg(values, u32), 10, room), width, left, fill);
            break;
        case 'x':
            column(&o, digits(va_arg(values, u32), 16, room), width, left, fill);
            break;
        case 'd': {
            int value = va_arg(values, int);
            if (value < 0)
                put(&o, '-');
            column(&o, digits(value < 0 ? 0u - (u32)value : (u32)value, 10, room), width, left, fill);
            break;
        }
        case 'c':
            put(&o, (char)va_arg(values, int));
            break;
        case 0:
            text--;
            break;
        default:
            put(&o, *text);
        }
    }
    if (size)
        o.to[o.used] = 0;
    return o.used;
}
