//! DAA, DAS, AAA, AAS, AAM, AAD (SDM 1 "Decimal Arithmetic Instructions").
//!
//! The flags that the manual leaves undefined are those of the addition, subtraction or product at hand, as silicon of AMD
//! family 1Ah has them.

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::execute::arithmetic::{add, subtract};
use crate::fault::{Exec, Fault};
use crate::flags::{AF, CF, Flags};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::EAX;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Daa => daa,
        Code::Das => das,
        Code::Aaa => aaa,
        Code::Aas => aas,
        Code::Aam_imm8 => aam,
        Code::Aad_imm8 => aad,
        _ => return None,
    })
}

/// What DAA and DAS add or take away, and whether for the low digit.
fn packed_adjustment(al: u8, flags: &Flags) -> (u8, bool) {
    let low = al & 15 > 9 || flags.af();
    let high = al > 0x99 || flags.cf();
    (6 * low as u8 + 0x60 * high as u8, low)
}

/// DAA: AL after the addition of two packed decimals.
fn daa<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _: &Op<B, O>) -> Exec {
    let al = cpu.regs.byte(EAX);
    let (adjustment, low) = packed_adjustment(al, &cpu.flags);
    let (value, carry) = add(al, adjustment, false);

    cpu.regs.set_byte(EAX, value);
    cpu.flags.set_result(value, carry);
    cpu.flags.set(if low { AF } else { 0 } | if adjustment >= 0x60 { CF } else { 0 }, AF | CF);
    Ok(())
}

/// DAS: AL after the subtraction of two packed decimals.
fn das<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _: &Op<B, O>) -> Exec {
    let al = cpu.regs.byte(EAX);
    let (adjustment, low) = packed_adjustment(al, &cpu.flags);
    let (value, carry) = subtract(al, adjustment, false);
    // the borrow of the low digit alone counts too
    let cf = adjustment >= 0x60 || (low && al < 6);

    cpu.regs.set_byte(EAX, value);
    cpu.flags.set_result(value, carry);
    cpu.flags.set(if low { AF } else { 0 } | if cf { CF } else { 0 }, AF | CF);
    Ok(())
}

/// AAA: AX after the addition of two unpacked decimals. Manual: AX takes the carry of AL, on all but the 8086.
fn aaa<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _: &Op<B, O>) -> Exec {
    let adjust = unpacked_adjustment(cpu);
    let (value, carry) = add(cpu.regs.word(EAX), if adjust { 0x106 } else { 0 }, false);

    commit_unpacked(cpu, value, carry, adjust);
    Ok(())
}

/// AAS: AX after the subtraction of two unpacked decimals.
fn aas<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _: &Op<B, O>) -> Exec {
    let adjust = unpacked_adjustment(cpu);
    let (value, carry) = subtract(cpu.regs.word(EAX), if adjust { 0x106 } else { 0 }, false);

    commit_unpacked(cpu, value, carry, adjust);
    Ok(())
}

fn unpacked_adjustment<B: Bus, O: Observer>(cpu: &Cpu<B, O>) -> bool {
    cpu.regs.byte(EAX) & 15 > 9 || cpu.flags.af()
}

fn commit_unpacked<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, value: u16, carry: u16, adjusted: bool) {
    cpu.regs.set_word(EAX, value & 0xff0f);
    cpu.flags.set_result(value, carry);
    cpu.flags.set(if adjusted { AF | CF } else { 0 }, AF | CF);
}

/// AAM: AH := AL / imm, AL := AL mod imm; #DE for zero.
fn aam<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let al = cpu.regs.byte(EAX);
    let base = op.imm as u8;
    cpu.ensure(base != 0, Fault::DivideError)?;

    let value = al % base;

    cpu.regs.set_word(EAX, u16::from_le_bytes([value, al / base]));
    cpu.flags.set_logic(value);
    Ok(())
}

/// AAD: AL := AL + AH * imm, AH := 0.
fn aad<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let [al, ah] = cpu.regs.word(EAX).to_le_bytes();
    let (value, carry) = add(al, ah.wrapping_mul(op.imm as u8), false);

    cpu.regs.set_word(EAX, value as u16);
    cpu.flags.set_result(value, carry);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::bus::Bus;
    use crate::fault::Stop;
    use crate::flat::{Start, processor};
    use crate::regs::{EAX, EBX};

    fn decimal(packed: u8) -> u32 {
        (packed >> 4) as u32 * 10 + (packed & 15) as u32
    }

    fn packed(value: u32) -> u8 {
        (value / 10 % 10 * 16 + value % 10) as u8
    }

    #[test]
    fn packed_decimals_add_and_subtract() {
        // add al, bl; daa; and sub al, bl; das
        for code in [[0x00, 0xd8, 0x27], [0x28, 0xd8, 0x2f]] {
            for (a, b) in (0..100).flat_map(|a| (0..100).map(move |b| (a, b))).step_by(7) {
                let mut processor = processor(Start::Flat32, &code, 0x1000, 0x2000);
                processor.cpu.regs.set_dword(EAX, packed(a) as u32);
                processor.cpu.regs.set_dword(EBX, packed(b) as u32);
                assert_eq!(processor.run(2), Stop::Limit);
                let sum = code[2] == 0x27;
                let expected = if sum { (a + b) % 100 } else { (100 + a - b) % 100 };
                assert_eq!(decimal(processor.cpu.regs.byte(EAX)), expected, "{a} {b} sum {sum}");
                assert_eq!(processor.cpu.flags.cf(), if sum { a + b > 99 } else { a < b });
            }
        }
    }

    #[test]
    fn aam_by_zero_is_a_divide_error() {
        let mut processor = processor(Start::Real, &[0xd4, 0x00], 0x1000, 0x10000);
        processor.cpu.bus.ram_mut().write(0, &[0x00, 0x20, 0, 0]);
        processor.run(1);
        assert_eq!(processor.cpu.deliveries[0], 1);
    }
}
