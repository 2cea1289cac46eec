// What a task switch leaves behind, for everything that asks for one, between TSSs of both sizes, from and to every ring: busy
// flags, NT, link fields, TS, and each register saved and loaded. SDM 3A "Task Switching", table "Effect of a Task Switch on
// Busy Flag, NT Flag, Previous Task Link Field, and TS Flag"; SDM 3A "Task-State Segment (TSS)", "16-Bit Task-State Segment
// (TSS)".
#include "lib/rows.h"
#include "lib/switches.h"

#define C16(ring) (SCRATCH(24 + (ring)) | (ring)) // code that begins at ring_return
#define S16(ring) (SCRATCH(28 + (ring)) | (ring)) // a 16-bit stack
#define TOP16 0x3f0
#define INNER16 0x1f0

static const u16 data_of[4] = {KDATA, DATA1, DATA2, UDATA};
static struct tss32 old32, new32, copy32;
static struct tss16 old16, new16, copy16;

// ---- the row at hand
static u32 old_wide, new_wide, old_cpl, new_cpl, old_nt, new_nt;

static const char *the_row(void) {
    return name_of("old-cpl %u old-nt %u new-cpl %u new-nt %u", old_cpl, old_nt, new_cpl, new_nt);
}

#define STATE(what, got, want) state(what, got, want, the_row)
#define EACH(variable, count) for (variable = 0; variable < (count); variable++)

static u32 busy(u32 selector) { return access_byte(selector) >> 1 & 1; }

static u32 task_register(void) {
    u32 r = 0;
    asm volatile("str %w0" : "+r"(r));
    return r;
}

#define NEW_FLAGS (2 | SF | DF | IOPL(2))
#define WIDE_FLAGS (AC | ID)

static void set_up(void) {
    reset();
    memset(&old32, 0xee, 104), memset(&old16, 0xee, sizeof old16);
    old32.trap = 0, old32.iomap = 104, old32.ldt = old16.ldt = 0, old32.cr3 = 0xbad;
    old32.ss0 = KDATA, old32.esp0 = (u32)trap_stack_top;
    old16.ss0 = S16(0), old16.sp0 = INNER16;
    set(OLD, desc(old_wide ? (u32)&old32 : (u32)&old16, old_wide ? 103 : 43, (old_wide ? A_TSS32 : A_TSS16) | DPL(3), 0));
    load_tr(OLD);
    old32.link = 0x1234, old16.link = 0x1234;

    prepare(&new32, new_cpl, HOME, 0);
    new32.eax = 0x10111213, new32.ecx = 0x20212223, new32.edx = 0x30313233, new32.ebx = 0x40414243;
    new32.ebp = 0x60616263, new32.esi = 0x70717273, new32.edi = 0x80818283;
    new32.es = UDATA, new32.fs = CONF0, new32.gs = 0, new32.link = 0x5678;
    new32.eflags = NEW_FLAGS | WIDE_FLAGS | (new_nt ? NT : 0);
    new16 = (struct tss16){.link = 0x5678, .sp0 = INNER16, .ss0 = S16(0), .ip = 0,
                           .flags = NEW_FLAGS | (new_nt ? NT : 0), .ax = 0x1213, .cx = 0x2223, .dx = 0x3233, .bx = 0x4243,
                           .sp = TOP16, .bp = 0x6263, .si = 0x7273, .di = 0x8283, .es = UDATA, .cs = C16(new_cpl),
                           .ss = S16(new_cpl), .ds = data_of[new_cpl], .beyond = 0xbbbb};
    u32 type = (new_wide ? A_TSS32 : A_TSS16) | (how->kind == RETURN ? 2 : 0);
    set(NEW, desc(new_wide ? (u32)&new32 : (u32)&new16, new_wide ? 103 : 43, type | DPL(3), 0));
    far_pointer.selector = NEW;
    if (how->uses_gate) {
        set(GATE, gate(NEW, 0xffffffff, A_TASK | DPL(3), 0xff));
        far_pointer.selector = GATE;
    }
    if (how->kind == EVENT)
        set_idt(how->vector, gate(NEW, 0xffffffff, A_TASK | DPL(3), 0xff));
    if (how->kind == RETURN)
        old32.link = old16.link = NEW;
    memcpy(&copy32, &new32, 104), memcpy(&copy16, &new16, sizeof new16);
}

// The segment registers, one byte each: all selectors here are below 100h.
static u32 four(u32 w, u32 x, u32 y, u32 z) { return (w & 0xff) | (x & 0xff) << 8 | (y & 0xff) << 16 | (z & 0xff) << 24; }

