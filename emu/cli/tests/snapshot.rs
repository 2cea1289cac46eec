//! `pagewalk run --save` and `--load`: a run in two halves is the run in one, and what is no snapshot is refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn pagewalk(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pagewalk")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line with the hash of the whole state.
fn state(output: &Output) -> String {
    errors(output).lines().find(|line| line.starts_with("state ")).unwrap().to_string()
}

/// A folder with the story kernel and its disk.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("story"), pagewalk_testbins::STORY.image).unwrap();
        std::fs::write(folder.path().join("disk"), vec![0; 8 << 20]).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    /// Runs the story from its beginning.
    fn run(&self, args: &[&str]) -> Output {
        let (story, disk) = (self.text("story"), self.text("disk"));
        pagewalk(&[&["run", &story, "--disk", &disk, "--memory", "32M", "--state-hash"], args].concat())
    }

    fn load(&self, name: &str, args: &[&str]) -> Output {
        pagewalk(&[&["run", "--load", &self.text(name), "--state-hash"], args].concat())
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_run_in_three_parts_says_and_ends_as_the_run_in_one() {
    let place = Place::new();
    let whole = place.run(&[]);
    assert_eq!(status(&whole), 1, "{}", errors(&whole));
    let (first, second) = (place.text("first"), place.text("second"));
    let a = place.run(&["--max-instructions", "400k", "--save", &first]);
    assert_eq!(status(&a), 124, "{}", errors(&a));
    let b = place.load("first", &["--max-instructions", "1300000", "--save", &second]);
    assert_eq!(status(&b), 124, "{}", errors(&b));
    // a snapshot can be gone on from any number of times, and may be replaced by one of what it led to
    for _ in 0..2 {
        let c = place.load("second", &[]);
        assert_eq!((status(&c), state(&c)), (status(&whole), state(&whole)), "{}", errors(&c));
        assert_eq!([a.stdout.clone(), b.stdout.clone(), c.stdout].concat(), whole.stdout);
    }
    let again = place.load("first", &["--max-instructions", "1300000", "--save", &first]);
    assert_eq!(again.stdout, b.stdout);
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&second).unwrap(),
        "the same machine, the same file"
    );
    // the kernel, the disk and two snapshots: no temporary file is left
    assert_eq!(files(place.folder.path()), 4);
}

#[test]
fn a_run_is_saved_however_it_ends() {
    let place = Place::new();
    let saved = place.text("saved");
    assert_eq!(status(&place.run(&["--timeout", "0.05", "--save", &saved])), 124);
    assert!(errors(&place.load("saved", &["--max-instructions", "1"])).contains("stopped after"));
    // the guest wrote 0 to port F4h: what came after it is gone on with
    assert_eq!(status(&place.run(&["--save", &saved])), 1);
    let after = place.load("saved", &["--max-instructions", "1"]);
    assert_eq!(status(&after), 124, "{}", errors(&after));
}

#[test]
fn what_is_no_snapshot_is_refused_in_one_sentence_and_by_a_status_of_its_own() {
    let place = Place::new();
    let saved = place.text("saved");
    place.run(&["--max-instructions", "1000", "--save", &saved]);
    let good = std::fs::read(&saved).unwrap();
    let mut version = good.clone();
    version[8] = 99;
    let mut header = good.clone();
    header[20] ^= 1;
    let mut middle = good.clone();
    middle[good.len() / 2] ^= 1;
    for (bytes, sentence) in [
        (&b"\x7fELF"[..], "is no snapshot of pagewalk's: it was made by something else"),
        (&[], "is no snapshot of pagewalk's: it was made by something else"),
        (&version, "has format 99, and this pagewalk reads format 2: load it with the pagewalk that made it"),
        (&header, "is damaged: its header has another sum; make it again, or copy it again"),
        (&middle, "is damaged: its stream has another sum; make it again, or copy it again"),
        (&good[..good.len() - 1], "and should have"),
    ] {
        std::fs::write(place.path("bad"), bytes).unwrap();
        let output = place.load("bad", &[]);
        assert_eq!(status(&output), 122, "{}", errors(&output));
        let text = errors(&output);
        assert!(text.contains(sentence) && text.contains("bad"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let missing = place.load("missing", &[]);
    assert_eq!(status(&missing), 125);
    assert!(errors(&missing).contains("can't read the snapshot"), "{}", errors(&missing));
    assert_eq!(
        errors(&missing).matches("os error").count(),
        1,
        "the cause is told once: {}",
        errors(&missing)
    );
}

#[test]
fn a_snapshot_needs_the_disk_image_it_was_made_with() {
    let place = Place::new();
    place.run(&["--max-instructions", "1000", "--save", &place.text("saved")]);
    std::fs::write(place.path("disk"), vec![1; 8 << 20]).unwrap();
    let changed = place.load("saved", &[]);
    assert_eq!(status(&changed), 125);
    assert!(errors(&changed).contains("has changed since the snapshot was made"), "{}", errors(&changed));
    std::fs::remove_file(place.path("disk")).unwrap();
    let missing = place.load("saved", &[]);
    assert_eq!(status(&missing), 125);
    assert!(errors(&missing).contains("can't open the disk image"), "{}", errors(&missing));
}

#[test]
fn options_that_say_what_the_machine_is_can_not_be_given_with_a_snapshot() {
    for option in [
        &["kernel"][..],
        &["--bios", "rom"],
        &["--memory", "16M"],
        &["--cpu", "p4"],
        &["--tlb", "entries=32"],
        &["--disk", "disk"],
        &["--cdrom", "disc"],
        &["--append", "quiet"],
        &["--ns-per-instruction", "2"],
    ] {
        let output = pagewalk(&[&["run", "--load", "snapshot"], option].concat());
        assert_eq!(status(&output), 125, "{option:?}");
        assert!(errors(&output).contains("cannot be used with"), "{option:?}: {}", errors(&output));
    }
}

#[test]
fn a_snapshot_that_can_not_be_written_leaves_what_was_there() {
    let place = Place::new();
    let output = place.run(&["--max-instructions", "1000", "--save", "/no/such/folder/snapshot"]);
    assert_eq!(status(&output), 125);
    assert!(errors(&output).contains("can't write the snapshot"), "{}", errors(&output));
    let folder = place.folder.path().to_str().unwrap();
    let output = place.run(&["--max-instructions", "1000", "--save", folder]);
    assert_eq!(status(&output), 125);
    assert!(errors(&output).contains("is not a regular file"), "{}", errors(&output));
    assert_eq!(files(place.folder.path()), 2);
}
