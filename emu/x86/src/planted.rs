//! Bugs to plant on purpose, so that a test can show that the suites find bugs. Without the feature `planted-bugs` every
//! question here is answered "no" at compile time.

/// A bug that a test can plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// An instruction: IMUL r, r/m, imm of a negative by a negative number is one too large.
    Instruction,
    /// A flag: BT and its kin do not see the top bit of their operand when the bit number is an immediate or the operand
    /// a register.
    Flag,
    /// A segment check: a word write may reach one byte beyond the limit.
    SegmentCheck,
    /// An accessed or dirty bit: a write through an entry that is accessed already does not make it dirty in memory.
    DirtyUpdate,
    /// A TLB flush: INVLPG drops nothing.
    TlbFlush,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 5] =
        [Bug::Instruction, Bug::Flag, Bug::SegmentCheck, Bug::DirtyUpdate, Bug::TlbFlush];
}

/// Which bug is planted in a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
}

impl Planted {
    /// With a bug, or cured.
    #[cfg(feature = "planted-bugs")]
    pub fn new(bug: Option<Bug>) -> Planted {
        Planted { bug }
    }

    /// Whether this bug is planted.
    #[inline(always)]
    pub(crate) fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.bug == Some(bug);
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = bug;
            false
        }
    }
}
