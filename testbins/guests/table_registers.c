// Every row of the checks on LLDT and LTR: type, presence, null, TI, the GDT's limit, busy, privilege, pages; in the manual's order;
// and what is left behind. SDM 2A "LLDT", "LTR", Operation and Protected Mode Exceptions.
#include "lib/in_place.h"

#define SEL SCRATCH(1)
#define TABLE WINDOW
#define TABLE_BASE (TABLE + 0x1000 - 512) // selectors from 200h on are in the second page
#define PAGED 0x240

static u32 cpl, rpl, dpl, type, present, table_limit, mapped;
static const char *form_name;
__attribute__((used)) static volatile u32 selector, operand;

static const char *the_row(void) {
    return name_of("%s cpl %u selector %x rpl %u dpl %u type %2x present %u limit %x mapped %x", form_name, cpl, selector, rpl, dpl,
                   type, present, table_limit, mapped);
}

#define STATE(what, got, want) state(what, got, want, the_row)
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

#define FORM(name, load)                                                                                                   \
    static void name(void) {                                                                                              \
        asm volatile("movl selector, %%eax; movl operand, %%ebx;" TRY_IT load GO_ON ::: "eax", "ebx", "memory", "cc");      \
    }
FORM(lldt_r, "lldt %%ax")
FORM(lldt_m, "lldt (%%ebx)")
FORM(ltr_r, "ltr %%ax")
FORM(ltr_m, "ltr (%%ebx)")

enum which { LDTR, TR };
static const struct form {
    const char *name;
    void (*load)(void);
    enum which which;
} forms[] = {{"lldt", lldt_r, LDTR}, {"lldt-m", lldt_m, LDTR}, {"ltr", ltr_r, TR}, {"ltr-m", ltr_m, TR}};
#define EACH_FORM for (form = forms; form < forms + 4; form++)
static const struct form *form;

static u32 task_register(void) {
    u32 r = 0;
    asm volatile("str %w0" : "+r"(r));
    return r;
}
static u32 ldt_register(void) {
    u32 r = 0;
    asm volatile("sldt %w0" : "+r"(r));
    return r;
}

// ---- the manual's checks, in its order
static struct rule load_rule(void) {
    u32 error = selector & 0xfffc;
    if (cpl != 0)
        return RAISES(GP, 0);
    // LTR: "IF SRC is a NULL selector THEN #GP(0)"; LLDT: "the LDTR is marked invalid"
    if (error == 0)
        return form->which == TR ? RAISES(GP, 0) : ARRIVES;
    // "IF SRC(Offset) > descriptor table limit OR IF SRC(type) != global THEN #GP(segment selector)"
    if ((selector & 4) || (selector | 7) > table_limit)
        return RAISES(GP, error);
    // "IF segment descriptor is not for an available TSS THEN #GP(segment selector)"; "IF SegmentDescriptor(Type) != LDT THEN ..."
    if (form->which == TR ? type != 1 && type != 9 : type != 2)
        return RAISES(GP, error);
    // "IF segment descriptor is not present THEN #NP(segment selector)"
    return present ? ARRIVES : RAISES(NP, error);
}

static u32 null_tr; // (a null TR has a state of its own: rows of it are judged apart)

// One load in ring 0, with `want` or what the checks say.
static void one_load(struct rule want) {
    u32 memory[1] = {selector};
    if (!operand)
        operand = (u32)memory;
    form_name = form->name;
    no_fault();
    form->load();
    resume_at = operand = 0;
    judge_fault(want, the_row);
    u32 arrives = want.vector == RET_VECTOR;
    STATE("ldtr", ldt_register(), form->which == LDTR && arrives ? selector : LDT_SEL);
    STATE("tr", task_register(), form->which == TR && arrives ? selector : TSS0);
}

static void again(void) {
    if (task_register() != TSS0)
        load_tr(TSS0);
    load_ldt();
}

static void one_row(void) {
    again();
    selector = SEL | rpl;
    // what an LDT or TSS of every type would need
    set(SEL, form->which == TR ? desc((u32)&tss0, 103, type | DPL(dpl) | present << 7, 0)
                               : desc((u32)ldt, 511, type | DPL(dpl) | present << 7, 0));
    struct rule want = load_rule();
    one_load(want);
    // "SegmentDescriptor(busy) := 1", and nothing else is written
    u32 busy = form->which == TR && want.vector == RET_VECTOR ? 2 : 0;
    STATE("access byte", access_byte(SEL), type | DPL(dpl) | present << 7 | busy);
}

// DPL and RPL do not matter.
static void descriptors(void) {
    EACH(present, 2) EACH(type, 32) EACH(dpl, 4) {
        rpl = 3 - dpl;
        one_row();
    }
}

