// One of two processes from the same image. Both write to the same address, and each finds what it wrote.
#include "lib/program.h"

static volatile u32 note;

void main(u32 argument) {
    u32 errors = 0;
    note = argument;
    say("I write %08x to address %08x ...", argument, (u32)&note);
    for (u32 turn = 0; turn < 10; turn++) {
        yield(); // the other one writes
        errors += note != argument + turn;
        note++;
    }
    say("... ten turns later I read %08x there. Behind it is frame %08x.", note, frame_behind(&note));
    finish(errors, note);
}
