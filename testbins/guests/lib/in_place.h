// Rows that run where they are: a piece of C in any ring whose faults are noted and skipped, so that a row costs few instructions.
#ifndef IN_PLACE_H
#define IN_PLACE_H
#include "rows.h"

// Set by the piece before the instruction under test: where it is, and where to go on if it faults.
__attribute__((used)) static volatile u32 tried_at, resume_at;
static struct {
    u32 vector, error, eip, esp, cr2, eflags;
} fault; // RET_VECTOR and NO_ERROR: there was none

static int skip_the_fault(void) {
    if (!resume_at)
        return CATCH_IT;
    fault.vector = trap.vector, fault.error = trap.error, fault.eip = trap.eip, fault.esp = trap.esp, fault.cr2 = trap.cr2;
    fault.eflags = trap.eflags;
    trap.eip = resume_at;
    resume_at = 0;
    return RESUME;
}

static inline void no_fault(void) { fault.vector = RET_VECTOR, fault.error = NO_ERROR; }

// In ring 0: from here on; and the rings may use ports, to report.
static void skip_faults(int on) {
    static const u8 which[] = {UD, TS, NP, SS, GP, PF_};
    for (u32 n = 0; n < sizeof which; n++)
        hooks[which[n]] = on ? skip_the_fault : 0;
    ring_eflags = on ? 2 | IOPL(3) : 2;
}

// The row, by what was noted.
static void judge_fault(struct rule want, const char *(*who)(void)) {
    trap.vector = fault.vector, trap.error = fault.error;
    row(want, who);
    if (want.vector != RET_VECTOR && fault.vector == want.vector)
        state("saved eip", fault.eip, tried_at, who);
}

// In a piece: notes where the instruction is that stands at label 771, and that a fault of it goes on at 779.
#define TRY_IT "movl $771f, tried_at; movl $779f, resume_at; 771: "
#define GO_ON "; 779: "

#endif
