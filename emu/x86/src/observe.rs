//! What an onlooker can be told. The observer is a type parameter of the processor: with `()` every call compiles to
//! nothing.

use crate::bus::{Phys, Size};
use crate::cpu::State;
use crate::fault::Fault;
use crate::mmu::tlb::{Entry, FlushCause, Slot};
use crate::mmu::walk::{Access, Leaf, Level};

/// Where the processor stands when something happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct At {
    /// Instructions retired so far.
    pub retired: u64,
    /// Selector in CS.
    pub cs: u16,
    /// EIP of the current instruction.
    pub eip: u32,
    /// Current privilege level.
    pub cpl: u8,
}

/// On whose behalf a linear address is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// The program's own operand or stack access: segment register (by encoding) and offset.
    Program {
        /// Segment register number.
        segment: u8,
        /// Offset in it.
        offset: u32,
    },
    /// An instruction fetch at this EIP.
    Fetch {
        /// Offset in CS.
        eip: u32,
    },
    /// A push on, or a copy to or from, a stack that is not (yet) in SS.
    Stack {
        /// Offset in the stack segment.
        offset: u32,
    },
    /// A descriptor in the GDT or LDT.
    Descriptor {
        /// The selector that names it.
        selector: u16,
    },
    /// A gate in the IDT, or a real-mode vector.
    Gate {
        /// The vector.
        vector: u8,
    },
    /// A task-state segment.
    Tss,
    /// The I/O permission bitmap or the interrupt redirection bitmap of the TSS.
    Bitmap,
}

/// One entry used by a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which level.
    pub level: Level,
    /// Where it stands; `None` for a PDPTE register.
    pub at: Option<Phys>,
    /// Its value as read.
    pub value: u64,
    /// Accessed and dirty bits that the walk set in it.
    pub set: u64,
}

/// How a translation went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome<'a> {
    /// Paging is off.
    Unpaged,
    /// The TLB had it.
    Hit {
        /// The slot.
        slot: Slot,
        /// What stands in it.
        entry: &'a Entry,
    },
    /// The tables were walked and the TLB filled.
    Walk {
        /// The entries used.
        steps: &'a [Step],
        /// The page found.
        leaf: &'a Leaf,
        /// The slot filled.
        slot: Slot,
        /// What had to give way.
        evicted: Option<&'a Entry>,
        /// The entry was there, but a first write had to set the dirty bit.
        for_dirty: bool,
    },
    /// A page fault.
    Fault {
        /// The entries used; empty when the TLB's rights forbade it.
        steps: &'a [Step],
        /// The cached entry that forbade it.
        cached: Option<&'a Entry>,
        /// The error code.
        code: u16,
    },
}

/// One translation of one page's part of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation<'a> {
    /// For whom.
    pub asker: Asker,
    /// Read, write or fetch, and with what privilege.
    pub access: Access,
    /// The linear address.
    pub linear: u32,
    /// How many bytes of the access lie in this page.
    pub bytes: u32,
    /// The physical address, unless it faulted.
    pub phys: Option<Phys>,
    /// How it went.
    pub outcome: Outcome<'a>,
}

/// What led to a delivery through the IDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A fault of the instruction.
    Fault(Fault),
    /// #DB as a trap: single step, data or I/O breakpoint, task switch.
    DebugTrap,
    /// INT n.
    Software(u8),
    /// INT3.
    Breakpoint,
    /// INTO.
    Overflow,
    /// INT1.
    Icebp,
    /// The INTR line, with the vector acknowledged.
    External(u8),
    /// The NMI line.
    Nmi,
}

impl Cause {
    /// The vector delivered.
    pub fn vector(self) -> u8 {
        match self {
            Cause::Fault(fault) => fault.vector(),
            Cause::DebugTrap | Cause::Icebp => 1,
            Cause::Nmi => 2,
            Cause::Breakpoint => 3,
            Cause::Overflow => 4,
            Cause::Software(vector) | Cause::External(vector) => vector,
        }
    }
}

/// A change to the state that governs the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// CR0, CR2, CR3 or CR4 by number.
    Cr {
        /// Register number.
        number: u8,
        /// Before.
        old: u32,
        /// After.
        new: u32,
    },
    /// A debug register.
    Dr {
        /// Register number.
        number: u8,
        /// After.
        new: u32,
    },
    /// LGDT, LIDT.
    Table {
        /// `"gdtr"` or `"idtr"`.
        name: &'static str,
        /// Linear base.
        base: u32,
        /// Limit.
        limit: u16,
    },
    /// LLDT, LTR, task switch.
    System {
        /// `"ldtr"` or `"tr"`.
        name: &'static str,
        /// The selector loaded.
        selector: u16,
    },
    /// WRMSR.
    Msr {
        /// MSR number.
        number: u32,
        /// After.
        new: u64,
    },
    /// TLB entries dropped.
    Flush {
        /// Why.
        cause: FlushCause,
        /// The page, for INVLPG and page faults.
        linear: Option<u32>,
    },
    /// A hardware task switch.
    TaskSwitch {
        /// Old TR.
        from: u16,
        /// New TR.
        to: u16,
    },
}

/// A port or memory-mapped access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Io {
    /// The port, or `None` for memory-mapped.
    pub port: Option<u16>,
    /// The physical address when memory-mapped.
    pub at: Phys,
    /// How much.
    pub size: Size,
    /// Value written or read.
    pub value: u32,
    /// Whether it was a write.
    pub write: bool,
}

/// An onlooker. Every method has an empty default; none can change the machine.
pub trait Observer {
    /// Whether any call is made at all; `false` compiles them away.
    const ACTIVE: bool;
    /// Whether every translation is to be shown; while so, none goes by the front table.
    fn wants_translations(&self) -> bool {
        false
    }
    /// Whether every store to memory is to be shown.
    fn wants_stores(&self) -> bool {
        false
    }
    /// Whether the run should stop: asked before an instruction that was just shown, and between blocks.
    fn wants_stop(&self) -> bool {
        false
    }
    /// An instruction is about to run: its bytes as decoded, and whether the code is 32-bit.
    fn instruction(&mut self, _at: &At, _bytes: &[u8], _is_32bit: bool) {}
    /// A linear address was translated, or not.
    fn translation(&mut self, _at: &At, _translation: &Translation<'_>) {}
    /// An exception or interrupt is about to be delivered; `state` is what it found.
    fn delivery(&mut self, _at: &At, _cause: Cause, _state: &State) {}
    /// A control register, table register, MSR or the TLB changed.
    fn control(&mut self, _at: &At, _change: Control) {}
    /// A port or memory-mapped register was accessed.
    fn io(&mut self, _at: &At, _io: Io) {}
    /// Memory was written (asked for by [`Observer::wants_stores`]); accessed and dirty updates included.
    fn store(&mut self, _at: &At, _phys: Phys, _bytes: u32, _value: u64) {}
}

impl Observer for () {
    const ACTIVE: bool = false;
}
