// What comes first when several things are wrong with a load of a segment register: a register that cannot be loaded, the page of
// the operand, the table's limit, the page of the descriptor, its type and privilege, its presence, and the write of its accessed
// bit. SDM 2B "MOV", "POP", SDM 2A "LDS/LES/LFS/LGS/LSS", Operation and Protected Mode Exceptions; SDM 3A "Page-Level Protection",
// "Access Rights" (accesses to descriptor tables are supervisor-mode accesses at every CPL).
#include "lib/in_place.h"

// A GDT of two pages: the second one has the descriptors under test.
#define OPERAND WINDOW                    // two pages
#define TABLE (WINDOW + 0x4000)           // two pages
#define TABLE_BASE (TABLE + 0x1000 - 512) // selectors from 200h on are in the second page
#define SEL 0x240
#define LIMIT 0x2ff

static u32 cpl, rpl, dpl, type, present, mapped, write_protect; // the row at hand
static const char *form_name;
__attribute__((used)) static volatile u32 selector, operand, got_selector, got_register, esp_before, esp_after;

static const char *the_row(void) {
    return name_of("%s cpl %u selector %x rpl %u dpl %u type %2x present %u mapped %x wp %u", form_name, cpl, selector, rpl, dpl, type,
                   present, mapped, write_protect);
}

#define STATE(what, got, want) state(what, got, want, the_row)
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

// The operand is at `operand`.
#define FORM(name, seg, load)                                                                                              \
    static void name(void) {                                                                                              \
        asm volatile("movl %%esp, %%esi; movw %%" #seg ", %%dx; movl $0x55, %%eax; movl operand, %%edi;" load GO_ON       \
                     "movl %%esp, %%ebx; movw %%" #seg ", %%cx; movw %%dx, %%" #seg "; movl %%esi, %%esp;"                \
                     "movl %%ebx, esp_after; movl %%ecx, got_selector; movl %%eax, got_register" ::"c"(0)                 \
                     : "eax", "ebx", "edx", "esi", "edi", "memory", "cc");                                                 \
    }
