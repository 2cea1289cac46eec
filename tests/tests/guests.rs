//! Every guest passes here, and under QEMU but for the checks listed where QEMU is known to part from the manual.

use std::collections::BTreeMap;
use std::time::Duration;

use pagewalk_lens::qemu::Ending;
use pagewalk_testbins::{GUESTS, STORY};
use pagewalk_tests::{MOST, known, lines, machine, qemu, run_to_end, succeeded};
use pagewalk_x86::mmu::tlb::{Geometry, Policy};

#[test]
fn every_guest_passes() {
    let mut failures = Vec::new();
    for guest in GUESTS {
        let mut machine = machine(guest, Geometry::default(), ()).unwrap();
        let (stop, text) = run_to_end(&mut machine, MOST);
        let passed = lines(&text, "PASS").count();
        for failed in lines(&text, "FAIL") {
            failures.push(format!("{}: FAIL {failed}", guest.name));
        }
        if !succeeded(&stop) || passed == 0 {
            let last = text.lines().last().unwrap_or_default();
            let short: String = format!("{stop:?}").chars().take(300).collect();
            failures
                .push(format!("{}: stopped by {short} after {passed} passes; last line: {last}", guest.name));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_guest_passes_whatever_the_shape_of_the_tlb() {
    let shapes = [
        Geometry { entries: 1, ways: 1, large: 0, split: false, policy: Policy::Fifo, tagged: false },
        Geometry { entries: 4096, ways: 4, large: 64, split: true, policy: Policy::Lru, tagged: false },
        Geometry { entries: 16, ways: 16, large: 1, split: false, policy: Policy::Random, tagged: false },
        Geometry { tagged: true, ..Geometry::default() },
    ];
    for shape in shapes {
        for guest in GUESTS {
            let mut machine = machine(guest, shape, ()).unwrap();
            let (stop, text) = run_to_end(&mut machine, MOST);
            let failed: Vec<&str> = lines(&text, "FAIL").collect();
            assert!(
                succeeded(&stop) && failed.is_empty(),
                "{} with {shape:?}: {stop:?} {failed:?}",
                guest.name
            );
        }
    }
}

#[test]
fn qemu_fails_the_listed_checks_of_every_guest_and_no_others() {
    let mut surprises = Vec::new();
    for guest in GUESTS {
        let (end, text) = qemu(guest.image, "", Duration::from_secs(120)).unwrap();
        let name = |line| str::split(line, [':', ' ']).next().unwrap_or_default();
        for failed in lines(&text, "FAIL").filter(|failed| !known::lists(guest.name, name(failed))) {
            surprises.push(format!("{}: FAIL {failed}", guest.name));
        }
        let ended = matches!(end, Some(Ending::Status(_)));
        if !ended && !known::lists(guest.name, "ends") {
            surprises.push(format!("{}: did not come to its end, but to {end:?}", guest.name));
        }
        for point in known::points().filter(|point| point.guest == guest.name && !point.at_times) {
            let failed = lines(&text, "FAIL").any(|failed| name(failed) == point.check);
            if !failed && (ended || point.check != "ends") {
                surprises.push(format!(
                    "{}/{}: does not fail under this QEMU, so {} is not shown",
                    point.guest, point.check, point.name
                ));
            }
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[test]
fn the_story_has_a_good_end_and_the_same_words_as_under_qemu() {
    let mut machine = machine(&STORY, Geometry::default(), ()).unwrap();
    let (stop, text) = run_to_end(&mut machine, MOST);
    assert!(succeeded(&stop), "{stop:?}\n{text}");
    let (end, other) = qemu(STORY.image, "", Duration::from_secs(120)).unwrap();
    assert_eq!(end, Some(Ending::Status(1)), "{other}");
    let (ours, theirs) = (account(&text), account(&other));
    assert!(ours.len() > 20, "{text}");
    // QEMU checks no segment limits, so the kernel leaves that scene out there
    for (name, row) in ours.iter().filter(|(name, _)| **name != "abettor") {
        assert_eq!(Some(row), theirs.get(name), "{name}");
    }
    assert!(text.contains("All is well") && other.contains("All is well"));
}

/// The story's last chapter: name of each process, with its outcome, checksum and verdict.
fn account(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let rows = text.lines().skip_while(|line| !line.contains("verdict")).skip(1);
    rows.map(|line| line.split_whitespace().collect::<Vec<_>>())
        .take_while(|words| words.first().is_some_and(|word| word.parse::<u32>().is_ok()))
        .map(|words| {
            (
                words[1],
                words[2..]
                    .iter()
                    .copied()
                    .take_while(|w| w.parse::<u32>().is_err() || w.len() == 8)
                    .collect(),
            )
        })
        .collect()
}
