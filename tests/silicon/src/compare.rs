//! What two outcomes of a case may differ in, and what a difference looks like.

use std::fmt;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, IntelFormatter, Mnemonic, RflagsBits};
use pagewalk_x86::undefined::UndefinedFlags;

use crate::case::{Case, End, Outcome, SEGMENTS};
use crate::world::World;

/// Names of the general registers, as encoded.
pub const REGISTERS: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];

/// What to do about flags and results that the manual leaves undefined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Undefined {
    /// Leave them out: what any processor may do.
    #[default]
    Mask,
    /// Compare them too: pagewalk does what one kind of processor does (docs/undefined-flags.md).
    Compare,
    /// Compare those flags that all makers' processors are known to leave alike, with pagewalk leaving the opposite in the others.
    /// For single instructions: in a sequence, a later one may read the opposite.
    Common,
}

impl Undefined {
    /// What pagewalk is to leave.
    pub fn flags(self) -> UndefinedFlags {
        match self {
            Undefined::Mask | Undefined::Compare => UndefinedFlags::Silicon,
            Undefined::Common => UndefinedFlags::Common,
        }
    }
}

/// A case that came out differently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The case.
    pub case: Case,
    /// What pagewalk made of it.
    pub ours: Outcome,
    /// What the host's processor made of it.
    pub native: Outcome,
    /// Flags left out.
    pub masked: u32,
    /// Whether the code segment is 32-bit.
    pub big: bool,
    /// EIP of the first byte.
    pub eip: u32,
}

/// The instructions of a case, as far as they decode.
pub fn instructions(case: &Case, big: bool, eip: u32) -> Vec<Instruction> {
    decode(case, big, eip, DecoderOptions::NONE)
}

fn decode(case: &Case, big: bool, eip: u32, options: u32) -> Vec<Instruction> {
    let bitness = if big { 32 } else { 16 };
    let mut decoder = Decoder::with_ip(bitness, &case.code, eip as u64, options);
    let mut instructions = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.code() == Code::INVALID {
            break;
        }
        instructions.push(instruction);
    }
    instructions
}

/// EFLAGS bits from iced-x86's.
pub fn eflags_of(bits: u32) -> u32 {
    const PAIRS: [(u32, u32); 9] = [
        (RflagsBits::CF, 1 << 0),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::IF, 1 << 9),
        (RflagsBits::DF, 1 << 10),
        (RflagsBits::OF, 1 << 11),
        (RflagsBits::AC, 1 << 18),
    ];
    PAIRS.iter().filter(|(iced, _)| bits & iced != 0).fold(0, |flags, (_, flag)| flags | flag)
}

/// EFLAGS bits that an instruction leaves undefined, by iced-x86's tables.
pub fn undefined_flags(instruction: &Instruction) -> u32 {
    eflags_of(instruction.rflags_undefined())
}

/// EFLAGS bits that an instruction reads.
pub fn read_flags(instruction: &Instruction) -> u32 {
    eflags_of(instruction.rflags_read())
}

/// Whether an instruction may leave an undefined result, not only undefined flags: BSF and BSR of 0 (SDM 2A), SHLD and SHRD
/// of a word by more than 16 (SDM 2B), BSWAP of a word (SDM 2A).
pub fn may_leave_undefined_result(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Bsf | Mnemonic::Bsr => true,
        Mnemonic::Shld | Mnemonic::Shrd => instruction.code().op_code().operand_size() == 16,
        Mnemonic::Bswap => instruction.op0_register().size() == 2,
        _ => false,
    }
}

/// How two outcomes of a case differ, if they do.
pub fn compare(
    world: &World,
    case: &Case,
    ours: &Outcome,
    native: &Outcome,
    undefined: Undefined,
) -> Option<Difference> {
    if ours == native {
        return None;
    }
    let (big, eip) = (world.is_big(case.selectors[1]), world.eip(case));
    let instructions = instructions(case, big, eip);
    // an instruction that did not fault was left behind
    let executed = matches!(ours.end, End::Fell | End::Fault { vector: 1 | 3 | 4, .. }) || ours.eip != eip;
    let masked = match undefined {
        Undefined::Mask if instructions.iter().any(may_leave_undefined_result) => return None,
        Undefined::Mask if executed || instructions.len() > 1 => {
            instructions.iter().fold(0, |mask, instruction| mask | undefined_flags(instruction))
        }
        Undefined::Common if executed => {
            let cl = case.regs[1] as u8;
            instructions.iter().fold(0, |mask, i| mask | UndefinedFlags::Common.opposed(i, cl))
        }
        _ => 0,
    };
    let same = ours.end == native.end
        && ours.regs == native.regs
        && ours.eip == native.eip
        && (ours.eflags ^ native.eflags) & !masked == 0
        && ours.selectors == native.selectors
        && ours.written == native.written
        && same_fpu(ours, native);
    (!same).then(|| Difference {
        case: case.clone(),
        ours: ours.clone(),
        native: native.clone(),
        masked,
        big,
        eip,
    })
}

