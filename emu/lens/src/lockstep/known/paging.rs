//! Page walks, page faults and the TLB.

use iced_x86::{InstructionInfoFactory, OpAccess};
use pagewalk_x86::control::{CR0_PG, CR4_PAE, CR4_SMAP};
use pagewalk_x86::fault::Fault;
use pagewalk_x86::flags;
use pagewalk_x86::mmu::walk::PagingMode;
use pagewalk_x86::observe::Cause;

use super::{Follow, Known, Scene, Test, fault_of, only};
use crate::picture;

/// P, W and RSVD in a page fault's error code.
const P: u16 = 1;
const W: u16 = 2;
const RSVD: u16 = 8;
/// U/S and I/D.
const USER: u16 = 4;
const FETCH: u16 = 16;
/// The most that the delivery of an event pushes without a switch of stacks.
const FRAME: u32 = 16;

/// The list.
pub const LIST: &[Known] = &[
    Known {
        name: "reserved-bit-without-p",
        section: "3A \"Page-Fault Exceptions\"",
        manual: "a reserved bit in an entry that is present is reported with P and RSVD",
        qemu: "reports RSVD with P clear",
        tests: &[Test::Raises(|_, ours, theirs| {
            let Fault::Page { code, .. } = fault_of(ours)? else { return None };
            (theirs.vector == 14 && code & RSVD != 0 && code & P != 0 && code & !P & !W == theirs.code & !W)
                .then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "read-modify-write-reads-first",
        section: "3A \"Page-Fault Exceptions\"",
        manual: "W/R tells that the access was a write; a read-modify-write asks for both rights at once",
        qemu: "reads first, so that a read-modify-write of a page that may not even be read lacks W",
        tests: &[Test::Raises(|scene, ours, theirs| {
            let Fault::Page { code, .. } = fault_of(ours)? else { return None };
            (theirs.vector == 14 && theirs.code == code & !W && modifies_memory(scene))
                .then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "large-page-reserved-bits",
        section: "3A \"Reserved Bits\", 32-bit paging",
        manual: "bits above the physical-address width in the entry of a 4-MByte page are reserved",
        qemu: "does not check them",
        tests: &[Test::Passes(|scene, cause| {
            let Fault::Page { code, address } = fault_of(Some(cause))? else { return None };
            let look = picture::look(scene.ours, address);
            let large = look.mode == PagingMode::TwoLevel && look.steps.len() == 1;
            (large && code & RSVD != 0).then_some(Follow::TakeAll)
        })],
    },
    Known {
        name: "pdpte-registers",
        section: "3A \"PDPTE Registers\"",
        manual: "PDPTEs are checked and loaded when CR3, CR0 or CR4 are, and used from then on",
        qemu: "checks none then, and reads them from memory at every walk",
        tests: &[
            Test::Passes(|scene, cause| {
                let loads = scene.is(&[iced_x86::Mnemonic::Mov]) && writes_control_register(scene);
                let gp = cause == Cause::Fault(Fault::GeneralProtection(0));
                (loads && gp && pae(scene)).then_some(Follow::TakeRegisters)
            }),
            Test::Raises(|scene, ours, theirs| {
                (stale_pdptes(scene) && ours.is_none() && theirs.vector == 14)
                    .then_some(Follow::TakeException)
            }),
            Test::Registers(|scene, _, _| stale_pdptes(scene).then_some(Follow::TakeAll)),
            Test::Passes(|scene, cause| {
                let page = matches!(fault_of(Some(cause))?, Fault::Page { .. });
                (page && stale_pdptes(scene)).then_some(Follow::TakeAll)
            }),
        ],
    },
    Known {
        name: "pdpte-accessed-bit",
        section: "3A \"PAE Paging\", format of a PDPTE",
        manual: "a PDPTE has no accessed flag; its bit 5 is reserved",
        qemu: "sets bit 5 when it uses the entry",
        tests: &[Test::Registers(|scene, _, fields| {
            let table = scene.ours.cr3 as u64 & !31;
            let reads = super::segments::accesses(scene)
                .any(|linear| scene.ours.peek(linear).is_some_and(|phys| phys.0 & !31 == table));
            (pae(scene) && reads && only(fields, |field| field.ours ^ field.theirs == 0x20))
                .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "tlb-holds-others",
        section: "3A \"Caching Translation Information\"",
        manual: "a processor may keep using a cached translation until it is invalidated, and may drop it at any time",
        qemu: "keeps more translations, and drops all of them when CR3, CR0 or CR4 are loaded, global ones too",
        tests: &[
            Test::Registers(|scene, _, _| uses_stale_entry(scene).then_some(Follow::TakeAll)),
            Test::Passes(|scene, cause| {
                let Fault::Page { address, code } = fault_of(Some(cause))? else { return None };
                (is_stale(scene, address) || is_spurious(scene, address, code)).then_some(Follow::TakeAll)
            }),
            Test::Raises(|scene, _, theirs| {
                (theirs.vector == 14 && is_stale(scene, scene.theirs.cr[2])).then_some(Follow::TakeException)
            }),
        ],
    },
    Known {
        name: "delivery-pushes-as-supervisor",
        section: "3A \"Access Rights\"",
        manual: "a push on the stack of a handler in ring 3 is a user-mode access",
        qemu: "pushes with supervisor rights, so that the error code of a page fault lacks U/S",
        tests: &[Test::Raises(|scene, ours, theirs| {
            let Fault::Page { code, address } = fault_of(ours)? else { return None };
            let top = scene.before.segs[2].base.wrapping_add(scene.before.regs[4]);
            let pushed = (1..=FRAME).contains(&top.wrapping_sub(address));
            (scene.before.cpl == 3 && pushed && theirs.vector == 14 && theirs.code == code & !USER)
                .then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "smap-implicit-access",
        section: "3A \"Access Rights\"",
        manual: "EFLAGS.AC does not excuse the processor's own accesses to tables in user pages from SMAP",
        qemu: "lets AC excuse them",
        tests: &[Test::Passes(|scene, cause| {
            let Fault::Page { code, .. } = fault_of(Some(cause))? else { return None };
            let smap = scene.before.cr[4] & CR4_SMAP != 0 && scene.before.eflags & flags::AC != 0;
            (smap && code == P).then_some(Follow::TakeAll)
        })],
    },
];

fn pae(scene: &Scene<'_>) -> bool {
    (scene.before.cr[4] | scene.theirs.cr[4]) & CR4_PAE != 0
}

fn writes_control_register(scene: &Scene<'_>) -> bool {
    scene.instruction.op0_register().is_cr()
}

/// Whether the instruction reads and writes one and the same place in memory.
fn modifies_memory(scene: &Scene<'_>) -> bool {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(scene.instruction);
    info.used_memory()
        .iter()
        .any(|memory| matches!(memory.access(), OpAccess::ReadWrite | OpAccess::ReadCondWrite))
}

/// Whether the PDPTE registers are no longer what memory holds.
fn stale_pdptes(scene: &Scene<'_>) -> bool {
    let cpu = scene.ours;
    let table = cpu.cr3 as u64 & !31;
    let on = cpu.cr0 & CR0_PG != 0 && cpu.cr4 & CR4_PAE != 0;
    on && (0..4).any(|n| {
        let at = pagewalk_x86::bus::Phys(table + 8 * n as u64);
        picture::peek_phys(&cpu.bus, at, 8) != Some(cpu.pdptes[n])
    })
}

/// Whether an access of the instruction went by a translation that our TLB holds and the tables no longer say.
fn uses_stale_entry(scene: &Scene<'_>) -> bool {
    super::segments::accesses(scene).any(|linear| is_stale(scene, linear))
        || is_stale(scene, scene.before.segs[1].base.wrapping_add(scene.before.eip))
}

/// Whether the tables permit what a page fault refuses: its translation was in the TLB, which the fault itself has dropped.
fn is_spurious(scene: &Scene<'_>, linear: u32, code: u16) -> bool {
    let look = picture::look(scene.ours, linear);
    let kind = if code & FETCH != 0 { 2 } else { (code & W != 0) as usize };
    let permitted = if code & USER != 0 { look.user } else { look.supervisor };
    code & P != 0 && look.result.is_ok() && permitted[kind]
}

fn is_stale(scene: &Scene<'_>, linear: u32) -> bool {
    let look = picture::look(scene.ours, linear);
    look.cached.iter().any(|(_, _, same)| !same)
}
