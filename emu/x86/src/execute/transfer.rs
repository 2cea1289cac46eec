//! Moves, exchanges, conversions, conditional moves and sets, flag bits (SDM 1 "Data Transfer Instructions", "Flag
//! Control (EFLAG) Instructions", "Miscellaneous Instructions").

use iced_x86::{Code, ConditionCode, Mnemonic};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::{Form, Mem, Reg, Shape, by_condition, by_form, undefined};
use crate::fault::Exec;
use crate::flags::{self, Condition};
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::{EAX, EBX, ECX, EDX};
use crate::width::Width;

/// AH among the byte registers.
const AH: u8 = 4;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    moves(shape).or_else(|| exchanges(shape)).or_else(|| conditional(shape)).or_else(|| rest(shape))
}

/// MOV, MOVZX, MOVSX, MOVBE, LEA, XLAT. The forms with a memory offset are loads and stores of register 0.
fn moves<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Mov_rm8_r8 | Code::Mov_moffs8_AL => by_form!(shape, mov_rm_r, u8),
        Code::Mov_rm16_r16 | Code::Mov_moffs16_AX => by_form!(shape, mov_rm_r, u16),
        Code::Mov_rm32_r32 | Code::Mov_moffs32_EAX => by_form!(shape, mov_rm_r, u32),
        Code::Mov_r8_rm8 | Code::Mov_AL_moffs8 => by_form!(shape, mov_r_rm, u8),
        Code::Mov_r16_rm16 | Code::Mov_AX_moffs16 => by_form!(shape, mov_r_rm, u16),
        Code::Mov_r32_rm32 | Code::Mov_EAX_moffs32 => by_form!(shape, mov_r_rm, u32),
        Code::Mov_r8_imm8 => mov_r_imm::<B, O, u8>,
        Code::Mov_r16_imm16 => mov_r_imm::<B, O, u16>,
        Code::Mov_r32_imm32 => mov_r_imm::<B, O, u32>,
        Code::Mov_rm8_imm8 => by_form!(shape, mov_rm_imm, u8),
        Code::Mov_rm16_imm16 => by_form!(shape, mov_rm_imm, u16),
        Code::Mov_rm32_imm32 => by_form!(shape, mov_rm_imm, u32),
        Code::Movzx_r16_rm8 => by_form!(shape, movzx, u16, u8),
        Code::Movzx_r32_rm8 => by_form!(shape, movzx, u32, u8),
        Code::Movzx_r16_rm16 => by_form!(shape, movzx, u16, u16),
        Code::Movzx_r32_rm16 => by_form!(shape, movzx, u32, u16),
        Code::Movsx_r16_rm8 => by_form!(shape, movsx, u16, u8),
        Code::Movsx_r32_rm8 => by_form!(shape, movsx, u32, u8),
        Code::Movsx_r16_rm16 => by_form!(shape, movsx, u16, u16),
        Code::Movsx_r32_rm16 => by_form!(shape, movsx, u32, u16),
        Code::Movbe_r16_m16 => movbe_r_m::<B, O, u16>,
        Code::Movbe_r32_m32 => movbe_r_m::<B, O, u32>,
        Code::Movbe_m16_r16 => movbe_m_r::<B, O, u16>,
        Code::Movbe_m32_r32 => movbe_m_r::<B, O, u32>,
        Code::Lea_r16_m => lea::<B, O, u16>,
        Code::Lea_r32_m => lea::<B, O, u32>,
        Code::Xlat_m8 => xlat,
        _ => return None,
    })
}

/// XCHG, XADD, CMPXCHG, CMPXCHG8B.
fn exchanges<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Xchg_rm8_r8 => by_form!(shape, xchg, u8),
        Code::Xchg_rm16_r16 => by_form!(shape, xchg, u16),
        Code::Xchg_rm32_r32 => by_form!(shape, xchg, u32),
        // the accumulator is register 0 of the r/m slot
        Code::Xchg_r16_AX => xchg::<B, O, Reg, u16>,
        Code::Xchg_r32_EAX => xchg::<B, O, Reg, u32>,
        Code::Xadd_rm8_r8 => by_form!(shape, xadd, u8),
        Code::Xadd_rm16_r16 => by_form!(shape, xadd, u16),
        Code::Xadd_rm32_r32 => by_form!(shape, xadd, u32),
        Code::Cmpxchg_rm8_r8 => by_form!(shape, cmpxchg, u8),
        Code::Cmpxchg_rm16_r16 => by_form!(shape, cmpxchg, u16),
        Code::Cmpxchg_rm32_r32 => by_form!(shape, cmpxchg, u32),
        Code::Cmpxchg8b_m64 => cmpxchg8b,
        _ => return None,
    })
}

