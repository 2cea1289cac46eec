// Every row of the checks on loads of DS, ES, FS, GS and SS: by MOV, POP, LDS, LES, LFS, LGS and LSS, in every ring, every type,
// privilege and presence, null selectors, table limits, LDT; which of several wrong things is reported; and that a refused load
// changes nothing. SDM 2B "MOV", Operation, "Loading a segment register while in protected mode"; "POP", Operation; SDM 2A
// "LDS/LES/LFS/LGS/LSS", Operation.
#include "lib/in_place.h"

#define SEL SCRATCH(1)
#define IN_LDT 0x0c // slot 1 of the LDT
#define FLAT_AT 0x1000

// ---- the row at hand
static u32 cpl, rpl, dpl, type, present, table_limit, rings_entered, rings_ended;
static const char *form_name;

// What the pieces read and leave.
__attribute__((used)) static volatile u32 selector, got_selector, got_value, got_register, esp_before, esp_after;
__attribute__((used)) static volatile struct {
    u32 offset;
    u16 selector;
} __attribute__((packed)) pointer;
static u32 marker = 0x600dda7a; // what the new segment has at FLAT_AT

static const char *the_row(void) {
    return name_of("%s cpl %u selector %x rpl %u dpl %u type %2x present %u limit %x", form_name, cpl, selector, rpl, dpl, type,
                   present, table_limit);
}

#define STATE(what, got, want) state(what, got, want, the_row)
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

// A form: the load, then the register and what the segment has at FLAT_AT, then all as it was.
#define FORM(name, seg, load)                                                                                              \
    static void name(void) {                                                                                              \
        asm volatile("movl %%esp, %%esi; movw %%" #seg ", %%dx; movl $0x55, %%eax;" load GO_ON "movl %%esp, %%ebx;"       \
                     "movw %%" #seg ", %%cx; testl $0xfffc, %%ecx; jz 1f; movl %%" #seg ":0x1000, %%edi;"                 \
                     "1: movw %%dx, %%" #seg "; movl %%esi, %%esp; movl %%esi, esp_before; movl %%ebx, esp_after;"        \
                     "movl %%ecx, got_selector; movl %%edi, got_value; movl %%eax, got_register" ::"c"(0), "D"(0)         \
                     : "eax", "ebx", "edx", "esi", "memory", "cc");                                                        \
    }
