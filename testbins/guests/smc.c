// Self-modifying code: stores into the next instruction, into the running block, across a page, through another mapping of the
// same frame, by REP and by PUSH, and code that is written anew again and again. SDM 3A "Handling Self- and Cross-Modifying
// Code": P6 and later see a store to the same linear address at once; through an alias, after a serializing instruction.
#include "lib/guest.h"

#define PAGE(n) (WINDOW + (n) * 0x1000)

__attribute__((used)) static volatile u32 counter;

// Each piece is copied to a page of its own and entered there with ECX = its start.
CODE(next_instruction, "movb $0x43, 1f - next_instruction(%ecx); 1: incl %eax"); // becomes INC EBX
CODE(next_immediate, "movl $0x12345678, 1f - next_immediate + 1(%ecx); 1: movl $1, %eax");
CODE(far_ahead, "movb $0x43, 1f - far_ahead(%ecx); nop; nop; nop; addl $1, %edx; testl %edx, %edx; 1: incl %eax");
CODE(loop_body, "movl $4, %esi; 1: incl %eax; xorb $3, 1b - loop_body(%ecx); decl %esi; jnz 1b"); // 40 <-> 43
CODE(patch_behind, "xorl %esi, %esi; 1: nop; testl %esi, %esi; jnz 2f; movb $0x43, 1b - patch_behind(%ecx); incl %esi; "
                   "jmp 1b; 2:");
CODE(make_longer, "movl $0x0000bb90, 1f - make_longer(%ecx); movl $0x90000000, 1f - make_longer + 4(%ecx); 1: nop; nop; nop; "
                  "nop; nop; nop; nop; nop"); // NOP; MOV EBX, 0; NOP... then patched below
CODE(cross_word, "movw $0x4343, 1f - cross_word(%ecx); 1: incl %eax; incl %eax");
CODE(rep_patch, "leal 1f - rep_patch(%ecx), %edi; movb $0x43, %al; movl %ecx, %edx; movl $3, %ecx; rep stosb; 1: nop; nop; nop");
CODE(jump_target, "movb $0xeb, 1f - jump_target(%ecx); movb $1, 1f - jump_target + 1(%ecx); 1: nop; nop; incl %eax; incl %ebx");
CODE(self_call, "pushl %ecx; call 1f; movl (%esp), %ecx; movb $0x43, 1f - self_call(%ecx); call 1f; popl %ecx; jmp 2f; "
                "1: incl %eax; ret; 2:");
CODE(push_patch, "movl %esp, %edx; leal 2f - push_patch + 4(%ecx), %esp; pushl $0x90909043; 2: nop; nop; nop; nop; movl %edx, %esp");
CODE(counts, "incl counter; ret");

static struct context ready(void (*fn)(void), char *end, u32 at) {
    memcpy((void *)at, fn, end - (char *)fn);
    struct context c = ring_context(0, fn);
    c.eip = c.ecx = at;
    return c;
}