/// CMOVcc and SETcc.
fn conditional<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    use Mnemonic::*;
    let condition = condition(shape.code)?;
    let wide = shape.code.op_code().operand_size() == 32;
    Some(match shape.code.mnemonic() {
        Cmovo | Cmovno | Cmovb | Cmovae | Cmove | Cmovne | Cmovbe | Cmova | Cmovs | Cmovns | Cmovp
        | Cmovnp | Cmovl | Cmovge | Cmovle | Cmovg => match (shape.memory, wide) {
            (false, false) => by_condition!(condition, cmov, Reg, u16),
            (false, true) => by_condition!(condition, cmov, Reg, u32),
            (true, false) => by_condition!(condition, cmov, Mem, u16),
            (true, true) => by_condition!(condition, cmov, Mem, u32),
        },
        Seto | Setno | Setb | Setae | Sete | Setne | Setbe | Seta | Sets | Setns | Setp | Setnp | Setl
        | Setge | Setle | Setg => {
            if shape.memory {
                by_condition!(condition, set, Mem)
            } else {
                by_condition!(condition, set, Reg)
            }
        }
        _ => return None,
    })
}

/// The condition of Jcc, SETcc or CMOVcc, by its encoding.
pub fn condition(code: Code) -> Option<u8> {
    (code.condition_code() != ConditionCode::None).then(|| code.condition_code() as u8 - 1)
}

/// Conversions, flags, NOPs, RDRAND and what is #UD by design.
fn rest<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Bswap_r16 => bswap_r16,
        Code::Bswap_r32 => bswap_r32,
        Code::Cbw => cbw,
        Code::Cwde => cwde,
        Code::Cwd => cwd,
        Code::Cdq => cdq,
        Code::Lahf => lahf,
        Code::Sahf => sahf,
        Code::Clc => clc,
        Code::Stc => stc,
        Code::Cmc => cmc,
        Code::Cld => cld,
        Code::Std => std,
        Code::Salc => salc,
        Code::Nopw | Code::Nopd | Code::Nop_rm16 | Code::Nop_rm32 | Code::Pause => nop,
        Code::Rdrand_r16 | Code::Rdseed_r16 => random::<B, O, u16>,
        Code::Rdrand_r32 | Code::Rdseed_r32 => random::<B, O, u32>,
        Code::Ud0
        | Code::Ud0_r16_rm16
        | Code::Ud0_r32_rm32
        | Code::Ud1_r16_rm16
        | Code::Ud1_r32_rm32
        | Code::Ud2 => undefined,
        _ => return None,
    })
}

/// MOV r/m, r.
fn mov_rm_r<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = M::locate::<B, O, W>(cpu, op, Intent::Write)?;

    let value = W::get_reg(&cpu.regs, op.reg);

    M::set(cpu, dest, value);
    Ok(())
}

/// MOV r, r/m.
fn mov_r_rm<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = M::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let value = M::get(cpu, source);

    value.set_reg(&mut cpu.regs, op.reg);
    Ok(())
}

/// MOV r, imm.
fn mov_r_imm<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    W::from_u32(op.imm).set_reg(&mut cpu.regs, op.reg);
    Ok(())
}

/// MOV r/m, imm.
fn mov_rm_imm<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = M::locate::<B, O, W>(cpu, op, Intent::Write)?;

    M::set(cpu, dest, W::from_u32(op.imm));
    Ok(())
}

/// MOVZX from `S` to `D`.
fn movzx<B: Bus, O: Observer, M: Form, D: Width, S: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = M::locate::<B, O, S>(cpu, op, Intent::Read)?;

    let value = D::from_u32(M::get(cpu, source).to_u32());

    value.set_reg(&mut cpu.regs, op.reg);
    Ok(())
}

