//! What two exceptions in a row make (SDM 3A "Interrupt 8 - Double Fault Exception (#DF)").

use crate::fault::Fault;
use crate::observe::Cause;

/// The class of an exception or interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Everything else: interrupts, INT n, #DB, #BP, #OF, #BR, #UD, #NM, #MF, #AC.
    Benign,
    /// #DE, #TS, #NP, #SS, #GP.
    Contributory,
    /// #PF.
    PageFault,
    /// #DF itself.
    DoubleFault,
}

/// What is to be delivered when an exception comes while another event is being delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The second exception, on its own.
    Serial,
    /// #DF in place of both.
    DoubleFault,
    /// Nothing more: the processor shuts down.
    Shutdown,
}

/// The class of what is being delivered.
pub fn class(cause: Cause) -> Class {
    let Cause::Fault(fault) = cause else { return Class::Benign };
    match fault {
        Fault::DivideError
        | Fault::InvalidTss(_)
        | Fault::NotPresent(_)
        | Fault::Stack(_)
        | Fault::GeneralProtection(_) => Class::Contributory,
        Fault::Page { .. } => Class::PageFault,
        Fault::DoubleFault => Class::DoubleFault,
        Fault::Debug
        | Fault::Bound
        | Fault::InvalidOpcode
        | Fault::DeviceNotAvailable
        | Fault::FloatingPoint
        | Fault::Simd
        | Fault::Alignment => Class::Benign,
    }
}

/// The table "Conditions for Generating a Double Fault".
pub fn combine(first: Class, second: Class) -> Outcome {
    match (first, second) {
        (Class::Benign, _) | (_, Class::Benign) => Outcome::Serial,
        (Class::DoubleFault, _) | (_, Class::DoubleFault) => Outcome::Shutdown,
        (Class::Contributory, Class::PageFault) => Outcome::Serial,
        (Class::Contributory, Class::Contributory) | (Class::PageFault, _) => Outcome::DoubleFault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SDM 3A, table "Conditions for Generating a Double Fault", and the sentence on faults while calling the handler of
    /// #DF.
    #[test]
    fn the_table_of_the_manual() {
        use Class::*;
        const COLUMNS: [Class; 3] = [Benign, Contributory, PageFault];
        const ROWS: [(Class, [Outcome; 3]); 4] = [
            (Benign, [Outcome::Serial, Outcome::Serial, Outcome::Serial]),
            (Contributory, [Outcome::Serial, Outcome::DoubleFault, Outcome::Serial]),
            (PageFault, [Outcome::Serial, Outcome::DoubleFault, Outcome::DoubleFault]),
            (DoubleFault, [Outcome::Serial, Outcome::Shutdown, Outcome::Shutdown]),
        ];
        for (first, row) in ROWS {
            for (second, expected) in COLUMNS.into_iter().zip(row) {
                assert_eq!(combine(first, second), expected, "{first:?} then {second:?}");
            }
        }
    }

    /// SDM 3A, table "Interrupt and Exception Classes".
    #[test]
    fn every_vector_has_the_class_that_the_manual_gives_it() {
        let page = Fault::Page { address: 0, code: 0 };
        let classes = [
            (Cause::Fault(Fault::DivideError), Class::Contributory),
            (Cause::Fault(Fault::Debug), Class::Benign),
            (Cause::Nmi, Class::Benign),
            (Cause::Breakpoint, Class::Benign),
            (Cause::Overflow, Class::Benign),
            (Cause::Fault(Fault::Bound), Class::Benign),
            (Cause::Fault(Fault::InvalidOpcode), Class::Benign),
            (Cause::Fault(Fault::DeviceNotAvailable), Class::Benign),
            (Cause::Fault(Fault::InvalidTss(8)), Class::Contributory),
            (Cause::Fault(Fault::NotPresent(8)), Class::Contributory),
            (Cause::Fault(Fault::Stack(0)), Class::Contributory),
            (Cause::Fault(Fault::GeneralProtection(0)), Class::Contributory),
            (Cause::Fault(page), Class::PageFault),
            (Cause::Fault(Fault::FloatingPoint), Class::Benign),
            (Cause::Fault(Fault::Alignment), Class::Benign),
            // INT n is benign whatever its vector
            (Cause::Software(13), Class::Benign),
            (Cause::External(14), Class::Benign),
        ];
        for (cause, expected) in classes {
            assert_eq!(class(cause), expected, "{cause:?}");
        }
    }
}