#define FORMS(seg)                                                                                                         \
    FORM(mov_##seg, seg, TRY_IT "movw (%%edi), %%" #seg ";")                                                              \
    FORM(pop_##seg, seg, "movl %%edi, %%esp;" TRY_IT "popl %%" #seg ";")                                                  \
    FORM(popw_##seg, seg, "movl %%edi, %%esp;" TRY_IT "popw %%" #seg ";")                                                 \
    FORM(far_##seg, seg, TRY_IT "l" #seg " (%%edi), %%eax;")                                                              \
    FORM(farw_##seg, seg, TRY_IT "l" #seg "w (%%edi), %%ax;")
FORMS(ds)
FORMS(es)
FORMS(fs)
FORMS(gs)
FORMS(ss)

struct form {
    const char *name;
    void (*load)(void);
    u32 pops, offset, bytes, stack; // the selector is at this offset of an operand of so many bytes
};
#define ROWS(seg, is_ss)                                                                                                   \
    {"mov-" #seg, mov_##seg, 0, 0, 2, is_ss}, {"pop-" #seg, pop_##seg, 4, 0, 4, is_ss},                                    \
        {"popw-" #seg, popw_##seg, 2, 0, 2, is_ss}, {"l" #seg, far_##seg, 0, 4, 6, is_ss},                                 \
        {"l" #seg "w", farw_##seg, 0, 2, 4, is_ss}
static const struct form forms[] = {ROWS(ds, 0), ROWS(es, 0), ROWS(fs, 0), ROWS(gs, 0), ROWS(ss, 1)};
#define EACH_FORM for (form = forms; form < forms + sizeof forms / sizeof *forms; form++)
static const struct form *form;

static u32 current(void) {
    static const u16 data[4] = {KDATA, DATA1, DATA2, UDATA};
    return data[cpl];
}

static void attempt(struct rule want, u32 cr2) {
    form_name = form->name;
    no_fault();
    form->load();
    resume_at = 0;
    judge_fault(want, the_row);
    int arrives = want.vector == RET_VECTOR;
    if (want.vector == PF_ && fault.vector == PF_)
        // (which of a descriptor's bytes are written for the accessed bit is the processor's choice)
        STATE("cr2", want.error == 3 ? fault.cr2 & ~7u : fault.cr2, cr2);
    STATE("selector", got_selector, arrives ? selector : current());
    if (form->pops)
        STATE("esp", esp_after, operand + (arrives ? form->pops : 0));
    else if (form->offset)
        STATE("register", got_register, arrives ? (form->offset == 4 ? 0x12345678 : 0x5678) : 0x55);
}

// Puts an operand at `at`, which may be in two pages, through the frames behind them.
static void put_operand(u32 at) {
    u8 bytes[8] = {0x78, 0x56, 0x34, 0x12};
    bytes[form->offset] = selector, bytes[form->offset + 1] = selector >> 8;
    operand = at;
    for (u32 n = 0; n < form->bytes; n++)
        *(u8 *)(frame((at + n - OPERAND) >> 12) + ((at + n) & 0xfff)) = bytes[n];
}

// ---- the operand's pages: read before the selector is looked at
static void operands(void) {
    EACH_FORM for (u32 n = 0; n < 3; n++) {
        // (a fault in ring 0 goes on its stack, below the operand of POP)
        if (form->pops && cpl == 0 && !(mapped & 1))
            continue;
        // bad, good and null, wherever the operand lies
        static const u16 chosen[] = {0x3f8, SEL, 0};
        selector = chosen[n] | cpl;
        // in the first page, across both, in the second one, which alone is mapped or not
        for (u32 at = 0x1000 - form->bytes; at <= 0x1000; at += form->bytes == 2 ? 1 : 2) {
            put_operand(OPERAND + at);
            u32 first_bad = 0;
            if (at < 0x1000 && !(mapped & 1))
                first_bad = operand;
            else if (at + form->bytes > 0x1000 && !(mapped & 2))
                first_bad = OPERAND + 0x1000;
            struct rule good = n == 1 || (n == 2 && !form->stack) ? ARRIVES : RAISES(GP, selector & 0xfffc);
            attempt(first_bad ? RAISES(PF_, cpl == 3 ? 4 : 0) : good, first_bad);
        }
    }
}

// ---- the descriptor's page
static int is_code(u32 t) { return (t & 0x18) == 0x18; }
static int is_conforming(u32 t) { return (t & 0x1c) == 0x1c; }

static struct rule checks_of_the_descriptor(void) {
    u32 error = selector & 0xfffc;
    if (form->stack) {
        if (rpl != cpl || (type & 0x1a) != 0x12 || dpl != cpl)
            return RAISES(GP, error);
        return present ? ARRIVES : RAISES(SS, error);
    }
    if (!(type & 0x10) || (is_code(type) && !(type & 2)) || (!is_conforming(type) && (rpl > dpl || cpl > dpl)))
        return RAISES(GP, error);
    return present ? ARRIVES : RAISES(NP, error);
}

static volatile u64 *descriptor(void) { return (volatile u64 *)(frame(3) + SEL - 0x200); }

static void descriptors(void) {
    EACH_FORM for (u32 n = 0; n < 16; n++) {
        // all for MOV to FS and to SS, a choice for the others
        u32 whole = form->load == mov_fs || form->load == mov_ss;
        if (!whole && n != 0 && n != 8 && n != (u32)(form - forms) % 16)
            continue;
        // each wrong in one more way, with the accessed bit set or clear
        rpl = cpl, dpl = cpl, type = 0x12, present = 1;
        if (n >= 8)
            type |= 1;
        switch (n & 7) {
        case 1: present = 0; break;
        case 2: type = 0x18 | (type & 1), present = 0; break;
        case 3: dpl = 0, rpl = 3; break;
        case 4: dpl = 0, rpl = 3, present = 0; break;
        case 5: type = 2, present = 0; break;
        case 6: type = 0x1a | (type & 1); break;
        case 7: type = 0x10 | (type & 1); break;
        }
        selector = SEL | rpl;
        *descriptor() = desc(0, 0xfffff, type | DPL(dpl) | present << 7, G | BIG);
        put_operand(OPERAND + 0x800);
        struct rule want = checks_of_the_descriptor();
        u32 at = TABLE_BASE + SEL, accessed = type;
        // reading it: not present, in a table of the supervisor
        if (!(mapped & P))
            want = RAISES(PF_, 0);
        else if (want.vector == RET_VECTOR && !(type & 1) && !(mapped & W) && write_protect)
            want = RAISES(PF_, 3); // the write of the accessed bit
        attempt(want, at);
        if (want.vector == RET_VECTOR)
            accessed |= 1;
        STATE("access byte", (u32)(*descriptor() >> 40) & 0xff, accessed | DPL(dpl) | present << 7);
        // beyond the limit or null: the page does not matter
        if (n)
            continue;
        selector = (LIMIT + 1) | rpl;
        put_operand(OPERAND + 0x800);
        attempt(RAISES(GP, LIMIT + 1), 0);
        selector = rpl;
        put_operand(OPERAND + 0x800);
        attempt(form->stack ? RAISES(GP, 0) : ARRIVES, 0);
    }
}

// ---- registers that cannot be loaded: #UD before everything else
#define NO_LOAD(name, bytes)                                                                                               \
    static void name(void) {                                                                                              \
        asm volatile("movl operand, %%edi; movl selector, %%eax;" TRY_IT ".byte " bytes GO_ON ::: "eax", "edi", "memory"); \
    }
NO_LOAD(mov_cs_ax, "0x8e, 0xc8")
NO_LOAD(mov_cs_m, "0x8e, 0x0f")
NO_LOAD(mov_6_ax, "0x8e, 0xf0")
NO_LOAD(mov_7_ax, "0x8e, 0xf8")
NO_LOAD(mov_7_m, "0x8e, 0x3f")
NO_LOAD(mov_ax_6, "0x8c, 0xf0")
NO_LOAD(mov_m_7, "0x8c, 0x3f")
NO_LOAD(lss_register, "0x0f, 0xb2, 0xc0")
NO_LOAD(lfs_register, "0x0f, 0xb4, 0xc0")
NO_LOAD(lgs_register, "0x0f, 0xb5, 0xc0")

static void no_loads(void) {
    static const struct {
        const char *name;
        void (*fn)(void);
    } all[] = {{"mov-cs-ax", mov_cs_ax}, {"mov-cs-m", mov_cs_m}, {"mov-6-ax", mov_6_ax}, {"mov-7-ax", mov_7_ax},
               {"mov-7-m", mov_7_m}, {"mov-ax-6", mov_ax_6}, {"mov-m-7", mov_m_7}, {"lss-register", lss_register},
               {"lfs-register", lfs_register}, {"lgs-register", lgs_register}};
    operand = WINDOW + 0x8000; // never mapped
    for (u32 n = 0; n < sizeof all / sizeof *all; n++)
        for (selector = 0; selector < 0x500; selector += SEL) {
            form_name = all[n].name;
            no_fault();
            all[n].fn();
            resume_at = 0;
            judge_fault(RAISES(UD, NO_ERROR), the_row);
        }
}

// ---- in all rings
static u32 rings_entered, rings_ended;

static void in_all_rings(void (*walk)(void)) {
    EACH(cpl, 4) {
        in_ring(cpl, walk);
        rings_ended += trap.vector == RET_VECTOR;
        rings_entered++;
    }
}

static void two_pages(u32 at, u32 first_frame, u32 first_bits, u32 second_bits) {
    map(at, frame(first_frame), first_bits), map(at + 0x1000, frame(first_frame + 1), second_bits);
}

void guest(void) {
    paging_on();
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) old, new = {LIMIT, TABLE_BASE};
    asm volatile("sgdt %0" : "=m"(old));
    two_pages(TABLE, 2, P | W, P | W);
    memcpy((void *)TABLE_BASE, (const void *)gdt, LIMIT + 1);
    asm volatile("lgdt %0" ::"m"(new));
    skip_faults(1);

    EACH(mapped, 4) {
        two_pages(OPERAND, 0, mapped & 1 ? P | W | U : 0, mapped & 2 ? P | W | U : 0);
        group(name_of("operands-mapped-%u", mapped));
        for (cpl = 0; cpl < 4; cpl++) {
            *descriptor() = desc(0, 0xfffff, A_RW | DPL(cpl), G | BIG);
            in_ring(cpl, operands);
            rings_ended += trap.vector == RET_VECTOR, rings_entered++;
        }
        end_group();
    }

    two_pages(OPERAND, 0, P | W | U, P | W | U);
    EACH(write_protect, 2) for (mapped = 0; mapped < 4; mapped++) {
        if (write_protect && mapped == 0)
            continue;
        set_cr0(write_protect ? cr0() | WP : cr0() & ~WP);
        two_pages(TABLE, 2, P | W, mapped);
        group(name_of("descriptors-mapped-%u-wp-%u", mapped, write_protect));
        in_all_rings(descriptors);
        end_group();
    }
    two_pages(TABLE, 2, P | W, P | W);

    group("registers-that-cannot-be-loaded");
    in_all_rings(no_loads);
    end_group();
    skip_faults(0);
    asm volatile("lgdt %0" ::"m"(old));
    check("every-walk-came-to-its-end", rings_ended, rings_entered);
}
