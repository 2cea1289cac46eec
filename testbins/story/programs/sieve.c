// The sieve of Eratosthenes up to 65536, a byte per number. There are 6542 primes; their sum is known too.
#include "lib/program.h"

enum { LIMIT = 65536 };
static u8 composite[LIMIT];

void main(u32 argument) {
    (void)argument;
    u32 count = 0, sum = 0;
    for (u32 i = 2; i < LIMIT; i++) {
        if (composite[i])
            continue;
        count++;
        sum += i;
        for (u32 j = i + i; j < LIMIT; j += i)
            composite[j] = 1;
    }
    say("%u primes below %u; sum %08x", count, LIMIT, sum);
    finish(count != 6542, sum);
}