/// The FXSAVE images, but for what AMD's processors save only with an exception pending (FOP, FIP, FDP; AMD APM 2 "FXSAVE
/// and FXRSTOR Instructions"), MXCSR_MASK and reserved bytes.
pub(crate) fn same_fpu(ours: &Outcome, native: &Outcome) -> bool {
    match (&ours.fpu, &native.fpu) {
        (Some(a), Some(b)) => (0..288).filter(|&at| fpu_byte_counts(at)).all(|at| a[at] == b[at]),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn fpu_byte_counts(at: usize) -> bool {
    match at {
        0..5 | 24..28 => true,
        32..160 => at % 16 < 10,
        160..288 => true,
        _ => false,
    }
}

/// A case's code in the assembler's language.
pub fn disassembly(case: &Case, big: bool, eip: u32) -> String {
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    // also what is #UD, for LOCK where it may not be
    for instruction in decode(case, big, eip, DecoderOptions::NO_INVALID_CHECK) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        iced_x86::Formatter::format(&mut formatter, &instruction, &mut text);
    }
    if text.is_empty() { "(does not decode)".to_string() } else { text }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            End::Fell => f.write_str("falls through"),
            End::Fault { vector: 14, code, cr2 } => write!(f, "#PF({code:#x}) at {cr2:08x}"),
            End::Fault { vector, code, .. } => {
                let names =
                    ["DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9", "TS", "NP", "SS", "GP"];
                let name = match vector {
                    16 => "MF",
                    17 => "AC",
                    19 => "XM",
                    _ => names.get(vector as usize).copied().unwrap_or("?"),
                };
                if matches!(vector, 8 | 10..=13 | 17) {
                    write!(f, "#{name}({code:#x})")
                } else {
                    write!(f, "#{name}")
                }
            }
            End::Endless => f.write_str("does not end"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn runs(written: &[(u32, Vec<u8>)]) -> String {
    match written {
        [] => "nothing".to_string(),
        _ => written
            .iter()
            .map(|(at, bytes)| format!("[{at:08x}] {}", hex(bytes)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (case, ours, native) = (&self.case, &self.ours, &self.native);
        writeln!(f, "{}   {}", hex(&case.code), disassembly(case, self.big, self.eip))?;
        writeln!(f, "  {:8}  {:>28}  {:>28}  {:>28}", "", "before", "pagewalk", "this processor")?;
        let mut row = |name: &str, before: String, a: String, b: String| {
            let mark = if a == b { ' ' } else { '*' };
            writeln!(f, "{mark} {name:8}  {before:>28}  {a:>28}  {b:>28}")
        };
        row("ends", String::new(), ours.end.to_string(), native.end.to_string())?;
        for (n, name) in REGISTERS.into_iter().enumerate() {
            let word = |value: u32| format!("{value:08x}");
            row(name, word(case.regs[n]), word(ours.regs[n]), word(native.regs[n]))?;
        }
        row("eip", format!("{:08x}", self.eip), format!("{:08x}", ours.eip), format!("{:08x}", native.eip))?;
        let flags = |value: u32| format!("{:08x}", value & !self.masked);
        row("eflags", format!("{:08x}", case.eflags | 0x202), flags(ours.eflags), flags(native.eflags))?;
        for (n, name) in SEGMENTS.into_iter().enumerate() {
            let word = |value: u16| format!("{value:04x}");
            row(name, word(case.selectors[n]), word(ours.selectors[n]), word(native.selectors[n]))?;
        }
        row("written", String::new(), runs(&ours.written), runs(&native.written))?;
        if let (Some(before), Some(a), Some(b)) = (&case.fpu, &ours.fpu, &native.fpu) {
            for (name, part) in fpu_parts() {
                let bytes = |image: &[u8; 512]| {
                    image[part.clone()].iter().rev().map(|b| format!("{b:02x}")).collect()
                };
                row(&name, bytes(before), bytes(a), bytes(b))?;
            }
        }
        if !case.memory.is_empty() {
            writeln!(f, "  memory before: {}", runs(&case.memory))?;
        }
        if self.masked != 0 {
            writeln!(f, "  flags left out: {:08x}", self.masked)?;
        }
        Ok(())
    }
}

/// The parts of an FXSAVE image that are compared, by name.
fn fpu_parts() -> Vec<(String, std::ops::Range<usize>)> {
    let mut parts = vec![("fcw".to_string(), 0..2), ("fsw".to_string(), 2..4), ("ftw".to_string(), 4..5)];
    parts.push(("mxcsr".to_string(), 24..28));
    parts.extend((0..8).map(|n| (format!("st{n}"), 32 + 16 * n..42 + 16 * n)));
    parts.extend((0..8).map(|n| (format!("xmm{n}"), 160 + 16 * n..176 + 16 * n)));
    parts
}