static void saved(const struct context *c, u32 flags) {
    u32 eip = (u32)how->fn + how->saved_eip;
    if (old_wide) {
        STATE("saved eip", old32.eip, eip);
        STATE("saved eflags", old32.eflags & (how->is_fault ? ~RF : ~0), flags); // (RF of faults is tried in exceptions.c)
        STATE("saved eax", old32.eax, how->fn == load_absent_fs ? (c->eax & 0xffff0000) | ABSENT : c->eax);
        STATE("saved ecx", old32.ecx, how->fn == divide ? 0 : c->ecx);
        STATE("saved edx ebx", old32.edx ^ old32.ebx << 1, c->edx ^ c->ebx << 1);
        STATE("saved esp", old32.esp, c->esp);
        STATE("saved ebp esi edi", old32.ebp ^ old32.esi << 1 ^ old32.edi << 2, c->ebp ^ c->esi << 1 ^ c->edi << 2);
        STATE("saved cs ss ds es", four(old32.cs, old32.ss, old32.ds, old32.es), four(c->cs, c->ss, c->ds, c->es));
        STATE("saved fs gs", four(old32.fs, old32.gs, 0, 0), four(c->fs, c->gs, 0, 0));
        STATE("cr3 and ldt of the old tss", old32.cr3 ^ old32.ldt, 0xbad);
        STATE("stacks of the old tss", old32.ss0 ^ old32.esp0 ^ old32.ss1, KDATA ^ (u32)trap_stack_top ^ 0xeeeeeeee);
    } else {
        STATE("saved ip", old16.ip, eip & 0xffff);
        STATE("saved flags", old16.flags, flags & 0xffff);
        STATE("saved ax", old16.ax, how->fn == load_absent_fs ? ABSENT : c->eax & 0xffff);
        STATE("saved cx", old16.cx, how->fn == divide ? 0 : c->ecx & 0xffff);
        STATE("saved dx bx", old16.dx | old16.bx << 16, (c->edx & 0xffff) | c->ebx << 16);
        STATE("saved sp bp", old16.sp | old16.bp << 16, (c->esp & 0xffff) | c->ebp << 16);
        STATE("saved si di", old16.si | old16.di << 16, (c->esi & 0xffff) | c->edi << 16);
        STATE("saved cs ss ds es", four(old16.cs, old16.ss, old16.ds, old16.es), four(c->cs, c->ss, c->ds, c->es));
        STATE("ldt and what follows a 16-bit tss", old16.ldt | old16.beyond << 16, 0xeeee0000);
        STATE("stacks of the old tss", old16.ss0 | old16.sp0 << 16, S16(0) | INNER16 << 16);
    }
}

static void loaded(void) {
    u32 error = how->vector == PF_ && old_cpl == 3 ? 4 : how->error; // "U/S"
    u32 size = how->error == NO_ERROR ? 0 : new_wide ? 4 : 2;
    u32 nt = how->kind == CALL_ || how->kind == EVENT || new_nt ? NT : 0;
    if (new_wide) {
        STATE("eax", trap.eax, copy32.eax);
        STATE("ecx", trap.ecx, copy32.ecx);
        STATE("edx ebx", trap.edx ^ trap.ebx << 1, copy32.edx ^ copy32.ebx << 1);
        STATE("ebp esi edi", trap.ebp ^ trap.esi << 1 ^ trap.edi << 2, copy32.ebp ^ copy32.esi << 1 ^ copy32.edi << 2);
        STATE("eflags", trap.eflags, NEW_FLAGS | WIDE_FLAGS | nt);
        STATE("esp", trap.esp, copy32.esp - size);
        STATE("cs ss ds es", four(trap.cs, trap.ss, trap.ds, trap.es), four(copy32.cs, copy32.ss, copy32.ds, UDATA));
        STATE("fs gs", four(trap.fs, trap.gs, 0, 0), four(CONF0, 0, 0, 0));
    } else {
        STATE("ax cx", (trap.eax & 0xffff) | trap.ecx << 16, copy16.ax | copy16.cx << 16);
        STATE("dx bx", (trap.edx & 0xffff) | trap.ebx << 16, copy16.dx | copy16.bx << 16);
        STATE("bp si", (trap.ebp & 0xffff) | trap.esi << 16, copy16.bp | copy16.si << 16);
        STATE("di sp", (trap.edi & 0xffff) | trap.esp << 16, copy16.di | (TOP16 - size) << 16);
        STATE("flags", trap.eflags, NEW_FLAGS | nt);
        STATE("cs ss", trap.cs | trap.ss << 16, copy16.cs | copy16.ss << 16);
        STATE("ds es", trap.ds | trap.es << 16, copy16.ds | copy16.es << 16);
    }
    if (size) {
        u32 at = new_wide ? copy32.esp - 4 : (u32)stacks[2] + TOP16 - 2;
        STATE("error code on the new stack", new_wide ? *(u32 *)at : *(u16 *)at, error);
    }
}

