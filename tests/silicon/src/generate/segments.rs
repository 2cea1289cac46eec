//! The local descriptor table of a world, and which addresses are reached through each of its segments.

use crate::random::Random;
use crate::world::{
    CODE, DATA, Descriptor, FLAT_CODE, FLAT_DATA, Kind, PAGE, PAGES, Rights, STACK, World, selector,
};

/// A run of offsets that lie in pages of the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The first offset.
    pub first: u32,
    /// The last offset.
    pub last: u32,
}

impl Window {
    fn cut(self, first: u32, last: u32) -> Option<Window> {
        let (first, last) = (self.first.max(first), self.last.min(last));
        (first <= last).then_some(Window { first, last })
    }
}

/// The windows of a segment, for one address size.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    /// In pages that can be written and are not for code.
    pub writable: Vec<Window>,
    /// In pages that can be read: the read-only ones and those for code.
    pub readable: Vec<Window>,
    /// In the pages for code.
    pub code: Vec<Window>,
}

/// A segment that a selector names, or the null selector.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub selector: u16,
    pub base: u32,
    /// The last offset within the limit.
    pub last: u32,
    /// It is data that can be written.
    pub writable: bool,
    /// The D/B bit.
    pub big: bool,
    /// What 32-bit offsets reach, and what 16-bit ones do.
    pub wide: Windows,
    pub narrow: Windows,
    /// Offsets at the limit that are near pages of the world.
    pub edges: Vec<u32>,
}

impl Segment {
    pub fn windows(&self, narrow: bool) -> &Windows {
        if narrow { &self.narrow } else { &self.wide }
    }
}

/// Entries of [`Segments::all`]: the null selector and the flat segments; LDT entry n follows at `LDT + n`.
pub(super) const NULL: usize = 0;
pub(super) const FLAT_CS: usize = 1;
pub(super) const FLAT_DS: usize = 2;
pub(super) const LDT: usize = 3;

/// Every segment, and lists (of entries) by what they can be used for.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    pub all: Vec<Segment>,
    /// Code of 32 and of 16 bits in which cases can run.
    pub code: [Vec<usize>; 2],
    /// Code of 32 and of 16 bits where the case's offsets fit into 16 bits.
    pub low_code: [Vec<usize>; 2],
    /// Stacks.
    pub stack: Vec<usize>,
    /// Segments that can be loaded into DS; of these, ones that reach writable pages with 16-bit offsets.
    pub data: Vec<usize>,
    pub narrow_data: Vec<usize>,
}

/// Runs of pages with equal rights, and whether they can be written; those for code are last.
const RUNS: [(u32, u32, bool); 7] = [
    (DATA, 2 * PAGE, true),
    (DATA + 2 * PAGE, PAGE, false),
    (DATA + 4 * PAGE, PAGE, true),
    (DATA + 5 * PAGE, PAGE, false),
    (STACK, 2 * PAGE, true),
    (STACK + 16 * PAGE, PAGE, true),
    (CODE, 2 * PAGE, true),
];

fn windows(base: u32, first: u32, last: u32) -> Windows {
    let mut windows = Windows::default();
    for (n, (start, length, writable)) in RUNS.into_iter().enumerate() {
        let (from, to) = (start.wrapping_sub(base), (start + (length - 1)).wrapping_sub(base));
        let parts = if from <= to {
            [Some(Window { first: from, last: to }), None]
        } else {
            [Some(Window { first: from, last: u32::MAX }), Some(Window { first: 0, last: to })]
        };
        for window in parts.into_iter().flatten().filter_map(|window| window.cut(first, last)) {
            let code = n + 1 == RUNS.len();
            if code {
                windows.code.push(window);
            }
            let list = if writable && !code { &mut windows.writable } else { &mut windows.readable };
            list.push(window);
        }
    }
    windows
}

/// Whether all `length` bytes lie in pages that can be written, none of them for code.
pub(super) fn can_patch(linear: u32, length: u32) -> bool {
    RUNS[..RUNS.len() - 1].iter().any(|&(start, run, writable)| {
        let offset = linear.wrapping_sub(start);
        writable && offset < run && length <= run - offset
    })
}

/// The last offset of a code or data segment that grows upwards, or the last one below an expand-down segment.
fn limit(d: &Descriptor) -> u32 {
    if d.pages { d.limit << 12 | 0xfff } else { d.limit }
}

