// The C library: formatted floating point, sorting and searching, jumps out of nested calls, strings, memory, numbers and files.
#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned seed = 12345;

static unsigned next(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed >> 8;
}

static void formats(void)
{
    double values[] = { 0.0, -0.0, 1.0, 0.1, 1e100, -2.5e-310, DBL_MAX, DBL_MIN, DBL_EPSILON, INFINITY, -INFINITY, NAN, 123456789.125 };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        printf("%g|%.17g|%a|%e|%.3f|%+012.4E\n", values[i], values[i], values[i], values[i], values[i], values[i]);
    printf("%Lg %La %.21Lg\n", LDBL_MAX, LDBL_MIN, 1.0L / 3);
    printf("%d %i %u %o %x %X %#x %08d %-8d| %+d %lld %llx %c %s %.3s %p %%\n", -5, INT_MIN, UINT_MAX, 8, 255, 255, 255, 42, 42, 42,
           LLONG_MIN, ULLONG_MAX, 'x', "text", "truncated", (void *)0x1234);
    char *rest;
    const char *texts[] = { "3.14159xyz", "1e400", "-1e-400", "0x1.8p3", "inf", "nan", "  42", "." };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        errno = 0;
        double value = strtod(texts[i], &rest);
        printf("strtod %s = %.17g, rest '%s', %s\n", texts[i], value, rest, strerror(errno));
    }
    printf("%ld %lu %lld %d\n", strtol("-0x7f", 0, 0), strtoul("777", 0, 8), strtoll("9223372036854775808", 0, 10), atoi("12abc"));
    int number;
    float real;
    char word[16];
    int fields = sscanf("17 2.75 word", "%d %f %15s", &number, &real, word);
    printf("%d fields: %d %g %s\n", fields, number, real, word);
}

static void functions(void)
{
    for (double x = -3; x < 40; x += 1.37) {
        printf("%.15g: sin %.12g cos %.12g tan %.12g atan %.12g exp %.12g sqrt %.12g log %.12g pow %.12g cbrt %.12g\n", x, sin(x), cos(x),
               tan(x), atan(x), exp(x), sqrt(x), log(x), pow(fabs(x), 1.7), cbrt(x));
        printf("  floor %g ceil %g round %g trunc %g rint %g fmod %.12g hypot %.12g %ld\n", floor(x), ceil(x), round(x), trunc(x), rint(x),
               fmod(x, 0.7), hypot(x, 2), lrint(x));
    }
    int exponent;
    double whole, fraction = frexp(-1234.5, &exponent), rest = modf(-7.25, &whole);
    printf("frexp %g %d, modf %g %g, ldexp %g\n", fraction, exponent, rest, whole, ldexp(0.75, -1070));
    float single = 0, sum = 0;
    for (int i = 1; i <= 1000; i++) {
        single += 1.0f / i;
        sum += sqrtf(i) * (i & 1 ? 1 : -1);
    }
    printf("%.9g %.9g %.9g\n", single, sum, sinf(1) * cosf(2));
}

