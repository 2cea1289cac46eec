//! What the manual leaves undefined of the flags, and what may be done about it.
//!
//! Instruction bodies leave what silicon leaves, measured on an AMD EPYC of family 1Ah (docs/undefined-flags.md). A model may
//! ask for less ([`Model::undefined_flags`](crate::model::Model)): then lowering puts [`unlike_silicon`] before the bodies
//! concerned, and the others stay as they are.

use iced_x86::{Instruction, Mnemonic, OpKind, RflagsBits};
use serde::{Deserialize, Serialize};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::{Shape, handler, unimplemented};
use crate::fault::Exec;
use crate::flags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::ECX;

/// What becomes of flags that the manual leaves undefined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum UndefinedFlags {
    /// All are as AMD's processors of family 1Ah leave them.
    #[default]
    Silicon,
    /// Where Intel's processors are known to leave the same, that; the others are the opposite of it, so that a program that
    /// needs one maker's processor shows.
    Common,
    /// All are the opposite of what silicon leaves, so that a program that depends on any shows.
    Manual,
}

impl UndefinedFlags {
    /// All of them, with their names.
    pub const ALL: [(&str, UndefinedFlags); 3] = [
        ("silicon", UndefinedFlags::Silicon),
        ("common", UndefinedFlags::Common),
        ("manual", UndefinedFlags::Manual),
    ];

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<UndefinedFlags> {
        UndefinedFlags::ALL.iter().find(|(known, _)| *known == name).map(|&(_, flags)| flags)
    }

    /// The flags, of those that the instruction leaves undefined, that are not as silicon leaves them. `cl` is CL before it.
    pub fn opposed(self, instruction: &Instruction, cl: u8) -> u32 {
        match self {
            UndefinedFlags::Silicon => 0,
            UndefinedFlags::Common => undefined(instruction, cl) & !common(instruction.mnemonic()),
            UndefinedFlags::Manual => undefined(instruction, cl),
        }
    }
}

/// The flags that all processors leave alike where they are undefined, as far as it is known: AMD's family 1Ah, measured, and
/// Intel's Pentium, P6 and Pentium 4 cores as sandpile.org ("undefined integer FLAGS behavior") has them.
pub fn common(mnemonic: Mnemonic) -> u32 {
    match mnemonic {
        // not TEST, for the Pentium Pro keeps AF
        Mnemonic::And | Mnemonic::Or | Mnemonic::Xor => AF,
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => PF | AF | SF,
        Mnemonic::Div | Mnemonic::Idiv => CF | OF,
        Mnemonic::Aam => CF | AF | OF,
        _ => 0,
    }
}

/// The flags that the instruction leaves undefined, `cl` being CL before it: iced-x86's, and what depends on counts.
pub fn undefined(instruction: &Instruction, cl: u8) -> u32 {
    const PAIRS: [(u32, u32); 6] = [
        (RflagsBits::CF, CF),
        (RflagsBits::PF, PF),
        (RflagsBits::AF, AF),
        (RflagsBits::ZF, ZF),
        (RflagsBits::SF, SF),
        (RflagsBits::OF, OF),
    ];
    let bits = instruction.rflags_undefined();
    let flags =
        PAIRS.iter().filter(|(theirs, _)| bits & theirs != 0).fold(0, |flags, (_, flag)| flags | flag);
    let Some(count) = count(instruction, cl) else { return flags };
    let (most, beyond) = beyond(instruction);
    match count {
        // nothing happens
        0 => 0,
        1 => flags & !OF,
        _ if count > most => flags | OF | beyond,
        _ => flags | OF,
    }
}

/// What a shift or rotate moves by.
fn count(instruction: &Instruction, cl: u8) -> Option<u32> {
    let operand = match instruction.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal | Mnemonic::Shr | Mnemonic::Sar => 1,
        Mnemonic::Rol | Mnemonic::Ror | Mnemonic::Rcl | Mnemonic::Rcr => 1,
        Mnemonic::Shld | Mnemonic::Shrd => 2,
        _ => return None,
    };
    let count = match instruction.op_kind(operand) {
        OpKind::Immediate8 => instruction.immediate8(),
        _ => cl,
    };
    Some(count as u32 & 31)
}

/// The count past which a shift leaves more undefined, and what (SDM 2B "SAL/SAR/SHL/SHR", "SHLD", Flags Affected).
fn beyond(instruction: &Instruction) -> (u32, u32) {
    let bytes = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    };
    match instruction.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal | Mnemonic::Shr => ((8 * bytes as u32).saturating_sub(1), CF),
        Mnemonic::Shld | Mnemonic::Shrd => (8 * bytes as u32, ARITHMETIC),
        _ => (31, 0),
    }
}

