//! Faults and stops: recorded where they are found, carried out by `?` as a zero-size token, delivered once by the
//! engine.

use crate::cpu::Cpu;
use serde::{Deserialize, Serialize};

/// An exception with what it pushes (SDM 3A "Exception and Interrupt Reference").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// #DE
    DivideError,
    /// #DB as a fault (instruction breakpoint, general detect); its causes are in DR6 already.
    Debug,
    /// #BR
    Bound,
    /// #UD
    InvalidOpcode,
    /// #NM
    DeviceNotAvailable,
    /// #DF, error code 0
    DoubleFault,
    /// #TS with a selector error code
    InvalidTss(u16),
    /// #NP with a selector error code
    NotPresent(u16),
    /// #SS with a selector error code or 0
    Stack(u16),
    /// #GP with a selector error code or 0
    GeneralProtection(u16),
    /// #PF: the linear address for CR2 and the error code
    Page {
        /// Goes to CR2.
        address: u32,
        /// P, W/R, U/S, RSVD, I/D.
        code: u16,
    },
    /// #MF
    FloatingPoint,
    /// #AC, error code 0
    Alignment,
    /// #XM
    Simd,
}

impl Fault {
    /// The vector.
    pub fn vector(self) -> u8 {
        match self {
            Fault::DivideError => 0,
            Fault::Debug => 1,
            Fault::Bound => 5,
            Fault::InvalidOpcode => 6,
            Fault::DeviceNotAvailable => 7,
            Fault::DoubleFault => 8,
            Fault::InvalidTss(_) => 10,
            Fault::NotPresent(_) => 11,
            Fault::Stack(_) => 12,
            Fault::GeneralProtection(_) => 13,
            Fault::Page { .. } => 14,
            Fault::FloatingPoint => 16,
            Fault::Alignment => 17,
            Fault::Simd => 19,
        }
    }

    /// The error code pushed, if the vector has one.
    pub fn error_code(self) -> Option<u16> {
        match self {
            Fault::InvalidTss(code)
            | Fault::NotPresent(code)
            | Fault::Stack(code)
            | Fault::GeneralProtection(code)
            | Fault::Page { code, .. } => Some(code),
            Fault::DoubleFault | Fault::Alignment => Some(0),
            _ => None,
        }
    }

    /// The manual's mnemonic, such as `#GP`.
    pub fn mnemonic(self) -> &'static str {
        vector_mnemonic(self.vector())
    }
}

/// The mnemonic of an exception vector, or `INT` for the others.
pub fn vector_mnemonic(vector: u8) -> &'static str {
    match vector {
        0 => "#DE",
        1 => "#DB",
        2 => "NMI",
        3 => "#BP",
        4 => "#OF",
        5 => "#BR",
        6 => "#UD",
        7 => "#NM",
        8 => "#DF",
        10 => "#TS",
        11 => "#NP",
        12 => "#SS",
        13 => "#GP",
        14 => "#PF",
        16 => "#MF",
        17 => "#AC",
        18 => "#MC",
        19 => "#XM",
        _ => "INT",
    }
}

/// Why the processor came back from running.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The instruction limit was reached.
    Limit,
    /// HLT, and nothing that could ever wake it.
    Halted,
    /// HLT, and time passes without anything waking it so far; run on to wait longer.
    Idle,
    /// A fault while delivering #DF: the shutdown cycle.
    Shutdown(Shutdown),
    /// An instruction that is decoded but has no body here.
    Unimplemented {
        /// iced-x86's name for the opcode.
        code: iced_x86::Code,
        /// Its bytes.
        bytes: Vec<u8>,
        /// CS selector and EIP.
        at: (u16, u32),
    },
    /// The board asked: power-off or debug exit.
    Request(crate::bus::Request),
    /// An observer asked.
    Observer,
}

/// The last frames of a triple fault: what was being delivered when what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Shutdown {
    /// The exception that started it.
    pub first: Option<Fault>,
    /// The exception met while delivering it (absent when the first was itself #DF).
    pub second: Option<Fault>,
    /// The exception met while delivering #DF.
    pub third: Option<Fault>,
    /// CS:EIP of the instruction that faulted first.
    pub at: (u16, u32),
}

/// Proof that a fault or a stop has been recorded; only this module makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Raised(());

/// The result of everything that can fault.
pub type Exec<T = ()> = Result<T, Raised>;

/// What a [`Raised`] stands for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Pending {
    /// Nothing recorded.
    #[default]
    None,
    /// An exception for the guest.
    Fault(Fault),
    /// The run ends.
    Stop(Stop),
}

impl<B, O> Cpu<B, O> {
    /// Records a fault; return the token with `Err` at once.
    #[cold]
    #[inline(never)]
    pub fn raise(&mut self, fault: Fault) -> Raised {
        self.pending = Pending::Fault(fault);
        Raised(())
    }

    /// Records that the run ends here.
    #[cold]
    #[inline(never)]
    pub fn stop(&mut self, stop: Stop) -> Raised {
        self.pending = Pending::Stop(stop);
        Raised(())
    }

    /// Takes what `raised` stands for.
    pub fn take_pending(&mut self, raised: Raised) -> Pending {
        let Raised(()) = raised;
        std::mem::take(&mut self.pending)
    }

    /// One rung of the manual's ladder of checks: `condition` or the fault.
    #[inline(always)]
    pub fn ensure(&mut self, condition: bool, fault: Fault) -> Exec {
        if condition { Ok(()) } else { Err(self.raise(fault)) }
    }
}
