//! The known deviations of QEMU: one list, in lockstep, in the guests' checks and in the documents. That each of them is
//! really seen is asserted where the guests run: `guests.rs` for the checks, `lockstep.rs` for what no check sees.

use std::collections::BTreeSet;

use pagewalk_lens::lockstep::known;
use pagewalk_testbins::find;
use pagewalk_tests::known::{IN_LOCKSTEP, page, points};

#[test]
fn every_deviation_is_shown_by_a_guest_and_every_point_has_a_deviation() {
    let names: BTreeSet<&str> = known::all().map(|known| known.name).collect();
    let mut shown = BTreeSet::new();
    for point in points() {
        assert!(names.contains(point.name), "{point:?}: lockstep knows no deviation of this name");
        assert!(find(point.guest).is_some(), "{point:?}: there is no such guest");
        shown.insert(point.name);
    }
    for (name, guest) in IN_LOCKSTEP {
        assert!(names.contains(name), "lockstep knows no {name}");
        assert!(find(guest).is_some(), "{name}: there is no guest {guest}");
        shown.insert(name);
    }
    assert_eq!(names.difference(&shown).collect::<Vec<_>>(), Vec::<&&str>::new(), "no guest shows these");
}

#[test]
fn no_point_is_listed_twice() {
    let mut seen = BTreeSet::new();
    for point in points() {
        assert!(seen.insert((point.guest, point.check)), "{point:?}");
    }
}

#[test]
fn the_document_is_that_list() {
    let written = include_str!("../../docs/qemu-deviations.md");
    let page = page();
    let differs = written.lines().zip(page.lines()).find(|(ours, page)| ours != page);
    assert!(
        written == page,
        "docs/qemu-deviations.md is not up to date ({differs:?}): cargo run -p pagewalk-tests --bin deviations writes it"
    );
}
