//! Descriptors and segment registers (SDM 3A "Protected-Mode Memory Management", "Segment Descriptors").

use serde::{Deserialize, Serialize};

/// Index of ES among the segment registers, by their encoding.
pub const ES: usize = 0;
/// CS.
pub const CS: usize = 1;
/// SS.
pub const SS: usize = 2;
/// DS.
pub const DS: usize = 3;
/// FS.
pub const FS: usize = 4;
/// GS.
pub const GS: usize = 5;

/// An 8-byte descriptor as it stands in a table.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Descriptor(pub u64);

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Descriptor({:#018x})", self.0)
    }
}

impl Descriptor {
    /// Base address of a segment or system segment.
    pub fn base(self) -> u32 {
        (self.0 >> 16 & 0xff_ffff) as u32 | (self.0 >> 32) as u32 & 0xff00_0000
    }
    /// Limit in bytes, granularity applied: the last valid offset of an expand-up segment.
    pub fn limit(self) -> u32 {
        let raw = (self.0 & 0xffff) as u32 | (self.0 >> 32) as u32 & 0xf_0000;
        if self.0 >> 55 & 1 != 0 { raw << 12 | 0xfff } else { raw }
    }
    /// The access byte (type, S, DPL, P) in bits 0-7 and AVL, L, D/B, G in bits 12-15, as LAR shows them.
    pub fn attributes(self) -> u16 {
        (self.0 >> 40) as u16 & 0xf0ff
    }
    /// The four type bits.
    pub fn kind(self) -> u8 {
        (self.0 >> 40 & 15) as u8
    }
    /// S: a code or data segment, not a system segment or gate.
    pub fn is_segment(self) -> bool {
        self.0 >> 44 & 1 != 0
    }
    /// Descriptor privilege level.
    pub fn dpl(self) -> u8 {
        (self.0 >> 45 & 3) as u8
    }
    /// Present.
    pub fn present(self) -> bool {
        self.0 >> 47 & 1 != 0
    }
    /// A code segment.
    pub fn is_code(self) -> bool {
        self.is_segment() && self.kind() & 8 != 0
    }
    /// A data segment.
    pub fn is_data(self) -> bool {
        self.is_segment() && self.kind() & 8 == 0
    }
    /// A data segment that may be written.
    pub fn is_writable_data(self) -> bool {
        self.is_data() && self.kind() & 2 != 0
    }
    /// A data segment, or a code segment that may be read.
    pub fn is_readable(self) -> bool {
        self.is_segment() && self.kind() & 0xa != 8
    }
    /// A conforming code segment.
    pub fn is_conforming(self) -> bool {
        self.is_code() && self.kind() & 4 != 0
    }
    /// The accessed bit.
    pub fn accessed(self) -> bool {
        self.0 >> 40 & 1 != 0
    }
    /// D/B.
    pub fn is_32bit(self) -> bool {
        self.0 >> 54 & 1 != 0
    }
    /// The selector in a gate.
    pub fn gate_selector(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// The 32-bit offset in a gate (16-bit gates use its low half).
    pub fn gate_offset(self) -> u32 {
        (self.0 & 0xffff) as u32 | (self.0 >> 32) as u32 & 0xffff_0000
    }
    /// The parameter count in a call gate.
    pub fn gate_count(self) -> u8 {
        (self.0 >> 32 & 31) as u8
    }
}

/// A segment register: the selector and the hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Loaded", into = "Loaded")]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// As in the descriptor: access byte in bits 0-7; AVL, L, D/B, G in bits 12-15.
    pub attributes: u16,
    /// Base address.
    pub base: u32,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Whether the hidden part may be used at all (false after a null selector in protected mode).
    pub usable: bool,
    /// First valid offset.
    lo: u32,
    /// Last valid offset less `lo` for reads; -1 when no byte may be read.
    read_span: i64,
    /// The same for writes.
    write_span: i64,
}

/// What of a segment register the rest follows from.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Loaded {
    selector: u16,
    attributes: u16,
    base: u32,
    limit: u32,
    usable: bool,
}

impl From<Segment> for Loaded {
    fn from(Segment { selector, attributes, base, limit, usable, .. }: Segment) -> Loaded {
        Loaded { selector, attributes, base, limit, usable }
    }
}

impl From<Loaded> for Segment {
    fn from(Loaded { selector, attributes, base, limit, usable }: Loaded) -> Segment {
        let mut segment = Segment::new(selector, base, limit, attributes);
        segment.usable = usable;
        segment.derive();
        segment
    }
}

impl Segment {
    /// A segment register with this hidden part.
    pub fn new(selector: u16, base: u32, limit: u32, attributes: u16) -> Segment {
        let mut segment =
            Segment { selector, attributes, base, limit, usable: true, lo: 0, read_span: -1, write_span: -1 };
        segment.derive();
        segment
    }

    /// What a load of `descriptor` leaves.
    pub fn from_descriptor(selector: u16, descriptor: Descriptor) -> Segment {
        Segment::new(selector, descriptor.base(), descriptor.limit(), descriptor.attributes())
    }

    /// What a load of a null selector leaves.
    pub fn null(selector: u16) -> Segment {
        let mut segment = Segment::new(selector, 0, 0, 0);
        segment.usable = false;
        segment.derive();
        segment
    }

