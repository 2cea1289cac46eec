// Integer instructions in their 8-, 16- and 32-bit forms: results and defined flags against what a processor of today gives. SDM 2,
// the instructions' pages; SDM 1 "EFLAGS Cross-Reference" for the undefined ones.
#include "lib/guest.h"
#include "lib/integer_ops.h"
#include "lib/integer_results.h"

static u32 row;

static void compare(const char *name, u32 width, u32 rule, u32 input, u32 a, u32 d, u32 f, u32 *bad) {
    const u32 *want = integer_results[row++];
    u32 mask = defined_flags(rule, width, integer_inputs[input][1] & 31, name[0] == 's' && name[1] == 'a');
    if (a == want[0] && d == want[1] && (f & mask) == want[2])
        return;
    if (!(*bad)++)
        say("NOTE %s-%u: eax 0x%x ecx 0x%x edx 0x%x flags 0x%x gave eax 0x%x edx 0x%x flags 0x%x, expected 0x%x 0x%x 0x%x\n", name,
            width, integer_inputs[input][0], integer_inputs[input][1], integer_inputs[input][2], integer_inputs[input][3], a, d,
            f & mask, want[0], want[1], want[2]);
}

#define RUN(name, width, rule, text)                                                                                   \
    {                                                                                                                  \
        u32 bad = 0;                                                                                                   \
        for (u32 n = 0; n < 6; n++) {                                                                                  \
            u32 a = integer_inputs[n][0], c = integer_inputs[n][1], d = integer_inputs[n][2], f = integer_inputs[n][3] | 2; \
            asm volatile("pushl %3; popfl; " text "; pushfl; popl %3" : "+a"(a), "+c"(c), "+d"(d), "+r"(f)::"cc");     \
            compare(#name, width, rule, n, a, d, f, &bad);                                                             \
        }                                                                                                              \
        check(name_of("%s-%u-differences", #name, width), bad, 0);                                                     \
    }

void guest(void) { OPS(RUN) }
