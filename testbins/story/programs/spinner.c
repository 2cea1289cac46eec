// Computes and never asks the kernel for anything: it believes that it has the processor to itself.
#include "lib/program.h"

void main(u32 argument) {
    u32 x = argument;
    for (u32 i = 0; i < 1000000; i++)
        x = step(x);
    finish(0, x);
}
