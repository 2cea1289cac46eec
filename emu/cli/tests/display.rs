//! The VGA's screen on a terminal, and that terminal's keys as the PC's keyboard.

mod session;

use std::io::Read as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use session::{COLUMNS, PATIENCE, ROWS, Session, program};
use vt100::Color;

/// Writes `A` in yellow on blue and a block in red, blinking, to the screen; puts the cursor in column 5; and sends what the
/// keyboard controller gives to COM1, until the Esc key is released:
///     mov dword [0xb8000], 0x84db1e41; mov dx, 0x3d4; mov ax, 0x050f; out dx, ax
///     l: in al, 0x64; test al, 1; jz l; in al, 0x60; mov dx, 0x3f8; out dx, al; cmp al, 0x81; jne l
///     mov al, 0; out 0xf4, al
const TEXT: [u8; 41] = [
    0xc7, 0x05, 0x00, 0x80, 0x0b, 0x00, 0x41, 0x1e, 0xdb, 0x84, 0x66, 0xba, 0xd4, 0x03, 0x66, 0xb8, 0x0f,
    0x05, 0x66, 0xef, 0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0xe4, 0x60, 0x66, 0xba, 0xf8, 0x03, 0xee, 0x3c,
    0x81, 0x75, 0xef, 0xb0, 0x00, 0xe6, 0xf4,
];

/// Sets a VBE mode of 640 by 480 in 32 bits, left half red and right half green in the first 24 lines, which the window of
/// 64 KiB has room for, and loops.
fn graphics() -> Vec<u8> {
    let mut code = Vec::new();
    // index and value of the VBE registers: width, height, depth, on
    for (index, value) in [(1u8, 640u16), (2, 480), (3, 32), (4, 1)] {
        let [low, high] = value.to_le_bytes();
        code.extend([0x66, 0xba, 0xce, 0x01, 0x66, 0xb8, index, 0, 0x66, 0xef]); // mov dx, 0x1ce; mov ax, index; out dx, ax
        code.extend([0x66, 0xba, 0xcf, 0x01, 0x66, 0xb8, low, high, 0x66, 0xef]); // mov dx, 0x1cf; mov ax, value; out dx, ax
    }
    code.extend([0xbf, 0x00, 0x00, 0x0a, 0x00, 0xbb, 24, 0, 0, 0]); // mov edi, 0xa0000; mov ebx, 24
    // l: mov eax, 0xff0000; mov ecx, 320; rep stosd; mov eax, 0xff00; mov ecx, 320; rep stosd; dec ebx; jnz l
    code.extend([0xb8, 0, 0, 0xff, 0, 0xb9, 0x40, 1, 0, 0, 0xf3, 0xab]);
    code.extend([0xb8, 0, 0xff, 0, 0, 0xb9, 0x40, 1, 0, 0, 0xf3, 0xab, 0x4b, 0x75, 0xe5]);
    code.extend([0xeb, 0xfe]); // jmp to itself
    code
}

#[test]
fn the_text_screen_has_the_guests_colours_characters_and_cursor() {
    let (_folder, image) = program(&TEXT);
    let mut session = Session::new(&image, &["--display", "terminal"]);
    session.wait_for_screen("the text", |screen| {
        screen.cell(0, 0).is_some_and(|cell| cell.contents() == "A") && screen.cursor_position() == (0, 5)
    });
    let terminal = session.screen();
    let screen = terminal.screen();
    // IBM's colours of the text modes
    let cell = |column| screen.cell(0, column).unwrap();
    assert_eq!(cell(0).fgcolor(), Color::Rgb(0xff, 0xff, 0x55));
    assert_eq!(cell(0).bgcolor(), Color::Rgb(0, 0, 0xaa));
    assert_eq!((cell(1).contents(), cell(1).fgcolor()), ("█", Color::Rgb(0xaa, 0, 0)));
    assert!(session.text().contains(";5;") || session.text().contains("0;5"), "it blinks");
    assert!(!screen.hide_cursor() && screen.alternate_screen());
    let status = screen.contents_between(ROWS - 1, 0, ROWS - 1, COLUMNS);
    assert!(status.contains("text 80x25") && status.contains("Ctrl-A h help"), "{status}");
    session.type_in(b"\x01x");
    assert_eq!(session.end().code(), Some(130));
    session.assert_restored();
    assert!(!session.screen().screen().alternate_screen());
    assert!(session.text().contains("|A█|"), "the last screen stays to be read");
}