static void selectors(void) {
    static const u16 limits[] = {1023, SEL + 7, SEL + 6, SEL, SEL - 1};
    static const u16 chosen[] = {0, 1, 2, 3, 4, 7, SEL, SEL | 3, SEL | 4, 0x3f8, 0x400, 0x404, 0xfff8, 0xfffc, 0xffff};
    for (u32 l = 0; l < sizeof limits / sizeof *limits; l++)
        for (u32 n = 0; n < sizeof chosen / sizeof *chosen; n++) {
            again();
            table_limit = limits[l], selector = chosen[n], rpl = selector & 3;
            // good ones, wherever there may be one; in the LDT as well
            type = form->which == TR ? 9 : 2, dpl = 0, present = 1;
            u64 good = form->which == TR ? desc((u32)&tss0, 103, A_TSS32, 0) : desc((u32)ldt, 511, A_LDT, 0);
            set(SEL, good), set(SEL | 4, good), set(0x3f8, good), ldt[0] = good;
            if (form->which == TR && (selector & 0xfffc) == 0) {
                // where a null TR is taken, all that needs a TSS goes wrong: it is only seen whether it is
                form_name = form->name;
                no_fault();
                form->load == ltr_r ? ltr_r() : (operand = (u32)&selector, ltr_m());
                resume_at = operand = 0;
                null_tr += fault.vector != GP || fault.error != 0;
                continue;
            }
            struct {
                u16 limit;
                u32 base;
            } __attribute__((packed)) cut = {table_limit, (u32)gdt}, whole = {1023, (u32)gdt};
            asm volatile("lgdt %0" ::"m"(cut));
            one_load(load_rule());
            asm volatile("lgdt %0" ::"m"(whole));
        }
    table_limit = 1023;
    again();
}

// Outside ring 0: #GP(0), whatever else is wrong, before any access.
static void outside(void) {
    static const u16 chosen[] = {0, 4, SEL, TSS0, 0x400};
    EACH_FORM for (u32 n = 0; n < 10; n++) {
        selector = chosen[n % 5];
        form_name = form->name;
        operand = n < 5 ? (u32)&selector : WINDOW + 0x8000; // never mapped
        no_fault();
        form->load();
        resume_at = operand = 0;
        judge_fault(RAISES(GP, 0), the_row);
    }
}

// The operand's page, then the limit, then the descriptor's page, then its type and presence, then the write of the busy bit.
static volatile u64 *paged(void) { return (volatile u64 *)(frame(1) + PAGED - 0x200); }

static void pages(void) {
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) ours = {0x2ff, TABLE_BASE}, old = {1023, (u32)gdt};
    EACH_FORM EACH(mapped, 4) EACH(present, 2) EACH(type, 32) {
        // the two that are good, their neighbours, and one of each kind
        if (!((1u << type) & 0x04041e1e) || mapped == W)
            continue;
        again();
        map(TABLE, frame(0), P | W), map(TABLE + 0x1000, frame(1), P | W);
        memcpy((void *)TABLE_BASE, (const void *)gdt, 0x300);
        *paged() = desc((u32)(form->which == TR ? (void *)&tss0 : (void *)ldt), 511, type | present << 7, 0);
        map(TABLE + 0x1000, frame(1), mapped);
        asm volatile("lgdt %0" ::"m"(ours));
        table_limit = 0x2ff, selector = PAGED;
        // the operand on an absent page
        if (form->load == lldt_m || form->load == ltr_m) {
            operand = WINDOW + 0x8000;
            one_load(RAISES(PF_, 0));
            STATE("cr2", fault.cr2, WINDOW + 0x8000);
        }
        selector = 0x300;
        one_load(RAISES(GP, 0x300));
        selector = PAGED;
        struct rule want = !(mapped & P) ? RAISES(PF_, 0) : load_rule();
        u32 busy = form->which == TR && want.vector == RET_VECTOR;
        if (busy && !(mapped & W))
            want = RAISES(PF_, 3), busy = 0; // (CR0.WP is set)
        one_load(want);
        if (want.vector == PF_)
            STATE("cr2", fault.cr2 & ~7u, TABLE_BASE + PAGED);
        STATE("access byte", (u32)(*paged() >> 40) & 0xff, type | present << 7 | busy << 1);
        asm volatile("lgdt %0" ::"m"(old));
    }
    table_limit = 1023;
    again();
}

void guest(void) {
    paging_on();
    set_cr0(cr0() | WP);
    table_limit = 1023;
    load_ldt();
    skip_faults(1);
    EACH_FORM {
        group(name_of("%s-descriptors", form->name));
        descriptors();
        end_group();
        group(name_of("%s-selectors", form->name));
        selectors();
        end_group();
    }
    again();
    group("outside-ring-0");
    for (cpl = 1; cpl < 4; cpl++) {
        in_ring(cpl, outside);
        STATE("the end of the walk", trap.vector, RET_VECTOR);
    }
    cpl = 0;
    end_group();
    group("pages");
    pages();
    end_group();
    skip_faults(0);
    check("ltr-of-a-null-selector", null_tr, 0);
}
