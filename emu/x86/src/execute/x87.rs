//! x87. Here the instructions that set, store and check state (SDM 1 "x87 FPU Execution Environment"); values are moved,
//! computed and compared by the modules below.
//!
//! Hardware: what reserved bits read as, how ES and B follow the flags and how tags are rebuilt on FLDENV and FRSTOR was
//! measured on an AMD EPYC in 32-bit mode.

pub(super) mod arithmetic;
mod compare;
pub(super) mod memory;
mod partial;
mod registers;
mod stack;
mod transcendental;

use iced_x86::{Code, CpuidFeature};

use crate::bus::Bus;
use crate::control::{CR0_EM, CR0_MP, CR0_NE, CR0_TS};
use crate::cpu::{Cpu, Fpu};
use crate::execute::{Shape, unimplemented};
use crate::fault::{Exec, Fault};
use crate::flat::FlatBus;
use crate::mmu::{Intent, Place};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::EAX;
use crate::width::Width;

/// The bodies of this family: of arithmetic, the checks before it.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    body(shape).or(is_x87(shape.code).then_some(arithmetic))
}

/// Whether only the checks before it are there: it is x87 arithmetic.
pub fn is_left_out(shape: Shape) -> bool {
    is_x87(shape.code) && body::<FlatBus, ()>(shape).is_none()
}

fn body<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Wait => wait,
        Code::Fninit => fninit,
        Code::Fnclex => fnclex,
        Code::Fnop => fnop,
        Code::Fneni | Code::Fndisi | Code::Fnsetpm => no_operation,
        Code::Fnstcw_m2byte => fnstcw,
        Code::Fldcw_m2byte => fldcw,
        Code::Fnstsw_m2byte => fnstsw,
        Code::Fnstsw_AX => fnstsw_ax,
        Code::Fnstenv_m14byte => fnstenv::<B, O, u16>,
        Code::Fnstenv_m28byte => fnstenv::<B, O, u32>,
        Code::Fldenv_m14byte => fldenv::<B, O, u16>,
        Code::Fldenv_m28byte => fldenv::<B, O, u32>,
        Code::Fnsave_m94byte => fnsave::<B, O, u16>,
        Code::Fnsave_m108byte => fnsave::<B, O, u32>,
        Code::Frstor_m94byte => frstor::<B, O, u16>,
        Code::Frstor_m108byte => frstor::<B, O, u32>,
        _ => {
            return arithmetic::handler(shape)
                .or_else(|| memory::handler(shape))
                .or_else(|| registers::handler(shape))
                .or_else(|| compare::handler(shape))
                .or_else(|| partial::handler(shape))
                .or_else(|| transcendental::handler(shape));
        }
    })
}

fn is_x87(code: Code) -> bool {
    const X87: [CpuidFeature; 3] = [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387];
    code.cpuid_features().iter().any(|feature| X87.contains(feature))
}

/// Exception flags of the status word, and their masks in the control word.
const EXCEPTIONS: u16 = 0x3f;
/// ES and B of the status word: some unmasked exception is pending. They follow from the flags and masks.
const SUMMARY: u16 = 0x8080;
/// Control-word bits that can be written; of the others bit 6 reads as one.
const CONTROL: u16 = 0x1f3f;
const EMPTY: u16 = 3;

impl Fpu {
    /// The status word with ES and B.
    pub fn status_word(&self) -> u16 {
        self.status | if self.is_pending() { SUMMARY } else { 0 }
    }

    /// Whether an unmasked exception is pending.
    pub fn is_pending(&self) -> bool {
        self.status & !self.control & EXCEPTIONS != 0
    }