#[test]
fn keys_are_those_of_a_pc_keyboard() {
    let (folder, image) = program(&TEXT);
    // slow, so that the time between two keys is few instructions
    let args = ["--display", "terminal", "--serial", "codes", "--ns-per-instruction", "100"];
    let mut session = Session::new(&image, &args);
    session
        .wait_for_screen("the text", |screen| screen.cell(0, 0).is_some_and(|cell| cell.contents() == "A"));
    // a, A, Ctrl-C, Alt-x, F1 and F10, the arrows up and left, Ctrl-A, Esc
    session.type_in(b"aA\x03\x1bx\x1bOP\x1b[21~\x1b[A\x1b[D\x01\x01");
    let mut expected: Vec<u8> = vec![0x1e, 0x9e, 0x2a, 0x1e, 0x9e, 0xaa, 0x1d, 0x2e, 0xae, 0x9d];
    expected.extend([0x38, 0x2d, 0xad, 0xb8, 0x3b, 0xbb, 0x44, 0xc4, 0xe0, 0x48, 0xe0, 0xc8]);
    expected.extend([0xe0, 0x4b, 0xe0, 0xcb, 0x1d, 0x1e, 0x9e, 0x9d]);
    let codes = || std::fs::read(folder.path().join("codes")).unwrap();
    let started = Instant::now();
    while codes().len() < expected.len() && started.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(codes(), expected);
    session.type_in(b"\x1b");
    assert_eq!(session.end().code(), Some(1));
    session.assert_restored();
    assert_eq!(codes()[expected.len()..], [0x01, 0x81]);
}

#[test]
fn help_covers_the_screen_until_a_key_and_unknown_commands_are_told() {
    let (_folder, image) = program(&TEXT);
    let mut session = Session::new(&image, &["--display", "terminal"]);
    session.wait_for_screen("the text", |screen| screen.contents().contains("A█"));
    session.type_in(b"\x01h");
    session.wait_for_screen("help", |screen| {
        let text = screen.contents();
        text.contains("Ctrl-A s") && text.contains("--serial FILE") && !text.contains("A█")
    });
    session.type_in(b" ");
    session.wait_for_screen("the text again", |screen| screen.contents().contains("A█"));
    session.type_in(b"\x01!");
    session.wait_for_screen("a message", |screen| screen.contents().contains("Ctrl-A ! is no command"));
    session.type_in(b"\x01x");
    session.end();
}