/// What [`unlike_silicon`] needs to know of an instruction, in an op's second immediate, which none of these has.
#[derive(Clone, Copy)]
struct Packed(u16);

impl Packed {
    const PLACES: [u32; 6] = [CF, PF, AF, ZF, SF, OF];
    const BEYOND: u32 = 6;
    const MOST: u32 = 12;
    const BY_CL: u16 = 1 << 14;
    const MEMORY: u16 = 1 << 15;

    fn pack(flags: u32) -> u16 {
        (0..6).filter(|&n| flags & Self::PLACES[n] != 0).fold(0, |bits, n| bits | 1 << n)
    }

    fn unpack(bits: u16) -> u32 {
        (0..6).filter(|&n| bits & 1 << n != 0).fold(0, |flags, n| flags | Self::PLACES[n])
    }

    /// `None` if nothing is opposed.
    fn new(instruction: &Instruction, memory: bool, how: UndefinedFlags) -> Option<Packed> {
        let form = if memory { Self::MEMORY } else { 0 };
        // a count in CL may be any
        let by_cl = count(instruction, 0) != count(instruction, 1);
        if !by_cl {
            let flags = how.opposed(instruction, 0);
            return (flags != 0).then_some(Packed(form | Self::pack(flags)));
        }
        let (most, _) = beyond(instruction);
        let flags = how.opposed(instruction, 2);
        let more = how.opposed(instruction, most.min(30) as u8 + 1);
        let most = [7, 15, 16].iter().position(|&known| known == most).unwrap_or(3) as u16;
        let bits =
            form | Self::BY_CL | Self::pack(flags) | Self::pack(more) << Self::BEYOND | most << Self::MOST;
        (flags | more != 0).then_some(Packed(bits))
    }

    fn flags(self, cl: u8) -> u32 {
        let flags = Self::unpack(self.0);
        if self.0 & Self::BY_CL == 0 {
            return flags;
        }
        let most = [7, 15, 16, 31][(self.0 >> Self::MOST & 3) as usize];
        match cl & 31 {
            0 => 0,
            1 => flags & !OF,
            count if count > most => Self::unpack(self.0 >> Self::BEYOND),
            _ => flags,
        }
    }
}

/// Bodies that [`unlike_silicon`] stands before, by opcode and form.
#[derive(Clone, Debug)]
pub(crate) struct Bodies<B, O>(Vec<Option<Handler<B, O>>>);

impl<B, O> Default for Bodies<B, O> {
    fn default() -> Bodies<B, O> {
        Bodies(Vec::new())
    }
}

impl<B: Bus, O: Observer> Bodies<B, O> {
    fn find(&mut self, op: &Op<B, O>) -> Handler<B, O> {
        let memory = op.imm2 & Packed::MEMORY != 0;
        let at = (op.code as usize) << 1 | memory as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        *self.0[at].get_or_insert_with(|| handler(Shape { code: op.code(), memory }).unwrap_or(unimplemented))
    }
}

/// Has the lowered instruction leave flags that are undefined as `how` says.
pub(crate) fn lower<B: Bus, O: Observer>(
    op: &mut Op<B, O>,
    instruction: &Instruction,
    memory: bool,
    how: UndefinedFlags,
) {
    if how == UndefinedFlags::Silicon {
        return;
    }
    if let Some(packed) = Packed::new(instruction, memory, how) {
        op.run = unlike_silicon;
        op.imm2 = packed.0;
    }
}