#define MOV(seg) "movl selector, %%eax;" TRY_IT "movw %%ax, %%" #seg ";"
#define MOV_M(seg) TRY_IT "movw selector, %%" #seg ";"
#define POP(seg) "pushl selector;" TRY_IT "popl %%" #seg ";"
#define POPW(seg) "pushw selector;" TRY_IT "popw %%" #seg ";"
#define FAR(seg) TRY_IT "l" #seg " pointer, %%eax;"
#define FORMS(seg)                                                                                                         \
    FORM(mov_##seg, seg, MOV(seg)) FORM(mov_m_##seg, seg, MOV_M(seg)) FORM(pop_##seg, seg, POP(seg))                       \
    FORM(popw_##seg, seg, POPW(seg)) FORM(far_##seg, seg, FAR(seg))
FORMS(ds)
FORMS(es)
FORMS(fs)
FORMS(gs)
FORMS(ss)

enum way { BY_MOV, BY_POP, BY_POPW, BY_FAR };
struct form {
    const char *name;
    void (*load)(void);
    enum way way;
    u32 stack;
};
#define ROWS(seg, is_ss)                                                                                                   \
    {"mov-" #seg, mov_##seg, BY_MOV, is_ss}, {"mov-m-" #seg, mov_m_##seg, BY_MOV, is_ss},                                  \
        {"pop-" #seg, pop_##seg, BY_POP, is_ss}, {"popw-" #seg, popw_##seg, BY_POPW, is_ss},                               \
        {"l" #seg, far_##seg, BY_FAR, is_ss}
static const struct form forms[] = {ROWS(ds, 0), ROWS(es, 0), ROWS(fs, 0), ROWS(gs, 0), ROWS(ss, 1)};
#define EACH_FORM for (form = forms; form < forms + sizeof forms / sizeof *forms; form++)
static const struct form *form;

static int is_code(u32 t) { return (t & 0x18) == 0x18; }
static int is_conforming(u32 t) { return (t & 0x1c) == 0x1c; }
static int is_readable(u32 t) { return (t & 0x10) && (!is_code(t) || (t & 2)); }
static int is_writable_data(u32 t) { return (t & 0x1a) == 0x12; }

// ---- the manual's checks, in its order
static struct rule load_rule(void) {
    u32 error = selector & 0xfffc;
    if (form->stack) {
        // "IF segment selector is NULL THEN #GP(0)"
        if (error == 0)
            return RAISES(GP, 0);
        // "IF segment selector index is outside descriptor table limits OR segment selector's RPL != CPL OR segment is not a
        // writable data segment OR DPL != CPL THEN #GP(selector)"
        if ((selector | 7) > table_limit || rpl != cpl || !is_writable_data(type) || dpl != cpl)
            return RAISES(GP, error);
        // "IF segment not marked present THEN #SS(selector)"
        return present ? ARRIVES : RAISES(SS, error);
    }
    if (error == 0)
        return ARRIVES;
    // "IF segment selector index is outside descriptor table limits OR segment is not a data or readable code segment OR
    // ((segment is a data or nonconforming code segment) AND ((RPL > DPL) or (CPL > DPL))) THEN #GP(selector)"
    if ((selector | 7) > table_limit || !is_readable(type) || (!is_conforming(type) && (rpl > dpl || cpl > dpl)))
        return RAISES(GP, error);
    // "IF segment not marked present THEN #NP(selector)"
    return present ? ARRIVES : RAISES(NP, error);
}

static u32 current(void) {
    static const u16 data[4] = {KDATA, DATA1, DATA2, UDATA};
    return data[cpl];
}

// One load, in the ring where it is, and all that it leaves.
static void one_load(void) {
    form_name = form->name;
    struct rule want = load_rule();
    pointer.offset = 0x12345678, pointer.selector = selector;
    no_fault();
    form->load();
    resume_at = 0;
    judge_fault(want, the_row);
    int null = (selector & 0xfffc) == 0, arrives = want.vector == RET_VECTOR;
    STATE("selector", got_selector, arrives ? selector : current());
    if (!arrives || !null)
        STATE("what the segment holds", got_value, arrives ? marker : *(volatile u32 *)FLAT_AT);
    if (form->way == BY_FAR)
        STATE("general register", got_register, arrives ? 0x12345678 : 0x55);
    STATE("esp", esp_before - esp_after, arrives ? 0 : form->way == BY_POP ? 4 : form->way == BY_POPW ? 2 : 0);
}

static void one_row(void) {
    // the value read is at FLAT_AT, which is above the limit where the segment expands down
    int down = (type & 0x1c) == 0x14;
    selector = SEL | rpl;
    set(SEL, desc((u32)&marker - FLAT_AT, down ? 0 : 0xfffff, type | DPL(dpl) | present << 7, G | BIG));
    one_load();
    // "ELSE ... accessed bit": set by a load, and by nothing else
    int loaded = fault.vector == RET_VECTOR;
    STATE("access byte", access_byte(SEL), type | DPL(dpl) | present << 7 | (loaded ? 1 : 0));
}

// ---- the walks; each runs in ring `cpl`
static void all_rows(void) {
    EACH(rpl, 4) EACH(dpl, 4) EACH(present, 2) for (type = 0x10; type < 0x20; type += 2)
        one_row();
    for (u32 level = 0; level < 4; level += 3)
        for (type = 0; type < 0x20; type += type < 0x10 ? 1 : 2) {
            u32 accessed = type < 0x10 ? 0 : 1, kept = type;
            type |= accessed;
            EACH(present, 2) {
                rpl = cpl, dpl = level;
                one_row();
            }
            type = kept;
        }
}

static void chosen_rows(void) {
    static const u8 types[] = {2, 12, 0x10, 0x12, 0x16, 0x18, 0x1a, 0x1e};
    for (u32 n = 0; n < sizeof types; n++) {
        type = types[n];
        rpl = dpl = cpl, present = 1, one_row();
        present = 0, one_row();
        rpl = 3, present = 1, one_row();
        rpl = 0, dpl = 3, one_row();
        rpl = cpl, dpl = 0, present = 0, one_row();
    }
}

// Null selectors, and ones within and beyond the limits of the GDT and LDT: `table_limit` is the one that counts.
static u32 gdt_limit, ldt_limit;
static void selectors(void) {
    static const u16 chosen[] = {0, 4, SEL, IN_LDT, 0x3f8, 0x1fc, 0x400, 0xfff8, 0xfffc};
    for (u32 n = 0; n < sizeof chosen / sizeof *chosen; n++)
        for (u32 other = 0; other < 2; other++) {
            rpl = other ? 3 - cpl : cpl;
            selector = chosen[n] | rpl;
            table_limit = selector & 4 ? ldt_limit : gdt_limit;
            // a present data segment of the ring's own level, wherever there may be one
            type = 0x12, dpl = cpl, present = 1;
            if ((selector & 0xfffc) != 0 && (selector & 0xfff8) < (selector & 4 ? 512 : 1024))
                set(selector, desc((u32)&marker - FLAT_AT, 0xfffff, A_RW | DPL(dpl), G | BIG));
            one_load();
        }
}

static void load_gdtr(u32 limit) {
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) to = {limit, (u32)gdt};
    asm volatile("lgdt %0" ::"m"(to));
}

static void in_all_rings(void (*walk)(void)) {
    EACH(cpl, 4) {
        in_ring(cpl, walk);
        rings_ended += trap.vector == RET_VECTOR;
        rings_entered++;
    }
}

// A choice of the forms, another one each time; and MOV to FS and to SS.
static int is_among(u32 n) { return (form - forms + n) % 9 == 0 || form->load == mov_fs || form->load == mov_ss; }

static void table_limits(void) {
    static const u16 limits[] = {1023, SEL + 7, SEL + 6, SEL, SEL - 1};
    for (u32 n = 0; n < sizeof limits / sizeof *limits; n++) {
        gdt_limit = limits[n], ldt_limit = 511;
        load_ldt();
        load_gdtr(gdt_limit);
        group(name_of("gdt-limit-%x", gdt_limit));
        EACH_FORM if (is_among(n)) in_all_rings(selectors);
        end_group();
    }
    load_gdtr(1023);
    gdt_limit = 1023;
    // (the last one: no LDT at all)
    static const u16 ldts[] = {IN_LDT + 3, IN_LDT + 2, 7, 6, 0, 0};
    for (u32 n = 0; n < sizeof ldts / sizeof *ldts; n++) {
        ldt_limit = ldts[n];
        set(LDT_SEL, desc((u32)ldt, ldt_limit, A_LDT, 0));
        asm volatile("lldt %w0" ::"r"(n == 5 ? 0 : LDT_SEL));
        group(n == 5 ? "no-ldt" : name_of("ldt-limit-%x", ldt_limit));
        EACH_FORM if (is_among(n)) in_all_rings(selectors);
        end_group();
    }
}

void guest(void) {
    skip_faults(1);
    table_limit = 1023;
    EACH_FORM {
        group(form->name);
        in_all_rings(form->load == mov_fs || form->load == mov_ss ? all_rows : chosen_rows);
        end_group();
    }
    table_limits();
    skip_faults(0);
    check("every-walk-came-to-its-end", rings_ended, rings_entered);
}
