// Tables too large for a name per row: rows are counted by group, and a group passes if every row of it does. The first
// wrong row of a group is shown with its parameters.
#ifndef ROWS_H
#define ROWS_H
#include "guest.h"

// What a row expects: a trap's vector and error code; RET_VECTOR and NO_ERROR where control arrives.
struct rule {
    u32 vector, error;
};
#define ARRIVES ((struct rule){RET_VECTOR, NO_ERROR})
#define RAISES(v, e) ((struct rule){(v), (e)})

static const char *group_name;
static u32 group_rows, group_wrong, group_states, group_state_wrong;

static inline void group(const char *name) {
    group_name = name, group_rows = group_wrong = group_states = group_state_wrong = 0;
}

static inline void row(struct rule want, const char *(*who)(void)) {
    group_rows++;
    if (trap.vector == want.vector && trap.error == want.error)
        return;
    if (group_wrong++ == 0)
        say("first wrong row of %s: %s: expected vector %u error %x, got vector %u error %x\n", group_name, who(),
            want.vector, want.error, trap.vector, trap.error);
}

// What a row leaves behind, judged apart from where it leads.
static inline void state(const char *what, u32 got, u32 want, const char *(*who)(void)) {
    group_states++;
    if (got != want && group_state_wrong++ == 0)
        say("first wrong state of %s: %s: %s: expected %x, got %x\n", group_name, who(), what, want, got);
}

static inline void end_group(void) {
    check(name_of("%s-rows", group_name), group_wrong, 0);
    if (group_states)
        check(name_of("%s-state", group_name), group_state_wrong, 0);
    check_true(name_of("%s-is-not-empty", group_name), group_rows > 0);
}

#endif
