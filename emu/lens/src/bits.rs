//! Paging-structure entries and error codes in words (SDM 3A "Paging", formats of the entries).

use pagewalk_x86::mmu::walk::{self, Level};

/// The bits of an entry by the manual's letters, such as `P W U A D`. What is absent is left out, but for a
/// missing `P`, which is said as `-`.
pub fn entry_bits(level: Level, value: u64) -> String {
    let mut out = Vec::new();
    let mut flag = |bit: u64, name: &'static str| {
        if value & bit != 0 {
            out.push(name);
        }
    };
    flag(walk::P, "P");
    if level == Level::Pdpte {
        flag(1 << 3, "PWT");
        flag(1 << 4, "PCD");
    } else {
        flag(walk::W, "W");
        flag(walk::U, "U");
        flag(1 << 3, "PWT");
        flag(1 << 4, "PCD");
        flag(walk::A, "A");
        flag(walk::D, if level == Level::Pte || value & walk::PS != 0 { "D" } else { "b6" });
        flag(walk::PS, if level == Level::Pde { "PS" } else { "PAT" });
        flag(walk::G, if level == Level::Pte || value & walk::PS != 0 { "G" } else { "b8" });
    }
    flag(walk::NX, "NX");
    if value & walk::P == 0 {
        out.insert(0, "-");
    }
    out.join(" ")
}

/// A page-fault error code in words, such as `user write to a page that is not present`.
pub fn page_fault_code(code: u16) -> String {
    let who = if code & walk::CODE_U != 0 { "user" } else { "supervisor" };
    let what = if code & walk::CODE_I != 0 {
        "fetch from"
    } else if code & walk::CODE_W != 0 {
        "write to"
    } else {
        "read of"
    };
    let why = if code & walk::CODE_RSVD != 0 {
        "a page whose entries have reserved bits set"
    } else if code & walk::CODE_P != 0 {
        "a present page that forbids it"
    } else {
        "a page that is not present"
    };
    format!("{who} {what} {why}")
}

/// A selector error code in words (SDM 3A "Error Code").
pub fn selector_code(code: u16) -> String {
    if code == 0 {
        return "no selector".into();
    }
    let external = if code & 1 != 0 { ", while delivering an interrupt or an earlier exception" } else { "" };
    let what = if code & 2 != 0 {
        format!("IDT gate {}", code >> 3)
    } else if code & 4 != 0 {
        format!("LDT selector {:#06x}", code & !3)
    } else {
        format!("GDT selector {:#06x}", code & !3)
    };
    what + external
}

/// The names of the segment registers by their encoding.
pub fn segment_name(segment: u8) -> &'static str {
    ["es", "cs", "ss", "ds", "fs", "gs"].get(segment as usize).copied().unwrap_or("??")
}

/// The level's name as the manual has it.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Pdpte => "pdpte",
        Level::Pde => "pde",
        Level::Pte => "pte",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_read_as_the_manual_defines_their_bits() {
        assert_eq!(page_fault_code(0), "supervisor read of a page that is not present");
        assert_eq!(page_fault_code(7), "user write to a present page that forbids it");
        assert_eq!(page_fault_code(0x11), "supervisor fetch from a present page that forbids it");
        assert_eq!(page_fault_code(0xd), "user read of a page whose entries have reserved bits set");
        assert_eq!(selector_code(0x6b), "IDT gate 13, while delivering an interrupt or an earlier exception");
        assert_eq!(selector_code(0x14), "LDT selector 0x0014");
    }

    #[test]
    fn entries_read_by_their_letters() {
        assert_eq!(entry_bits(Level::Pte, 0x67), "P W U A D");
        assert_eq!(entry_bits(Level::Pde, 0xe3), "P W A D PS");
        assert_eq!(entry_bits(Level::Pte, 0x8000_0000_0000_0006), "- W U NX");
    }
}