fn segment(selector: u16, d: &Descriptor) -> Segment {
    let limit = limit(d);
    let top = if d.big { u32::MAX } else { 0xffff };
    let (first, last) = match d.kind {
        // a limit of FFFFFFFFh leaves no offset: first and last are then 0 and wrong, but no such one is made
        Kind::ExpandDown => (limit.wrapping_add(1), top),
        _ => (0, limit),
    };
    let near = |offset: &u32| {
        let linear = d.base.wrapping_add(*offset);
        PAGES.iter().any(|&(page, rights)| {
            rights != Rights::None && linear.wrapping_sub(page.wrapping_sub(8)) < PAGE + 16
        })
    };
    Segment {
        selector,
        base: d.base,
        last,
        writable: d.access && matches!(d.kind, Kind::Data | Kind::ExpandDown),
        big: d.big,
        wide: windows(d.base, first, last),
        narrow: windows(d.base, first, last.min(0xffff)),
        edges: [first, last].into_iter().filter(|&edge| edge != 0 && edge != u32::MAX).filter(near).collect(),
    }
}

const FLAT: Descriptor = Descriptor {
    base: 0,
    limit: 0xf_ffff,
    pages: true,
    big: true,
    kind: Kind::Data,
    access: true,
    present: true,
};

impl Segments {
    pub fn new(world: &World) -> Segments {
        let mut null = segment(0, &Descriptor { limit: 0, pages: false, ..FLAT });
        null.wide = Windows::default();
        null.narrow = Windows::default();
        null.edges.clear();
        let mut segments = Segments {
            all: vec![
                null,
                segment(FLAT_CODE, &Descriptor { kind: Kind::Code, ..FLAT }),
                segment(FLAT_DATA, &FLAT),
            ],
            code: [vec![FLAT_CS], vec![]],
            low_code: [vec![], vec![]],
            stack: vec![FLAT_DS],
            data: vec![FLAT_DS],
            narrow_data: vec![],
        };
        for (n, descriptor) in world.ldt.iter().enumerate() {
            segments.all.push(segment(selector(n), descriptor));
            segments.sort_in(LDT + n, descriptor);
        }
        segments
    }

    fn sort_in(&mut self, entry: usize, d: &Descriptor) {
        let segment = &self.all[entry];
        if !d.present {
            return;
        }
        let is_code = matches!(d.kind, Kind::Code | Kind::Conforming);
        let roomy = |windows: &[Window]| windows.iter().any(|w| w.last - w.first >= 0x200);
        if is_code {
            let kind = !d.big as usize;
            if d.big && roomy(&segment.wide.code) || roomy(&segment.narrow.code) {
                self.code[kind].push(entry);
            }
            if roomy(&segment.narrow.code) {
                self.low_code[kind].push(entry);
            }
        }
        if !is_code && d.access && roomy(&segment.windows(!d.big).writable) {
            self.stack.push(entry);
        }
        if !is_code || d.access {
            if !segment.wide.writable.is_empty() || !segment.wide.readable.is_empty() {
                self.data.push(entry);
            }
            if !segment.narrow.writable.is_empty() {
                self.narrow_data.push(entry);
            }
        }
    }
}

/// A world with a table of every kind of segment that modify_ldt(2) makes, placed by the seed. Conforming code segments
/// can only be had not present.
pub(super) fn world(seed: u64) -> World {
    let mut random = Random::new(seed ^ 0x1d7_1d7);
    let mut ldt = Vec::with_capacity(64);
    let r = &mut random;
    codes(r, &mut ldt);
    datas(r, &mut ldt);
    stacks(r, &mut ldt);
    expand_downs(r, &mut ldt);
    World { seed, ldt }
}

/// A distance below a region that 16-bit offsets still cover.
fn below(r: &mut Random) -> u32 {
    let fine = r.below(16);
    match r.below(4) {
        0 => 0,
        1 => r.below(0x800) << 4,
        2 => r.below(8) << 12,
        _ => (r.below(0x7f0) << 4) + fine,
    }
}

