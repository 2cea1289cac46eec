//! The command on a terminal: a pseudo-terminal is its standard input, output and error.

mod session;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::termios::{InputModes, LocalModes, OutputModes, Termios};
use session::{PATIENCE, Session, program};

/// Sends back what COM1 receives, one greater, and ends with status 1 at a `q`:
///     mov dx, 0x3fd; l: in al, dx; test al, 1; jz l; mov dl, 0xf8; in al, dx; cmp al, 'q'; je e;
///     inc al; out dx, al; mov dl, 0xfd; jmp l; e: mov al, 0; out 0xf4, al
const ECHO: [u8; 31] = [
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0xb2, 0xf8, 0xec, 0x3c, b'q', 0x74, 0x07, 0xfe,
    0xc0, 0xee, 0xb2, 0xfd, 0xeb, 0xed, 0xb0, 0x00, 0xe6, 0xf4, 0x90, 0x90, 0x90, 0x90,
];

fn is_raw(settings: &Termios) -> bool {
    !settings.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
        && !settings.input_modes.intersects(InputModes::ICRNL | InputModes::IXON)
        && !settings.output_modes.contains(OutputModes::OPOST)
}

#[test]
fn every_key_reaches_the_guest_and_the_terminal_is_raw_meanwhile() {
    let (_folder, image) = program(&ECHO);
    let mut session = Session::new(&image, &[]);
    assert!(!is_raw(&session.before));
    session.expect("Ctrl-A h for help");
    session.type_in(b"a");
    session.expect("b");
    assert!(is_raw(&session.settings()));
    // Ctrl-C, Ctrl-Z, Ctrl-\, Ctrl-D, Ctrl-S and Return are keys like others
    session.shown.clear();
    session.type_in(b"\x03\x1a\x1c\x04\x13\x0dz");
    session.expect("\x04\x1b\x1d\x05\x14\x0e{");
    session.type_in(b"q");
    assert_eq!(session.end().code(), Some(1));
    session.assert_restored();
}

#[test]
fn ctrl_a_x_leaves_with_the_status_of_ctrl_c() {
    let (_folder, image) = program(&ECHO);
    let mut session = Session::new(&image, &[]);
    session.expect("to leave");
    session.type_in(b"\x01x");
    assert_eq!(session.end().code(), Some(130));
    assert!(session.text().contains("interrupted after"), "{}", session.text());
    session.assert_restored();
}

#[test]
fn ctrl_a_h_helps_and_ctrl_a_twice_is_sent_once() {
    let (_folder, image) = program(&ECHO);
    let mut session = Session::new(&image, &[]);
    session.expect("to leave");
    session.type_in(b"\x01h");
    session.expect("stty rows 30 cols 100");
    for part in ["Ctrl-A x", "Ctrl-A h", "Ctrl-A s", "Ctrl-A w", "Ctrl-A Ctrl-A"] {
        session.expect(part);
    }
    session.shown.clear();
    session.type_in(b"\x01\x01A");
    session.expect("\x02B");
    session.type_in(b"\x01!");
    session.expect("Ctrl-A ! is no command");
    session.type_in(b"\x01x");
    session.end();
}

#[test]
fn signals_that_end_it_leave_the_terminal_as_it_was() {
    let (_folder, image) = program(&ECHO);
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut session = Session::new(&image, &[]);
        session.type_in(b"a");
        session.expect("b");
        session.signal(signal);
        assert_eq!(session.end().code(), Some(130), "{signal:?}");
        session.assert_restored();
    }
}