/// An instruction, and then the opposite of some of the flags that it left.
fn unlike_silicon<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    // the instruction may write CL
    let cl = cpu.regs.byte(ECX);
    let body = cpu.bodies.find(op);
    body(cpu, op)?;

    let opposed = Packed(op.imm2).flags(cl);
    let flags = !cpu.flags.get();
    cpu.flags.set(flags, opposed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;
    use crate::fault::Stop;
    use crate::flat::{Start, processor};
    use crate::regs::{EAX, EBX};

    fn decode(code: &[u8]) -> Instruction {
        Decoder::with_ip(32, code, 0, DecoderOptions::NONE).decode()
    }

    #[test]
    fn undefined_flags_depend_on_the_count_of_a_shift() {
        for (code, cl, flags) in [
            // and eax, ecx; add eax, ecx
            (&[0x21, 0xc8][..], 0, AF),
            (&[0x01, 0xc8], 0, 0),
            // shl eax, 1; shl eax, 0; shl eax, 2; shl eax, cl
            (&[0xd1, 0xe0], 0, AF),
            (&[0xc1, 0xe0, 0x20], 0, 0),
            (&[0xc1, 0xe0, 2], 0, AF | OF),
            (&[0xd3, 0xe0], 0x20, 0),
            (&[0xd3, 0xe0], 0x21, AF),
            (&[0xd3, 0xe0], 31, AF | OF),
            // shr al, cl; sar al, cl; shl byte [eax], cl; shl ax, cl
            (&[0xd2, 0xe8], 7, AF | OF),
            (&[0xd2, 0xe8], 8, CF | AF | OF),
            (&[0xd2, 0xf8], 8, AF | OF),
            (&[0xd2, 0x20], 8, CF | AF | OF),
            (&[0x66, 0xd3, 0xe0], 15, AF | OF),
            (&[0x66, 0xd3, 0xe0], 16, CF | AF | OF),
            // rcl al, 10; rcl al, cl
            (&[0xc0, 0xd0, 10], 0, OF),
            (&[0xd2, 0xd0], 9, OF),
            (&[0xd2, 0xd0], 1, 0),
            // shld ax, cx, cl; shld eax, ecx, cl
            (&[0x66, 0x0f, 0xa5, 0xc8], 16, AF | OF),
            (&[0x66, 0x0f, 0xa5, 0xc8], 17, ARITHMETIC),
            (&[0x0f, 0xa5, 0xc8], 17, AF | OF),
            // div ecx; bt eax, ecx
            (&[0xf7, 0xf1], 0, ARITHMETIC),
            (&[0x0f, 0xa3, 0xc8], 0, PF | AF | SF | OF),
        ] {
            let instruction = decode(code);
            assert_eq!(undefined(&instruction, cl), flags, "{code:02x?}, CL {cl}");
            for how in UndefinedFlags::ALL.map(|(_, how)| how) {
                let packed = Packed::new(&instruction, false, how).map_or(0, |packed| packed.flags(cl));
                assert_eq!(packed, how.opposed(&instruction, cl), "{code:02x?}, CL {cl}, {how:?}");
            }
        }
    }

    #[test]
    fn defined_flags_and_results_are_the_same_whatever_becomes_of_undefined_flags() {
        for code in [
            &[0x21, 0xd8][..],
            &[0xd3, 0xe3],
            &[0xd2, 0xe9],
            &[0x0f, 0xa5, 0xd8],
            &[0xf7, 0xe3],
            &[0x0f, 0xbc, 0xc3],
            &[0x0f, 0xa3, 0xd8],
            &[0xd4, 0x0a],
            &[0x37],
            &[0xf3, 0x0f, 0xbd, 0xc3],
        ] {
            for cl in 0..=33u32 {
                let [silicon, common, manual] = UndefinedFlags::ALL.map(|(_, how)| {
                    let mut processor = processor(Start::Flat32, code, 0x1000, 0x2000);
                    processor.cpu.model.undefined_flags = how;
                    processor.cpu.regs.set_dword(EAX, 0x1234_5678);
                    processor.cpu.regs.set_dword(EBX, 0x8765_4321);
                    processor.cpu.regs.set_dword(ECX, cl);
                    assert_eq!(processor.run(1), Stop::Limit);
                    (processor.cpu.regs.clone(), processor.cpu.flags.get())
                });
                let instruction = decode(code);
                assert_eq!((&silicon.0, &silicon.0), (&common.0, &manual.0));
                assert_eq!(silicon.1 ^ manual.1, undefined(&instruction, cl as u8), "{code:02x?}, CL {cl}");
                let own = undefined(&instruction, cl as u8) & !super::common(instruction.mnemonic());
                assert_eq!(silicon.1 ^ common.1, own, "{code:02x?}, CL {cl}");
            }
        }
    }

    #[test]
    fn an_instruction_that_faults_leaves_the_flags() {
        // div ebx, by zero
        let mut processor = processor(Start::Flat32, &[0xf7, 0xf3], 0x1000, 0x2000);
        processor.cpu.model.undefined_flags = UndefinedFlags::Manual;
        processor.cpu.regs.set_dword(EBX, 0);
        let before = processor.cpu.flags.get();
        assert!(matches!(processor.attempt(), crate::engine::Attempt::Faulted(_)));
        assert_eq!(processor.cpu.flags.get(), before);
    }
}
