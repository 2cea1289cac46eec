//! What QEMU's log and iced-x86's tables say, in our terms.

use pagewalk_x86::fault::Fault;
use pagewalk_x86::flags;
use pagewalk_x86::observe::Cause;

use crate::qemu::dump::Dump;
use crate::qemu::stream::Delivery;

/// Whether ours delivers what QEMU tells.
pub fn matches(ours: Cause, theirs: Delivery) -> bool {
    let code = if let Cause::Fault(fault) = ours { fault.error_code().unwrap_or(0) } else { 0 };
    let external = matches!(ours, Cause::External(_));
    ours.vector() == theirs.vector && external == theirs.hardware && (external || code == theirs.code)
}

/// The fault that QEMU raised, if it is one.
pub fn fault_of(theirs: Delivery, found: &Dump) -> Option<Fault> {
    Some(match theirs.vector {
        0 => Fault::DivideError,
        1 => Fault::Debug,
        5 => Fault::Bound,
        6 => Fault::InvalidOpcode,
        7 => Fault::DeviceNotAvailable,
        8 => Fault::DoubleFault,
        10 => Fault::InvalidTss(theirs.code),
        11 => Fault::NotPresent(theirs.code),
        12 => Fault::Stack(theirs.code),
        13 => Fault::GeneralProtection(theirs.code),
        14 => Fault::Page { address: found.cr[2], code: theirs.code },
        16 => Fault::FloatingPoint,
        17 => Fault::Alignment,
        19 => Fault::Simd,
        _ => return None,
    })
}

/// iced-x86's flags in their places in EFLAGS.
pub fn flags_of(bits: u32) -> u32 {
    use iced_x86::RflagsBits as R;
    [
        (R::CF, flags::CF),
        (R::PF, flags::PF),
        (R::AF, flags::AF),
        (R::ZF, flags::ZF),
        (R::SF, flags::SF),
        (R::OF, flags::OF),
    ]
    .iter()
    .filter(|(theirs, _)| bits & theirs != 0)
    .fold(0, |mask, (_, ours)| mask | ours)
}