fn codes(r: &mut Random, ldt: &mut Vec<Descriptor>) {
    let end = CODE + 2 * PAGE - 1;
    for big in [true, false] {
        let code = Descriptor { kind: Kind::Code, big, ..FLAT };
        for access in [true, false, true] {
            let base = CODE - below(r);
            ldt.push(Descriptor { base, access, ..code });
            // ends with the pages
            ldt.push(Descriptor { base, access, limit: end - base, pages: false, ..code });
            // ends within them
            let base = CODE - below(r);
            let limit = CODE + 0x800 + r.below(0x1000) - base;
            ldt.push(Descriptor { base, access, limit, pages: false, ..code });
        }
        // ends with 16-bit offsets, or in pages within them
        ldt.push(Descriptor { base: CODE - below(r), limit: 0xffff, pages: false, ..code });
        ldt.push(Descriptor { base: CODE - (r.below(8) << 12), limit: 8 + r.below(2), ..code });
        // wraps at the end of the address space (32-bit offsets are needed to reach the pages)
        ldt.push(Descriptor { base: CODE + PAGE + (r.below(0x100) << 4), ..code });
        // not for running
        ldt.push(Descriptor { base: CODE, present: false, ..code });
        ldt.push(Descriptor {
            base: CODE,
            present: false,
            kind: Kind::Conforming,
            access: r.once_in(2),
            ..code
        });
        ldt.push(Descriptor { base: CODE, limit: r.below(64), pages: false, ..code });
    }
}

fn datas(r: &mut Random, ldt: &mut Vec<Descriptor>) {
    for region in [DATA, DATA + 3 * PAGE, STACK] {
        let base = region - below(r);
        ldt.push(Descriptor { base, ..FLAT });
        ldt.push(Descriptor { base, big: false, limit: 0xffff, pages: false, ..FLAT });
    }
    for access in [true, true, false] {
        // limits in bytes and pages, within the pages
        let base = DATA - below(r);
        let limit = DATA + r.below(6 * PAGE) - base;
        ldt.push(Descriptor { base, limit, access, pages: false, big: r.once_in(2), ..FLAT });
        let base = DATA + r.below(PAGE);
        ldt.push(Descriptor { base, limit: r.below(5), access, big: r.once_in(2), ..FLAT });
    }
    // small ones
    for n in [0, 1, 3, 7, 0x40] {
        let base = DATA + r.below(2 * PAGE - 0x80);
        ldt.push(Descriptor { base, limit: n, pages: false, big: r.once_in(2), ..FLAT });
    }
    // wraps: the pages lie at negative offsets
    ldt.push(Descriptor { base: DATA + PAGE + r.below(PAGE), ..FLAT });
    ldt.push(Descriptor { base: 0xffff_f000 - (r.below(0x1000) << 4), ..FLAT });
    ldt.push(Descriptor { base: DATA, present: false, ..FLAT });
    ldt.push(Descriptor { base: DATA, access: false, ..FLAT });
}

fn stacks(r: &mut Random, ldt: &mut Vec<Descriptor>) {
    for big in [true, false] {
        let stack = Descriptor { big, ..FLAT };
        ldt.push(Descriptor { base: STACK - (r.below(0xe00) << 4), ..stack });
        let base = STACK - (r.below(0xe00) << 4);
        let limit = STACK + 0x400 + r.below(0x1c00) - base;
        ldt.push(Descriptor { base, limit, pages: false, ..stack });
        // the pages below offset 0 (with 16-bit offsets: the page 64 KiB above)
        ldt.push(Descriptor { base: STACK + PAGE, limit: if big { 0xf_ffff } else { 0xf }, ..stack });
        ldt.push(Descriptor { base: STACK, present: false, ..stack });
    }
}

fn expand_downs(r: &mut Random, ldt: &mut Vec<Descriptor>) {
    for big in [true, false] {
        let down = Descriptor { kind: Kind::ExpandDown, big, ..FLAT };
        // begins within the pages
        let base = DATA - r.below(0x100);
        ldt.push(Descriptor { base, limit: 0x100 + r.below(0x1800), pages: false, ..down });
        ldt.push(Descriptor { base: DATA - PAGE, limit: 1, access: r.once_in(2), ..down });
        // ends within the pages: at 64 KiB, or where the address space does
        let end = STACK + 0x800 + r.below(0x1000);
        let base = if big { end } else { end - 0xffff };
        ldt.push(Descriptor { base, limit: 0xf000, pages: false, ..down });
    }
}
