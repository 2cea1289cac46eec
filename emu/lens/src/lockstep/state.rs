//! Two register files: ours set from QEMU's, and ours compared with QEMU's.

use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::{CR0_PE, CR0_PG, CR4_PAE};
use pagewalk_x86::cpu::{Activity, Cpu, Shadow, State};
use pagewalk_x86::flags;
use pagewalk_x86::observe::Observer;
use pagewalk_x86::segment::{Segment, TableRegister};

use crate::picture::peek_phys;
use crate::qemu::dump::{Dump, Hidden};

/// The present bit of a hidden part.
const PRESENT: u16 = 0x80;
/// Names of the general registers.
pub const REGISTERS: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
/// Names of the segment registers.
pub const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
/// The flags that are there at all.
pub const FLAGS: u32 = flags::ARITHMETIC
    | flags::TF
    | flags::IF
    | flags::DF
    | flags::IOPL
    | flags::NT
    | flags::RF
    | flags::VM
    | flags::AC
    | flags::VIF
    | flags::VIP
    | flags::ID;

/// Sets all registers to QEMU's. The TLB is left as it is.
pub fn set<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, dump: &Dump) {
    for (n, value) in (0..).zip(dump.regs) {
        cpu.regs.set_dword(n, value);
    }
    let state = &mut cpu.state;
    state.eip = dump.eip;
    state.flags.set(dump.eflags, FLAGS);
    let protected = dump.cr[0] & CR0_PE != 0 && dump.eflags & flags::VM == 0;
    for (segment, hidden) in state.segs.iter_mut().zip(&dump.segs) {
        *segment = from_hidden(hidden, protected);
    }
    state.ldtr = from_hidden(&dump.ldtr, true);
    state.tr = from_hidden(&dump.tr, true);
    state.gdtr = TableRegister { base: dump.gdt.0, limit: dump.gdt.1 as u16 };
    state.idtr = TableRegister { base: dump.idt.0, limit: dump.idt.1 as u16 };
    state.cpl = dump.cpl;
    [state.cr0, _, state.cr2, state.cr3, state.cr4] = dump.cr;
    for n in [0, 1, 2, 3, 6, 7] {
        state.dr[n] = dump.dr[n];
    }
    state.msrs.efer = dump.efer;
    state.activity = Activity::Running;
    state.shadow = if dump.inhibited { Shadow::Sti } else { Shadow::None };
    state.debug_trap = 0;
    if dump.cr[0] & CR0_PG != 0 && dump.cr[4] & CR4_PAE != 0 {
        let table = dump.cr[3] as u64 & !31;
        for n in 0..4 {
            cpu.state.pdptes[n] =
                peek_phys(&cpu.bus, pagewalk_x86::bus::Phys(table + 8 * n as u64), 8).unwrap_or(0);
        }
    }
    cpu.update_context();
}

fn from_hidden(hidden: &Hidden, protected: bool) -> Segment {
    if protected && hidden.attributes & PRESENT == 0 {
        return Segment::null(hidden.selector);
    }
    Segment::new(hidden.selector, hidden.base, hidden.limit, hidden.attributes)
}

/// Our registers as QEMU would print them.
pub fn dump_of(state: &State) -> Dump {
    let hidden = |segment: &Segment| Hidden {
        selector: segment.selector,
        base: segment.base,
        limit: segment.limit,
        attributes: if segment.usable { segment.attributes } else { 0 },
    };
    let mut dr = state.dr;
    (dr[4], dr[5]) = (0, 0);
    Dump {
        regs: state.regs.all(),
        eip: state.eip,
        eflags: state.flags.get(),
        cpl: state.cpl,
        inhibited: state.shadow != Shadow::None,
        a20: true,
        segs: std::array::from_fn(|n| hidden(&state.segs[n])),
        ldtr: hidden(&state.ldtr),
        tr: hidden(&state.tr),
        gdt: (state.gdtr.base, state.gdtr.limit as u32),
        idt: (state.idtr.base, state.idtr.limit as u32),
        cr: [state.cr0, 0, state.cr2, state.cr3, state.cr4],
        dr,
        efer: state.msrs.efer,
    }
}

/// Whether a segment register is the same in both.
pub fn same_segment(ours: &Segment, theirs: &Hidden) -> bool {
    let theirs_usable = theirs.attributes & PRESENT != 0;
    ours.selector == theirs.selector
        && ((!ours.usable && !theirs_usable)
            || (ours.usable == theirs_usable
                && ours.base == theirs.base
                && ours.limit == theirs.limit
                && ours.attributes == theirs.attributes))
}

