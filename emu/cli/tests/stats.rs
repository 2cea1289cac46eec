//! `--stats` and `--stats-json`: the figures of a run.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn run(code: &[u8], args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.bin");
    std::fs::write(&path, code).unwrap();
    Command::new(env!("CARGO_BIN_EXE_pagewalk"))
        .args(["run", path.to_str().unwrap(), "--boot", "raw32", "--memory", "4M", "--serial", "none"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn figures(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// mov dword [address], value
fn store(address: u32, value: u32) -> Vec<u8> {
    [&[0xc7, 0x05][..], &address.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// A gate of the IDT at 1000h to a handler in the program's page.
fn gate(vector: u32, handler: u32) -> Vec<u8> {
    let at = 0x1000 + 8 * vector;
    [store(at, 0x8_0000 | handler), store(at + 4, 0x10_8e00)].concat()
}

/// Three UD2, two INT 80h, five interrupts of the timer, and the end.
fn eventful() -> Vec<u8> {
    let mut code = [gate(6, 0x400), gate(8, 0x410), gate(0x80, 0x420)].concat();
    code.extend([store(0x9000, 0x07ff_0000), store(0x9004, 0x1000), store(0x9500, 0)].concat());
    code.extend([0x0f, 0x01, 0x1d, 2, 0x90, 0, 0]); // lidt [0x9002]
    // flat code at selector 8 of a GDT at 9100h
    code.extend([store(0x9108, 0xffff), store(0x910c, 0x00cf_9a00)].concat());
    code.extend([store(0x9010, 0x000f_0000), store(0x9014, 0x9100)].concat());
    code.extend([0x0f, 0x01, 0x15, 0x12, 0x90, 0, 0]); // lgdt [0x9012]
    code.extend([0xbc, 0, 0x80, 0, 0]); // mov esp, 0x8000
    code.extend([0x0f, 0x0b, 0x0f, 0x0b, 0x0f, 0x0b, 0xcd, 0x80, 0xcd, 0x80]); // ud2 three times; int 0x80 twice
    code.extend([0xb0, 0xfe, 0xe6, 0x21, 0xfb]); // mov al, 0xfe; out 0x21, al; sti
    code.extend([0xf4, 0x83, 0x3d, 0, 0x95, 0, 0, 5, 0x72, 0xf6]); // l: hlt; cmp dword [0x9500], 5; jb l
    code.extend([0xb0, 0, 0xe6, 0xf4]); // mov al, 0; out 0xf4, al
    assert!(code.len() < 0x400);
    code.resize(0x400, 0x90);
    code.extend([0x83, 0x04, 0x24, 2, 0xcf]); // add dword [esp], 2; iret
    code.resize(0x410, 0x90);
    // push eax; mov al, 0x20; out 0x20, al; pop eax; inc dword [0x9500]; iret
    code.extend([0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xff, 0x05, 0, 0x95, 0, 0, 0xcf]);
    code.resize(0x420, 0x90);
    code.push(0xcf); // iret
    code
}

#[test]
fn exceptions_and_interrupts_are_counted_by_vector_and_by_line() {
    // with and without a local APIC before the 8259As
    for cpu in ["max", "486"] {
        let output = run(&eventful(), &["--stats-json", "-", "--cpu", cpu]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let figures = figures(&output);
        assert_eq!(figures["exceptions"], json!([{"vector": 6, "name": "#UD", "count": 3}]));
        assert_eq!(figures["software_interrupts"], json!([{"vector": 0x80, "name": null, "count": 2}]));
        assert_eq!(figures["external_interrupts"], json!([{"vector": 8, "name": null, "count": 5}]));
        assert_eq!(figures["interrupts"], json!([{"source": "irq 0", "count": 5}]), "{cpu}");
    }
}

#[test]
fn the_text_says_the_same_in_words() {
    let output = run(&eventful(), &["--stats"]);
    let text = String::from_utf8(output.stderr).unwrap();
    let words: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["exception 6 #UD 3", "int 0x80 2", "interrupts irq 0 5"] {
        assert!(words.iter().any(|words| words == line), "no '{line}' in\n{text}");
    }
    for part in ["million instructions a second", "hit rate", "walks", "code blocks"] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}

#[test]
fn hit_rates_are_per_ring_and_blocks_and_speed_are_told() {
    // maps the first 4 MiB one to one by a large page (PSE), turns paging on, and loops a thousand times
    let mut code = store(0x2000, 0x83);
    code.extend([0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x10, 0x0f, 0x22, 0xe0]); // CR4.PSE on
    code.extend([0xb8, 0x00, 0x20, 0, 0, 0x0f, 0x22, 0xd8]); // mov eax, 0x2000; mov cr3, eax
    code.extend([0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0]); // CR0.PG on
    code.extend([0xb9, 0xe8, 3, 0, 0]); // mov ecx, 1000
    code.extend([0xa1, 0, 0x30, 0, 0, 0xe2, 0xf9]); // l: mov eax, [0x3000]; loop l
    code.extend([0xb0, 0, 0xe6, 0xf4]);
    let output = run(&code, &["--stats-json", "-"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let figures = figures(&output);
    assert_eq!(figures["format"], 1);
    // 10 before the loop, 2 a round, 2 after it; OUT ends the run and is retired
    assert_eq!(figures["instructions"], 10 + 2000 + 2);
    assert_eq!(figures["tlb"]["rings"][0]["read"], json!({"hits": 999, "misses": 1, "hit_rate": 0.999}));
    assert_eq!(figures["tlb"]["rings"][3]["all"], json!({"hits": 0, "misses": 0, "hit_rate": null}));
    assert_eq!(figures["tlb"]["flushes"][0]["count"].as_u64().map(|count| count > 0), Some(true));
    assert!(figures["walks"].as_u64().unwrap() >= 2);
    let blocks = &figures["blocks"];
    assert!(blocks["built"].as_u64().unwrap() >= 2 && blocks["invalidated"] == 0, "{blocks}");
    let decoded = blocks["instructions_decoded"].as_u64().unwrap();
    assert!(decoded >= 14, "14 different ones were run");
    assert!(
        (blocks["runs_per_decoded"].as_f64().unwrap() - 2012.0 / decoded as f64).abs() < 1e-9,
        "{blocks}"
    );
    let (seconds, mips) = (&figures["host"]["seconds"], &figures["host"]["mips"]);
    let product = seconds.as_f64().unwrap() * mips.as_f64().unwrap() * 1e6;
    assert!((product - 2012.0).abs() < 1.0, "{seconds} {mips}");
}

#[test]
fn figures_go_to_a_file_or_a_sentence_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures.json");
    assert_eq!(run(&eventful(), &["--stats-json", file.to_str().unwrap()]).status.code(), Some(1));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap()["instructions"].is_u64());
    let absent = Path::new("/nonexistent/figures.json");
    let output = run(&eventful(), &["--stats-json", absent.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("cannot write the figures to '/nonexistent/figures.json'")
    );
}