/// MOVSX from `S` to `D`.
fn movsx<B: Bus, O: Observer, M: Form, D: Width, S: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = M::locate::<B, O, S>(cpu, op, Intent::Read)?;

    let value = D::from_u32(M::get(cpu, source).sign_extend());

    value.set_reg(&mut cpu.regs, op.reg);
    Ok(())
}

/// The bytes in the opposite order.
fn swapped<W: Width>(value: W) -> W {
    W::from_u32(value.to_u32().swap_bytes() >> (32 - W::BITS))
}

/// MOVBE r, m.
fn movbe_r_m<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = Mem::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let value = swapped(cpu.load(source));

    value.set_reg(&mut cpu.regs, op.reg);
    Ok(())
}

/// MOVBE m, r.
fn movbe_m_r<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = Mem::locate::<B, O, W>(cpu, op, Intent::Write)?;

    let value = swapped(W::get_reg(&cpu.regs, op.reg));

    cpu.store(dest, value);
    Ok(())
}

/// LEA: the offset, truncated or zero-extended from the address size to the operand size.
fn lea<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let offset = W::from_u32(cpu.effective_address(op));

    offset.set_reg(&mut cpu.regs, op.reg);
    Ok(())
}

/// XLAT: the byte at (E)BX + AL.
fn xlat<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let al = cpu.regs.byte(EAX) as u32;
    let offset = cpu.regs.dword(EBX).wrapping_add(al) & op.address_mask;
    let source = cpu.translate::<u8>(op.segment as usize, offset, Intent::Read)?;

    let value = cpu.load(source);

    cpu.regs.set_byte(EAX, value);
    Ok(())
}

/// XCHG r/m, r.
fn xchg<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = M::locate::<B, O, W>(cpu, op, Intent::ReadWrite)?;

    let (old, new) = (M::get(cpu, dest), W::get_reg(&cpu.regs, op.reg));

    M::set(cpu, dest, new);
    old.set_reg(&mut cpu.regs, op.reg);
    Ok(())
}

/// XADD r/m, r: the source gets the old destination, the destination the sum.
fn xadd<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = M::locate::<B, O, W>(cpu, op, Intent::ReadWrite)?;

    let old = M::get(cpu, dest);
    let (a, b) = (old.to_u32(), W::get_reg(&cpu.regs, op.reg).to_u32());
    let sum = a.wrapping_add(b);
    let carry = a & b | (a | b) & !sum;

    old.set_reg(&mut cpu.regs, op.reg);
    M::set(cpu, dest, W::from_u32(sum));
    cpu.flags.set_result(W::from_u32(sum), W::from_u32(carry));
    Ok(())
}

/// CMPXCHG r/m, r: if the accumulator equals the destination, the source goes there; else the destination goes to the
/// accumulator and, unchanged, back to memory: it must be writable either way.
fn cmpxchg<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = M::locate::<B, O, W>(cpu, op, Intent::ReadWrite)?;

    let (accumulator, old) = (W::get_reg(&cpu.regs, EAX), M::get(cpu, dest));

    cpu.flags.set_compare(accumulator, old);
    if accumulator == old {
        let new = W::get_reg(&cpu.regs, op.reg);
        M::set(cpu, dest, new);
    } else {
        M::set(cpu, dest, old);
        old.set_reg(&mut cpu.regs, EAX);
    }
    Ok(())
}

/// CMPXCHG8B: the same for EDX:EAX and ECX:EBX; of the flags only ZF is written.
fn cmpxchg8b<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let offset = cpu.effective_address(op);
    let dest = cpu.translate::<u64>(op.segment as usize, offset, Intent::ReadWrite)?;

    let pair = |high: u8, low: u8| (cpu.regs.dword(high) as u64) << 32 | cpu.regs.dword(low) as u64;
    let (expected, new) = (pair(EDX, EAX), pair(ECX, EBX));
    let old = cpu.load(dest);

    let equal = old == expected;
    cpu.store(dest, if equal { new } else { old });
    if !equal {
        cpu.regs.set_dword(EAX, old as u32);
        cpu.regs.set_dword(EDX, (old >> 32) as u32);
    }
    cpu.flags.set_zf(equal);
    Ok(())
}