#define RUN(name, fn, at, incs, incs_b)                                                                                  \
    do {                                                                                                               \
        struct context c = ready(fn, fn##_end, at);                                                                    \
        go(&c);                                                                                                        \
        check_trap(name_of("%s-ends", name), RET_VECTOR, NO_ERROR, 0);                                                 \
        check(name, trap.eax | trap.ebx << 16, (incs) | (incs_b) << 16);                                                 \
    } while (0)

static void same_address(void) {
    u32 at = PAGE(0);
    // Twice each: the second time the place has been run before.
    for (u32 n = 0; n < 2; n++) {
        RUN(name_of("next-instruction-%u", n), next_instruction, at, 0, 1);
        RUN(name_of("far-ahead-%u", n), far_ahead, at, 0, 1);
        RUN(name_of("loop-body-%u", n), loop_body, at, 2, 2);
        RUN(name_of("patch-behind-%u", n), patch_behind, at, 0, 1);
        RUN(name_of("two-instructions-%u", n), cross_word, at, 0, 2);
        RUN(name_of("by-rep-stos-%u", n), rep_patch, at, 0x43, 3);
        RUN(name_of("by-push-%u", n), push_patch, at, 0, 1);
        RUN(name_of("a-jump-appears-%u", n), jump_target, at, 0, 1);
        RUN(name_of("called-before-and-after-%u", n), self_call, at, 1, 1);
        struct context c = ready(next_immediate, next_immediate_end, at);
        go(&c);
        check(name_of("next-immediate-%u", n), trap.eax, 0x12345678);
        c = ready(make_longer, make_longer_end, at);
        c.ebx = 7;
        go(&c);
        check(name_of("other-lengths-%u", n), trap.ebx, 0);
    }
    // In ring 3, and where the store and its target are on different pages.
    struct context c = ready(next_instruction, next_instruction_end, at);
    struct context user = ring_context(3, next_instruction);
    user.eip = c.eip, user.ecx = c.ecx;
    go(&user);
    check("in-ring-3", trap.eax | trap.ebx << 16, 1 << 16);
    u32 length = (u32)next_instruction_end - (u32)next_instruction;
    for (u32 back = 1; back < length; back++)
        RUN(name_of("across-a-page-%u", back), next_instruction, PAGE(1) - back, 0, 1);
}

// An instruction whose bytes are on two pages, changed on either.
static void instruction_across_pages(void) {
    for (u32 split = 1; split < 5; split++) {
        u8 *at = (u8 *)(PAGE(1) - split);
        at[0] = 0xb8, at[1] = 1, at[2] = 2, at[3] = 3, at[4] = 4, at[5] = 0xcd, at[6] = RET_VECTOR;
        struct context c = ring_context(0, 0);
        c.eip = (u32)at;
        go(&c);
        check(name_of("split-%u-before", split), trap.eax, 0x04030201);
        at[4] = 0x44;
        go(&c);
        check(name_of("split-%u-second-page-changed", split), trap.eax, 0x44030201);
        at[0] = 0xbb;
        go(&c);
        check(name_of("split-%u-first-page-changed", split), trap.ebx, 0x44030201);
        // The second page becomes another frame.
        memcpy((void *)frame(20), (void *)frame(1), 4096);
        ((u8 *)frame(20))[4 - split] = 0x99;
        map(PAGE(1), frame(20), P | W | U);
        go(&c);
        check(name_of("split-%u-second-page-remapped", split), trap.ebx, 0x99030201);
        map(PAGE(1), frame(1), P | W | U);
        go(&c);
        check(name_of("split-%u-and-back", split), trap.ebx, 0x44030201);
    }
}

static void call(u32 at) { asm volatile("call *%0" ::"r"(at) : "memory", "cc"); }

// The frame behind PAGE(0) is also at PAGE(5): code written there, a serializing instruction, and run here.
static void aliases(void) {
    map(PAGE(5), frame(0), P | W | U);
    memcpy((void *)PAGE(0), counts, counts_end - (char *)counts);
    counter = 0;
    call(PAGE(0));
    call(PAGE(5));
    check("alias-runs-at-both", counter, 2);
    *(volatile u8 *)(PAGE(5) + 1) = 0x0d; // INC [counter] becomes DEC [counter]
    set_cr2(cr2());                      // MOV to a control register serializes
    call(PAGE(0));
    check("alias-write-is-seen", counter, 1);
    call(PAGE(5));
    check("alias-write-is-seen-at-its-own-address", counter, 0);
    // The other way round, and by the identity mapping.
    *(volatile u8 *)(frame(0) + 1) = 0x05;
    set_cr2(cr2());
    call(PAGE(0));
    call(PAGE(5));
    check("physical-write-is-seen", counter, 2);
    // Another frame at the same address.
    memcpy((void *)frame(2), counts, counts_end - (char *)counts);
    ((u8 *)frame(2))[1] = 0x0d;
    map(PAGE(0), frame(2), P | W | U);
    call(PAGE(0));
    check("remapped-code-is-the-new-frame's", counter, 1);
    map(PAGE(0), frame(0), P | W | U);
    call(PAGE(0));
    check("and-the-old-one-again", counter, 2);
}

// The same bytes are other instructions with another default size.
static void sizes(void) {
    static const u8 bytes[] = {0xb8, 0x78, 0x56, 0x40, 0x90, 0xcd, RET_VECTOR}; // MOV eax, imm32 / MOV ax, imm16; INC ax; NOP
    memcpy((void *)PAGE(0), bytes, sizeof bytes);
    set(SCRATCH(0), desc(PAGE(0), 0xfff, A_XR, 0));
    for (u32 n = 0; n < 4; n++) {
        struct context c = ring_context(0, 0);
        if (n & 1)
            c.cs = SCRATCH(0), c.eip = 0;
        else
            c.eip = PAGE(0);
        go(&c);
        check(name_of("same-bytes-%u-bit-%u", n & 1 ? 16 : 32, n), trap.eax, n & 1 ? 0x5679 : 0x90405678);
    }
}

// Code that is written anew again and again, each time a different immediate.
static void many_times(void) {
    volatile u8 *at = (u8 *)PAGE(0);
    u32 sum = 0, wanted = 0;
    at[0] = 0xb8, at[5] = 0xc3;
    for (u32 n = 0; n < 500; n++) {
        u32 got;
        *(volatile u32 *)(at + 1) = n * n;
        asm volatile("call *%1" : "=a"(got) : "r"(at) : "memory");
        sum += got, wanted += n * n;
    }
    check("written-anew-500-times", sum, wanted);
    // Data next to code, in the same page: nothing changes.
    for (u32 n = 0; n < 500; n++) {
        u32 got;
        ((volatile u32 *)at)[64] = n;
        asm volatile("call *%1" : "=a"(got) : "r"(at) : "memory");
        sum += got == 499 * 499;
    }
    check("data-next-to-code", sum, wanted + 500);
}

void guest(void) {
    paging_on();
    for (u32 n = 0; n < 3; n++)
        map(PAGE(n), frame(n), P | W | U);
    same_address();
    instruction_across_pages();
    aliases();
    sizes();
    many_times();
}
