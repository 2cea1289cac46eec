// The kernel's formatter, compiled once more: programs share no code with the kernel at run time.
#include "../../format.c"