/// The same in the processor's mode: in real mode, type and privilege are not used.
fn same_in_mode(state: &State, ours: &Segment, theirs: &Hidden) -> bool {
    let real = state.cr0 & CR0_PE == 0
        && (ours.selector, ours.base, ours.limit) == (theirs.selector, theirs.base, theirs.limit);
    (real && (ours.attributes ^ theirs.attributes) & 0x4000 == 0) || same_segment(ours, theirs)
}

/// The same for LDTR: QEMU makes a null one an empty table.
pub fn same_ldtr(ours: &Segment, theirs: &Hidden) -> bool {
    let both_empty = !ours.usable && theirs.limit == 0 && ours.selector == theirs.selector;
    both_empty || same_segment(ours, theirs)
}

/// What is left out of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Except {
    /// Flags.
    pub flags: u32,
    /// CR2 and DR6, which a delivery is about to load.
    pub fault_registers: bool,
}

/// Whether both are the same.
pub fn same(state: &State, dump: &Dump, except: Except) -> bool {
    state.eip == dump.eip
        && state.regs.all() == dump.regs
        && (state.flags.get() ^ dump.eflags) & FLAGS & !except.flags == 0
        && state.cpl == dump.cpl
        && state.segs.iter().zip(&dump.segs).all(|(ours, theirs)| same_in_mode(state, ours, theirs))
        && same_ldtr(&state.ldtr, &dump.ldtr)
        && same_segment(&state.tr, &dump.tr)
        && (state.gdtr.base, state.gdtr.limit as u32) == dump.gdt
        && (state.idtr.base, state.idtr.limit as u32) == dump.idt
        && (state.cr0, state.cr3, state.cr4) == (dump.cr[0], dump.cr[3], dump.cr[4])
        && state.dr[..4] == dump.dr[..4]
        && state.dr[7] == dump.dr[7]
        && (except.fault_registers || (state.cr2 == dump.cr[2] && state.dr[6] == dump.dr[6]))
        && state.msrs.efer == dump.efer
}

/// A register that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, such as `eax` or `cs.limit`.
    pub name: String,
    /// Our value.
    pub ours: u64,
    /// QEMU's.
    pub theirs: u64,
}

/// Every register that differs.
pub fn fields(state: &State, dump: &Dump, except: Except) -> Vec<Field> {
    let mut out = Vec::new();
    let mut add = |name: &str, ours: u64, theirs: u64| {
        if ours != theirs {
            out.push(Field { name: name.to_string(), ours, theirs });
        }
    };
    for (n, name) in REGISTERS.iter().enumerate() {
        add(name, state.regs.dword(n as u8) as u64, dump.regs[n] as u64);
    }
    add("eip", state.eip as u64, dump.eip as u64);
    let mask = FLAGS & !except.flags;
    add("eflags", (state.flags.get() & mask) as u64, (dump.eflags & mask) as u64);
    add("cpl", state.cpl as u64, dump.cpl as u64);
    let pairs = state.segs.iter().zip(&dump.segs).zip(SEGMENTS);
    let tables = [((&state.ldtr, &dump.ldtr), "ldtr"), ((&state.tr, &dump.tr), "tr")];
    for ((ours, theirs), name) in pairs.chain(tables) {
        if same_in_mode(state, ours, theirs) || (name == "ldtr" && same_ldtr(ours, theirs)) {
            continue;
        }
        let usable = theirs.attributes & PRESENT != 0;
        add(name, ours.selector as u64, theirs.selector as u64);
        add(&format!("{name}.usable"), ours.usable as u64, usable as u64);
        if ours.usable && usable {
            add(&format!("{name}.base"), ours.base as u64, theirs.base as u64);
            add(&format!("{name}.limit"), ours.limit as u64, theirs.limit as u64);
            add(&format!("{name}.attributes"), ours.attributes as u64, theirs.attributes as u64);
        }
    }
    add("gdtr.base", state.gdtr.base as u64, dump.gdt.0 as u64);
    add("gdtr.limit", state.gdtr.limit as u64, dump.gdt.1 as u64);
    add("idtr.base", state.idtr.base as u64, dump.idt.0 as u64);
    add("idtr.limit", state.idtr.limit as u64, dump.idt.1 as u64);
    add("cr0", state.cr0 as u64, dump.cr[0] as u64);
    if !except.fault_registers {
        add("cr2", state.cr2 as u64, dump.cr[2] as u64);
        add("dr6", state.dr[6] as u64, dump.dr[6] as u64);
    }
    add("cr3", state.cr3 as u64, dump.cr[3] as u64);
    add("cr4", state.cr4 as u64, dump.cr[4] as u64);
    for n in [0, 1, 2, 3, 7] {
        add(["dr0", "dr1", "dr2", "dr3", "", "", "", "dr7"][n], state.dr[n] as u64, dump.dr[n] as u64);
    }
    add("efer", state.msrs.efer, dump.efer);
    out
}
