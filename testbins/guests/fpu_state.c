// The x87 environment where it is saved: instruction and operand pointers, the last opcode, and the layouts of each operand
// size. SDM 1 "x87 FPU Instruction and Operand (Data) Pointers", "Last Instruction Opcode", "Saving the x87 FPU's State with
// FSTENV/FNSTENV and FSAVE/FNSAVE"; 2A "FXSAVE".
#include "lib/guest.h"

__attribute__((used)) static u32 operand = 0x3f800000;
__attribute__((used, aligned(16))) static u32 image[128];

void load(void);
extern u8 load_at[];
asm(".globl load, load_at\n"
    "load: fninit\n"
    "load_at: flds operand\n" // D9 /0, disp32
    " ret");

static u32 half(u32 word, u32 upper) {
    return upper ? image[word] >> 16 : image[word] & 0xffff;
}

void guest(void) {
    if (!has_cpuid() || !(cpuid(1, 0).edx & 1)) {
        skip("environment", "CPUID has no x87 FPU");
        return;
    }
    set_cr0(cr0() & ~0xeu); // MP, EM, TS
    u32 at = (u32)load_at, data = (u32)&operand, cs, ds;
    asm("movl %%cs, %0; movl %%ds, %1" : "=r"(cs), "=r"(ds));

    load();
    asm volatile("fnstenv image" ::: "memory");
    check("fnstenv-control-word", half(0, 0), 0x37f);
    check("fnstenv-status-word-has-top-7", half(1, 0), 7 << 11);
    check("fnstenv-tags-one-valid", half(2, 0), 0x3fff);
    check("fnstenv-instruction-pointer", image[3], at);
    check("fnstenv-code-selector", half(4, 0), cs);
    check("fnstenv-operand-pointer", image[5], data);
    check("fnstenv-data-selector", half(6, 0), ds);
    check("fnstenv-opcode", image[4] >> 16 & 0x7ff, 0x105);

    image[3] = 0x2468ace;
    asm volatile("fldenv image; fnstenv image" ::: "memory");
    check("fldenv-instruction-pointer", image[3], 0x2468ace);

    load();
    asm volatile("data16 fnstenv image" ::: "memory");
    check("fnstenv16-tags-one-valid", half(1, 0), 0x3fff);
    check("fnstenv16-instruction-pointer", half(1, 1), at & 0xffff);
    check("fnstenv16-code-selector", half(2, 0), cs);
    check("fnstenv16-operand-pointer", half(2, 1), data & 0xffff);
    check("fnstenv16-data-selector", half(3, 0), ds);

    load();
    asm volatile("fnsave image" ::: "memory");
    check("fnsave-instruction-pointer", image[3], at);
    check("fnsave-operand-pointer", image[5], data);
    check("fnsave-first-register-fraction", image[8], 0x80000000);
    check("fnsave-first-register-exponent", half(9, 0), 0x3fff);
    image[5] = 0x13579bdf;
    asm volatile("frstor image; fnsave image" ::: "memory");
    check("frstor-operand-pointer", image[5], 0x13579bdf);
    asm volatile("fnstenv image" ::: "memory");
    check("fnsave-leaves-no-instruction-pointer", image[3], 0);
    check("fnsave-leaves-all-empty", half(2, 0), 0xffff);

    if (!(cpuid(1, 0).edx & 1 << 24)) {
        skip("fxsave", "CPUID has no FXSR");
        return;
    }
    set_cr4(cr4() | 1 << 9); // OSFXSR
    load();
    asm volatile("fxsave image" ::: "memory");
    check("fxsave-tags-one-valid", half(1, 0), 0x80);
    check("fxsave-instruction-pointer", image[2], at);
    check("fxsave-code-selector", half(3, 0), cs);
    check("fxsave-operand-pointer", image[4], data);
    check("fxsave-data-selector", half(5, 0), ds);
    image[2] = 0x12345678;
    image[4] = 0x9abcdef0;
    asm volatile("fxrstor image; fnstenv image" ::: "memory");
    check("fxrstor-instruction-pointer", image[3], 0x12345678);
    check("fxrstor-operand-pointer", image[5], 0x9abcdef0);
}