// The table, row by row. In the new TSS nothing but the link may be written.
static void effects(u32 flags) {
    int nested = how->kind == CALL_ || how->kind == EVENT;
    STATE("task register", task_register(), NEW);
    // "Busy flag of new task": JMP, CALL, interrupt "Flag is set"; IRET "No change. Must have been set"
    STATE("busy flag of the new task", busy(NEW), 1);
    // "Busy flag of old task": JMP "Flag is cleared"; CALL, interrupt "No change. Flag is currently set"; IRET "cleared"
    STATE("busy flag of the old task", busy(OLD), nested);
    STATE("type and dpl of both", access_byte(NEW) << 8 | access_byte(OLD),
          ((new_wide ? 0xeb : 0xe3) << 8) | ((old_wide ? 0xe9 : 0xe1) + 2 * nested));
    // "NT flag of new task": JMP, IRET "Set to value from TSS of new task"; CALL, interrupt "Flag is set"
    STATE("nt of the new task", !!(trap.eflags & NT), nested ? 1 : new_nt);
    // "NT flag of old task": JMP, CALL, interrupt "No change"; IRET "Flag is cleared"
    u32 nt = !!((old_wide ? old32.eflags : old16.flags) & NT);
    STATE("nt of the old task", nt, how->kind == RETURN ? 0 : !!(flags & NT));
    // "Previous task link field of new task": JMP, IRET "No change"; CALL, interrupt "Loaded with selector for old task's TSS"
    STATE("link of the new task", new_wide ? new32.link & 0xffff : new16.link, nested ? OLD : 0x5678);
    // "Previous task link field of old task": "No change" in all columns
    STATE("link of the old task", old_wide ? old32.link & 0xffff : old16.link, how->kind == RETURN ? NEW : 0x1234);
    // "TS flag in control register CR0": "Flag is set" in all columns
    STATE("ts", cr0() & TS_BIT, TS_BIT);
    u32 changed = 0;
    copy32.link = new32.link, copy16.link = new16.link;
    for (u32 n = 0; n < 26; n++)
        changed += ((u32 *)&copy32)[n] != ((u32 *)&new32)[n];
    for (u32 n = 0; n < sizeof new16 / 2; n++)
        changed += ((u16 *)&copy16)[n] != ((u16 *)&new16)[n];
    STATE("other fields of the new tss that were written", changed, 0);
}

static void one_row(void) {
    set_up();
    struct context c = ring_context(old_cpl, how->fn);
    c.eax = 0xa1a2a3a4, c.ebx = 0xb1b2b3b4, c.ecx = 0xc1c2c3c4, c.edx = 0xd1d2d3d4;
    c.esi = 0x51525354, c.edi = 0xd5d6d7d8, c.ebp = 0xb5b6b7b8, c.es = UDATA, c.fs = CONF0, c.gs = 0;
    c.eflags = 2 | CF | OF | IOPL(1) | (old_nt ? NT : 0);
    ask(&c);
    row(ARRIVES, the_row);
    if (trap.vector != RET_VECTOR)
        return;
    effects(c.eflags);
    u32 flags = c.eflags & (how->kind == RETURN ? ~(u32)NT : ~0u);
    if (how->fn == divide)
        flags = (flags & ~(CF | OF | SF)) | PF | ZF; // of XOR
    saved(&c, flags);
    loaded();
    if (how->kind == EVENT)
        default_idt(how->vector);
}

void guest(void) {
    for (u32 ring = 0; ring < 4; ring++) {
        set(C16(ring), desc((u32)ring_return, 0xffff, A_XR | DPL(ring), BIG));
        set(S16(ring), desc((u32)stacks[2], sizeof stacks[2] - 1, A_RW | DPL(ring), 0));
    }
    set(ABSENT, desc(0, 0xfffff, (A_RW | DPL(3)) & 0x7f, G | BIG));
    paging_on();
    for (u32 n = 0; n < INITIATORS; n++) {
        how = &initiators[n];
        EACH(old_wide, 2) EACH(new_wide, 2) {
            group(name_of("%s-from-tss%s-to-tss%s", how->name, old_wide ? "32" : "16", new_wide ? "32" : "16"));
            EACH(old_cpl, 4) EACH(new_cpl, 4) EACH(old_nt, 2) EACH(new_nt, 2) {
                if (how->kind == RETURN && !old_nt)
                    continue; // a plain IRET
                one_row();
            }
            end_group();
        }
    }
    default_idt(0x20);
    reset();
}
