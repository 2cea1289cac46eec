// CR4.UMIP: SGDT, SIDT, SLDT, SMSW and STR in rings 1 to 3. SDM 3A "Control Registers", UMIP; the instructions' pages.
#include "lib/guest.h"

__attribute__((used)) static u8 room[16];

CODE(sgdt_, "sgdt room");
CODE(sidt_, "sidt room");
CODE(sldt_, "sldt %eax");
CODE(smsw_, "smsw %eax");
CODE(str_, "str %eax");
CODE(smsw_memory, "smsw room");

void guest(void) {
    static const struct {
        const char *name;
        void (*fn)(void);
    } list[] = {{"sgdt", sgdt_}, {"sidt", sidt_}, {"sldt", sldt_}, {"smsw", smsw_}, {"str", str_}, {"smsw-memory", smsw_memory}};
    for (u32 n = 0; n < 6; n++)
        expect_in_ring(name_of("%s-in-ring-3-without-umip", list[n].name), 3, list[n].fn, RET_VECTOR, NO_ERROR, ANYWHERE);
    in_ring(3, sldt_);
    in_ring(3, smsw_);
    check("smsw-reads-cr0", trap.eax & 0xffff, cr0() & 0xffff);
    in_ring(3, str_);
    check("str-reads-tr", trap.eax & 0xffff, TSS0);
    if (!has(F_UMIP)) {
        skip("umip", "CPUID has no UMIP");
        return;
    }
    set_cr4(cr4() | CR4_UMIP);
    for (u32 n = 0; n < 6; n++) {
        for (u32 ring = 1; ring < 4; ring++)
            expect_in_ring(name_of("%s-in-ring-%u", list[n].name, ring), ring, list[n].fn, GP, 0, 0);
        expect_in_ring(name_of("%s-in-ring-0", list[n].name), 0, list[n].fn, RET_VECTOR, NO_ERROR, ANYWHERE);
    }
    set_cr4(cr4() & ~CR4_UMIP);
    expect_in_ring("sgdt-umip-off-again", 3, sgdt_, RET_VECTOR, NO_ERROR, ANYWHERE);
}
