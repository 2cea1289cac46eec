//! What an undefined flag may follow.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{FLAGS, When};
use crate::case::{Case, Outcome};

/// What rules are about: an instruction on registers, before and behind.
#[derive(Clone, Debug)]
pub struct Seen {
    mnemonic: Mnemonic,
    /// EFLAGS before and behind.
    before: u32,
    behind: u32,
    /// Width of the operands.
    bits: u32,
    /// The destination before and behind.
    dest: u32,
    result: u32,
    source: u32,
    count: u32,
    ax: u16,
}

impl Seen {
    /// `None` for operands in memory.
    pub fn new(case: &Case, outcome: &Outcome, instruction: &Instruction) -> Option<Seen> {
        let kinds = || instruction.op_kinds();
        if kinds().any(|kind| !matches!(kind, OpKind::Register) && !is_immediate(kind)) {
            return None;
        }
        let register = |n: u32, regs: &[u32; 8]| -> u32 {
            if n >= instruction.op_count() || instruction.op_kind(n) != OpKind::Register {
                return 0;
            }
            let register = instruction.op_register(n);
            let number = register.number();
            match register.size() {
                1 => regs[number & 3] >> (8 * (number >> 2)) & 0xff,
                2 => regs[number] & 0xffff,
                _ => regs[number],
            }
        };
        let last = instruction.op_count().saturating_sub(1);
        let count = match (0..instruction.op_count()).find(|&n| is_immediate(instruction.op_kind(n))) {
            Some(n) => instruction.immediate(n) as u32,
            None => case.regs[1],
        };
        let (bits, implied) = match instruction.mnemonic() {
            Mnemonic::Aaa | Mnemonic::Aas | Mnemonic::Aam | Mnemonic::Aad | Mnemonic::Daa | Mnemonic::Das => {
                (8, true)
            }
            _ => (8 * instruction.op0_register().size() as u32, false),
        };
        Some(Seen {
            mnemonic: instruction.mnemonic(),
            before: case.eflags,
            behind: outcome.eflags,
            bits,
            dest: register(0, &case.regs),
            result: if implied { outcome.regs[0] & 0xff } else { register(0, &outcome.regs) },
            source: register(last, &case.regs),
            count,
            ax: case.regs[0] as u16,
        })
    }

    /// The circumstances, given the flags that are undefined in them.
    pub fn when(&self, flags: u32) -> When {
        use Mnemonic::*;
        let count = self.count & 31;
        match self.mnemonic {
            Shl | Sal | Shr | Sar | Shld | Shrd | Rol | Ror | Rcl | Rcr => match count {
                1 => When::CountOne,
                _ if matches!(self.mnemonic, Shl | Sal | Shr | Shld | Shrd) && flags & FLAGS[5].1 != 0 => {
                    When::CountBeyond
                }
                _ => When::CountMore,
            },
            Bsf | Bsr if self.source == 0 => When::SourceZero,
            Bsf | Bsr => When::SourceNotZero,
            _ => When::Always,
        }
    }

    fn top(&self, below: u32) -> bool {
        self.result >> (self.bits - 1 - below) & 1 != 0
    }
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
    )
}

/// What a flag may follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// It keeps its value.
    Unchanged,
    /// It is 0.
    Cleared,
    /// It is 1.
    Set,
    /// SF, ZF and PF of the result.
    Result,
    /// OF: CF differs from the result's sign.
    CarryXorSign,
    /// OF: CF differs from the bit of the destination that would go out next.
    CarryXorNext,
    /// OF: the two top bits of the result differ.
    TopBitsDiffer,
    /// CF: the last bit that went out, and 0 once all are out.
    LastOut,
    /// Of the sum or difference that a decimal adjustment is.
    Adjustment,
}

/// All rules, in the order in which they are preferred.
pub const RULES: [Rule; 9] = [
    Rule::Unchanged,
    Rule::Cleared,
    Rule::Set,
    Rule::Result,
    Rule::CarryXorSign,
    Rule::CarryXorNext,
    Rule::TopBitsDiffer,
    Rule::LastOut,
    Rule::Adjustment,
];