    /// Takes control, status, tags, pointers and registers from the first 160 bytes of an FXSAVE image (SDM 1 "FXSAVE Area").
    pub fn load_image(&mut self, image: &[u8; 512]) {
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let dword = |at: usize| word(at) as u32 | (word(at + 2) as u32) << 16;
        self.set_control(word(0));
        self.set_status(word(2));
        self.pointers = [dword(8), word(12) as u32, word(6) as u32 & 0x7ff, dword(16), word(20) as u32];
        for st in 0..8 {
            self.registers[(self.top() + st) & 7].copy_from_slice(&image[32 + 16 * st..42 + 16 * st]);
        }
        self.set_tags(
            (0..8).fold(0, |tags, n| tags | if image[4] >> n & 1 == 0 { EMPTY << (n * 2) } else { 0 }),
        );
    }

    /// Writes them into such an image, whose reserved bytes become 0.
    pub fn store_image(&self, image: &mut [u8; 512]) {
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        let tags = (0..8).fold(0, |tags, n| tags | u8::from(self.tag >> (n * 2) & 3 != EMPTY) << n);
        put(0, &self.control.to_le_bytes());
        put(2, &self.status_word().to_le_bytes());
        put(4, &[tags, 0]);
        put(6, &(self.pointers[2] as u16).to_le_bytes());
        for (at, pointer) in [(8, 0), (12, 1), (16, 3), (20, 4)] {
            put(at, &self.pointers[pointer].to_le_bytes());
        }
        for st in 0..8 {
            put(32 + 16 * st, &self.registers[(self.top() + st) & 7]);
            put(42 + 16 * st, &[0; 6]);
        }
    }

    /// Tags as if no register were empty.
    pub(super) fn fill_tags(&mut self) {
        self.set_tags(0);
    }

    fn set_control(&mut self, value: u16) {
        self.control = value & CONTROL | 0x40;
    }

    fn set_status(&mut self, value: u16) {
        self.status = value & !SUMMARY;
    }

    /// Takes the tags of a loaded image: of these only "empty" counts, the rest follows from the registers.
    fn set_tags(&mut self, value: u16) {
        self.tag = (0..8).fold(0, |tags, n| {
            let is_empty = value >> (n * 2) & 3 == EMPTY;
            tags | (if is_empty { EMPTY } else { tag_of(&self.registers[n]) }) << (n * 2)
        });
    }

    /// FNINIT: the registers keep their contents but are empty.
    fn initialize(&mut self) {
        let registers = self.registers;
        *self = Fpu { control: 0x37f, status: 0, tag: 0xffff, pointers: [0; 5], registers };
    }
}

/// SDM 1 "x87 FPU Tag Word": valid, zero, or special (NaN, unsupported, infinity, denormal).
fn tag_of(register: &[u8; 10]) -> u16 {
    let exponent = u16::from_le_bytes([register[8], register[9]]) & 0x7fff;
    let integer_bit = register[7] & 0x80 != 0;
    if exponent == 0 && register[..8] == [0; 8] {
        1
    } else if exponent == 0 || exponent == 0x7fff || !integer_bit {
        2
    } else {
        0
    }
}

/// Every ESC instruction: #NM with CR0.EM or CR0.TS.
fn require_available<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    cpu.ensure(cpu.cr0 & (CR0_EM | CR0_TS) == 0, Fault::DeviceNotAvailable)
}

/// The waiting ones, before they run: #MF for a pending unmasked exception. Without CR0.NE the processor would signal
/// FERR# instead, which no board here listens to (Choice: as if IGNNE# were asserted).
pub(super) fn require_no_exception<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    let reported = cpu.cr0 & CR0_NE != 0 && cpu.fpu.is_pending();
    cpu.ensure(!reported, Fault::FloatingPoint)
}

/// WAIT: #NM with CR0.TS and CR0.MP, whatever EM says.
fn wait<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let both = CR0_MP | CR0_TS;
    cpu.ensure(cpu.cr0 & both != both, Fault::DeviceNotAvailable)?;
    require_no_exception(cpu)
}

fn arithmetic<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    unimplemented(cpu, op)
}

