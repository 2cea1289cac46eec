//! What the comparison itself takes care of.

use super::Known;

/// Pointers in the image of FXSAVE.
pub const FXSAVE_POINTERS: &str = "fxsave-pointers";
/// Pointers that FLDENV and its kin load.
pub const X87_LOADED: &str = "x87-pointers-loaded";
/// What is reserved in the images of FNSTENV and FNSAVE, and the opcode.
pub const X87_RESERVED: &str = "x87-environment-reserved";
/// RF in the flags that a fault saves.
pub const RF_SAVED: &str = "rf-in-saved-eflags";
/// RF between the iterations of a repeated instruction.
pub const RF_REPEATED: &str = "rf-between-iterations";
/// The last look of a repeated instruction at ECX.
pub const LAST_LOOK: &str = "repeated-instruction-looks-once-more";
/// The accessed bit of a descriptor.
pub const ACCESSED: &str = "descriptor-accessed-bit";
/// The busy bit in TR's hidden part.
pub const BUSY: &str = "tr-hidden-busy-bit";
/// Accessed and dirty bits in page tables.
pub const PAGE_BITS: &str = "page-table-bits-timing";

/// The list.
pub(super) const BUILT_IN: &[Known] = &[
    Known {
        name: RF_SAVED,
        section: "3B \"Instruction-Breakpoint Exception Condition\"",
        manual: "the EFLAGS that a fault saves have RF set",
        qemu: "saves them with RF as it is, clear as a rule",
        tests: &[],
    },
    Known {
        name: RF_REPEATED,
        section: "3B \"Instruction-Breakpoint Exception Condition\"",
        manual: "between two iterations of a repeated string instruction, an exception or interrupt saves RF set",
        qemu: "saves RF clear",
        tests: &[],
    },
    Known {
        name: LAST_LOOK,
        section: "2B \"REP/REPE/REPZ/REPNE/REPNZ\"",
        manual: "the instruction ends with the iteration that brings the count to zero",
        qemu: "goes back to the instruction once more and finds the count zero, so an interrupt may come before that",
        tests: &[],
    },
    Known {
        name: ACCESSED,
        section: "3A \"Code- and Data-Segment Descriptor Types\"",
        manual: "whenever a segment is loaded into a segment register, its descriptor's accessed bit is set",
        qemu: "far transfers and task switches leave it clear",
        tests: &[],
    },
    Known {
        name: BUSY,
        section: "2A \"LTR\", Operation",
        manual: "LTR marks the TSS busy and loads its descriptor; the type in TR is then that of a busy TSS",
        qemu: "marks it in memory, and keeps the type of before in TR, where no instruction can see it",
        tests: &[],
    },
    Known {
        name: PAGE_BITS,
        section: "3A \"Accessed and Dirty Flags\"",
        manual: "set whenever an entry is used for a translation; when a cached translation is used again is up to the processor",
        qemu: "its TLB holds more and other entries, so the bits are set at other times",
        tests: &[],
    },
    Known {
        name: FXSAVE_POINTERS,
        section: "2A \"FXSAVE\"",
        manual: "the image holds the opcode, instruction pointer and operand pointer of the last x87 instruction",
        qemu: "writes zeros for the pointers, and no opcode",
        tests: &[],
    },
    Known {
        name: X87_RESERVED,
        section: "1 \"Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE\"",
        manual: "the upper halves of an image's doublewords are reserved (processors write ones), or hold the last opcode",
        qemu: "writes zeros for both",
        tests: &[],
    },
    Known {
        name: X87_LOADED,
        section: "2A \"FLDENV\", \"FRSTOR\", \"FXRSTOR\"",
        manual: "the instruction and operand pointers and the opcode are loaded, too",
        qemu: "keeps those it had",
        tests: &[],
    },
    Known {
        name: "apic-disabled-masks",
        section: "3A \"Local APIC State After It Has Been Software Disabled\"",
        manual: "while the local APIC is disabled by software, all entries of its local vector table are masked",
        qemu: "leaves their mask bits as they are",
        tests: &[],
    },
    Known {
        name: "apic-illegal-vector",
        section: "3A \"Error Handling\" (local APIC)",
        manual: "a vector below 16 in a message or an entry of the local vector table is an error",
        qemu: "reports none",
        tests: &[],
    },
    Known {
        name: "redirection-reserved-bits",
        section: "82093AA \"I/O Redirection Table Registers\"",
        manual: "reserved bits read as zero",
        qemu: "keeps them as they were written",
        tests: &[],
    },
];