/// CMOVcc r, r/m: the source is read whatever the condition.
fn cmov<B: Bus, O: Observer, M: Form, W: Width, const C: u8>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = M::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let value = M::get(cpu, source);

    if cpu.flags.holds(Condition(C)) {
        value.set_reg(&mut cpu.regs, op.reg);
    }
    Ok(())
}

/// SETcc r/m8.
fn set<B: Bus, O: Observer, M: Form, const C: u8>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = M::locate::<B, O, u8>(cpu, op, Intent::Write)?;

    let value = cpu.flags.holds(Condition(C)) as u8;

    M::set(cpu, dest, value);
    Ok(())
}

/// BSWAP r16. Undocumented: the manual leaves the result undefined. Hardware: zero (AMD EPYC).
fn bswap_r16<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    cpu.regs.set_word(op.reg, 0);
    Ok(())
}

/// BSWAP r32.
fn bswap_r32<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let value = cpu.regs.dword(op.reg).swap_bytes();

    cpu.regs.set_dword(op.reg, value);
    Ok(())
}

/// CBW: AL to AX, with its sign.
fn cbw<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let value = cpu.regs.byte(EAX).sign_extend() as u16;

    cpu.regs.set_word(EAX, value);
    Ok(())
}

/// CWDE: AX to EAX.
fn cwde<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let value = cpu.regs.word(EAX).sign_extend();

    cpu.regs.set_dword(EAX, value);
    Ok(())
}

/// CWD: the sign of AX fills DX.
fn cwd<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let value = (cpu.regs.word(EAX) as i16 >> 15) as u16;

    cpu.regs.set_word(EDX, value);
    Ok(())
}

/// CDQ: the sign of EAX fills EDX.
fn cdq<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let value = (cpu.regs.dword(EAX) as i32 >> 31) as u32;

    cpu.regs.set_dword(EDX, value);
    Ok(())
}

/// LAHF: AH gets SF, ZF, AF, PF, CF and the constant bits between them.
fn lahf<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let value = cpu.flags.get() as u8;

    cpu.regs.set_byte(AH, value);
    Ok(())
}

/// SAHF: the same five flags from AH; OF stays.
fn sahf<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let value = cpu.regs.byte(AH) as u32;

    cpu.flags.set(value, flags::ARITHMETIC & 0xff);
    Ok(())
}

/// CLC.
fn clc<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    cpu.flags.set_cf(false);
    Ok(())
}

/// STC.
fn stc<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    cpu.flags.set_cf(true);
    Ok(())
}

/// CMC.
fn cmc<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let cf = cpu.flags.cf();

    cpu.flags.set_cf(!cf);
    Ok(())
}

/// CLD.
fn cld<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    cpu.flags.set(0, flags::DF);
    Ok(())
}

/// STD.
fn std<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    cpu.flags.set(flags::DF, flags::DF);
    Ok(())
}

/// SALC, opcode D6: AL gets FFh if CF is set, else 0. Undocumented: AMD and Intel opcode maps leave it out; every
/// processor has it.
fn salc<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let value = if cpu.flags.cf() { 0xff } else { 0 };

    cpu.regs.set_byte(EAX, value);
    Ok(())
}

/// NOP, NOP r/m (which accesses no memory), PAUSE.
fn nop<B: Bus, O: Observer>(_cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    Ok(())
}

