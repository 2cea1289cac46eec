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
    let value = next_random(&mut cpu.random);

    W::from_u32((value >> 32) as u32).set_reg(&mut cpu.regs, op.rm);
    cpu.flags.set_arithmetic(flags::CF);
    Ok(())
}

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators").
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