static int by_value(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sorting(void)
{
    enum { COUNT = 20000 };
    unsigned *numbers = malloc(COUNT * sizeof *numbers), sum = 0, wanted;
    for (int i = 0; i < COUNT; i++)
        numbers[i] = next();
    wanted = numbers[777];
    qsort(numbers, COUNT, sizeof *numbers, by_value);
    for (int i = 0; i < COUNT; i++)
        sum = sum * 31 + numbers[i];
    unsigned *found = bsearch(&wanted, numbers, COUNT, sizeof *numbers, by_value);
    printf("sorted: %u .. %u, sum %u, found at %td\n", numbers[0], numbers[COUNT - 1], sum, found - numbers);
    free(numbers);
    char *words[] = { "pear", "apple", "fig", "banana", "cherry", "date" };
    qsort(words, 6, sizeof *words, by_text);
    for (int i = 0; i < 6; i++)
        printf("%s ", words[i]);
    puts("");
}

static jmp_buf back;

static int deep(int depth)
{
    if (depth == 0)
        longjmp(back, 42);
    return depth < 1000 ? deep(depth - 1) + 1 : 0;
}

static void jumps(void)
{
    volatile int rounds = 0;
    int value = setjmp(back);
    printf("setjmp gave %d in round %d\n", value, rounds);
    if (rounds++ < 3)
        printf("%d\n", deep(10 * rounds));
}

static void strings(void)
{
    char text[64] = "one,two;three four", copy[64];
    memmove(copy, text, sizeof copy);
    for (char *part = strtok(copy, ",; "); part; part = strtok(0, ",; "))
        printf("[%s]", part);
    printf("\n%zu %s %s %td %d %d\n", strlen(text), strchr(text, 't'), strrchr(text, 't'), strstr(text, "three") - text,
           strcmp("a", "b") < 0, memcmp(text, copy, 4) != 0);
    printf("%zu %zu %s\n", strspn(text, "eno"), strcspn(text, ";"), strpbrk(text, " ;"));
    for (int c = 'A'; c < 'G'; c++)
        printf("%c%d%d%d", tolower(c), isalpha(c) != 0, isdigit(c) != 0, isxdigit(c) != 0);
    puts("");
    // sizes and alignments that take every path of the copying and searching routines
    static char from[5000], to[5000];
    unsigned sum = 0;
    for (int i = 0; i < 5000; i++)
        from[i] = 1 + next() % 255;
    for (int size = 0; size < 4000; size += 1 + size / 7) {
        int at = next() % 64, put = next() % 64;
        memcpy(to + put, from + at, size);
        memset(to + put + size, 0, 1);
        sum = sum * 33 + strlen(to + put) + (memcmp(to + put, from + at, size) == 0);
        sum += (char *)memchr(to + put, 0, size + 1) - to;
    }
    printf("sum %u\n", sum);
}

static void blocks(void)
{
    void *held[200] = { 0 };
    unsigned sum = 0;
    for (int round = 0; round < 5000; round++) {
        int i = next() % 200;
        if (held[i]) {
            sum += *(unsigned char *)held[i];
            free(held[i]);
            held[i] = 0;
        } else {
            size_t size = 1 + next() % (round % 50 ? 3000 : 300000);
            held[i] = realloc(malloc(size / 2 + 1), size);
            memset(held[i], round, size);
        }
    }
    printf("memory: %u\n", sum);
}

static void times(void)
{
    time_t when = 1234567890;
    struct tm *parts = gmtime(&when);
    char text[64];
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %j %a", parts);
    printf("%s, %ld\n", text, (long)mktime(parts));
}

static void files(void)
{
    char name[] = "/tmp/fileXXXXXX";
    FILE *file = fdopen(mkstemp(name), "w+");
    for (int i = 0; i < 1000; i++)
        fprintf(file, "line %d\n", i);
    fseek(file, -9, SEEK_END);
    char line[32];
    printf("at %ld: %s", ftell(file), fgets(line, sizeof line, file));
    rewind(file);
    int lines = 0;
    while (fgets(line, sizeof line, file))
        lines++;
    printf("%d lines, end %d\n", lines, feof(file) != 0);
    fclose(file);
    remove(name);
    int there = access(name, F_OK);
    printf("%d %s\n", there, strerror(errno));
    int ends[2];
    if (pipe(ends) == 0 && write(ends[1], "through a pipe\n", 15) == 15) {
        ssize_t got = read(ends[0], line, sizeof line);
        printf("%.*s", (int)got, line);
    }
}

int main(int count, char **arguments)
{
    setlocale(LC_ALL, "C");
    formats();
    functions();
    sorting();
    jumps();
    strings();
    blocks();
    times();
    files();
    for (int i = 1; i < count; i++)
        printf("argument %d: '%s'\n", i, arguments[i]);
    fprintf(stderr, "to standard error\n");
    return count * 11;
}
