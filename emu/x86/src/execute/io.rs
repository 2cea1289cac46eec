//! IN and OUT, and who may use which port (SDM 1 "Input/Output").

use iced_x86::Code;

use crate::bus::{Bus, Phys, Size};
use crate::control::CR4_DE;
use crate::cpu::{Cpu, Mode};
use crate::execute::Shape;
use crate::fault::{Exec, Fault};
use crate::mmu::{Watch, breakpoints};
use crate::observe::{Asker, Io, Observer};
use crate::op::{Handler, Op};
use crate::regs::{EAX, EDX};
use crate::width::Width;

/// Where a 32-bit TSS holds the offset of its I/O permission bitmap.
const IO_MAP_BASE: u32 = 0x66;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::In_AL_imm8 => input::<B, O, Immediate, u8>,
        Code::In_AX_imm8 => input::<B, O, Immediate, u16>,
        Code::In_EAX_imm8 => input::<B, O, Immediate, u32>,
        Code::In_AL_DX => input::<B, O, Dx, u8>,
        Code::In_AX_DX => input::<B, O, Dx, u16>,
        Code::In_EAX_DX => input::<B, O, Dx, u32>,
        Code::Out_imm8_AL => output::<B, O, Immediate, u8>,
        Code::Out_imm8_AX => output::<B, O, Immediate, u16>,
        Code::Out_imm8_EAX => output::<B, O, Immediate, u32>,
        Code::Out_DX_AL => output::<B, O, Dx, u8>,
        Code::Out_DX_AX => output::<B, O, Dx, u16>,
        Code::Out_DX_EAX => output::<B, O, Dx, u32>,
        _ => return None,
    })
}

/// Where the port's number comes from.
trait PortOperand {
    fn port<B: Bus, O: Observer>(cpu: &Cpu<B, O>, op: &Op<B, O>) -> u16;
}

/// The immediate byte.
struct Immediate;
/// DX.
struct Dx;

impl PortOperand for Immediate {
    fn port<B: Bus, O: Observer>(_cpu: &Cpu<B, O>, op: &Op<B, O>) -> u16 {
        op.imm as u8 as u16
    }
}

impl PortOperand for Dx {
    fn port<B: Bus, O: Observer>(cpu: &Cpu<B, O>, _op: &Op<B, O>) -> u16 {
        cpu.regs.word(EDX)
    }
}

/// IN.
fn input<B: Bus, O: Observer, P: PortOperand, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let port = P::port(cpu, op);
    cpu.require_port::<W>(port)?;

    let value: W = cpu.read_port(port);

    value.set_reg(&mut cpu.regs, EAX);
    Ok(())
}

/// OUT.
fn output<B: Bus, O: Observer, P: PortOperand, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let port = P::port(cpu, op);
    cpu.require_port::<W>(port)?;

    let value = W::get_reg(&cpu.regs, EAX);

    cpu.write_port(port, value);
    Ok(())
}

fn size<W: Width>() -> Size {
    match W::BYTES {
        1 => Size::Byte,
        2 => Size::Word,
        _ => Size::Dword,
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// May the program use the ports that `W` at `port` covers? With CPL above IOPL, and always in virtual-8086 mode, the
    /// TSS decides (SDM 1 "I/O Permission Bit Map"); else #GP(0).
    pub(super) fn require_port<W: Width>(&mut self, port: u16) -> Exec {
        match self.mode() {
            Mode::Real => Ok(()),
            Mode::Protected if self.cpl <= self.flags.iopl() => Ok(()),
            _ => self.require_port_of_tss(port, W::BYTES),
        }
    }

    #[inline(never)]
    fn require_port_of_tss(&mut self, port: u16, bytes: u32) -> Exec {
        const GP: Fault = Fault::GeneralProtection(0);
        let tss = self.tr;
        // only a 32-bit TSS has a map
        self.ensure(tss.usable && matches!(tss.kind(), 9 | 0xb), GP)?;
        // the map's offset lies within the limit
        self.ensure(tss.limit > IO_MAP_BASE, GP)?;
        let map: u16 = self.system_read(tss.base.wrapping_add(IO_MAP_BASE), Asker::Bitmap)?;
        // two bytes are read for every access, so the last byte of a map is followed by one more within the limit
        let offset = map as u32 + (port >> 3) as u32;
        self.ensure(offset < tss.limit, GP)?;
        let bits: u16 = self.system_read(tss.base.wrapping_add(offset), Asker::Bitmap)?;
        // a set bit forbids its port
        let asked = ((1 << bytes) - 1) << (port & 7);
        self.ensure(bits & asked == 0, GP)
    }

    /// Reads a port; the checks are done.
    pub(super) fn read_port<W: Width>(&mut self, port: u16) -> W {
        let now = self.now();
        let value = W::from_u32(self.bus.port_read(port, size::<W>(), now));
        self.port_accessed(port, value, false);
        value
    }

    /// Writes a port; the checks are done.
    pub(super) fn write_port<W: Width>(&mut self, port: u16, value: W) {
        let now = self.now();
        self.bus.port_write(port, size::<W>(), value.to_u32(), now);
        self.port_accessed(port, value, true);
    }

    fn port_accessed<W: Width>(&mut self, port: u16, value: W, write: bool) {
        self.after_io(Io { port: Some(port), at: Phys(0), size: size::<W>(), value: value.to_u32(), write });
        if self.cr4 & CR4_DE != 0 {
            self.match_io_breakpoints(port as u32, W::BYTES);
        }
    }

    /// Notes the I/O breakpoints that an access meets; the trap comes after the instruction (SDM 3B "Debug Exception
    /// (#DB)", I/O breakpoint).
    fn match_io_breakpoints(&mut self, port: u32, bytes: u32) {
        let last = port + bytes - 1;
        let dr = self.dr;
        for b in breakpoints(&dr) {
            if b.watch == Watch::Io && b.address <= last && b.address.wrapping_add(b.len - 1) >= port {
                self.debug_trap |= 1 << b.number;
            }
        }
    }
}
