// 16-bit protected-mode code and stacks, and the size prefixes in both worlds: operand size, all 16-bit address forms, pushes, near
// and far transfers, ENTER and LEAVE, IP that wraps. SDM 3A "Mixing 16-Bit and 32-Bit Code"; SDM 2A "Addressing-Mode Encoding of
// ModR/M and SIB Bytes", table for 16-bit addressing.
#include "lib/guest.h"

#define CS16 SCRATCH(0) // base: the piece of code
#define DS16 SCRATCH(1) // base: area
#define SS16 SCRATCH(2) // base: stack area
#define CS16_WRAP SCRATCH(3) // base: area, code

__attribute__((used)) static u8 area[0x10000] __attribute__((aligned(4096)));
static u8 stack_area[0x10000] __attribute__((aligned(4096)));

// 16-bit code, ended by INT 30h.
#define PIECE(name, text)                                                                                              \
    void name(void);                                                                                                   \
    asm(".text\n.code16\n.globl " #name "\n" #name ":\n" text "\nint $0x30\n.globl " #name "_end\n" #name              \
        "_end:\n.code32\n");                                                                                           \
    extern char name##_end[]

static struct context ready(void (*fn)(void)) {
    set(CS16, desc((u32)fn, 0xffff, A_XR, 0));
    set(DS16, desc((u32)area, 0xffff, A_RW, 0));
    set(SS16, desc((u32)stack_area, 0xffff, A_RW, 0));
    struct context c = {.cs = CS16, .eip = 0, .ds = DS16, .es = DS16, .fs = DS16, .gs = DS16, .ss = SS16, .esp = 0x1000,
                        .eflags = 2};
    return c;
}

