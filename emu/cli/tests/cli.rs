//! The command as its users meet it: statuses, streams, messages.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A flat 32-bit program in a file of its own.
fn program(code: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.bin");
    std::fs::write(&path, code).unwrap();
    (folder, path)
}

fn pagewalk(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pagewalk")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn run(code: &[u8], args: &[&str]) -> Output {
    let (_folder, path) = program(code);
    let mut all = vec!["run", path.to_str().unwrap(), "--boot", "raw32", "--memory", "4M"];
    all.extend(args);
    pagewalk(&all)
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// mov al, `value`; out 0xf4, al
fn exit_with(value: u8) -> [u8; 4] {
    [0xb0, value, 0xe6, 0xf4]
}

#[test]
fn the_guest_chooses_the_status_through_port_f4() {
    assert_eq!(status(&run(&exit_with(0), &[])), 1);
    assert_eq!(status(&run(&exit_with(5), &[])), 11);
}

#[test]
fn a_halt_for_good_is_status_0() {
    assert_eq!(status(&run(&[0xfa, 0xf4], &[])), 0); // cli; hlt
}

/// AMD's and Intel's processors clear AF after OR; after SHL, AMD's of family 1Ah and the Pentium set it, the Pentium 4 clears it.
#[test]
fn undefined_flags_are_the_users_choice() {
    let code = [
        &[0x09, 0xc0, 0x9f, 0x8a, 0xd4][..],   // or eax, eax; lahf; mov dl, ah
        &[0xb3, 0x01, 0xc0, 0xe3, 0x02],       // mov bl, 1; shl bl, 2
        &[0x9f, 0x8a, 0xf4],                   // lahf; mov dh, ah
        &[0xc0, 0xea, 0x04, 0x80, 0xe2, 0x01], // shr dl, 4; and dl, 1
        &[0xc0, 0xee, 0x03, 0x80, 0xe6, 0x02], // shr dh, 3; and dh, 2
        &[0x08, 0xf2, 0x88, 0xd0, 0xe6, 0xf4], // or dl, dh; mov al, dl; out 0xf4, al
    ]
    .concat();
    assert_eq!(status(&run(&code, &[])), 5);
    for (choice, expected) in [("silicon", 5), ("common", 1), ("manual", 3)] {
        assert_eq!(status(&run(&code, &["--undefined-flags", choice])), expected, "{choice}");
    }
    assert_eq!(status(&run(&code, &["--undefined-flags", "intel"])), 125);
}

#[test]
fn a_limit_is_status_124() {
    let output = run(&[0xeb, 0xfe], &["--max-instructions", "10k"]);
    assert_eq!(status(&output), 124);
    assert!(errors(&output).contains("10000 instructions"), "{}", errors(&output));
    assert_eq!(status(&run(&[0xeb, 0xfe], &["--timeout", "0.2"])), 124);
}

#[test]
fn a_triple_fault_is_status_126_and_is_explained_from_its_beginning() {
    // no IDT to speak of: the gate of INT 80h lies outside it, and so do those of #GP and #DF
    let output = run(&[0xcd, 0x80], &[]);
    assert_eq!(status(&output), 126);
    let text = errors(&output);
    let parts = [
        "1. What happened first",
        "IDT gate 128",
        "int 0x80",
        "2. Delivering INT",
        "3. Delivering #GP",
        "4. Delivering #DF",
        "SDM 3A",
    ];
    for part in parts {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
    // #UD makes no double fault with the #GP met while delivering it: one frame more
    let output = run(&[0x0f, 0x0b], &[]);
    let text = errors(&output);
    for part in ["ud2", "2. Delivering #UD", "3. Delivering #GP", "4. Delivering #DF"] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}

#[test]
fn a_triple_fault_by_a_page_has_three_frames_and_tells_who_wrote_the_entry() {
    // the table entry of 0x400000 and up is written as not present; then it is read
    let mut code: Vec<u8> = vec![0xc7, 0x05, 0x00, 0x20, 0, 0, 0x07, 0x30, 0, 0]; // pde 0 -> 0x3000
    code.extend([0xc7, 0x05, 0x00, 0x34, 0, 0, 0x67, 0x00, 0x10, 0x00]); // pte 0x100 -> this page
    code.extend([0xc7, 0x05, 0x04, 0x34, 0, 0, 0x66, 0x10, 0x10, 0x00]); // pte 0x101: everything but P
    code.extend([0xb8, 0x00, 0x20, 0, 0, 0x0f, 0x22, 0xd8]); // mov eax, 0x2000; mov cr3, eax
    code.extend([0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0]); // paging on
    code.extend([0xa1, 0x00, 0x10, 0x10, 0x00]); // mov eax, [0x101000]
    let output = run(&code, &[]);
    assert_eq!(status(&output), 126);
    let text = errors(&output);
    let parts = [
        "#PF (vector 14) error code 0x0000: supervisor read of a page that is not present, CR2 = 0x00101000",
        "mov eax, [0x101000]",
        "pde[0x0] @0x00002000 = 0x00003027",
        "pte[0x101] @0x00003404 = 0x00101066 (- W U A D)",
        "last written by instruction 2 at 0008:0x00100014 (4 bytes, 0x101066)",
        "1. What happened first",
        "2. Delivering #PF (vector 14) failed, which makes #DF",
        "3. Delivering #DF (vector 8) failed, which shuts the processor down",
    ];
    for part in parts {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}

#[test]
fn an_instruction_without_a_body_is_status_127_by_its_name() {
    let output = run(&[0x0f, 0x24, 0xf0], &["--cpu", "386"]); // mov eax, tr6
    assert_eq!(status(&output), 127);
    assert!(errors(&output).contains("Mov_r32_tr [0f 24 f0]"), "{}", errors(&output));
}

#[test]
fn serial_output_is_standard_output_to_the_byte() {
    // mov dx, 0x3f8; mov al, 'A'; out dx, al; mov al, 0xff; out dx, al; then exit
    let mut code = vec![0x66, 0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xb0, 0xff, 0xee];
    code.extend(exit_with(0));
    let output = run(&code, &["--stats"]);
    assert_eq!(output.stdout, [b'A', 0xff]);
    assert!(errors(&output).contains("instructions"));
}

#[test]
fn bad_input_is_status_125_and_one_sentence() {
    let (_folder, path) = program(&[0; 64]);
    let path = path.to_str().unwrap();
    let empty = tempfile::NamedTempFile::new().unwrap();
    for (args, part) in [
        (vec!["run", "/nonexistent/kernel"], "/nonexistent/kernel"),
        (vec!["run", path, "--memory", "12Q"], "12Q"),
        (vec!["run", path, "--cpu", "z80"], "z80"),
        (vec!["run", path, "--tlb", "entries=3"], "entries=3"),
        (vec!["run", path, "--boot", "multiboot1"], "Multiboot"),
        (vec!["run", path, "--disk", "/nonexistent/disk"], "/nonexistent/disk"),
        (vec!["run", path, "--trace", "everything"], "everything"),
        (vec!["run", empty.path().to_str().unwrap()], "empty"),
        (vec!["walk", path, "--boot", "raw32", "nosuchsymbol"], "nosuchsymbol"),
    ] {
        let output = pagewalk(&args);
        assert_eq!(status(&output), 125, "{args:?}: {}", errors(&output));
        assert!(errors(&output).contains(part), "{args:?}: {}", errors(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_trace_in_json_has_an_object_a_line_and_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut traces = Vec::new();
    for n in 0..2 {
        let out = folder.path().join(format!("trace{n}"));
        let args = ["--trace", "translations,instructions,io", "--trace-format", "json", "--trace-out"];
        let mut args = args.to_vec();
        args.push(out.to_str().unwrap());
        assert_eq!(status(&run(&exit_with(0), &args)), 1);
        traces.push(std::fs::read_to_string(&out).unwrap());
    }
    assert_eq!(traces[0], traces[1]);
    let records: Vec<serde_json::Value> =
        traces[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = records.iter().map(|r| r["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["translation", "instruction", "instruction", "io"]);
    assert_eq!(records[0]["result"], "unpaged");
    assert_eq!(records[1]["text"], "mov al, 0");
    assert_eq!(records[3]["port"], "0x000000f4");
}

#[test]
fn a_walk_is_drawn_with_every_entry() {
    // The page directory at 0x2000 maps 4 MiB from 0 through the table at 0x3000, by hand:
    // mov dword [0x2000], 0x3007; mov dword [0x3000 + 0x100*4], 0x100067 (page 0x100000, where this runs)
    let mut code: Vec<u8> = vec![0xc7, 0x05, 0x00, 0x20, 0, 0, 0x07, 0x30, 0, 0];
    code.extend([0xc7, 0x05, 0x00, 0x34, 0, 0, 0x67, 0x00, 0x10, 0x00]);
    code.extend([0xb8, 0x00, 0x20, 0, 0, 0x0f, 0x22, 0xd8]); // mov eax, 0x2000; mov cr3, eax
    code.extend([0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0]); // mov eax, cr0; or eax, PG; mov cr0, eax
    code.extend([0x90, 0xf4]);
    let (_folder, path) = program(&code);
    let output = pagewalk(&[
        "walk",
        path.to_str().unwrap(),
        "--boot",
        "raw32",
        "--memory",
        "4M",
        "100000",
        "0x101000",
    ]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(status(&output), 0, "{text}{}", errors(&output));
    for part in [
        "CR3 = 0x00002000",
        "pde[0x0] at 0x00002000  =  0x00003027   P W U A",
        "pte[0x100] at 0x00003400  =  0x00100067   P W U A D",
        "physical 0x00100000",
        "as the walk says",
        "the pte is not present",
    ] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}

#[test]
fn walk_stops_before_the_instruction_at_the_point() {
    let (_folder, path) = program(&[0x90, 0x90, 0x90, 0xf4]);
    let output = pagewalk(&["walk", path.to_str().unwrap(), "--boot", "raw32", "--at", "0x100002", "0"]);
    let text = errors(&output);
    assert!(text.contains("after 2 instructions, at 0008:00100002, ring 0"), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("paging is off"));
}

#[test]
fn a_closed_pipe_ends_the_run_cleanly() {
    // mov dx, 0x3f8; mov al, 'A'; out dx, al; jmp back to the out
    let (_folder, path) = program(&[0x66, 0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xeb, 0xfd]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_pagewalk"))
        .args(["run", path.to_str().unwrap(), "--boot", "raw32", "--memory", "4M", "--timeout", "60"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap(); // and the pipe is closed
    let output = child.wait_with_output().unwrap();
    assert_eq!((status(&output), errors(&output)), (0, String::new()));
}

#[test]
fn help_is_worth_reading() {
    let output = pagewalk(&["run", "--help"]);
    assert_eq!(status(&output), 0);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for option in ["--append", "--module", "--tlb", "--trace", "--explain", "--stats", "--bios"] {
        assert!(text.contains(option), "{text}");
    }
}

#[test]
fn firmware_starts_at_the_reset_vector() {
    let mut rom = vec![0x90; 0x1_0000];
    rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]); // jmp f000:0000
    rom[..4].copy_from_slice(&exit_with(7));
    let (_folder, path) = program(&rom);
    let output = pagewalk(&["run", "--bios", path.to_str().unwrap(), "--memory", "4M"]);
    assert_eq!(status(&output), 15, "{}", errors(&output));
}

#[test]
fn a_disk_is_read_and_its_file_is_left_alone() {
    // waits for the drive, writes one sector of zeros to LBA 1 of the primary master, reads it back; exits with word 0
    let mut code: Vec<u8> = Vec::new();
    let out = |port: u16, value: u8| {
        let [low, high] = port.to_le_bytes();
        vec![0x66, 0xba, low, high, 0xb0, value, 0xee]
    };
    let wait: &[u8] = &[0x66, 0xba, 0xf7, 0x01, 0xec, 0xa8, 0x80, 0x75, 0xfb, 0xa8, 0x08, 0x74, 0xf7]; // until DRQ
    let idle: &[u8] = &[0x66, 0xba, 0xf7, 0x01, 0xec, 0xa8, 0x80, 0x75, 0xfb]; // until not BSY
    for (command, transfer) in [(0x30u8, [0xf3, 0x66, 0x6f]), (0x20, [0xf3, 0x66, 0x6d])] {
        for (port, value) in [(0x1f6, 0xe0), (0x1f2, 1), (0x1f3, 1), (0x1f4, 0), (0x1f5, 0), (0x1f7, command)]
        {
            code.extend(out(port, value));
        }
        code.extend(wait);
        code.extend([0x66, 0xba, 0xf0, 0x01, 0xb9, 0, 1, 0, 0]); // mov dx, 0x1f0; mov ecx, 256
        code.extend([0xbe, 0, 0, 0x20, 0, 0xbf, 0, 0, 0x30, 0]); // mov esi, 0x200000; mov edi, 0x300000
        code.extend(transfer); // rep outsw, rep insw
        code.extend(idle);
    }
    code.extend([0xa0, 0, 0, 0x30, 0, 0xe6, 0xf4]); // mov al, [0x300000]; out 0xf4, al
    let disk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(disk.path(), [0x11; 2048]).unwrap();
    let path = disk.path().to_str().unwrap();
    let output = run(&code, &["--disk", path, "--max-instructions", "10M"]);
    assert_eq!(status(&output), 1, "{}", errors(&output));
    assert_eq!(std::fs::read(disk.path()).unwrap(), [0x11; 2048]);
    let output = run(&code, &["--disk", path, "--write-through", "--max-instructions", "10M"]);
    assert_eq!(status(&output), 1, "{}", errors(&output));
    let written = std::fs::read(disk.path()).unwrap();
    assert_eq!(
        (&written[..512], &written[512..1024], &written[1024..]),
        (&[0x11; 512][..], &[0; 512][..], &[0x11; 1024][..])
    );
}

#[test]
fn what_is_wrong_about_a_linux_program_is_told_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (text, kernel) = (folder.path().join("text"), folder.path().join("kernel"));
    std::fs::write(&text, "#!/bin/sh\n").unwrap();
    std::fs::write(&kernel, [0xf4; 2048]).unwrap();
    let story = folder.path().join("story");
    std::fs::write(&story, pagewalk_testbins::STORY.image).unwrap();
    let file = |path: &std::path::Path| path.to_str().unwrap().to_string();
    let (text, kernel, story) = (file(&text), file(&kernel), file(&story));
    for (args, wanted) in [
        (vec![&text, "--", "x"], "is no program for 32-bit Linux"),
        (vec![&text, "--env", "A=b"], "are for Linux programs"),
        (vec![&story, "--kernel", &kernel], "is no kernel for 32-bit processors"),
        (vec![&story, "--kernel", "/none"], "cannot read '/none'"),
        (vec![&story, "--kernel", &kernel, "--serial", "none"], "--serial is for kernels"),
        (vec![&story, "--kernel", &kernel, "--initrd", &text], "--initrd is for kernels"),
        (vec![&story, "--kernel", &kernel, "--boot", "elf"], "cannot be used with"),
    ] {
        let mut all = vec!["run"];
        all.extend(&args);
        let output = pagewalk(&all);
        let told = errors(&output);
        assert_eq!(status(&output), 125, "{args:?}: {told}");
        assert!(told.contains(wanted), "{args:?}: {told}");
    }
}
