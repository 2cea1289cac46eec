//! Control registers: MOV to and from CRn, LMSW, SMSW, CLTS (SDM 3A "Control Registers"), and what loading them does to
//! the PDPTE registers and the TLB (SDM 3A "PDPTE Registers", "Operations that Invalidate TLBs and Paging-Structure
//! Caches").

use super::{require_cpl0, require_umip};
use crate::bus::Bus;
use crate::control::*;
use crate::cpu::Cpu;
use crate::execute::Form;
use crate::fault::{Exec, Fault};
use crate::mmu::Intent;
use crate::mmu::tlb::FlushCause;
use crate::model::Features;
use crate::observe::{Control, Observer};
use crate::op::Op;
use crate::width::Width;

const GP: Fault = Fault::GeneralProtection(0);

/// MOV r32, CRn (SDM 2B "MOV - Move to/from Control Registers").
pub fn mov_from_cr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_exists(cpu, op.reg)?;
    require_cpl0(cpu)?;

    let value = match op.reg {
        0 => cpu.cr0,
        2 => cpu.cr2,
        3 => cpu.cr3,
        _ => cpu.cr4,
    };

    cpu.regs.set_dword(op.rm, value);
    Ok(())
}

/// MOV CRn, r32.
pub fn mov_to_cr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_exists(cpu, op.reg)?;
    require_cpl0(cpu)?;
    let value = cpu.regs.dword(op.rm);
    match op.reg {
        0 => cpu.load_cr0(value),
        2 => {
            let old = std::mem::replace(&mut cpu.cr2, value);
            cpu.show_control(Control::Cr { number: 2, old, new: value });
            Ok(())
        }
        3 => cpu.load_cr3(value, FlushCause::MovCr3),
        _ => cpu.load_cr4(value),
    }
}

/// CR1, CR5 and above are #UD, and CR4 where the model has none.
fn require_exists<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, number: u8) -> Exec {
    let exists = match number {
        0 | 2 | 3 => true,
        4 => cpu.model.cr4_mask() != 0,
        _ => false,
    };
    cpu.ensure(exists, Fault::InvalidOpcode)
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Loads CR0: #GP(0) for paging without protection, not-write-through without cache-disable, and bad PDPTEs.
    pub fn load_cr0(&mut self, value: u32) -> Exec {
        let mut new = value & self.model.cr0_mask();
        if self.model.has(Features::I486) {
            new |= CR0_ET;
        }
        self.ensure(new & CR0_PG == 0 || new & CR0_PE != 0, GP)?;
        self.ensure(new & CR0_NW == 0 || new & CR0_CD != 0, GP)?;
        let old = self.cr0;
        let reload = (old ^ new) & (CR0_PG | CR0_CD | CR0_NW) != 0;
        let pdptes = self.pdptes_after(new, self.cr4, self.cr3, reload)?;

        self.cr0 = new;
        self.pdptes = pdptes;
        self.show_control(Control::Cr { number: 0, old, new });
        self.update_context();
        self.forget_front();
        if old & CR0_PG != 0 && new & CR0_PG == 0 {
            self.flush_tlb_all(FlushCause::MovCr0);
        }
        Ok(())
    }

    /// Loads CR3, as MOV CR3 does, and a task switch that changes its value: #GP(0) for bad PDPTEs, else every TLB entry but the global ones goes.
    /// Bits that mean nothing are kept as written.
    pub fn load_cr3(&mut self, value: u32, cause: FlushCause) -> Exec {
        let new = if self.model.has(Features::I486) { value } else { value & !0xfff };
        let pdptes = self.pdptes_after(self.cr0, self.cr4, new, true)?;

        let old = std::mem::replace(&mut self.cr3, new);
        self.pdptes = pdptes;
        self.show_control(Control::Cr { number: 3, old, new });
        self.update_context();
        self.flush_tlb_non_global(cause);
        Ok(())
    }

    /// Loads CR4: #GP(0) for reserved bits and bad PDPTEs.
    pub fn load_cr4(&mut self, new: u32) -> Exec {
        self.ensure(new & !self.model.cr4_mask() == 0, GP)?;
        let old = self.cr4;
        let changed = old ^ new;
        let reload = changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) != 0;
        let pdptes = self.pdptes_after(self.cr0, new, self.cr3, reload)?;

        self.cr4 = new;
        self.pdptes = pdptes;
        self.show_control(Control::Cr { number: 4, old, new });
        self.update_context();
        self.forget_front();
        // Manual: PGE and PAE, SMEP from 0 to 1; and since the Pentium 4 PSE (SDM 3A "Invalidating the Translation
        // Lookaside Buffers (TLBs)")
        if changed & (CR4_PGE | CR4_PAE | CR4_PSE) != 0 || changed & new & CR4_SMEP != 0 {
            self.flush_tlb_all(FlushCause::MovCr4);
        }
        Ok(())
    }

    /// What the PDPTE registers will hold under these control registers: what memory holds if PAE paging is in use and
    /// `reload` asks for it (#GP(0) if one of them is present with reserved bits), else what they hold now.
    pub(crate) fn pdptes_after(&mut self, cr0: u32, cr4: u32, cr3: u32, reload: bool) -> Exec<[u64; 4]> {
        if cr0 & CR0_PG == 0 || cr4 & CR4_PAE == 0 || !reload {
            return Ok(self.pdptes);
        }
        let pdptes = self.read_pdptes(cr3);
        let bad = pdptes.iter().any(|&pdpte| self.paging.pdpte_is_bad(pdpte));
        self.ensure(!bad, GP)?;
        Ok(pdptes)
    }
}

