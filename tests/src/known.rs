//! What is seen of QEMU's known deviations: testbins/guests/qemu-known.txt lists the guests' checks that fail under QEMU, each
//! by the name of the deviation that it shows, and [`IN_LOCKSTEP`] what no check sees.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pagewalk_lens::lockstep::known;

/// The list.
const TEXT: &str = include_str!("../../testbins/guests/qemu-known.txt");

/// A check that fails under QEMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// The guest's name.
    pub guest: &'static str,
    /// The check's name; `ends` when the guest does not come to its end.
    pub check: &'static str,
    /// The name of the deviation.
    pub name: &'static str,
    /// Whether it may pass, depending on QEMU's time.
    pub at_times: bool,
}

/// Deviations that change no check's outcome, since the manual leaves the matter open or since a guest cannot see it: each
/// with a guest that meets it in lockstep with QEMU, by instruction.
pub const IN_LOCKSTEP: &[(&str, &str)] = &[
    ("repeated-instruction-looks-once-more", "smc"),
    ("tr-hidden-busy-bit", "task_effects"),
    ("page-table-bits-timing", "wp"),
    ("real-mode-code-segment", "realmode"),
    ("descriptor-accessed-address", "wp"),
    ("ltr-loads-before-it-faults", "table_registers"),
    ("task-16-upper-halves", "task_effects"),
    ("task-switch-fault-state", "task_faults"),
    ("tlb-holds-others", "stale_tlb"),
    ("tlb-holds-others", "pge"),
    ("lar-undefined-bits", "lar_lsl"),
    ("pusha-order", "choices"),
    ("undefined-destination", "choices"),
];

/// Every point of the list.
pub fn points() -> impl Iterator<Item = Point> {
    let lines = TEXT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let mut fields = line.split('|').map(str::trim);
        let (guest, check) = fields.next().unwrap_or_default().split_once('/').unwrap_or_default();
        let name = fields.next().unwrap_or_default();
        Point { guest, check, name, at_times: fields.any(|field| field.starts_with("at times")) }
    })
}

/// Whether this check of a guest is on the list.
pub fn lists(guest: &str, check: &str) -> bool {
    points().any(|point| point.guest == guest && point.check == check)
}

/// The name of the check that a line of a guest's report is about, behind PASS or FAIL.
pub fn check_of(line: &str) -> Option<&str> {
    let (word, rest) = line.trim().split_once(' ')?;
    matches!(word, "PASS" | "FAIL").then(|| rest.split([':', ' ']).next().unwrap_or_default())
}

/// How many checks the page names for each deviation.
const MOST_NAMED: usize = 3;

/// docs/qemu-deviations.md.
pub fn page() -> String {
    let mut page = HEAD.to_string();
    for known in known::all() {
        write(&mut page, known).unwrap_or_else(|_| unreachable!("a string takes all that is written"));
    }
    page
}

fn write(page: &mut String, known: &known::Known) -> std::fmt::Result {
    write!(page, "\n## {}\n\n", known.name)?;
    writeln!(page, "- Manual (SDM {}): {}.", known.section, known.manual)?;
    writeln!(page, "- QEMU: {}.", known.qemu)?;
    let mut checks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for point in points().filter(|point| point.name == known.name) {
        checks.entry(point.guest).or_default().push(point.check);
    }
    let count: usize = checks.values().map(Vec::len).sum();
    if count != 0 {
        // one of each guest before a second one
        let depth = checks.values().map(Vec::len).max().unwrap_or_default();
        let named = (0..depth)
            .flat_map(|n| checks.iter().filter_map(move |(guest, checks)| Some((*guest, *checks.get(n)?))))
            .take(MOST_NAMED)
            .map(|(guest, check)| format!("`{guest}/{check}`"));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match count.saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        writeln!(page, "- Shown by: {named}{more}.")?;
    }
    for (_, guest) in IN_LOCKSTEP.iter().filter(|(name, _)| *name == known.name) {
        writeln!(page, "- Met in lockstep by: `{guest}`.")?;
    }
    Ok(())
}

const HEAD: &str = "\
# Where QEMU and the manual part

QEMU 7.2 (`qemu-system-i386`, TCG) does not check all that a processor checks. This is the whole list of what is known, by name. `pagewalk diff`
counts each of them when it meets it, does as QEMU did from there, and goes on; what is not on the list is a difference, and ends the run.

*Shown by* names checks of guests (`testbins/guests`, guest/check) that fail under QEMU and pass here; `testbins/guests/qemu-known.txt` has
all of them. Where the manual leaves the matter open, or a program cannot see it, there is no check, and a guest is named that *meets* the
deviation in lockstep. `cargo build -p pagewalk-testbins` leaves the guests in `target/debug/build/pagewalk-testbins-*/out/images`: see one with

    pagewalk both GUEST     # its report here and there
    pagewalk diff GUEST     # instruction by instruction

The tests assert that each check fails there and that each guest meets what it is named for (`tests/tests/guests.rs`, `lockstep.rs`), and that
this page, the list of lockstep and that of the checks are one (`deviations.rs`).

This page is written by `cargo run -p pagewalk-tests --bin deviations`.
";