/// RDRAND, RDSEED: the next number of the processor's own sequence, the same in every run; CF set, the other flags
/// cleared.
fn random<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let value = cpu.random.bits();

    W::from_u32((value >> 32) as u32).set_reg(&mut cpu.regs, op.rm);
    cpu.flags.set_arithmetic(flags::CF);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::system::testing::*;
    use crate::fault::Fault;
    use crate::flags::{AF, ALWAYS, ARITHMETIC, CF, DF, OF, PF, SF, ZF};
    use crate::model::MAX;
    use crate::regs::{EBP, ESP};
    use crate::segment::{CS, DS, Segment};

    const GP: Result<(), Fault> = Err(Fault::GeneralProtection(0));

    /// With the registers 11111111h (EAX), 22222222h (ECX) .. 88888888h (EDI) but EBX 2000h and ESP, and memory counting
    /// from 80h at 2000h.
    fn cpu() -> TestCpu {
        let mut cpu = cpu_of(MAX);
        for n in (0..8).filter(|&n| n != ESP) {
            cpu.regs.set_dword(n, 0x1111_1111 * (n as u32 + 1));
        }
        cpu.regs.set_dword(EBX, 0x2000);
        let bytes: Vec<u8> = (0x80..0xc0).collect();
        cpu.bus.ram_mut().write(0x2000, &bytes);
        cpu
    }

    fn dword(cpu: &TestCpu, at: usize) -> u32 {
        u32::from_le_bytes(cpu.bus.ram().slice(at, 4).try_into().unwrap())
    }

    #[test]
    fn moves_change_the_operand_size_and_nothing_else() {
        let cases: &[(&[u8], u8, u32)] = &[
            (&[0x8a, 0x03], EAX, 0x1111_1180),                    // mov al, [ebx]
            (&[0x8a, 0x23], EAX, 0x1111_8011),                    // mov ah, [ebx]
            (&[0x66, 0x8b, 0x0b], ECX, 0x2222_8180),              // mov cx, [ebx]
            (&[0x8b, 0x0b], ECX, 0x8382_8180),                    // mov ecx, [ebx]
            (&[0x8b, 0xca], ECX, 0x3333_3333),                    // mov ecx, edx
            (&[0xa0, 0x01, 0x20, 0, 0], EAX, 0x1111_1181),        // mov al, [2001h]
            (&[0x67, 0x66, 0xa1, 0x01, 0x20], EAX, 0x1111_8281),  // mov ax, [2001h]
            (&[0xa1, 0x04, 0x20, 0, 0], EAX, 0x8786_8584),        // mov eax, [2004h]
            (&[0xb5, 0x42], ECX, 0x2222_4222),                    // mov ch, 42h
            (&[0x66, 0xb9, 0x34, 0x12], ECX, 0x2222_1234),        // mov cx, 1234h
            (&[0xb9, 1, 2, 3, 4], ECX, 0x0403_0201),              // mov ecx, 04030201h
            (&[0xc7, 0xc1, 1, 2, 3, 4], ECX, 0x0403_0201),        // mov ecx, 04030201h
            (&[0x66, 0x0f, 0xb6, 0x0b], ECX, 0x2222_0080),        // movzx cx, byte [ebx]
            (&[0x0f, 0xb6, 0x0b], ECX, 0x0000_0080),              // movzx ecx, byte [ebx]
            (&[0x0f, 0xb7, 0x0b], ECX, 0x0000_8180),              // movzx ecx, word [ebx]
            (&[0x66, 0x0f, 0xbe, 0x0b], ECX, 0x2222_ff80),        // movsx cx, byte [ebx]
            (&[0x0f, 0xbe, 0xcf], ECX, 0x0000_0020),              // movsx ecx, bh
            (&[0x0f, 0xbf, 0x0b], ECX, 0xffff_8180),              // movsx ecx, word [ebx]
            (&[0x66, 0x0f, 0xbf, 0x0b], ECX, 0x2222_8180),        // movsx cx, word [ebx]
            (&[0x66, 0x0f, 0xb7, 0x0b], ECX, 0x2222_8180),        // movzx cx, word [ebx]
            (&[0x0f, 0x38, 0xf0, 0x0b], ECX, 0x8081_8283),        // movbe ecx, [ebx]
            (&[0x66, 0x0f, 0x38, 0xf0, 0x0b], ECX, 0x2222_8081),  // movbe cx, [ebx]
            (&[0x8d, 0x4c, 0xd3, 0x10], ECX, 0x9999_b998 + 0x10), // lea ecx, [ebx+edx*8+10h]
            (&[0x66, 0x8d, 0x4c, 0xd3, 0x10], ECX, 0x2222_b9a8),  // lea cx, the same
            (&[0x67, 0x8d, 0x4a, 0x10], ECX, 0x0000_6666 + 0x10), // lea ecx, [bp+si+10h]
            (&[0x0f, 0xc9], ECX, 0x2222_2222),                    // bswap ecx
            (&[0x66, 0x98], EAX, 0x1111_0011),                    // cbw
            (&[0x66, 0x99], EDX, 0x3333_0000),                    // cwd
            (&[0x99], EDX, 0),                                    // cdq
            (&[0xd7], EAX, 0x1111_1191),                          // xlat
        ];
        for (bytes, register, expected) in cases {
            let mut cpu = cpu();
            cpu.regs.set_dword(crate::regs::ESI, 0x6666_0000);
            let (flags, bus) = (cpu.flags.clone(), cpu.bus.clone());
            run(&mut cpu, bytes).unwrap();
            assert_eq!(cpu.regs.dword(*register), *expected, "{bytes:x?}");
            assert!(cpu.flags == flags && cpu.bus == bus, "{bytes:x?}");
        }
    }

    #[test]
    fn stores_change_as_many_bytes_as_they_should() {
        let cases: &[(&[u8], u32)] = &[
            (&[0x88, 0x2b], 0x8382_8122),                   // mov [ebx], ch
            (&[0x66, 0x89, 0x0b], 0x8382_2222),             // mov [ebx], cx
            (&[0x89, 0x0b], 0x2222_2222),                   // mov [ebx], ecx
            (&[0xa2, 0x00, 0x20, 0, 0], 0x8382_8111),       // mov [2000h], al
            (&[0x66, 0xa3, 0x00, 0x20, 0, 0], 0x8382_1111), // mov [2000h], ax
            (&[0xa3, 0x00, 0x20, 0, 0], 0x1111_1111),       // mov [2000h], eax
            (&[0xc6, 0x03, 0x42], 0x8382_8142),             // mov byte [ebx], 42h
            (&[0x66, 0xc7, 0x03, 0x34, 0x12], 0x8382_1234), // mov word [ebx], 1234h
            (&[0xc7, 0x03, 1, 2, 3, 4], 0x0403_0201),       // mov dword [ebx], 04030201h
            (&[0x0f, 0x38, 0xf1, 0x1b], 0x0020_0000),       // movbe [ebx], ebx
            (&[0x66, 0x0f, 0x38, 0xf1, 0x1b], 0x8382_0020), // movbe [ebx], bx
        ];
        for (bytes, expected) in cases {
            let mut cpu = cpu();
            let before = cpu.state.clone();
            run(&mut cpu, bytes).unwrap();
            assert_eq!(dword(&cpu, 0x2000), *expected, "{bytes:x?}");
            assert_eq!(dword(&cpu, 0x2004), 0x8786_8584);
            assert_eq!(cpu.state, before);
        }
    }

    #[test]
    fn exchanges_swap() {
        let mut cpu = cpu();
        run(&mut cpu, &[0x87, 0x0b]).unwrap(); // xchg [ebx], ecx
        assert_eq!((dword(&cpu, 0x2000), cpu.regs.dword(ECX)), (0x2222_2222, 0x8382_8180));
        run(&mut cpu, &[0x91]).unwrap(); // xchg ecx, eax
        assert_eq!((cpu.regs.dword(EAX), cpu.regs.dword(ECX)), (0x8382_8180, 0x1111_1111));
        run(&mut cpu, &[0x66, 0x95]).unwrap(); // xchg bp, ax
        assert_eq!((cpu.regs.dword(EAX), cpu.regs.dword(EBP)), (0x8382_6666, 0x6666_8180));
        run(&mut cpu, &[0x86, 0xe0]).unwrap(); // xchg al, ah
        assert_eq!(cpu.regs.dword(EAX), 0x8382_6666);
    }

    #[test]
    fn cmpxchg_and_xadd_of_bytes_agree_with_a_plain_definition() {
        for a in (0..=255u8).step_by(3) {
            for b in 0..=255u8 {
                let mut cpu = cpu();
                cpu.regs.set_dword(EAX, a as u32);
                cpu.bus.ram_mut().write(0x2000, &[b]);
                run(&mut cpu, &[0x0f, 0xb0, 0x0b]).unwrap(); // cmpxchg [ebx], cl
                let expected = if a == b { (a, 0x22) } else { (b, b) };
                assert_eq!((cpu.regs.byte(EAX), dword(&cpu, 0x2000) as u8), expected);
                assert_eq!(
                    (cpu.flags.zf(), cpu.flags.cf(), cpu.flags.af()),
                    (a == b, a < b, a & 15 < b & 15)
                );
                assert_eq!(cpu.flags.of(), (a as i8).checked_sub(b as i8).is_none());

                cpu.regs.set_dword(EAX, a as u32);
                cpu.bus.ram_mut().write(0x2000, &[b]);
                run(&mut cpu, &[0x0f, 0xc0, 0x03]).unwrap(); // xadd [ebx], al
                let (sum, carry) = a.overflowing_add(b);
                assert_eq!((cpu.regs.byte(EAX), dword(&cpu, 0x2000) as u8), (b, sum));
                assert_eq!((cpu.flags.zf(), cpu.flags.cf(), cpu.flags.sf()), (sum == 0, carry, sum > 127));
                assert_eq!(cpu.flags.of(), (a as i8).checked_add(b as i8).is_none());
                assert_eq!(
                    (cpu.flags.af(), cpu.flags.pf()),
                    ((a & 15) + (b & 15) > 15, sum.count_ones() % 2 == 0)
                );
            }
        }
        let mut cpu = cpu();
        run(&mut cpu, &[0x0f, 0xc1, 0xc0]).unwrap(); // xadd eax, eax
        assert_eq!(cpu.regs.dword(EAX), 0x2222_2222);
    }

    #[test]
    fn cmpxchg8b_swaps_pairs_and_writes_only_zf() {
        for equal in [true, false] {
            let mut cpu = cpu();
            cpu.flags.set(CF | PF | AF | SF | OF, ARITHMETIC);
            cpu.regs.set_dword(EAX, 0x8382_8180);
            cpu.regs.set_dword(EDX, 0x8786_8584 ^ !equal as u32);
            run(&mut cpu, &[0x0f, 0xc7, 0x0b]).unwrap();
            assert_eq!(cpu.flags.get(), CF | PF | AF | SF | OF | ALWAYS | if equal { ZF } else { 0 });
            let memory = (dword(&cpu, 0x2000), dword(&cpu, 0x2004));
            assert_eq!(memory, if equal { (0x2000, 0x2222_2222) } else { (0x8382_8180, 0x8786_8584) });
            assert_eq!((cpu.regs.dword(EAX), cpu.regs.dword(EDX)), (0x8382_8180, 0x8786_8584));
        }
    }

    #[test]
    fn what_may_be_written_must_be_writable_even_if_nothing_changes() {
        // cmpxchg [ebx], ecx with EAX unequal; cmpxchg8b [ebx]; xadd; xchg
        let writes: [&[u8]; 4] =
            [&[0x0f, 0xb1, 0x0b], &[0x0f, 0xc7, 0x0b], &[0x0f, 0xc1, 0x0b], &[0x87, 0x0b]];
        for bytes in writes {
            let mut cpu = cpu();
            cpu.segs[DS] = Segment::new(0x10, 0, 0xffff, 0x4091);
            let before = cpu.state.clone();
            assert_eq!(run(&mut cpu, bytes), GP, "{bytes:x?}");
            assert_eq!(cpu.state, before);
        }
    }

    #[test]
    fn cmov_reads_memory_whatever_the_condition_and_long_nops_never() {
        for (bytes, expected) in [
            (&[0x0f, 0x44, 0x0d, 0, 0, 2, 0][..], GP), // cmovz ecx, [20000h]
            (&[0x0f, 0x45, 0x0d, 0, 0, 2, 0], GP),
            (&[0x0f, 0x1f, 0x05, 0, 0, 2, 0], Ok(())), // nop [20000h]
            (&[0x90], Ok(())),
            (&[0xf3, 0x90], Ok(())), // pause
        ] {
            let mut cpu = cpu();
            cpu.segs[DS] = Segment::new(0x10, 0, 0xffff, 0x4093);
            let before = cpu.state.clone();
            assert_eq!(run(&mut cpu, bytes), expected, "{bytes:x?}");
            assert_eq!(cpu.state, before);
        }
    }

    #[test]
    fn xlat_adds_al_within_the_address_size_and_takes_an_override() {
        let mut cpu = cpu();
        cpu.regs.set_dword(EBX, 0xffff_fff0);
        cpu.regs.set_dword(EAX, 0xffff_ff20);
        cpu.bus.ram_mut().write(0x10, &[0x77]);
        run(&mut cpu, &[0x67, 0xd7]).unwrap();
        assert_eq!(cpu.regs.dword(EAX), 0xffff_ff77);
        cpu.regs.set_byte(EAX, 0x20);
        cpu.segs[CS].base = 0x1ff2;
        run(&mut cpu, &[0x2e, 0xd7]).unwrap();
        assert_eq!(cpu.regs.byte(EAX), 0x82);
    }

    /// Hardware: AMD EPYC.
    #[test]
    fn bswap_of_a_word_register_clears_it() {
        let mut cpu = cpu();
        cpu.regs.set_dword(EAX, 0x1234_5678);
        run(&mut cpu, &[0x66, 0x0f, 0xc8]).unwrap();
        assert_eq!(cpu.regs.dword(EAX), 0x1234_0000);
    }

    #[test]
    fn sign_extensions_of_negative_accumulators() {
        let mut cpu = cpu();
        cpu.regs.set_dword(EAX, 0x1234_0080);
        run(&mut cpu, &[0x66, 0x98]).unwrap(); // cbw
        assert_eq!(cpu.regs.dword(EAX), 0x1234_ff80);
        run(&mut cpu, &[0x66, 0x99]).unwrap(); // cwd
        assert_eq!(cpu.regs.dword(EDX), 0x3333_ffff);
        run(&mut cpu, &[0x98]).unwrap(); // cwde
        run(&mut cpu, &[0x99]).unwrap(); // cdq
        assert_eq!((cpu.regs.dword(EAX), cpu.regs.dword(EDX)), (0xffff_ff80, 0xffff_ffff));
    }

    #[test]
    fn lahf_sahf_and_the_single_flags() {
        let mut cpu = cpu();
        cpu.flags.set(OF, ARITHMETIC);
        cpu.regs.set_byte(AH, 0xff);
        run(&mut cpu, &[0x9e]).unwrap();
        assert_eq!(cpu.flags.get(), ARITHMETIC | ALWAYS);
        cpu.regs.set_byte(AH, 0);
        run(&mut cpu, &[0x9f]).unwrap();
        assert_eq!(cpu.regs.byte(AH), 0xd7);
        for (bytes, expected) in [
            (0xf8, ARITHMETIC & !CF),
            (0xf5, ARITHMETIC),
            (0xf5, ARITHMETIC & !CF),
            (0xf9, ARITHMETIC),
            (0xfd, ARITHMETIC | DF),
            (0xfc, ARITHMETIC),
        ] {
            run(&mut cpu, &[bytes]).unwrap();
            assert_eq!(cpu.flags.get(), expected | ALWAYS, "{bytes:#x}");
        }
        run(&mut cpu, &[0xd6]).unwrap(); // salc
        assert_eq!(cpu.regs.byte(EAX), 0xff);
        run(&mut cpu, &[0xf8]).unwrap();
        run(&mut cpu, &[0xd6]).unwrap();
        assert_eq!(cpu.regs.byte(EAX), 0);
    }

    #[test]
    fn random_numbers_are_the_same_in_every_run_and_set_carry_alone() {
        let (mut one, mut two) = (cpu(), cpu());
        let mut seen = Vec::new();
        for bytes in [&[0x0f, 0xc7, 0xf1][..], &[0x0f, 0xc7, 0xf9], &[0x66, 0x0f, 0xc7, 0xf1]] {
            for cpu in [&mut one, &mut two] {
                cpu.flags.set(ARITHMETIC, ARITHMETIC);
                run(cpu, bytes).unwrap();
                assert_eq!(cpu.flags.get(), CF | ALWAYS);
            }
            assert_eq!(one.state, two.state);
            seen.push(one.regs.dword(ECX));
        }
        assert!(seen[0] != seen[1] && seen[2] >> 16 == seen[1] >> 16 && seen[2] != seen[1]);
    }

    #[test]
    fn ud_is_undefined_on_purpose() {
        let cases: [&[u8]; 3] = [&[0x0f, 0x0b], &[0x0f, 0xb9, 0x03], &[0x0f, 0xff, 0x03]];
        for bytes in cases {
            assert_eq!(run(&mut cpu(), bytes), Err(Fault::InvalidOpcode), "{bytes:x?}");
        }
    }
}
