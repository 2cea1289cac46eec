//! A machine in which every instruction finds what it needs, and every operand lies across two pages.

use iced_x86::{Instruction, Mnemonic};

use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::{CR4_OSFXSR, CR4_OSXMMEXCPT};
use pagewalk_x86::cpu::State;
use pagewalk_x86::fault::{Fault, Stop};
use pagewalk_x86::flags;
use pagewalk_x86::flat::{FlatBus, Start, processor_with};
use pagewalk_x86::mmu::walk::{Kind, Privilege};
use pagewalk_x86::model::MAX;
use pagewalk_x86::model::msr::SYSENTER_EIP;
use pagewalk_x86::observe::{Asker, At, Cause, Observer, Translation};
use pagewalk_x86::regs::*;
use pagewalk_x86::segment::{CS, Segment};

use crate::encode::Case;

const RAM: usize = 0x30000;
/// The last byte of a page, so that all but the first byte of an instruction is in the next.
pub const CODE: u32 = 0xbfff;
/// Where jumps and gates lead.
pub const HANDLER: u32 = 0xc040;
/// The last byte of a page again.
pub const DATA: u32 = 0xdfff;
const PUSH_STACK: u32 = 0x3002;
const POP_STACK: u32 = 0x3ffe;
const DIRECTORY: u32 = 0x20000;
const TABLE: u32 = 0x21000;
const GDT: u32 = 0x22000;
const IDT: u32 = 0x23000;
const TSS: u32 = 0x24000;
const LDT: u32 = 0x25000;
const OTHER_TSS: u32 = 0x26000;
const INNER_STACK: u32 = 0x28002;

/// Selectors.
pub const CODE0: u16 = 0x08;
const DATA0: u16 = 0x10;
const CODE3: u16 = 0x1b;
const DATA3: u16 = 0x23;
const TSS_SELECTOR: u16 = 0x28;
const LDT_SELECTOR: u16 = 0x30;
const OTHER_SELECTOR: u16 = 0x38;
/// A 32-bit call gate of DPL 3 to ring 0 with two parameters, and its 16-bit sibling.
pub const CALL_GATE: u16 = 0x40;
pub const CALL_GATE16: u16 = 0x48;

/// What kind of code the instruction is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// 32-bit code in ring 0.
    Kernel32,
    /// 32-bit code in ring 3.
    User32,
    /// 16-bit protected-mode code in ring 0.
    Kernel16,
    /// Virtual-8086 mode with IOPL 3.
    Vm86,
}

impl Setting {
    pub fn bitness(self) -> u32 {
        if matches!(self, Setting::Kernel32 | Setting::User32) { 32 } else { 16 }
    }
    /// The selector in CS, and those of data segments.
    pub fn selectors(self) -> (u16, u16) {
        match self {
            Setting::Kernel32 | Setting::Kernel16 => (CODE0, DATA0),
            Setting::User32 => (CODE3, DATA3),
            Setting::Vm86 => (0, 0),
        }
    }
}

/// What a frame on the stack returns to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// The same ring.
    Same,
    /// Ring 3.
    Outer,
}

/// A translation of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    pub linear: u32,
    pub bytes: u32,
    pub kind: Kind,
    pub privilege: Privilege,
    pub asker: Asker,
}

/// Notes every translation, and the first fault with the state it found.
#[derive(Clone, Default, Debug)]
pub struct Watcher {
    pub touches: Vec<Touch>,
    pub fault: Option<(Fault, Box<State>)>,
    /// Notes no translations, so that the front table serves them.
    pub deaf: bool,
}

impl Observer for Watcher {
    const ACTIVE: bool = true;
    fn wants_translations(&self) -> bool {
        !self.deaf
    }
    fn translation(&mut self, _: &At, translation: &Translation<'_>) {
        if self.fault.is_none() {
            self.touches.push(Touch {
                linear: translation.linear,
                bytes: translation.bytes,
                kind: translation.access.kind,
                privilege: translation.access.privilege,
                asker: translation.asker,
            });
        }
    }
    fn delivery(&mut self, _: &At, cause: Cause, state: &State) {
        if let Cause::Fault(fault) = cause
            && self.fault.is_none()
        {
            self.fault = Some((fault, Box::new(state.clone())));
        }
    }
}

fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> [u8; 8] {
    let [b0, b1, b2, b3] = base.to_le_bytes();
    let [l0, l1, l2, _] = limit.to_le_bytes();
    [l0, l1, b0, b1, b2, access, flags << 4 | l2 & 15, b3]
}

fn gate(selector: u16, offset: u32, access: u8, parameters: u8) -> [u8; 8] {
    let [o0, o1, o2, o3] = offset.to_le_bytes();
    let [s0, s1] = selector.to_le_bytes();
    [o0, o1, s0, s1, parameters, access, o2, o3]
}

/// A processor with the watcher.
pub type Machine = Processor<FlatBus, Watcher>;

fn write32(machine: &mut Machine, at: u32, values: &[u32]) {
    for (n, value) in values.iter().enumerate() {
        machine.cpu.bus.ram_mut().write(at as usize + 4 * n, &value.to_le_bytes());
    }
}

