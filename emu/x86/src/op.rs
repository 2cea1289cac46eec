//! A lowered instruction: its handler and everything the handler needs, resolved once.

use crate::cpu::Cpu;
use crate::fault::Exec;
use crate::regs::ZERO;
use crate::segment::DS;

/// An instruction body.
pub type Handler<B, O> = fn(&mut Cpu<B, O>, &Op<B, O>) -> Exec;

/// A repeat prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rep {
    /// None.
    #[default]
    None,
    /// F3: REP, REPE.
    Rep,
    /// F2: REPNE.
    Repne,
}

/// A lowered instruction.
///
/// Where operands go: the r/m operand, if a register, in `rm`, if memory, in `base`.. `segment`; the register field (or
/// the register in the opcode) in `reg`; a VEX second source in `reg2`; accumulators and CL that the opcode implies
/// are nowhere (`rm` is then 0, which is also their number). A near branch has its displacement from the next
/// instruction in `imm`; a far one its offset in `imm` and its selector in `imm2`; immediates are sign-extended as the
/// manual has it.
pub struct Op<B, O> {
    /// The body.
    pub run: Handler<B, O>,
    /// Immediate or displacement of a branch.
    pub imm: u32,
    /// Displacement of the memory operand.
    pub disp: u32,
    /// Mask of the address size: 0xffff or 0xffff_ffff.
    pub address_mask: u32,
    /// Second immediate, a far branch's selector, or what x87 notes of an opcode.
    pub imm2: u16,
    /// iced-x86's `Code`, as a number.
    pub code: u16,
    /// Offset of the first byte from the block's first byte.
    pub start: u16,
    /// Length in bytes.
    pub len: u8,
    /// Base register of the memory operand, or [`ZERO`].
    pub base: u8,
    /// Index register, or [`ZERO`].
    pub index: u8,
    /// Log2 of the index's scale.
    pub scale: u8,
    /// Segment register of the memory operand (by encoding), overrides applied.
    pub segment: u8,
    /// Register number of the r/m operand.
    pub rm: u8,
    /// Register number of the reg operand, segment, control or debug registers too.
    pub reg: u8,
    /// Register number of the VEX.vvvv operand.
    pub reg2: u8,
    /// Repeat prefix.
    pub rep: Rep,
    /// The body sets EIP itself, in every case.
    pub jumps: bool,
    /// The operand size is 16 bits (for bodies whose operands do not tell, such as far transfers).
    pub operand16: bool,
}

impl<B, O> Op<B, O> {
    /// An op without operands.
    pub fn new(run: Handler<B, O>, code: u16) -> Op<B, O> {
        Op {
            run,
            imm: 0,
            disp: 0,
            address_mask: 0xffff_ffff,
            imm2: 0,
            code,
            start: 0,
            len: 0,
            base: ZERO,
            index: ZERO,
            scale: 0,
            segment: DS as u8,
            rm: 0,
            reg: 0,
            reg2: 0,
            rep: Rep::None,
            jumps: false,
            operand16: false,
        }
    }

    /// iced-x86's name of the opcode.
    pub fn code(&self) -> iced_x86::Code {
        iced_x86::Code::try_from(self.code as usize).unwrap_or(iced_x86::Code::INVALID)
    }
}

impl<B, O> Clone for Op<B, O> {
    fn clone(&self) -> Op<B, O> {
        Op { ..*self }
    }
}

impl<B, O> std::fmt::Debug for Op<B, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Op({:?} at +{:#x})", self.code(), self.start)
    }
}

impl<B, O> Cpu<B, O> {
    /// EIP of the instruction.
    #[inline(always)]
    pub fn ip(&self, op: &Op<B, O>) -> u32 {
        self.block_eip.wrapping_add(op.start as u32)
    }

    /// EIP of the instruction after it.
    #[inline(always)]
    pub fn next_ip(&self, op: &Op<B, O>) -> u32 {
        self.ip(op).wrapping_add(op.len as u32)
    }

    /// The offset of the memory operand in its segment (the effective address).
    #[inline(always)]
    pub fn effective_address(&self, op: &Op<B, O>) -> u32 {
        let base = self.state.regs.dword(op.base);
        let index = self.state.regs.dword(op.index) << op.scale;
        base.wrapping_add(index).wrapping_add(op.disp) & op.address_mask
    }
}