static void ended(const char *name, void (*fn)(void), char *end) {
    check_trap(name, RET_VECTOR, NO_ERROR, 0);
    check(name_of("%s-ip", name), trap.eip, end - (char *)fn);
}
#define RUN(name, fn, ...)                                                                                             \
    do {                                                                                                               \
        struct context c = ready(fn);                                                                                  \
        __VA_ARGS__;                                                                                                   \
        go(&c);                                                                                                        \
        ended(name, fn, fn##_end);                                                                                     \
    } while (0)

#define W16(at) (*(volatile u16 *)(area + (at)))
#define W32(at) (*(volatile u32 *)(area + (at)))
#define S16(at) (*(volatile u16 *)(stack_area + (at)))
#define S32(at) (*(volatile u32 *)(stack_area + (at)))

PIECE(operands, "movw $0x1234, %ax; movl $0x89abcdef, %ebx; addw $1, %cx; addl $1, %edx; movb $7, %ah");
PIECE(addresses, "movw $1, (%bx,%si); movw $2, (%bx,%di); movw $3, (%si); movw $4, (%di); movw $5, (%bx); movw $6, 0x700;"
                 "movw $7, 8(%bx,%si); movw $8, -8(%di); movw $9, 0x1000(%bx)");
PIECE(stack_addresses, "movw $1, (%bp,%si); movw $2, (%bp,%di); movw $3, (%bp); movw $4, 0x300(%bp); movw $5, %ds:(%bp)");
PIECE(address_wrap, "movw $0x1111, (%bx,%si); leaw (%bx,%si), %ax; leal (%bx,%si), %ecx; movw -4(%bp,%di), %dx");
PIECE(wide_addresses, "addr32 movw $1, (%eax,%ebx,4); addr32 movl $0x22222222, 8(%esp); addr32 leaw 5(%eax), %cx; addr32 leal "
                      "0x12345(%eax), %edx");
PIECE(pushes, "pushw $0x1234; pushl $0x56789abc; pushw $-1; pushl $-2; pushw %sp; pushl %esp");
PIECE(push_all, "pushaw; movw %sp, %dx");
PIECE(pop_all, "popaw");
PIECE(near_calls, "call 1f; jmp 2f; 1: popw %ax; pushw %ax; retw; 2: calll 3f; jmp 4f; 3: popl %ebx; pushl %ebx; retl; 4:");
PIECE(ret_n, "pushw $5; pushw $6; call 1f; jmp 2f; 1: retw $4; 2:");
PIECE(loops, "1: incl %eax; loop 1b; jcxz 2f; movl $0, %eax; 2: .byte 0x67, 0xe3, 0x02; incl %ebx"); // JECXZ over the INC
PIECE(strings, "cld; movsw; movsl; stosw; lodsb");
PIECE(pointers, "lesw (%bx), %si; movw %es, %dx; ldsw (%di), %cx; movw %ds, %ax");
PIECE(conversions, "cbtw; cwtd; movzbl %cl, %ebx; movswl %cx, %esi");
PIECE(translate, "xlatb; movb %al, %ah; movb $1, %al; addr32 xlatb");
PIECE(enter_0, "enterw $0x20, $0; movw %sp, %ax; movw %bp, %cx; leavew; movw %sp, %dx");
PIECE(enter_2, "movw $0x2000, %bp; enterw $0x10, $2; movw %sp, %ax; movw %bp, %cx");
PIECE(far_calls, "lcallw *(%bx); jmp 1f; 2: popw %ax; popw %dx; pushw %dx; pushw %ax; lretw; 1: lcalll *8(%bx); jmp 3f; 4: popl "
                 "%ecx; popl %esi; pushl %esi; pushl %ecx; lretl; 3:");
PIECE(flags, "pushfw; popw %ax; pushfl; popl %ebx");
PIECE(iret16, "pushfw; pushw %cs; pushw $1f - iret16; iretw; 1: pushfl; pushl %cs; pushl $2f - iret16; iretl; 2:");
PIECE(bound16, "boundw %ax, (%bx)");
PIECE(push_segment, "pushw %ds; popw %ax; pushl %es; popl %ebx; pushw %fs; popw %gs");
PIECE(shifts, "shll $4, %eax; shrw $4, %bx; rolb $4, %cl");

CODE(in_32, ".byte 0x66, 0xb8, 0x34, 0x12;"                                // mov ax, 1234h
            ".byte 0x67, 0x66, 0xc7, 0x06, 0x00, 0x06, 0x21, 0x43;"         // mov word [600h], 4321h
            ".byte 0x67, 0x66, 0x8b, 0x0e, 0x00, 0x06");                    // mov cx, [600h]
CODE(addr16_modrm, ".byte 0x67, 0x8b, 0x40, 0x04; .byte 0x67, 0x8d, 0x59, 0x10"); // mov eax, [bx+si+4]; lea ebx, [bx+di+10h]

static void basics(void) {
    RUN("operands", operands, c.eax = 0xffff0000, c.ecx = 0x1ffff, c.edx = 0x1ffff);
    check("operands-ax", trap.eax, 0xffff0734);
    check("operands-ebx", trap.ebx, 0x89abcdef);
    check("operands-cx-edx", trap.ecx ^ trap.edx, 0x10000 ^ 0x20000);
    RUN("addresses", addresses, c.ebx = 0xbad0100, c.esi = 0xbad0020, c.edi = 0xbad0200);
    check("address-bx-si", W16(0x120), 1);
    check("address-bx-di", W16(0x300), 2);
    check("address-si", W16(0x20), 3);
    check("address-di", W16(0x200), 4);
    check("address-bx", W16(0x100), 5);
    check("address-disp16", W16(0x700), 6);
    check("address-bx-si-disp8", W16(0x128), 7);
    check("address-di-negative-disp8", W16(0x1f8), 8);
    check("address-bx-disp16", W16(0x1100), 9);
    RUN("stack-addresses", stack_addresses, c.ebp = 0xbad0400, c.esi = 0x10, c.edi = 0x20);
    check("address-bp-si", S16(0x410), 1);
    check("address-bp-di", S16(0x420), 2);
    check("address-bp", S16(0x400), 3);
    check("address-bp-disp16", S16(0x700), 4);
    check("address-bp-with-override", W16(0x400), 5);
    S16(0x10) = 0x7777;
    RUN("address-wrap", address_wrap, c.ebx = 0xfff0, c.esi = 0x30, c.ebp = 0xfff4, c.edi = 0x20, c.eax = 0xaaaa0000);
    check("address-wraps-at-64k", W16(0x20), 0x1111);
    check("lea-16-wraps", trap.eax, 0xaaaa0020);
    check("lea-32-of-a-16-bit-address-is-zero-extended", trap.ecx, 0x20);
    check("address-wraps-on-the-stack-segment", trap.edx & 0xffff, 0x7777);
    RUN("wide-addresses", wide_addresses, c.eax = 0x500, c.ebx = 0x40, c.ecx = 0xffffffff);
    check("address-32-sib", W16(0x600), 1);
    check("address-32-esp", S32(0x1008), 0x22222222);
    check("lea-16-of-a-32-bit-address", trap.ecx, 0xffff0505);
    check("lea-32-of-a-32-bit-address", trap.edx, 0x12845);
}

static void stacks(void) {
    RUN("pushes", pushes);
    check("pushes-sp", trap.esp & 0xffff, 0x1000 - 18);
    check("push-imm16", S16(0xffe), 0x1234);
    check("push-imm32", S32(0xffa), 0x56789abc);
    check("push-imm8-16", S16(0xff8), 0xffff);
    check("push-imm8-32", S32(0xff4), 0xfffffffe);
    check("push-sp-is-the-value-before", S16(0xff2), 0xff4);
    check("push-esp-is-the-value-before", S32(0xfee) & 0xffff, 0xff2);
    RUN("push-all", push_all, c.eax = 1, c.ecx = 2, c.edx = 3, c.ebx = 4, c.ebp = 5, c.esi = 6, c.edi = 7);
    check("push-all-16-sp", trap.edx & 0xffff, 0xff0);
    check("push-all-16-order", S16(0xffe) | S16(0xffc) << 4 | S16(0xffa) << 8 | S16(0xff8) << 12, 0x4321);
    check("push-all-16-old-sp", S16(0xff6), 0x1000);
    check("push-all-16-rest", S16(0xff4) | S16(0xff2) << 4 | S16(0xff0) << 8, 0x765);
    RUN("pop-all", pop_all, c.esp = 0xff0, c.eax = 0xeeee0000, c.edi = 0xdddd0000);
    check("pop-all-16-keeps-upper-halves", trap.eax ^ trap.edi, 0xeeee0001 ^ 0xdddd0007);
    check("pop-all-16-ignores-sp", trap.esp & 0xffff, 0x1000);
    RUN("near-calls", near_calls);
    check("call-16-pushes-ip", trap.eax & 0xffff, 3);
    check("call-32-pushes-eip", trap.ebx >> 16, 0);
    check("near-calls-balance", trap.esp & 0xffff, 0x1000);
    RUN("ret-n", ret_n);
    check("ret-n-releases", trap.esp & 0xffff, 0x1000);
    RUN("enter-0", enter_0, c.ebp = 0xabcd);
    check("enter-0-sp", trap.eax & 0xffff, 0x1000 - 2 - 0x20);
    check("enter-0-bp", trap.ecx & 0xffff, 0x1000 - 2);
    check("leave-restores", (trap.edx & 0xffff) | trap.ebp << 16, 0x1000 | 0xabcd << 16);
    S16(0x1ffe) = 0x5151;
    RUN("enter-2", enter_2);
    check("enter-2-bp", trap.ecx & 0xffff, 0xffe);
    check("enter-2-sp", trap.eax & 0xffff, 0x1000 - 2 - 4 - 0x10);
    check("enter-2-frame", S16(0xffe) | S16(0xffc) << 16, 0x2000 | 0x5151 << 16);
    check("enter-2-own-frame-pointer", S16(0xffa), 0xffe);
    RUN("push-segment", push_segment);
    check("push-segment-values", (trap.eax & 0xffff) | trap.ebx << 16, DS16 | DS16 << 16);
    check("push-segment-pops-gs", trap.gs, DS16);
}

static void transfers(void) {
    RUN("loops", loops, c.ecx = 0x70003, c.eax = 0);
    check("loop-uses-cx", trap.eax, 3);
    check("loop-keeps-upper-ecx", trap.ecx, 0x70000);
    check("jecxz-uses-ecx", trap.ebx, 1);
    struct context c = ready(far_calls);
    // The targets: behind LCALLW (4 bytes: FF 17 and a short JMP) and so on; found by the labels' distances.
    W16(0x100) = 4, W16(0x102) = CS16;
    W32(0x108) = 0, W16(0x10c) = CS16;
    c.ebx = 0x100;
    u8 *code = (u8 *)far_calls;
    // LCALLL *8(bx) is 66 FF 5F 08, then a short JMP: its target is 6 bytes on.
    for (u32 n = 0; n < 32; n++)
        if (code[n] == 0x66 && code[n + 1] == 0xff && code[n + 2] == 0x5f)
            W32(0x108) = n + 6;
    go(&c);
    ended("far-calls", far_calls, far_calls_end);
    check("far-call-16-pushes-words", (trap.eax & 0xffff) | trap.edx << 16, 2 | CS16 << 16);
    check("far-call-32-pushes-dwords", (trap.esi & 0xffff) << 16 | trap.ecx, CS16 << 16 | (W32(0x108) - 2));
    check("far-calls-balance", trap.esp & 0xffff, 0x1000);
    RUN("iret-16-and-32", iret16);
    check("iret-16-and-32-balance", trap.esp & 0xffff, 0x1000);
    W16(0x40) = 5, W16(0x42) = 10;
    RUN("bound-inside", bound16, c.eax = 0x10007, c.ebx = 0x40);
    c = ready(bound16);
    c.eax = 11, c.ebx = 0x40;
    go(&c);
    check_trap("bound-16-outside", BR, NO_ERROR, 0);
    check("bound-16-outside-ip", trap.eip, 0);
    // A short jump below 0 wraps to the top of the 64 KiB.
    area[0] = 0xeb, area[1] = 0xee;               // JMP $-16
    area[0xfff0] = 0xcd, area[0xfff1] = RET_VECTOR; // INT 30h
    set(CS16_WRAP, desc((u32)area, 0xffff, A_XR, 0));
    c.cs = CS16_WRAP, c.eip = 0;
    go(&c);
    check_trap("short-jump-wraps-ip", RET_VECTOR, NO_ERROR, 0);
    check("short-jump-wraps-ip-to", trap.eip, 0xfff2);
    // The last instruction may end at FFFFh, the next one is beyond the limit.
    area[0xffff] = 0x90, area[0xfffe] = 0xeb;
    c.eip = 0xffff;
    if (!qemu_goes_down("fetch-beyond-64k")) {
        go(&c);
        check_trap("fetch-beyond-64k", GP, 0, 0);
    }
    area[0xfffe] = 0xb8; // MOV ax, imm16 across the limit
    c.eip = 0xfffe;
    if (!qemu_goes_down("instruction-across-64k")) {
        go(&c);
        check_trap("instruction-across-64k", GP, 0, 0xfffe);
    }
}

static void others(void) {
    for (u32 n = 0; n < 16; n++)
        area[0x200 + n] = 0x10 + n;
    RUN("strings", strings, c.esi = 0xbad0200, c.edi = 0xbad0300, c.eax = 0x5566);
    check("strings-si-di", (trap.esi & 0xffff) | trap.edi << 16, 0x207 | 0x308 << 16);
    check("strings-keep-upper-halves", (trap.esi ^ trap.edi) >> 16, 0);
    check("movsw-movsd", W32(0x300), 0x13121110);
    check("stosw", W16(0x306), 0x5566);
    check("lodsb", trap.eax & 0xffff, 0x5516);
    W16(0x80) = 0x1234, W16(0x82) = UDATA, W16(0x90) = 0x5678, W16(0x92) = 0;
    RUN("pointers", pointers, c.ebx = 0x80, c.edi = 0x90, c.esi = 0xffff0000);
    check("les-16", trap.esi, 0xffff1234);
    check("les-16-es", trap.edx & 0xffff, UDATA);
    check("lds-16", (trap.ecx & 0xffff) | trap.eax << 16, 0x5678);
    RUN("conversions", conversions, c.eax = 0x12345680, c.ecx = 0x8081, c.edx = 0x77770000);
    check("cbw", trap.eax, 0x1234ff80);
    check("cwd", trap.edx, 0x7777ffff);
    check("movzx-movsx", trap.ebx ^ trap.esi, 0x81 ^ 0xffff8081);
    area[0x105] = 0x42, area[0x8101] = 0x43;
    RUN("translate", translate, c.ebx = 0x100, c.eax = 5);
    check("xlat-uses-bx", trap.eax >> 8 & 0xff, 0x42);
    RUN("translate-2", translate, c.ebx = 0x8100, c.eax = 1);
    check("xlat-32-uses-ebx", trap.eax & 0xffff, 0x4343);
    RUN("flags", flags, c.eflags = 2 | CF | AC);
    check("pushf-16-and-32", (trap.eax & 0xffff) ^ trap.ebx, (2 | CF) ^ (2 | CF | AC));
    RUN("shifts", shifts, c.eax = 0x12345678, c.ebx = 0x1234abcd, c.ecx = 0x12);
    check("shifts-32-16-8", trap.eax ^ trap.ebx ^ trap.ecx, 0x23456780 ^ 0x12340abc ^ 0x21);

    // The prefixes in 32-bit code: DS has its base at `area`.
    struct context c = ready(operands);
    c.cs = KCODE, c.eip = (u32)in_32, c.ecx = 0xcccc0000, c.eax = 0xaaaa0000;
    go(&c);
    check("32-bit-code-operand-prefix", trap.eax, 0xaaaa1234);
    check("32-bit-code-address-prefix", W16(0x600), 0x4321);
    check("32-bit-code-both-prefixes", trap.ecx, 0xcccc4321);
    W32(0x804) = 0x600dcafe;
    c.eip = (u32)addr16_modrm, c.ebx = 0x10700, c.esi = 0x100, c.edi = 0xfff0, c.ecx = 0;
    go(&c);
    check("32-bit-code-bx-si", trap.eax, 0x600dcafe);
    check("32-bit-code-lea-wraps-at-64k", trap.ebx, 0x700);
}

void guest(void) {
    basics();
    stacks();
    transfers();
    others();
}