/// FNOP. Hardware: it is noted as the last instruction, as an AMD EPYC does.
fn fnop<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    require_no_exception(cpu)?;

    stack::note_instruction(cpu, op);
    Ok(())
}

/// FNENI, FNDISI, FNSETPM: of the 8087 and 80287; later ones ignore them.
fn no_operation<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_available(cpu)
}

fn fninit<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_available(cpu)?;

    cpu.fpu.initialize();
    Ok(())
}

fn fnclex<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_available(cpu)?;

    cpu.fpu.status &= 0x7f00;
    Ok(())
}

fn word<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, intent: Intent) -> Exec<Place<u16>> {
    let offset = cpu.effective_address(op);
    cpu.translate(op.segment as usize, offset, intent)
}

fn fnstcw<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    let dest = word(cpu, op, Intent::Write)?;

    let value = cpu.fpu.control;
    cpu.store(dest, value);
    Ok(())
}

fn fldcw<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    require_no_exception(cpu)?;
    let source = word(cpu, op, Intent::Read)?;

    let value = cpu.load(source);
    cpu.fpu.set_control(value);
    Ok(())
}

fn fnstsw<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    let dest = word(cpu, op, Intent::Write)?;

    let value = cpu.fpu.status_word();
    cpu.store(dest, value);
    Ok(())
}

fn fnstsw_ax<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_available(cpu)?;

    let value = cpu.fpu.status_word();
    cpu.regs.set_word(EAX, value);
    Ok(())
}

/// Words or doublewords of an environment.
const ENVIRONMENT: usize = 7;
/// Words of an environment and eight registers: the most there can be.
const MOST: usize = ENVIRONMENT + 40;

/// The memory image as cells of the operand size: an environment, and if `all` the eight registers behind it.
fn image<B: Bus, O: Observer, W: Width>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
    all: bool,
    intent: Intent,
) -> Exec<([Place<W>; MOST], usize)> {
    let count = ENVIRONMENT + if all { 80 / W::BYTES as usize } else { 0 };
    let mut places = [Place::<W>::ram(0); MOST];
    let offset = cpu.effective_address(op);
    for (n, place) in places[..count].iter_mut().enumerate() {
        let offset = offset.wrapping_add(n as u32 * W::BYTES) & op.address_mask;
        *place = cpu.translate::<W>(op.segment as usize, offset, intent)?;
    }
    Ok((places, count))
}

/// The four layouts of SDM 1 "Saving the x87 FPU's State": by operand size, and real-address (or virtual-8086) mode
/// against protected mode.
fn environment<W: Width>(fpu: &Fpu, is_protected: bool) -> [u32; ENVIRONMENT] {
    const ONES: u32 = 0xffff_0000;
    let [ip, cs, opcode, dp, ds] = fpu.pointers;
    let (control, status, tag) = (fpu.control as u32, fpu.status_word() as u32, fpu.tag as u32);
    let pointers = match (W::BITS == 32, is_protected) {
        (true, true) => [ip, cs | opcode << 16, dp, ds | ONES],
        (false, true) => [ip, cs, dp, ds],
        (_, false) => {
            let ip = (cs << 4).wrapping_add(ip);
            let dp = (ds << 4).wrapping_add(dp);
            [ip | ONES, ip >> 16 << 12 | opcode, dp | ONES, dp >> 16 << 12]
        }
    };
    let [a, b, c, d] = pointers;
    [control | ONES, status | ONES, tag | ONES, a, b, c, d]
}

fn set_environment<W: Width>(fpu: &mut Fpu, is_protected: bool, cells: &[u32]) {
    let &[control, status, tag, a, b, c, d] = cells else { return };
    fpu.set_control(control as u16);
    fpu.set_status(status as u16);
    fpu.set_tags(tag as u16);
    let high = |cell: u32| (cell >> 12 & 0xffff) << 16;
    fpu.pointers = match (W::BITS == 32, is_protected) {
        (true, true) => [a, b & 0xffff, b >> 16 & 0x7ff, c, d & 0xffff],
        (false, true) => [a, b, 0, c, d],
        (_, false) => [a & 0xffff | high(b), 0, b & 0x7ff, c & 0xffff | high(d), 0],
    };
}