impl Rule {
    /// For the table.
    pub fn words(self) -> &'static str {
        match self {
            Rule::Unchanged => "unchanged",
            Rule::Cleared => "0",
            Rule::Set => "1",
            Rule::Result => "result",
            Rule::CarryXorSign => "CF xor sign",
            Rule::CarryXorNext => "CF xor next",
            Rule::TopBitsDiffer => "top bits differ",
            Rule::LastOut => "last bit out",
            Rule::Adjustment => "sum",
        }
    }

    /// What the table's word stands for.
    pub fn sentence(self) -> &'static str {
        match self {
            Rule::Unchanged => "the flag keeps its value",
            Rule::Cleared => "the flag is cleared",
            Rule::Set => "the flag is set",
            Rule::Result => {
                "as defined elsewhere: the result's sign, whether it is zero, the parity of its low byte"
            }
            Rule::CarryXorSign => "CF differs from the result's sign, as for a shift or rotate left by 1",
            Rule::CarryXorNext => {
                "CF differs from the bit of the destination that would go out next (0 once all are out), as for a shift left by 1"
            }
            Rule::TopBitsDiffer => {
                "the two top bits of the result differ, as for a shift or rotate right by 1"
            }
            Rule::LastOut => "the last bit shifted out; once all are out, 0",
            Rule::Adjustment => {
                "of the addition or subtraction at hand: AX and 106h (or 0) for AAA and AAS, AL and 6, 60h or 66h (or 0) for DAA and DAS, AL and AH times the immediate for AAD"
            }
        }
    }

    /// What it says of a flag (an index into [`FLAGS`]); `None` if nothing.
    pub fn says(self, seen: &Seen, flag: usize) -> Option<bool> {
        let name = FLAGS[flag].0;
        let carry = seen.behind & 1 != 0;
        Some(match self {
            Rule::Unchanged => seen.before & FLAGS[flag].1 != 0,
            Rule::Cleared => false,
            Rule::Set => true,
            Rule::Result => match name {
                "SF" => seen.top(0),
                "ZF" => seen.result == 0,
                "PF" => (seen.result as u8).count_ones().is_multiple_of(2),
                _ => return None,
            },
            Rule::CarryXorSign if name == "OF" => carry != seen.top(0),
            Rule::CarryXorNext if name == "OF" => {
                carry != ((seen.dest as u64) << (seen.count & 31) >> (seen.bits - 1) & 1 != 0)
            }
            Rule::TopBitsDiffer if name == "OF" => seen.top(0) != seen.top(1),
            Rule::LastOut if name == "CF" => last_out(seen)?,
            Rule::Adjustment => adjustment(seen)? & FLAGS[flag].1 != 0,
            _ => return None,
        })
    }
}

fn last_out(seen: &Seen) -> Option<bool> {
    let (count, value) = (seen.count & 31, seen.dest as u64);
    match seen.mnemonic {
        Mnemonic::Shl | Mnemonic::Sal => Some(value << count >> seen.bits & 1 != 0),
        Mnemonic::Shr => Some(value >> (count - 1) & 1 != 0),
        _ => None,
    }
}

/// The status flags of the addition or subtraction of a decimal adjustment.
fn adjustment(seen: &Seen) -> Option<u32> {
    use Mnemonic::*;
    let [al, ah] = seen.ax.to_le_bytes();
    let low = al & 15 > 9 || seen.before & 0x10 != 0;
    let high = al > 0x99 || seen.before & 1 != 0;
    let unpacked = if low { 0x106 } else { 0 };
    let packed = 6 * low as u32 + 0x60 * high as u32;
    let (a, b, bits, subtract) = match seen.mnemonic {
        Aaa => (seen.ax as u32, unpacked, 16, false),
        Aas => (seen.ax as u32, unpacked, 16, true),
        Daa => (al as u32, packed, 8, false),
        Das => (al as u32, packed, 8, true),
        Aad => (al as u32, (ah as u32 * (seen.count & 0xff)) & 0xff, 8, false),
        _ => return None,
    };
    let wide = if subtract { a.wrapping_sub(b) } else { a + b };
    let sign = 1 << (bits - 1);
    let value = wide & (2 * sign - 1);
    let overflow = if subtract { (a ^ b) & (a ^ value) } else { !(a ^ b) & (a ^ value) };
    let flags = [
        overflow & sign != 0,
        value & sign != 0,
        value == 0,
        (a ^ b ^ value) & 0x10 != 0,
        (value as u8).count_ones().is_multiple_of(2),
        wide >> bits & 1 != 0,
    ];
    Some(flags.iter().zip(FLAGS).fold(0, |all, (&set, (_, flag))| all | if set { flag } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mnemonic: Mnemonic, ax: u16, before: u32, count: u32) -> Seen {
        Seen { mnemonic, before, behind: 0, bits: 8, dest: 0x81, result: 0x40, source: 0, count, ax }
    }

    #[test]
    fn adjustments_are_additions_and_subtractions() {
        let flag = |seen: &Seen, name: &str| {
            let n = FLAGS.iter().position(|(known, _)| *known == name).unwrap();
            Rule::Adjustment.says(seen, n).unwrap()
        };
        // 7Ah + 6 = 80h overflows; 80h - 66h = 1Ah, too
        assert!(flag(&seen(Mnemonic::Daa, 0x7a, 0, 0), "OF"));
        assert!(flag(&seen(Mnemonic::Das, 0x80, 0x11, 0), "OF"));
        assert!(!flag(&seen(Mnemonic::Das, 0x50, 0, 0), "OF"));
        // FFFFh + 106h = 0105h with a carry; AAD: 5 + 10 * 25 = FFh
        assert!(flag(&seen(Mnemonic::Aaa, 0xffff, 0, 0), "CF"));
        assert!(flag(&seen(Mnemonic::Aad, 0x1905, 0, 10), "SF"));
        assert!(!flag(&seen(Mnemonic::Aad, 0x1905, 0, 10), "CF"));
    }

    #[test]
    fn circumstances_follow_from_counts() {
        let (af, cf) = (FLAGS[3].1, FLAGS[5].1);
        assert_eq!(seen(Mnemonic::Shl, 0, 0, 33).when(af), When::CountOne);
        assert_eq!(seen(Mnemonic::Shl, 0, 0, 7).when(af), When::CountMore);
        assert_eq!(seen(Mnemonic::Shl, 0, 0, 8).when(af | cf), When::CountBeyond);
        assert_eq!(last_out(&seen(Mnemonic::Shl, 0, 0, 8)), Some(true));
        assert_eq!(last_out(&seen(Mnemonic::Shl, 0, 0, 9)), Some(false));
        assert_eq!(last_out(&seen(Mnemonic::Shr, 0, 0, 8)), Some(true));
    }
}
