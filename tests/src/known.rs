//! testbins/guests/qemu-known.txt: the guests' checks that fail under QEMU.

/// The list.
const TEXT: &str = include_str!("../../testbins/guests/qemu-known.txt");

/// A check that fails under QEMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// The guest's name.
    pub guest: &'static str,
    /// The check's name; `ends` when the guest does not come to its end.
    pub check: &'static str,
    /// What else its line says.
    pub rest: &'static str,
}

/// Every point of the list.
pub fn points() -> impl Iterator<Item = Point> {
    let lines = TEXT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (point, rest) = line.split_once('|').unwrap_or((line, ""));
        let (guest, check) = point.trim().split_once('/').unwrap_or((point.trim(), ""));
        Point { guest, check, rest: rest.trim() }
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
