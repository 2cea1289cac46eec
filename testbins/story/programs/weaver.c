// Fills many pages with a pattern, four times over, and checks each word of the last time before it writes the next.
#include "lib/program.h"

enum { WORDS = 1024, ROUNDS = 4 };

// The argument: a seed, with the number of pages in its lowest byte.
void main(u32 argument) {
    u32 pages = argument & 0xFF, errors = 0, sum = 0;
    u32 *cloth = sbrk(pages * WORDS * 4);
    for (u32 round = 0; round < ROUNDS; round++) {
        for (u32 n = 0; n < pages; n++) {
            u32 page = (n * 7 + round) % pages; // not one after the other
            for (u32 i = page * WORDS; i < (page + 1) * WORDS; i++) {
                errors += cloth[i] != (round ? thread(argument, round - 1, i) : 0);
                cloth[i] = thread(argument, round, i);
            }
        }
    }
    for (u32 i = 0; i < pages * WORDS; i++) {
        errors += cloth[i] != thread(argument, ROUNDS - 1, i);
        sum = add_to_sum(sum, cloth[i]);
    }
    say("%u pages woven four times, %u words lost; sum %08x", pages, errors, sum);
    finish(errors, sum);
}
