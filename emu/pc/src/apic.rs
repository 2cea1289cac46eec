//! The advanced interrupt controllers: a local APIC in each processor, an I/O APIC on the board, and what they say to
//! each other. SDM 3A "Advanced Programmable Interrupt Controller (APIC)"; Intel 82093AA (290566-001).

pub mod io;
pub mod local;

/// Where the local APIC's registers stand at power-on.
pub const LOCAL_BASE: u64 = 0xfee0_0000;
/// Where the I/O APIC's registers stand.
pub const IO_BASE: u64 = 0xfec0_0000;

/// A destination that means everybody.
const EVERYBODY: u8 = 0xff;

/// What a message asks of the processors it reaches; also what a local vector table entry does with its pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// An interrupt of the given vector.
    Fixed,
    /// The same, for that destination alone which is least busy.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// No meaning.
    Reserved,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up: a processor that waits after INIT begins at page `vector`.
    StartUp,
    /// An interrupt whose vector the 8259A tells.
    ExtInt,
}

impl Delivery {
    /// The mode encoded in bits 10 to 8 of an entry or of the interrupt command register.
    pub fn of(register: u32) -> Delivery {
        match register >> 8 & 7 {
            0 => Delivery::Fixed,
            1 => Delivery::LowestPriority,
            2 => Delivery::Smi,
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            6 => Delivery::StartUp,
            7 => Delivery::ExtInt,
            _ => Delivery::Reserved,
        }
    }
}

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The local APIC of this ID.
    Physical(u8),
    /// Those whose logical destination matches.
    Logical(u8),
    /// The sender.
    Myself,
    /// Everybody.
    All,
    /// Everybody else.
    Others,
}

impl Destination {
    /// As entries and the interrupt command register encode it: bit 11 says logical.
    fn of(register: u32, destination: u8) -> Destination {
        if register & 1 << 11 != 0 {
            Destination::Logical(destination)
        } else {
            Destination::Physical(destination)
        }
    }
}

/// An interrupt on its way to local APICs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Whom it is for.
    pub destination: Destination,
    /// What it asks.
    pub delivery: Delivery,
    /// The vector.
    pub vector: u8,
    /// Whether it stands for a level: its end is told to the I/O APIC.
    pub level: bool,
}