    /// A segment of real or virtual-8086 mode: 64 KiB from `selector * 16`, readable, writable, DPL as given.
    pub fn real(selector: u16, dpl: u8) -> Segment {
        Segment::new(selector, (selector as u32) << 4, 0xffff, 0x93 | (dpl as u16) << 5)
    }

    /// The state after reset: base and selector as given.
    pub fn reset(selector: u16, base: u32) -> Segment {
        Segment::new(selector, base, 0xffff, 0x93)
    }

    /// A load in real mode: selector and base only; limit and attributes stay (SDM 3A "Real-Address Mode Operation";
    /// what is left over from protected mode makes "big real mode").
    pub fn load_real(&mut self, selector: u16) {
        self.selector = selector;
        self.base = (selector as u32) << 4;
        self.usable = true;
        self.derive();
    }

    /// A load of CS in real mode: as [`Segment::load_real`], and the segment becomes writable data.
    /// Manual: limit and D stay, and VM entry (SDM 3C "Checks on Guest Segment Registers") expects type 3 and DPL 0.
    pub fn load_real_code(&mut self, selector: u16) {
        self.attributes = self.attributes & 0xff00 | 0x93;
        self.load_real(selector);
    }

    fn derive(&mut self) {
        let kind = self.attributes & 0xf;
        let is_segment = self.attributes & 0x10 != 0;
        let expand_down = kind & 0xc == 4;
        let span = if expand_down {
            let top: u32 = if self.is_32bit() { 0xffff_ffff } else { 0xffff };
            self.lo = self.limit.wrapping_add(1);
            top as i64 - self.limit as i64 - 1
        } else {
            self.lo = 0;
            self.limit as i64
        };
        let span = span.max(-1);
        let live = self.usable && is_segment;
        self.read_span = if live && kind & 0xa != 8 { span } else { -1 };
        self.write_span = if live && kind & 0xa == 2 { span } else { -1 };
    }

    /// Whether `bytes` bytes at `offset` may be read.
    #[inline(always)]
    pub fn can_read(&self, offset: u32, bytes: u32) -> bool {
        offset.wrapping_sub(self.lo) as i64 + bytes as i64 - 1 <= self.read_span
    }

    /// Whether `bytes` bytes at `offset` may be written.
    #[inline(always)]
    pub fn can_write(&self, offset: u32, bytes: u32) -> bool {
        offset.wrapping_sub(self.lo) as i64 + bytes as i64 - 1 <= self.write_span
    }

    /// Whether `bytes` bytes at `offset` are within the limit, whatever the type.
    pub fn within_limit(&self, offset: u32, bytes: u32) -> bool {
        let expand_down = self.attributes & 0x1c == 0x14;
        let span = if !self.usable {
            -1
        } else if expand_down {
            let top: u32 = if self.is_32bit() { 0xffff_ffff } else { 0xffff };
            top as i64 - self.limit as i64 - 1
        } else {
            self.limit as i64
        };
        offset.wrapping_sub(self.lo) as i64 + bytes as i64 - 1 <= span
    }

    /// D/B: 32-bit code, or a 32-bit stack pointer.
    #[inline(always)]
    pub fn is_32bit(&self) -> bool {
        self.attributes & 0x4000 != 0
    }

    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }

    /// Changes the descriptor privilege level (SYSENTER, mode switches).
    pub fn set_dpl(&mut self, dpl: u8) {
        self.attributes = self.attributes & !0x60 | (dpl as u16) << 5;
    }

    /// The four type bits.
    pub fn kind(&self) -> u8 {
        (self.attributes & 0xf) as u8
    }

    /// S: code or data.
    pub fn is_segment(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// A conforming code segment.
    pub fn is_conforming(&self) -> bool {
        self.attributes & 0x1c == 0x1c
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TableRegister {
    /// Linear address of the table.
    pub base: u32,
    /// Its last valid byte.
    pub limit: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expand_down_segments_are_valid_above_their_limit_only() {
        let big = Segment::new(8, 0, 0xfff, 0x4097);
        assert!(!big.can_read(0xfff, 1) && big.can_read(0x1000, 4) && big.can_write(0xffff_fffc, 4));
        assert!(!big.can_read(0xffff_fffd, 4));
        let small = Segment::new(8, 0, 0xfff, 0x0097);
        assert!(small.can_read(0xffff, 1) && !small.can_read(0xffff, 2) && !small.can_read(0x1_0000, 1));
        let empty = Segment::new(8, 0, 0xffff_ffff, 0x4097);
        assert!(!empty.can_read(0, 1));
    }

    #[test]
    fn type_and_null_forbid_what_the_manual_says() {
        assert!(!Segment::new(8, 0, u32::MAX, 0xc091).can_write(0, 1)); // read-only data
        assert!(!Segment::new(8, 0, u32::MAX, 0xc099).can_read(0, 1)); // execute-only code
        assert!(Segment::new(8, 0, u32::MAX, 0xc09b).can_read(0, 1)); // readable code
        assert!(!Segment::new(8, 0, u32::MAX, 0xc09b).can_write(0, 1));
        assert!(!Segment::null(0).can_read(0, 1));
        assert!(Segment::new(8, 0, u32::MAX, 0xc093).can_write(0xffff_fffc, 4));
        assert!(!Segment::new(8, 0, u32::MAX, 0xc093).can_write(0xffff_fffd, 4));
    }
}