fn write16(machine: &mut Machine, at: u32, values: &[u32]) {
    for (n, value) in values.iter().enumerate() {
        machine.cpu.bus.ram_mut().write(at as usize + 2 * n, &(*value as u16).to_le_bytes());
    }
}

/// The machine before the instruction. Of its vectors only 1, 3 and 4 lead anywhere: every fault ends in a shutdown, and
/// a delivery that fails changes nothing.
pub fn machine(setting: Setting, case: &Case, frame: Return) -> Machine {
    let start = if setting.bitness() == 32 { Start::Flat32 } else { Start::Flat16 };
    let mut machine = processor_with(start, &case.bytes, CODE, RAM, Watcher::default());
    let pattern: Vec<u8> = (0..0x1_0000u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8 | 1).collect();
    let ram = machine.cpu.bus.ram_mut();
    for page in [0x2000usize, 0x5000, 0x7000, 0x9000, 0xd000] {
        ram.write(page, &pattern[page..page + 0x2000]);
    }
    ram.write(HANDLER as usize, &[0xf4; 16]);
    let tables: [[u8; 8]; 10] = [
        [0; 8],
        descriptor(0, 0xf_ffff, 0x9a, 0xc),
        descriptor(0, 0xf_ffff, 0x92, 0xc),
        descriptor(0, 0xf_ffff, 0xfa, 0xc),
        descriptor(0, 0xf_ffff, 0xf2, 0xc),
        descriptor(TSS, 0x2fff, 0x8b, 0),
        descriptor(LDT, 0xff, 0x82, 0),
        descriptor(OTHER_TSS, 0x67, 0x89, 0),
        gate(CODE0, HANDLER, 0xec, 2),
        gate(CODE0, HANDLER, 0xe4, 2),
    ];
    for (n, entry) in tables.iter().enumerate() {
        ram.write(GDT as usize + 8 * n, entry);
    }
    for vector in 0..8 {
        let present = if matches!(vector, 1 | 3 | 4) { 0x80 } else { 0 };
        ram.write(IDT as usize + 8 * vector, &gate(CODE0, HANDLER, present | 0x6e, 0));
    }
    ram.write(TSS as usize + 4, &INNER_STACK.to_le_bytes());
    ram.write(TSS as usize + 8, &DATA0.to_le_bytes());
    ram.write(TSS as usize + 0x66, &[0x00, 0x10]);
    write32(&mut machine, DIRECTORY, &[TABLE | 7]);
    let identity: Vec<u32> = (0..0x40).map(|page| page << 12 | 7).collect();
    write32(&mut machine, TABLE, &identity);
    prepare_processor(&mut machine, setting);
    prepare_operands(&mut machine, setting, &case.instruction, frame);
    machine.cpu.update_context();
    machine
}

fn prepare_processor(machine: &mut Machine, setting: Setting) {
    let cpu = &mut machine.cpu;
    let (code, data) = setting.selectors();
    if setting == Setting::Vm86 {
        cpu.segs.fill(Segment::new(0, 0, 0xffff, 0xf3));
        cpu.flags.set(flags::VM | flags::IOPL, flags::VM | flags::IOPL);
        cpu.cpl = 3;
    } else {
        let ring = (code & 3) << 5;
        let size = if setting.bitness() == 32 { 0x4000 } else { 0 };
        cpu.segs.fill(Segment::new(data, 0, 0xffff_ffff, 0x8093 | size | ring));
        cpu.segs[CS] = Segment::new(code, 0, 0xffff_ffff, 0x809b | size | ring);
        cpu.cpl = (code & 3) as u8;
    }
    cpu.gdtr.base = GDT;
    cpu.gdtr.limit = 0x4f;
    cpu.idtr.base = IDT;
    cpu.idtr.limit = 0x3f;
    cpu.tr = Segment::new(TSS_SELECTOR, TSS, 0x2fff, 0x8b);
    cpu.cr3 = DIRECTORY;
    cpu.model = MAX.whole();
    cpu.fpu.control = 0x37f; // as FNINIT leaves it
    cpu.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu.xmm[0] = 0x8080_8080_8080_8080_8080_8080_8080_8080; // a mask that chooses all bytes
    cpu.cr0 |= 0x8001_0000;
    for (register, value) in [
        (EAX, 0x11),
        (ECX, 1),
        (EDX, 5),
        (EBX, DATA),
        (ESP, PUSH_STACK),
        (EBP, 0x5ffe),
        (ESI, 0x7fff),
        (EDI, 0x9fff),
    ] {
        cpu.regs.set_dword(register, value);
    }
}

