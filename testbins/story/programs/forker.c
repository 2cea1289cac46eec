// Fills six pages and forks. The child rewrites half of them; the parent must not notice.
#include "lib/program.h"

enum { PAGES = 6, WORDS = 1024 };

static u32 check(const u32 *data, u32 seed, u32 rewritten, u32 *sum) {
    u32 errors = 0;
    for (u32 i = 0; i < PAGES * WORDS; i++) {
        errors += data[i] != thread(seed, i < rewritten * WORDS, i);
        *sum = add_to_sum(*sum, data[i]);
    }
    return errors;
}

void main(u32 seed) {
    u32 *data = sbrk(PAGES * WORDS * 4), sum = 0;
    for (u32 i = 0; i < PAGES * WORDS; i++)
        data[i] = thread(seed, 0, i);
    say("before the fork: frame %08x behind address %08x", frame_behind(data), (u32)data);
    if (fork() == 0) {
        u32 before = frame_behind(data);
        for (u32 i = 0; i < PAGES / 2 * WORDS; i++)
            data[i] = thread(seed, 1, i);
        say("after it: frame %08x; once I wrote there: frame %08x", before, frame_behind(data));
        u32 errors = check(data, seed, PAGES / 2, &sum);
        finish(errors, sum);
    }
    wait();
    u32 errors = check(data, seed, 0, &sum);
    data[0]++; // nobody else has the page now: made writable, not copied
    say("the child (%u errors seen in my pages) is gone: frame %08x", errors, frame_behind(data));
    finish(errors, sum);
}