#[test]
fn a_stopped_session_gives_the_terminal_back_and_takes_it_again_when_continued() {
    let (_folder, image) = program(&ECHO);
    let mut session = Session::new(&image, &[]);
    session.type_in(b"a");
    session.expect("b");
    session.signal(Signal::TSTP);
    let started = Instant::now();
    while is_raw(&session.settings()) {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    session.assert_restored();
    std::thread::sleep(Duration::from_millis(50));
    session.signal(Signal::CONT);
    while !is_raw(&session.settings()) {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    session.shown.clear();
    session.type_in(b"c\x01x");
    session.expect("d");
    assert_eq!(session.end().code(), Some(130));
    session.assert_restored();
}

#[test]
fn a_triple_fault_is_told_on_a_terminal_that_was_given_back() {
    let (_folder, image) = program(&[0xcd, 0x80]); // int 0x80, without an IDT to speak of
    let mut session = Session::new(&image, &[]);
    assert_eq!(session.end().code(), Some(126));
    // lines end as the terminal's own settings have it
    assert!(session.text().contains("triple fault after 0 instructions: the processor shut down\r\n"));
    assert!(!session.text().replace("\r\n", "").contains('\n'), "{:?}", session.text());
    session.assert_restored();
}

#[test]
fn pictures_made_on_a_key_never_overwrite_a_file() {
    let (folder, image) = program(&ECHO);
    std::fs::write(folder.path().join("pagewalk-1.png"), "mine").unwrap();
    let mut session = Session::new(&image, &[]);
    session.type_in(b"\x01s\x01s");
    session.expect("pagewalk-3.png");
    session.type_in(b"\x01x");
    session.end();
    assert_eq!(std::fs::read(folder.path().join("pagewalk-1.png")).unwrap(), b"mine");
    for name in ["pagewalk-2.png", "pagewalk-3.png"] {
        assert!(std::fs::read(folder.path().join(name)).unwrap().starts_with(b"\x89PNG"));
    }
}

/// mov dword [address], value
fn store(address: u32, value: u32) -> Vec<u8> {
    [&[0xc7, 0x05][..], &address.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// Waits in HLT for 19 interrupts of the timer, 18.2 of which make a second, and ends with status 1.
fn one_second() -> Vec<u8> {
    // the gate of vector 8 in the IDT at 1000h, flat code at selector 8 of a GDT at 9100h
    let mut code = [store(0x1040, 0x8_0400), store(0x1044, 0x10_8e00)].concat();
    code.extend([store(0x9000, 0x07ff_0000), store(0x9004, 0x1000), store(0x9500, 0)].concat());
    code.extend([0x0f, 0x01, 0x1d, 2, 0x90, 0, 0]); // lidt [0x9002]
    code.extend([store(0x9108, 0xffff), store(0x910c, 0x00cf_9a00)].concat());
    code.extend([store(0x9010, 0x000f_0000), store(0x9014, 0x9100)].concat());
    code.extend([0x0f, 0x01, 0x15, 0x12, 0x90, 0, 0, 0xbc, 0, 0x80, 0, 0]); // lgdt [0x9012]; mov esp, 0x8000
    code.extend([0xb0, 0xfe, 0xe6, 0x21, 0xfb]); // mov al, 0xfe; out 0x21, al; sti
    code.extend([0xf4, 0x83, 0x3d, 0, 0x95, 0, 0, 19, 0x72, 0xf6]); // l: hlt; cmp dword [0x9500], 19; jb l
    code.extend([0xb0, 0, 0xe6, 0xf4]); // mov al, 0; out 0xf4, al
    code.resize(0x400, 0x90);
    // push eax; mov al, 0x20; out 0x20, al; pop eax; inc dword [0x9500]; iret
    code.extend([0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xff, 0x05, 0, 0x95, 0, 0, 0xcf]);
    code
}

#[test]
fn a_second_is_not_over_before_a_second_where_somebody_looks_on() {
    let (_folder, image) = program(&one_second());
    let started = Instant::now();
    let mut session = Session::new(&image, &["--stats-json", "stats"]);
    assert_eq!(session.end().code(), Some(1));
    // one slice may be run before it is known how much time it takes
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
}

#[test]
fn what_was_said_while_the_screen_was_drawn_is_printed_after_it() {
    // port E9h: H, i; then an X on the screen; and the guest loops
    let code =
        [0xb0, b'H', 0xe6, 0xe9, 0xb0, b'i', 0xe6, 0xe9, 0xc6, 0x05, 0, 0x80, 0x0b, 0, b'X', 0xeb, 0xfe];
    let (_folder, image) = program(&code);
    let mut session = Session::new(&image, &["--display", "terminal"]);
    session.wait_for_screen("the X", |screen| screen.contents().starts_with('X'));
    assert!(!session.text().contains("Hi"));
    session.signal(Signal::TERM);
    assert_eq!(session.end().code(), Some(130));
    session.assert_restored();
    let text = session.text();
    assert!(text.find("\x1b[?1049l").unwrap() < text.find("Hi").unwrap(), "{text:?}");
    assert!(!session.screen().screen().hide_cursor());
}