/// What single instructions need in memory and registers.
fn prepare_operands(machine: &mut Machine, setting: Setting, instruction: &Instruction, frame: Return) {
    use Mnemonic as M;
    let (code, data) = setting.selectors();
    let (code, data) = (code as u32, data as u32);
    let mnemonic = instruction.mnemonic();
    if instruction.stack_pointer_increment() > 0 || mnemonic == M::Leave {
        machine.cpu.regs.set_dword(ESP, POP_STACK);
    }
    if matches!(instruction.memory_size().size(), 16 | 512) && mnemonic != M::Bound {
        // most of these must be aligned
        machine.cpu.regs.set_dword(EBX, DATA & !15);
    }
    let wide = instruction.code().op_code().operand_size() == 32;
    let put = if wide { write32 } else { write16 };
    let vm86 = setting == Setting::Vm86;
    let keep = if vm86 { flags::IOPL } else { 0 };
    let (to, stack) = if frame == Return::Outer { (CODE3 as u32, DATA3 as u32) } else { (code, data) };
    match mnemonic {
        M::Ldmxcsr => write32(machine, DATA, &[0x1f80]),
        M::Fxrstor => write32(machine, (DATA & !15) + 24, &[0x1f80]),
        M::Ret => put(machine, POP_STACK, &[HANDLER]),
        M::Retf if instruction.op_count() > 0 => {
            // RETF imm16 leaves eight bytes of parameters between
            put(machine, POP_STACK, &[HANDLER, to]);
            let after = POP_STACK + 8 + if wide { 8 } else { 4 };
            put(machine, after, &[0x4000, stack]);
        }
        M::Retf => put(machine, POP_STACK, &[HANDLER, to, 0x4000, stack]),
        M::Iret | M::Iretd => put(machine, POP_STACK, &[HANDLER, to, 0x202 | keep, 0x4000, stack]),
        M::Pop if instruction.op0_register().is_segment_register() => put(machine, POP_STACK, &[data]),
        M::Popf | M::Popfd => put(machine, POP_STACK, &[0xad7 | keep]),
        M::Jmp | M::Call => put(machine, DATA, &[HANDLER, code]),
        M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss => put(machine, DATA, &[0x1234, data]),
        M::Bound => put(machine, DATA, &[0, 0xff]),
        M::Wrmsr => machine.cpu.regs.set_dword(ECX, SYSENTER_EIP),
        M::Sysenter | M::Sysexit => {
            let cpu = &mut machine.cpu;
            cpu.msrs.sysenter_cs = CODE0 as u32;
            cpu.msrs.sysenter_esp = INNER_STACK;
            cpu.msrs.sysenter_eip = HANDLER;
            cpu.regs.set_dword(ECX, 0x4000);
            cpu.regs.set_dword(EDX, HANDLER);
        }
        _ => {}
    }
    let selector = match mnemonic {
        M::Lldt => LDT_SELECTOR as u32,
        M::Ltr => OTHER_SELECTOR as u32,
        M::Mov if instruction.op0_register().is_segment_register() => data,
        M::Lar | M::Lsl | M::Verr | M::Verw => data,
        _ => return,
    };
    write16(machine, DATA, &[selector]);
    machine.cpu.regs.set_dword(EAX, selector);
}

/// How the page of the fault is made to fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    NotPresent,
    ReadOnly,
    Supervisor,
}

impl Trap {
    pub const ALL: [Trap; 3] = [Trap::NotPresent, Trap::ReadOnly, Trap::Supervisor];

    /// The first access that faults in this page.
    pub fn victim(self, touches: &[Touch], page: u32) -> Option<Touch> {
        let mut here = touches.iter().filter(|touch| touch.linear >> 12 == page).copied();
        here.find(|touch| match self {
            Trap::NotPresent => true,
            Trap::ReadOnly => touch.kind == Kind::Write,
            Trap::Supervisor => touch.privilege == Privilege::User,
        })
    }

    /// Removes a right from the page, and has the front table serve what is left.
    pub fn set(self, machine: &mut Machine, page: u32) {
        machine.cpu.observer.deaf = true;
        machine.cpu.update_context();
        let status = match self {
            Trap::NotPresent => 6,
            Trap::ReadOnly => 5,
            Trap::Supervisor => 3,
        };
        write32(machine, TABLE + page * 4, &[page << 12 | status]);
    }

    /// The error code (SDM 3A "Page-Fault Exceptions"); without NX and SMEP, a fetch does not show.
    pub fn code(self, victim: Touch) -> u16 {
        (self != Trap::NotPresent) as u16
            | ((victim.kind == Kind::Write) as u16) << 1
            | ((victim.privilege == Privilege::User) as u16) << 2
    }
}

/// All memory but the page tables, whose accessed and dirty bits may change.
pub fn memory(machine: &Machine) -> Vec<u8> {
    let ram = machine.cpu.bus.ram();
    let mut bytes = ram.slice(0, RAM).to_vec();
    bytes[DIRECTORY as usize..(TABLE + 0x1000) as usize].fill(0);
    bytes
}

/// The state, without what counts deliveries and what a page fault loads.
pub fn comparable(state: &State) -> State {
    let mut state = state.clone();
    state.cr2 = 0;
    state.delivered_at = None;
    state
}

/// Runs the one instruction.
pub fn run(machine: &mut Machine) -> Stop {
    machine.run(1)
}