/// FNSTENV: then all exceptions are masked.
fn fnstenv<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    let (places, _) = image::<B, O, W>(cpu, op, false, Intent::Write)?;

    let cells = environment::<W>(&cpu.fpu, cpu.is_protected());

    for (place, cell) in places.into_iter().zip(cells) {
        cpu.store(place, W::from_u32(cell));
    }
    cpu.fpu.control |= EXCEPTIONS;
    Ok(())
}

fn fldenv<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    require_no_exception(cpu)?;
    let (places, count) = image::<B, O, W>(cpu, op, false, Intent::Read)?;

    let cells: [u32; ENVIRONMENT] = std::array::from_fn(|n| cpu.load(places[n.min(count - 1)]).to_u32());

    let is_protected = cpu.is_protected();
    set_environment::<W>(&mut cpu.fpu, is_protected, &cells);
    Ok(())
}

/// FNSAVE: then as FNINIT.
fn fnsave<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    let (places, count) = image::<B, O, W>(cpu, op, true, Intent::Write)?;

    let cells = environment::<W>(&cpu.fpu, cpu.is_protected());
    let mut bytes = [0; 80];
    for (n, slot) in bytes.chunks_exact_mut(10).enumerate() {
        slot.copy_from_slice(&cpu.fpu.registers[(cpu.fpu.top() + n) & 7]);
    }

    for (place, cell) in places.into_iter().zip(cells) {
        cpu.store(place, W::from_u32(cell));
    }
    for (place, part) in places[ENVIRONMENT..count].iter().zip(bytes.chunks_exact(W::BYTES as usize)) {
        let value = part.iter().rev().fold(0, |value, &byte| value << 8 | byte as u32);
        cpu.store(*place, W::from_u32(value));
    }
    cpu.fpu.initialize();
    Ok(())
}

