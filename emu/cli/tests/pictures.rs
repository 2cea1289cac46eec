//! `--screenshot` and `--keys`: pictures of what a guest drew, and keys at their times.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Red, green and blue of each dot of a file.
struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    fn read(path: &Path) -> Picture {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        Picture { width: info.width as usize, height: info.height as usize, rgb }
    }

    fn dot(&self, x: usize, y: usize) -> [u8; 3] {
        self.rgb[(y * self.width + x) * 3..][..3].try_into().unwrap()
    }
}

fn program(code: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.bin");
    std::fs::write(&path, code).unwrap();
    (folder, path)
}

fn run(image: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pagewalk"))
        .current_dir(image.parent().unwrap())
        .args(["run", image.to_str().unwrap(), "--boot", "raw32", "--memory", "4M"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// mov dword [0xb8000 + 4 * n], cells
fn put(n: u8, cells: [u8; 4]) -> Vec<u8> {
    [&[0xc7, 0x05, 4 * n, 0x80, 0x0b, 0x00][..], &cells].concat()
}

const YELLOW: [u8; 3] = [0xff, 0xff, 0x55];
const RED: [u8; 3] = [0xaa, 0, 0];

/// Yellow on red: a whole block, a lower half block, a left half block and a blank, then a halt for good.
fn blocks() -> Vec<u8> {
    [put(1, [0xdb, 0x4e, 0xdc, 0x4e]), put(2, [0xdd, 0x4e, 0x20, 0x4e]), vec![0xfa, 0xf4]].concat()
}

#[test]
fn a_picture_of_a_text_screen_has_the_glyphs_dots() {
    let (folder, image) = program(&blocks());
    assert_eq!(run(&image, &["--screenshot", "end.png"]).status.code(), Some(0));
    let picture = Picture::read(&folder.path().join("end.png"));
    assert_eq!((picture.width, picture.height), (720, 400));
    for (column, inside) in [
        (2, &(|_: usize, _: usize| true) as &dyn Fn(usize, usize) -> bool),
        (3, &|_, y| y >= 8),
        // the ninth dot repeats the eighth, in the codes C0h to DFh
        (4, &|x, _| x < 4),
        (5, &|_, _| false),
    ] {
        for (x, y) in (0..16).flat_map(|y| (0..9).map(move |x| (x, y))) {
            let expected = if inside(x, y) { YELLOW } else { RED };
            assert_eq!(picture.dot(9 * column + x, y), expected, "column {column}, dot {x}, line {y}");
        }
    }
}

#[test]
fn a_picture_at_an_instruction_count_shows_that_moment() {
    let (folder, image) = program(&blocks());
    let at = |n: &str| {
        let file = format!("{n}.png");
        assert_eq!(run(&image, &["--screenshot", &file, "--screenshot-at", n]).status.code(), Some(0));
        let picture = Picture::read(&folder.path().join(file));
        [2, 4].map(|column| picture.dot(9 * column, 15))
    };
    assert_eq!(at("1"), [YELLOW, [0; 3]]);
    assert_eq!(at("2"), [YELLOW, YELLOW]);
}

#[test]
fn a_picture_of_mode_13h_has_the_palettes_colours() {
    // what a video BIOS writes for mode 13h that text mode 3 has otherwise (IBM's tables of the standard modes)
    let pairs = |port: u16, registers: &[(u8, u8)]| -> Vec<u8> {
        let [low, high] = port.to_le_bytes();
        let mut code = vec![0x66, 0xba, low, high]; // mov dx, port
        for &(index, value) in registers {
            code.extend([0x66, 0xb8, index, value, 0x66, 0xef]); // mov ax, value:index; out dx, ax
        }
        code
    };
    let mut code = vec![0x66, 0xba, 0xc2, 0x03, 0xb0, 0x63, 0xee]; // miscellaneous output
    code.extend(pairs(0x3c4, &[(1, 0x01), (2, 0x0f), (3, 0), (4, 0x0e)]));
    code.extend(pairs(
        0x3d4,
        &[(0x11, 0x0e), (0, 0x5f), (1, 0x4f), (2, 0x50), (3, 0x82), (4, 0x54), (5, 0x80)],
    ));
    code.extend(pairs(0x3d4, &[(6, 0xbf), (7, 0x1f), (8, 0), (9, 0x41), (0x0c, 0), (0x0d, 0), (0x10, 0x9c)]));
    code.extend(pairs(
        0x3d4,
        &[(0x12, 0x8f), (0x13, 0x28), (0x14, 0x40), (0x15, 0x96), (0x16, 0xb9), (0x17, 0xa3)],
    ));
    code.extend(pairs(0x3ce, &[(0, 0), (1, 0), (3, 0), (4, 0), (5, 0x40), (6, 0x05), (7, 0x0f), (8, 0xff)]));
    // attribute controller: read 3DAh, then index 10h and its value, then the screen on
    code.extend([0x66, 0xba, 0xda, 0x03, 0xec, 0x66, 0xba, 0xc0, 0x03]);
    code.extend([0xb0, 0x10, 0xee, 0xb0, 0x41, 0xee, 0xb0, 0x20, 0xee]);
    // DAC: entry 200 is 63, 32, 1
    code.extend([0x66, 0xba, 0xc8, 0x03, 0xb0, 200, 0xee, 0x66, 0xba, 0xc9, 0x03]);
    code.extend([0xb0, 63, 0xee, 0xb0, 32, 0xee, 0xb0, 1, 0xee]);
    code.extend([0xb0, 200, 0xa2, 0x45, 0x01, 0x0a, 0x00]); // mov al, 200; mov [0xa0145], al: line 1, pixel 5
    code.extend([0xfa, 0xf4]);
    let (folder, image) = program(&code);
    assert_eq!(run(&image, &["--screenshot", "13h.png"]).status.code(), Some(0));
    let picture = Picture::read(&folder.path().join("13h.png"));
    assert_eq!((picture.width, picture.height), (640, 400));
    // six bits of the DAC are eight by repeating the highest two
    let colour = [255, 130, 4];
    for (x, y) in [(10, 2), (11, 2), (10, 3), (11, 3)] {
        assert_eq!(picture.dot(x, y), colour);
    }
    for (x, y) in [(9, 2), (12, 2), (10, 1), (10, 4)] {
        assert_ne!(picture.dot(x, y), colour);
    }
}

/// Sends what the keyboard controller gives to COM1, until the Esc key is released; at the release of `g`, writes `Go` to
/// the screen:
///     l: in al, 0x64; test al, 1; jz l; in al, 0x60; mov dx, 0x3f8; out dx, al; cmp al, 0xa2; jne n
///     mov dword [0xb8000], 0x076f0747; n: cmp al, 0x81; jne l; mov al, 0; out 0xf4, al
const KEYS: [u8; 35] = [
    0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0xe4, 0x60, 0x66, 0xba, 0xf8, 0x03, 0xee, 0x3c, 0xa2, 0x75, 0x0a,
    0xc7, 0x05, 0x00, 0x80, 0x0b, 0x00, 0x47, 0x07, 0x6f, 0x07, 0x3c, 0x81, 0x75, 0xe1, 0xb0, 0x00, 0xe6,
    0xf4,
];

#[test]
fn a_script_types_in_its_order_and_the_same_twice() {
    let (_folder, image) = program(&KEYS);
    let outputs =
        [&["--state-hash"][..], &["--state-hash", "--screenshot", "x.png", "--screenshot-at", "12345"]].map(
            |more| run(&image, &[&["--keys", "<at 1M>a<f1>g<after Go>B<wait 50ms><esc>"], more].concat()),
        );
    for output in &outputs {
        assert_eq!(output.status.code(), Some(1));
        let expected =
            [&[0x1e, 0x9e, 0x3b, 0xbb, 0x22, 0xa2][..], &[0x2a, 0x30, 0xb0, 0xaa], &[0x01, 0x81]].concat();
        assert_eq!(output.stdout, expected);
    }
    assert!(outputs[0].stderr.starts_with(b"state "));
    assert_eq!(outputs[0].stderr, outputs[1].stderr);
}

#[test]
fn a_script_that_waits_in_vain_says_for_what() {
    let (_folder, image) = program(&KEYS);
    let output = run(&image, &["--keys", "a<after Never>b", "--max-instructions", "30M"]);
    assert_eq!(output.status.code(), Some(124));
    assert_eq!(output.stdout, [0x1e, 0x9e]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("it waited for 'Never' on the screen"), "{text}");
}

#[test]
fn a_key_wakes_a_guest_that_waits_for_nothing_else() {
    // the 8259As let nothing through but the keyboard; its handler (IDT at 0x1000, vector 9) sends the code to COM1 and
    // ends the run
    let mut code = vec![0xb0, 0xfd, 0xe6, 0x21, 0xb0, 0xff, 0xe6, 0xa1]; // masks
    code.extend([0x66, 0xc7, 0x05, 0, 0x90, 0, 0, 0xff, 7]); // mov word [0x9000], 0x7ff: limit
    code.extend([0xc7, 0x05, 2, 0x90, 0, 0, 0, 0x10, 0, 0]); // mov dword [0x9002], 0x1000: base
    code.extend([0x0f, 0x01, 0x1d, 0, 0x90, 0, 0]); // lidt [0x9000]
    // a GDT with flat code at 8: mov dword [0x9108], 0x0000ffff; mov dword [0x910c], 0x00cf9a00; lgdt
    code.extend([0xc7, 0x05, 8, 0x91, 0, 0, 0xff, 0xff, 0, 0, 0xc7, 0x05, 12, 0x91, 0, 0, 0, 0x9a, 0xcf, 0]);
    code.extend([0x66, 0xc7, 0x05, 0x10, 0x90, 0, 0, 0x0f, 0]);
    code.extend([0xc7, 0x05, 0x12, 0x90, 0, 0, 0, 0x91, 0, 0, 0x0f, 0x01, 0x15, 0x10, 0x90, 0, 0]);
    // gate 9: the handler stands at 0x100100
    code.extend([
        0xc7, 0x05, 0x48, 0x10, 0, 0, 0, 0x01, 8, 0, 0xc7, 0x05, 0x4c, 0x10, 0, 0, 0, 0x8e, 0x10, 0,
    ]);
    code.extend([0xbc, 0, 0x80, 0, 0, 0xfb, 0xf4]); // mov esp, 0x8000; sti; hlt
    code.resize(0x100, 0x90);
    code.extend([0xe4, 0x60, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xb0, 0, 0xe6, 0xf4]);
    let (_folder, image) = program(&code);
    let output = run(&image, &["--keys", "<wait 2s>k"]);
    assert_eq!((output.status.code(), output.stdout), (Some(1), vec![0x25]));
}