#[test]
fn a_graphics_mode_is_scaled_to_half_blocks() {
    let (folder, image) = program(&graphics());
    let mut session = Session::new(&image, &["--display", "terminal"]);
    session.wait_for_screen("the mode", |screen| screen.contents().contains("graphics 640x480"));
    session.wait_for_screen("the colours", |screen| {
        screen.cell(0, 0).is_some_and(|cell| cell.fgcolor() == Color::Rgb(255, 0, 0))
    });
    let terminal = session.screen();
    let screen = terminal.screen();
    // 29 rows are 58 dots high, so 77 wide; the third of 58 ends with line 23 of 480
    let colours = |row, column| {
        let cell = screen.cell(row, column).unwrap();
        (cell.contents().to_string(), cell.fgcolor(), cell.bgcolor())
    };
    let (red, green, black) = (Color::Rgb(255, 0, 0), Color::Rgb(0, 255, 0), Color::Rgb(0, 0, 0));
    assert_eq!(colours(0, 10), ("▀".into(), red, red));
    assert_eq!(colours(0, 70), ("▀".into(), green, green));
    assert_eq!((colours(1, 70).1, colours(1, 70).2), (green, black));
    assert_eq!(colours(0, 77).0.trim(), "");
    session.type_in(b"\x01s");
    session.wait_for_screen("the file", |screen| screen.contents().contains("pagewalk-1.png"));
    session.type_in(b"\x01x");
    session.end();
    let mut picture = png::Decoder::new(std::io::BufReader::new(
        std::fs::File::open(folder.path().join("pagewalk-1.png")).unwrap(),
    ))
    .read_info()
    .unwrap();
    assert_eq!((picture.info().width, picture.info().height), (640, 480));
    let mut dots = vec![0; picture.output_buffer_size().unwrap()];
    picture.next_frame(&mut dots).unwrap();
    let dot = |x: usize, y: usize| &dots[(y * 640 + x) * 3..][..3];
    assert_eq!(
        [dot(0, 0), dot(319, 23), dot(320, 23), dot(0, 24)],
        [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0; 3]]
    );
}

#[test]
fn a_window_that_changes_its_size_is_drawn_again() {
    let (_folder, image) = program(&TEXT);
    let mut session = Session::new(&image, &["--display", "terminal"]);
    session.wait_for_screen("the text", |screen| screen.contents().contains("A█"));
    session.shown.clear();
    session.pty.resize(pty_process::Size::new(20, 60)).unwrap();
    session.expect("a part of it");
    let text = session.text();
    let drawn_again = &text[text.rfind("\x1b[2J").unwrap()..];
    assert!(drawn_again.contains("\x1b[20;1H") && !drawn_again.contains("\x1b[21;"), "{text:?}");
    session.type_in(b"\x01x");
    session.end();
}

#[test]
fn a_screen_that_was_away_while_the_process_was_stopped_is_drawn_again() {
    let (_folder, image) = program(&TEXT);
    let mut session = Session::new(&image, &["--display", "terminal"]);
    session.wait_for_screen("the text", |screen| screen.contents().contains("A█"));
    session.signal(Signal::TSTP);
    session.wait_for_screen("the other screen", |screen| !screen.alternate_screen());
    session.signal(Signal::CONT);
    session.wait_for_screen("the text again", |screen| {
        screen.alternate_screen() && screen.contents().contains("A█")
    });
    session.type_in(b"\x01x");
    assert_eq!(session.end().code(), Some(130));
    session.assert_restored();
}

#[test]
fn without_a_terminal_it_is_refused_by_a_sentence() {
    let (_folder, image) = program(&TEXT);
    let image = image.to_str().unwrap();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pagewalk"))
            .args(["run", image, "--boot", "raw32", "--display", "terminal"])
            .args(args)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, text) = run(&[]);
    assert_eq!((status, text.lines().count()), (Some(125), 1), "{text}");
    assert!(text.contains("--display terminal needs standard input and output to be a terminal"), "{text}");
    let (status, text) = run(&["--serial", "stdio"]);
    assert_eq!((status, text.lines().count()), (Some(125), 1), "{text}");
    assert!(text.contains("has the terminal for itself"), "{text}");
}

#[test]
fn a_terminal_that_goes_away_ends_the_run() {
    let (_folder, image) = program(&TEXT);
    for _ in 0..5 {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(ROWS, COLUMNS)).unwrap();
        let mut child = pty_process::blocking::Command::new(env!("CARGO_BIN_EXE_pagewalk"))
            .args([
                "run",
                image.to_str().unwrap(),
                "--boot",
                "raw32",
                "--memory",
                "4M",
                "--display",
                "terminal",
            ])
            .spawn(pts)
            .unwrap();
        // it has begun to draw
        let mut some = [0; 256];
        assert!((&pty).read(&mut some).unwrap() > 0);
        drop(pty);
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("it runs on without its terminal");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
