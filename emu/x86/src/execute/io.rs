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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::CR4_DE;
    use crate::execute::system::testing::*;
    use crate::flags;
    use crate::model::MAX;
    use crate::segment::Segment;

    const GP: Result<(), Fault> = Err(Fault::GeneralProtection(0));
    const TSS: usize = 0x2000;

    /// At CPL 3 with IOPL 0 and a TSS whose map stands at 68h, `map` bytes long and followed by FFh.
    fn guarded(map: &[u8]) -> TestCpu {
        let mut cpu = cpu_of(MAX);
        cpu.tr = Segment::new(0x18, TSS as u32, 0x68 + map.len() as u32, 0x8b);
        cpu.bus.ram_mut().write(TSS + 0x66, &0x68u16.to_le_bytes());
        cpu.bus.ram_mut().write(TSS + 0x68, map);
        cpu.bus.ram_mut().write(TSS + 0x68 + map.len(), &[0xff]);
        cpu.set_cpl(3);
        cpu
    }

    fn at_port(cpu: &mut TestCpu, bytes: &[u8], port: u16) -> Result<(), Fault> {
        cpu.regs.set_dword(EDX, 0xabcd_0000 | port as u32);
        run(cpu, bytes)
    }

    #[test]
    fn in_and_out_move_the_operand_size_through_either_kind_of_port() {
        let mut cpu = cpu_of(MAX);
        cpu.bus.input = 0x1234_5678;
        for (bytes, eax) in [
            (&[0xe4, 0x80][..], 0xaaaa_aa78),
            (&[0x66, 0xed], 0xaaaa_5678),
            (&[0xe5, 0x80], 0x1234_5678),
            (&[0xec], 0xaaaa_aa78),
        ] {
            cpu.regs.set_dword(EAX, 0xaaaa_aaaa);
            run(&mut cpu, bytes).unwrap();
            assert_eq!(cpu.regs.dword(EAX), eax);
        }
        cpu.regs.set_dword(EAX, 0x1234_5678);
        at_port(&mut cpu, &[0xee], 0x3f8).unwrap();
        run(&mut cpu, &[0x66, 0xe7, 0xf4]).unwrap();
        at_port(&mut cpu, &[0xef], 0xcf8).unwrap();
        let expected =
            [(0x3f8, Size::Byte, 0x78), (0xf4, Size::Word, 0x5678), (0xcf8, Size::Dword, 0x1234_5678)];
        assert_eq!(cpu.bus.outputs, expected);
    }

    #[test]
    fn iopl_lets_through_and_the_bitmap_decides_else() {
        for cpl in 0..=3 {
            for iopl in 0..=3 {
                let mut cpu = guarded(&[0xff; 32]);
                cpu.flags.set(iopl << 12, flags::IOPL);
                cpu.set_cpl(cpl);
                let expected = if cpl as u32 <= iopl { Ok(()) } else { GP };
                assert_eq!(at_port(&mut cpu, &[0xec], 0x10), expected);
            }
        }
        // in virtual-8086 mode IOPL does not count
        let mut cpu = vm86_of(MAX, 3);
        cpu.tr = guarded(&[]).tr;
        assert_eq!(run(&mut cpu, &[0xec]), GP);
    }

    #[test]
    fn every_bit_of_the_access_must_be_clear() {
        for bit in 0..16u16 {
            let mut cpu = guarded(&(1u16 << bit).to_le_bytes());
            for (bytes, count) in [(&[0xec][..], 1), (&[0x66, 0xed], 2), (&[0xed], 4)] {
                for port in 0..8u16 {
                    let expected = if (port..port + count).contains(&bit) { GP } else { Ok(()) };
                    assert_eq!(at_port(&mut cpu, bytes, port), expected, "{port} {count} {bit}");
                    let out: Vec<u8> = bytes.iter().map(|b| b | if *b == 0x66 { 0 } else { 2 }).collect();
                    assert_eq!(at_port(&mut cpu, &out, port), expected);
                }
            }
        }
    }

    #[test]
    fn both_bytes_of_the_map_must_lie_within_the_limit() {
        let mut cpu = guarded(&[0; 4]);
        assert_eq!(at_port(&mut cpu, &[0xec], 31), Ok(()));
        assert_eq!(at_port(&mut cpu, &[0xec], 32), GP, "only the byte after the map is left");
        cpu.tr = Segment::new(0x18, TSS as u32, 0x6b, 0x8b);
        assert_eq!(at_port(&mut cpu, &[0xec], 24), GP, "the second byte is outside");
        assert_eq!(at_port(&mut cpu, &[0xec], 23), Ok(()));
        cpu.tr = Segment::new(0x18, TSS as u32, 0x66, 0x8b);
        assert_eq!(at_port(&mut cpu, &[0xec], 0), GP, "no room for the map's offset");
        cpu.tr = Segment::new(0x18, TSS as u32, 0xffff, 0x83);
        assert_eq!(at_port(&mut cpu, &[0xec], 0), GP, "a 16-bit TSS has no map");
    }

    #[test]
    fn io_breakpoints_trap_with_cr4_de_only() {
        // DR1 on I/O, two bytes at 3F8h
        for (de, port, expected) in
            [(CR4_DE, 0x3f8, 2), (CR4_DE, 0x3f9, 2), (CR4_DE, 0x3fa, 0), (CR4_DE, 0x3f7, 0), (0, 0x3f8, 0)]
        {
            let mut cpu = cpu_of(MAX);
            cpu.cr4 = de;
            cpu.dr[1] = 0x3f8;
            cpu.dr[7] |= 1 << 2 | 6 << 20;
            cpu.update_context();
            at_port(&mut cpu, &[0xec], port).unwrap();
            assert_eq!(cpu.debug_trap, expected, "{port:#x}");
            if port == 0x3f7 {
                at_port(&mut cpu, &[0x66, 0xed], port).unwrap();
                assert_eq!(cpu.debug_trap, 2, "the second byte counts too");
            }
        }
    }
}
