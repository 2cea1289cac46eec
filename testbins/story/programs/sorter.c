// Shell sort of 8192 numbers on the heap. They are a permutation of the multiples of 8191, so the order they must end in is known.
#include "lib/program.h"

enum { COUNT = 8192 };

void main(u32 argument) {
    u32 *numbers = sbrk(COUNT * 4), errors = 0, sum = 0;
    for (u32 i = 0; i < COUNT; i++)
        numbers[i] = (i * argument + 1) % COUNT * 8191;
    for (u32 gap = COUNT / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11) {
        for (u32 i = gap; i < COUNT; i++) {
            u32 at = i, value = numbers[i];
            for (; at >= gap && numbers[at - gap] > value; at -= gap)
                numbers[at] = numbers[at - gap];
            numbers[at] = value;
        }
    }
    for (u32 i = 0; i < COUNT; i++) {
        errors += numbers[i] != i * 8191;
        sum = add_to_sum(sum, numbers[i]);
    }
    say("%u numbers sorted, %u out of place; sum %08x", COUNT, errors, sum);
    finish(errors, sum);
}
