//! Statically linked programs for 32-bit Linux say the same, and end the same, under Debian's kernel here as natively.

use std::path::Path;
use std::time::Duration;

use pagewalk_tests::fetched;
use pagewalk_tests::programs::{Ended, compiled, here, natively, pagewalk};

fn assert_the_same(program: &Path, arguments: &[&str], input: &[u8]) -> Ended {
    let (native, ours) = (natively(program, arguments, input), here(program, &[], arguments, input));
    assert_eq!(ours.errors, native.errors);
    for (number, (ours, native)) in ours.output.lines().zip(native.output.lines()).enumerate() {
        assert_eq!(ours, native, "line {}", number + 1);
    }
    assert_eq!(ours, native);
    native
}

#[test]
fn the_c_library_formats_sorts_jumps_and_computes_as_natively() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled("library.c", &["-static"], folder.path());
    let ended = assert_the_same(&program, &["one", "two words", ""], b"");
    assert_eq!((ended.status, ended.errors.as_str()), (44, "to standard error\n"));
    assert!(ended.output.lines().count() > 100);
}

#[test]
fn threads_and_processes_come_to_the_same_sums() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled("threads.c", &["-static-pie", "-fPIE"], folder.path());
    assert_eq!(assert_the_same(&program, &[], b"").status, 0);
}

#[test]
fn signals_tell_the_same_of_each_fault_and_the_last_one_is_in_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled("signals.c", &["-static"], folder.path());
    assert_eq!(assert_the_same(&program, &["abort"], b"").status, 128 + 6);
}

#[test]
fn the_applets_of_busybox_say_the_same() {
    let script = include_bytes!("../programs/applets.sh");
    let busybox = fetched("busybox-i386").unwrap();
    let ended = assert_the_same(&busybox, &["sh"], script);
    assert_eq!((ended.status, ended.errors.as_str()), (9, "done\n"));
    assert!(ended.output.lines().count() > 80);
}

#[test]
fn a_million_bytes_of_any_value_go_in_and_out() {
    let mut random = pagewalk_x86::random::Random::new(0x0123_4567);
    let input: Vec<u8> = (0..1_000_000).map(|_| random.bits() as u8).collect();
    let busybox = fetched("busybox-i386").unwrap();
    let ended = assert_the_same(&busybox, &["tee", "/dev/stderr"], &input);
    assert_eq!(ended.output, ended.errors);
    assert_eq!(ended.output.chars().count(), input.len());
}

#[test]
fn a_program_that_does_not_say_for_which_system_it_is_runs_if_a_kernel_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled("bare.c", &["-static", "-nostdlib"], folder.path());
    let native = natively(&program, &[], b"");
    assert_eq!((native.status, native.output.as_str()), (42, "no library\n"));
    assert_eq!(here(&program, &[], &[], b""), native);
}

#[test]
fn a_file_and_a_variable_that_are_given_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    std::fs::write(&note, "from the host\n").unwrap();
    let file = format!("{}=/etc/notes/one", note.display());
    let busybox = fetched("busybox-i386").unwrap();
    let script =
        "cat /etc/notes/one; echo $WHERE $HOME; pwd; hostname; ping -c 1 -q localhost | grep received";
    let ended = here(&busybox, &["--file", &file, "--env", "WHERE=there"], &["sh", "-c", script], b"");
    let expected = "from the host\nthere /root\n/\npagewalk\n1 packets transmitted, 1 packets received, 0% packet loss\n";
    assert_eq!(ended, Ended { status: 0, output: expected.into(), errors: String::new() });
}

#[test]
fn a_kernel_that_gives_up_is_told_with_its_last_words() {
    let busybox = fetched("busybox-i386").unwrap();
    let ended = here(&busybox, &["--append", "rdinit=/none root=/dev/none"], &["true"], b"");
    assert_eq!(ended.status, 125, "{}", ended.errors);
    assert!(ended.errors.contains("gave up") && ended.errors.contains("Kernel panic"), "{}", ended.errors);
}

#[test]
fn two_runs_are_the_same_to_the_last_bit() {
    let busybox = fetched("busybox-i386").unwrap();
    let run = || {
        here(&busybox, &["--state-hash", "--append", "nokaslr"], &["sh", "-c", "dmesg | md5sum"], b"input")
    };
    let (first, second) = (run(), run());
    assert!(first.errors.contains("state "), "{}", first.errors);
    assert_eq!(first, second);
}

#[test]
fn on_a_terminal_the_program_has_one() {
    use std::io::{Read as _, Write as _};
    let (pty, pts) = pty_process::blocking::open().unwrap();
    pty.resize(pty_process::Size::new(33, 111)).unwrap();
    let mut child = pty_process::blocking::Command::new(pagewalk())
        .env("TERM", "vt100")
        .args(["run", "--kernel"])
        .arg(fetched("vmlinuz-686-pae").unwrap())
        .arg(fetched("busybox-i386").unwrap())
        .args(["--", "sh"])
        .spawn(pts)
        .unwrap();
    let reader = std::sync::Arc::new(pty);
    let pty = std::sync::Arc::clone(&reader);
    let (sender, output) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = (&*reader).read(&mut bytes) {
            let _ = sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
    });
    let mut shown = String::new();
    let mut wait_for = |what: &str| {
        while !shown.contains(what) {
            match output.recv_timeout(Duration::from_secs(300)) {
                Ok(text) => shown += &text,
                Err(error) => panic!("{error}: no '{what}' in {shown}"),
            }
        }
        shown.clear();
    };
    wait_for("is starting");
    wait_for("/ # ");
    (&*pty).write_all(b"stty size; tty; echo $TERM $((6 * 7))\r").unwrap();
    wait_for("33 111\r\n/dev/ttyS0\r\nvt100 42\r\n");
    // Ctrl-C is the guest's
    (&*pty).write_all(b"sh -c 'echo here; sleep 1000'\r").unwrap();
    wait_for("here\r\n");
    (&*pty).write_all(b"\x03").unwrap();
    wait_for("/ # ");
    (&*pty).write_all(b"exit 5\r").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}