fn frstor<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_available(cpu)?;
    require_no_exception(cpu)?;
    let (places, count) = image::<B, O, W>(cpu, op, true, Intent::Read)?;

    let mut cells = [0; MOST];
    for (cell, place) in cells.iter_mut().zip(&places[..count]) {
        *cell = cpu.load(*place).to_u32();
    }
    let mut bytes = [0; 80];
    for (part, cell) in bytes.chunks_exact_mut(W::BYTES as usize).zip(&cells[ENVIRONMENT..count]) {
        part.copy_from_slice(&cell.to_le_bytes()[..W::BYTES as usize]);
    }

    let is_protected = cpu.is_protected();
    let fpu = &mut cpu.fpu;
    fpu.set_status(cells[1] as u16);
    for (n, slot) in bytes.chunks_exact(10).enumerate() {
        fpu.registers[(fpu.top() + n) & 7].copy_from_slice(slot);
    }
    set_environment::<W>(fpu, is_protected, &cells[..ENVIRONMENT]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::system::testing::*;
    use super::*;
    use crate::control::{CR0_ET, CR0_PE};
    use crate::model::MAX;

    const FNINIT: &[u8] = &[0xdb, 0xe3];
    const FNCLEX: &[u8] = &[0xdb, 0xe2];
    const FNOP: &[u8] = &[0xd9, 0xd0];
    const WAIT: &[u8] = &[0x9b];
    const FNSTSW_AX: &[u8] = &[0xdf, 0xe0];
    // the operand at [eax] = 0x2000
    const FNSTCW: &[u8] = &[0xd9, 0x38];
    const FLDCW: &[u8] = &[0xd9, 0x28];
    const FNSTSW: &[u8] = &[0xdd, 0x38];
    const FNSTENV: &[u8] = &[0xd9, 0x30];
    const FLDENV: &[u8] = &[0xd9, 0x20];
    const FNSAVE: &[u8] = &[0xdd, 0x30];
    const FRSTOR: &[u8] = &[0xdd, 0x20];

    fn cpu() -> TestCpu {
        let mut cpu = cpu_of(MAX);
        cpu.regs.set_dword(EAX, 0x2000);
        run(&mut cpu, FNINIT).unwrap();
        cpu
    }

    fn put<const N: usize>(cpu: &mut TestCpu, words: [u32; N]) {
        for (n, word) in words.iter().enumerate() {
            cpu.bus.ram_mut().write(0x2000 + n * 4, &word.to_le_bytes());
        }
    }

    fn get<const N: usize>(cpu: &TestCpu) -> [u32; N] {
        std::array::from_fn(|n| u32::from_le_bytes(cpu.bus.ram().read(0x2000 + n * 4)))
    }

    fn narrow(bytes: &[u8]) -> Vec<u8> {
        [&[0x66], bytes].concat()
    }

    #[test]
    fn nm_follows_em_ts_and_mp_as_the_manual_tabulates() {
        // SDM 3A "Control Registers", table "Action Taken By x87 FPU Instructions for Different Combinations of EM, MP, and TS"
        for bits in 0..8u32 {
            let (em, mp, ts) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let cr0 = [(em, CR0_EM), (mp, CR0_MP), (ts, CR0_TS)];
            let cr0 =
                cr0.iter().fold(CR0_PE | CR0_ET | CR0_NE, |all, (on, bit)| if *on { all | bit } else { all });
            let escape =
                [FNINIT, FNCLEX, FNOP, FNSTSW_AX, FNSTCW, FLDCW, FNSTSW, FNSTENV, FLDENV, FNSAVE, FRSTOR];
            for bytes in escape {
                let mut cpu = cpu();
                put(&mut cpu, [0x37f, 0, 0xffff]);
                cpu.cr0 = cr0;
                let expected = if em || ts { Err(Fault::DeviceNotAvailable) } else { Ok(()) };
                assert_eq!(run(&mut cpu, bytes), expected, "{bytes:x?} em {em} mp {mp} ts {ts}");
            }
            let mut cpu = cpu();
            cpu.cr0 = cr0;
            let expected = if mp && ts { Err(Fault::DeviceNotAvailable) } else { Ok(()) };
            assert_eq!(run(&mut cpu, WAIT), expected, "em {em} mp {mp} ts {ts}");
        }
    }

    #[test]
    fn waiting_instructions_report_a_pending_exception_and_the_others_do_not() {
        for ne in [true, false] {
            for (bytes, waits) in [
                (WAIT, true),
                (FNOP, true),
                (FLDCW, true),
                (FLDENV, true),
                (FRSTOR, true),
                (FNINIT, false),
                (FNCLEX, false),
                (FNSTCW, false),
                (FNSTSW, false),
                (FNSTSW_AX, false),
                (FNSTENV, false),
                (FNSAVE, false),
            ] {
                let mut cpu = cpu();
                cpu.cr0 |= if ne { CR0_NE } else { 0 };
                cpu.fpu.control = 0x37e;
                cpu.fpu.status = 1;
                let expected = if waits && ne { Err(Fault::FloatingPoint) } else { Ok(()) };
                assert_eq!(run(&mut cpu, bytes), expected, "{bytes:x?}");
            }
        }
    }

    /// Hardware: stored by an AMD EPYC after FNINIT.
    #[test]
    fn fninit_leaves_what_hardware_leaves() {
        let mut cpu = cpu();
        run(&mut cpu, FNSTENV).unwrap();
        assert_eq!(get(&cpu), [0xffff_037f, 0xffff_0000, 0xffff_ffff, 0, 0, 0, 0xffff_0000]);
    }

    /// Hardware: as above.
    #[test]
    fn the_control_word_reads_back_as_on_hardware() {
        for (written, read) in [(0xffff, 0x1f7f), (0, 0x40), (0x1f3f, 0x1f7f), (0xe080, 0x40)] {
            let mut cpu = cpu();
            put(&mut cpu, [written]);
            run(&mut cpu, FLDCW).unwrap();
            run(&mut cpu, FNSTCW).unwrap();
            assert_eq!(get::<1>(&cpu)[0] & 0xffff, read);
        }
    }

    /// Hardware: as above; control word, status word loaded, status word stored.
    #[test]
    fn es_and_b_follow_from_flags_and_masks() {
        let cases = [
            (0x037f, 0xffff, 0x7f7f),
            (0x037f, 0x8080, 0x0000),
            (0x037f, 0x003f, 0x003f),
            (0x0340, 0xffff, 0xffff),
            (0x0340, 0x0080, 0x0000),
            (0x0340, 0x003f, 0x80bf),
            (0x0340, 0x0040, 0x0040),
            (0x0340, 0x7f00, 0x7f00),
        ];
        for (control, loaded, stored) in cases {
            let mut cpu = cpu();
            put(&mut cpu, [control, loaded, 0xffff, 0, 0, 0, 0]);
            run(&mut cpu, FLDENV).unwrap();
            run(&mut cpu, FNSTENV).unwrap();
            assert_eq!(
                get::<2>(&cpu),
                [0xffff_0000 | control, 0xffff_0000 | stored],
                "{control:#x} {loaded:#x}"
            );
        }
        let mut cpu = cpu();
        put(&mut cpu, [0x037e, 1, 0xffff, 0, 0, 0, 0]);
        run(&mut cpu, FLDENV).unwrap();
        run(&mut cpu, FNSTENV).unwrap();
        run(&mut cpu, FNSTSW_AX).unwrap();
        assert_eq!(
            (get::<2>(&cpu)[1], cpu.regs.word(EAX)),
            (0xffff_8081, 0x0001),
            "FNSTENV masks afterwards"
        );
        cpu.fpu.status = 0x7f7f;
        run(&mut cpu, FNCLEX).unwrap();
        assert_eq!(cpu.fpu.status_word(), 0x7f00);
    }

    /// Hardware: as above. TOP is 5; ST(0) to ST(7) are 1, 0, a denormal, an infinity, an unnormal, a NaN, a
    /// pseudo-denormal, and one without its integer bit.
    const SAVED: [u32; 27] = [
        0x037f,
        0x2800,
        0,
        0x1234_5678,
        0xf923_0023,
        0x9abc_def0,
        0xffff_002b,
        0,
        0x8000_0000,
        0x3fff,
        0,
        0,
        1,
        0,
        0,
        0,
        0x7fff_8000,
        0,
        0x4000_0000,
        0x3fff,
        0,
        0x7fff_c000,
        0,
        0x8000_0000,
        0,
        0,
        0x3fff_0000,
    ];

    #[test]
    fn frstor_and_fnsave_keep_the_registers_and_rebuild_the_tags() {
        let mut cpu = cpu();
        put(&mut cpu, SAVED);
        run(&mut cpu, FRSTOR).unwrap();
        put(&mut cpu, [0xaaaa_aaaa; 27]);
        run(&mut cpu, FNSAVE).unwrap();
        let mut expected = SAVED;
        expected[..7].copy_from_slice(&[
            0xffff_037f,
            0xffff_2800,
            0xffff_92aa,
            0x1234_5678,
            0x0123_0023,
            0x9abc_def0,
            0xffff_002b,
        ]);
        assert_eq!(get(&cpu), expected);
        run(&mut cpu, FNSTENV).unwrap();
        assert_eq!(get(&cpu), [0xffff_037f, 0xffff_0000, 0xffff_ffff, 0, 0, 0, 0xffff_0000]);
        let mut some_empty = SAVED;
        some_empty[2] = 0xff00;
        put(&mut cpu, some_empty);
        run(&mut cpu, FRSTOR).unwrap();
        run(&mut cpu, FNSTENV).unwrap();
        assert_eq!(get::<3>(&cpu)[2], 0xffff_ffaa);
    }

    #[test]
    fn tags_go_by_physical_register_whatever_top_is() {
        for top in 0..8u32 {
            let mut cpu = cpu();
            let mut image = SAVED;
            (image[1], image[2]) = (top << 11, 0xfffc);
            put(&mut cpu, image);
            run(&mut cpu, FRSTOR).unwrap();
            let expected = match top {
                0 => 0xfffc,
                7 => 0xfffd,
                _ => 0xfffe,
            };
            assert_eq!(cpu.fpu.tag, expected, "top {top}");
        }
    }

    #[test]
    fn protected_16_bit_layout() {
        let mut cpu = cpu();
        put(&mut cpu, SAVED);
        run(&mut cpu, FRSTOR).unwrap();
        put(&mut cpu, [0xaaaa_aaaa; 4]);
        run(&mut cpu, &narrow(FNSTENV)).unwrap();
        assert_eq!(get(&cpu), [0x2800_037f, 0x5678_92aa, 0xdef0_0023, 0xaaaa_002b]);
        run(&mut cpu, &narrow(FLDENV)).unwrap();
        run(&mut cpu, FNSTENV).unwrap();
        assert_eq!(get(&cpu), [0xffff_037f, 0xffff_2800, 0xffff_92aa, 0x5678, 0x23, 0xdef0, 0xffff_002b]);
    }

    #[test]
    fn real_mode_layouts_hold_linear_addresses() {
        // SDM 1 figures "Real Mode x87 FPU State Image in Memory, 32-Bit Format" and "16-Bit Format"
        let mut cpu = cpu();
        cpu.fpu.pointers = [0x5678, 0xf123, 0x7ab, 0x4321, 0x8000];
        cpu.cr0 &= !CR0_PE;
        run(&mut cpu, FNSTENV).unwrap();
        let (ip, dp) = (0xf_1230 + 0x5678, 0x8_0000 + 0x4321);
        assert_eq!(
            get::<7>(&cpu)[3..],
            [0xffff_0000 | ip & 0xffff, ip >> 16 << 12 | 0x7ab, 0xffff_0000 | dp & 0xffff, dp >> 16 << 12]
        );
        run(&mut cpu, FLDENV).unwrap();
        assert_eq!(cpu.fpu.pointers, [ip, 0, 0x7ab, dp, 0]);
        run(&mut cpu, &narrow(FNSTENV)).unwrap();
        let [_, second, third, fourth] = get(&cpu);
        assert_eq!(second >> 16, ip & 0xffff);
        assert_eq!(third, (dp & 0xffff) << 16 | (ip >> 16 & 0xf) << 12 | 0x7ab);
        assert_eq!(fourth & 0xffff, (dp >> 16 & 0xf) << 12);
    }

    #[test]
    fn an_image_that_runs_out_of_its_segment_changes_nothing() {
        use crate::segment::{DS, Segment};
        for bytes in [FNSAVE, FRSTOR, FNSTENV, FLDENV] {
            let mut cpu = cpu();
            put(&mut cpu, [0xaaaa_aaaa; 27]);
            let size = if matches!(bytes[0], 0xdd) { 108 } else { 28 };
            cpu.segs[DS] = Segment::new(0x10, 0, 0x2000 + size - 2, 0x4093);
            let (state, ram) = (cpu.state.clone(), cpu.bus.clone());
            assert_eq!(run(&mut cpu, bytes), Err(Fault::GeneralProtection(0)));
            assert!(cpu.state == state && cpu.bus == ram);
        }
    }
}