/// SMSW: the low word of CR0 to memory or a 16-bit register, all of it to a 32-bit register.
pub fn smsw<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_umip(cpu)?;
    let dest = M::locate::<B, O, W>(cpu, op, Intent::Write)?;

    M::set(cpu, dest, W::from_u32(cpu.cr0));
    Ok(())
}

/// LMSW: the low four bits of CR0; PE can be set but not cleared.
pub fn lmsw<B: Bus, O: Observer, M: Form>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    const LOW: u32 = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    require_cpl0(cpu)?;
    let source = M::locate::<B, O, u16>(cpu, op, Intent::Read)?;

    let value = M::get(cpu, source) as u32 & LOW;
    let kept = cpu.cr0 & (!LOW | CR0_PE);
    cpu.load_cr0(kept | value)
}

/// CLTS.
pub fn clts<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_cpl0(cpu)?;

    let old = cpu.cr0;
    let new = old & !CR0_TS;
    cpu.cr0 = new;
    if old != new {
        cpu.show_control(Control::Cr { number: 0, old, new });
        cpu.leave_block();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::mmu::walk::{A, D, G, P, U, W};
    use crate::model::{I386, I486, MAX, P4, P6, PENTIUM};
    use crate::regs::EAX;

    const MOV_CR0_EAX: [u8; 3] = [0x0f, 0x22, 0xc0];
    const MOV_CR3_EAX: [u8; 3] = [0x0f, 0x22, 0xd8];
    const MOV_CR4_EAX: [u8; 3] = [0x0f, 0x22, 0xe0];

    fn mov(cpu: &mut TestCpu, bytes: &[u8], value: u32) -> Result<(), Fault> {
        cpu.regs.set_dword(EAX, value);
        run(cpu, bytes)
    }

    #[test]
    fn cr0_refuses_the_combinations_the_manual_names_and_ignores_reserved_bits() {
        let mut cpu = cpu_of(MAX);
        assert_eq!(mov(&mut cpu, &MOV_CR0_EAX, CR0_PG), Err(GP));
        assert_eq!(mov(&mut cpu, &MOV_CR0_EAX, CR0_PE | CR0_NW), Err(GP));
        assert_eq!(mov(&mut cpu, &MOV_CR0_EAX, CR0_PE | CR0_NW | CR0_CD), Ok(()));
        assert_eq!(mov(&mut cpu, &MOV_CR0_EAX, 0x1ffa_ffc1), Ok(()));
        assert_eq!(cpu.cr0, CR0_PE | CR0_ET);
        let mut old = cpu_of(I386);
        assert_eq!(mov(&mut old, &MOV_CR0_EAX, CR0_PE | CR0_NW | CR0_WP), Ok(()));
        assert_eq!(old.cr0, CR0_PE);
    }

    #[test]
    fn reserved_bits_of_cr4_are_gp_by_model() {
        // SDM 3A "Control Registers": bits by feature
        let masks = [(PENTIUM, 0x05f), (P6, 0x7ff), (P4, 0x7ff), (MAX, 0x30_0fff)];
        for (model, mask) in masks {
            for bit in 0..32 {
                let mut cpu = cpu_of(model);
                let expected = if mask >> bit & 1 != 0 { Ok(()) } else { Err(GP) };
                assert_eq!(mov(&mut cpu, &MOV_CR4_EAX, 1 << bit), expected, "{} bit {bit}", model.name);
            }
        }
        assert_eq!(mov(&mut cpu_of(I486), &MOV_CR4_EAX, 0), Err(Fault::InvalidOpcode));
    }

    #[test]
    fn lmsw_sets_pe_but_cannot_clear_it_and_touches_four_bits() {
        const LMSW_AX: [u8; 3] = [0x0f, 0x01, 0xf0];
        let mut cpu = cpu_of(I486);
        cpu.cr0 = CR0_ET | CR0_NE;
        assert_eq!(mov(&mut cpu, &LMSW_AX, 0xfffb), Ok(()));
        assert_eq!(cpu.cr0, CR0_ET | CR0_NE | CR0_PE | CR0_MP | CR0_TS);
        assert_eq!(mov(&mut cpu, &LMSW_AX, 0), Ok(()));
        assert_eq!(cpu.cr0, CR0_ET | CR0_NE | CR0_PE);
    }

    #[test]
    fn smsw_stores_a_word_to_memory_and_all_of_cr0_to_a_32_bit_register() {
        let mut cpu = cpu_of(MAX);
        cpu.cr0 |= CR0_CD;
        cpu.regs.set_dword(EAX, 0xffff_ffff);
        run(&mut cpu, &[0x66, 0x0f, 0x01, 0xe0]).unwrap();
        assert_eq!(cpu.regs.dword(EAX), 0xffff_0011);
        run(&mut cpu, &[0x0f, 0x01, 0xe0]).unwrap();
        assert_eq!(cpu.regs.dword(EAX), 0x4000_0011);
        cpu.bus.ram_mut().write(0x2000, &[0xff; 4]);
        run(&mut cpu, &[0x0f, 0x01, 0x25, 0x00, 0x20, 0, 0]).unwrap();
        assert_eq!(cpu.bus.ram().slice(0x2000, 4), &[0x11, 0x00, 0xff, 0xff]);
    }

    #[test]
    fn pdptes_are_checked_and_loaded_when_pae_paging_comes_into_use_and_with_cr3() {
        let mut cpu = cpu_of(P6);
        let put = |cpu: &mut TestCpu, n: usize, value: u64| {
            cpu.bus.ram_mut().write(0x2020 + n * 8, &value.to_le_bytes());
        };
        put(&mut cpu, 0, 0x3000 | P);
        put(&mut cpu, 3, 0xf_ffff_f000 | P);
        put(&mut cpu, 2, !P); // not present: reserved bits are of no account
        cpu.cr3 = 0x203f; // the low five bits are ignored
        assert_eq!(mov(&mut cpu, &MOV_CR4_EAX, CR4_PAE), Ok(()));
        assert_eq!(cpu.pdptes, [0; 4], "paging is off");
        assert_eq!(mov(&mut cpu, &MOV_CR0_EAX, CR0_PE | CR0_PG), Ok(()));
        assert_eq!(cpu.pdptes, [0x3001, 0, !P, 0xf_ffff_f001]);
        // SDM 3A table "Format of a PAE Page-Directory-Pointer-Table Entry": bits 1, 2, 5 to 8 and beyond the width
        for bit in 1..64u64 {
            put(&mut cpu, 1, P | 1 << bit);
            let reserved = matches!(bit, 1 | 2 | 5..=8 | 36..);
            let expected = if reserved { Err(GP) } else { Ok(()) };
            cpu.pdptes = [7; 4];
            assert_eq!(mov(&mut cpu, &MOV_CR3_EAX, 0x2020), expected, "bit {bit}");
            assert_eq!(cpu.pdptes[1], if reserved { 7 } else { P | 1 << bit });
        }
    }

    #[test]
    fn only_the_manuals_changes_reload_the_pdptes() {
        let mut cpu = cpu_of(MAX);
        cpu.cr3 = 0x2000;
        cpu.cr4 = CR4_PAE;
        cpu.cr0 |= CR0_PG | CR0_CD;
        cpu.update_context();
        cpu.bus.ram_mut().write(0x2000, &(0x3000 | P).to_le_bytes());
        let reload_cr0 = |change: u32, cpu: &TestCpu| {
            let mut cpu = cpu.clone();
            let value = cpu.cr0 ^ change;
            mov(&mut cpu, &MOV_CR0_EAX, value).unwrap();
            cpu.pdptes[0] != 0
        };
        assert!(reload_cr0(CR0_CD, &cpu) && reload_cr0(CR0_NW, &cpu));
        assert!(!reload_cr0(CR0_WP, &cpu) && !reload_cr0(CR0_TS, &cpu) && !reload_cr0(0, &cpu));
        let reload_cr4 = |change: u32, cpu: &TestCpu| {
            let mut cpu = cpu.clone();
            let value = cpu.cr4 ^ change;
            mov(&mut cpu, &MOV_CR4_EAX, value).unwrap();
            cpu.pdptes[0] != 0
        };
        for bit in [CR4_PGE, CR4_PSE, CR4_SMEP] {
            assert!(reload_cr4(bit, &cpu), "{bit:#x}");
        }
        for bit in [CR4_SMAP, CR4_TSD, CR4_VME, CR4_PAE] {
            assert!(!reload_cr4(bit, &cpu), "{bit:#x}");
        }
    }

    /// Two-level paging on; a page and a global page, both in the TLB.
    fn paged() -> TestCpu {
        let mut cpu = cpu_of(MAX);
        let put = |cpu: &mut TestCpu, at: usize, value: u64| {
            cpu.bus.ram_mut().write(at, &(value as u32).to_le_bytes());
        };
        put(&mut cpu, 0x2000, 0x3000 | P | W | U | A);
        put(&mut cpu, 0x3000 + 5 * 4, 0x5000 | P | W | A | D);
        put(&mut cpu, 0x3000 + 6 * 4, 0x6000 | P | W | A | D | G);
        cpu.cr3 = 0x2000;
        cpu.cr4 = CR4_PGE;
        cpu.cr0 |= CR0_PG | CR0_WP;
        cpu.update_context();
        for linear in [0x5000, 0x6000] {
            cpu.translate::<u32>(3, linear, Intent::Read).unwrap();
        }
        cpu
    }

    /// Which of the two are still there.
    fn kept(cpu: &TestCpu) -> (bool, bool) {
        let has = |linear| cpu.tlb.lookup(crate::mmu::walk::Kind::Read, linear).is_some();
        (has(0x5000), has(0x6000))
    }

    #[test]
    fn the_tlb_loses_what_the_manual_says_and_no_more() {
        let on = CR0_PE | CR0_PG | CR0_WP;
        let cases: [(&[u8], u32, (bool, bool)); 14] = [
            (&MOV_CR0_EAX, on, (true, true)),
            (&MOV_CR0_EAX, on & !CR0_WP, (true, true)),
            (&MOV_CR0_EAX, on | CR0_TS | CR0_CD, (true, true)),
            (&MOV_CR0_EAX, CR0_PE, (false, false)),
            (&MOV_CR0_EAX, 0, (false, false)),
            (&MOV_CR3_EAX, 0x2000, (false, true)),
            (&MOV_CR3_EAX, 0x4018, (false, true)),
            (&MOV_CR4_EAX, CR4_PGE, (true, true)),
            (&MOV_CR4_EAX, 0, (false, false)),
            (&MOV_CR4_EAX, CR4_PGE | CR4_PSE, (false, false)),
            (&MOV_CR4_EAX, CR4_PGE | CR4_PAE, (false, false)),
            (&MOV_CR4_EAX, CR4_PGE | CR4_SMEP, (false, false)),
            (&MOV_CR4_EAX, CR4_PGE | CR4_SMAP | CR4_VME | CR4_TSD | CR4_DE, (true, true)),
            (&[0x0f, 0x01, 0x38], 0x6fff, (true, false)), // invlpg [eax] drops global pages too
        ];
        for (bytes, value, expected) in cases {
            let mut cpu = paged();
            cpu.cr3 = 0x4000; // no PDPTE is present there
            assert_eq!(mov(&mut cpu, bytes, value), Ok(()));
            assert_eq!(kept(&cpu), expected, "{bytes:x?} {value:#x}");
        }
        let mut cpu = paged();
        mov(&mut cpu, &MOV_CR4_EAX, CR4_PGE | CR4_SMEP).unwrap();
        cpu.translate::<u32>(3, 0x5000, Intent::Read).unwrap();
        mov(&mut cpu, &MOV_CR4_EAX, CR4_PGE).unwrap();
        assert_eq!(kept(&cpu), (true, false), "SMEP from 1 to 0 drops nothing");
    }

    #[test]
    fn cr3_keeps_what_was_written() {
        let mut cpu = cpu_of(MAX);
        mov(&mut cpu, &MOV_CR3_EAX, 0x1234_5fff).unwrap();
        run(&mut cpu, &[0x0f, 0x20, 0xd9]).unwrap();
        assert_eq!(cpu.regs.dword(crate::regs::ECX), 0x1234_5fff);
    }
}
