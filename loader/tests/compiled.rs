//! Kernels as a compiler and a linker make them: what the loader sees agrees with what was written.

mod common;

use std::fs;
use std::process::Command;

use common::*;
use pagewalk_loader::{Kind, Plan};

/// Builds `source` (assembly) for i386 by `script` (a linker script) and answers with the ELF file.
fn link(name: &str, source: &str, script: &str, flags: &[&str]) -> Vec<u8> {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir).unwrap();
    let (input, script_file, output) = (dir.join("kernel.S"), dir.join("kernel.ld"), dir.join("kernel"));
    fs::write(&input, source).unwrap();
    fs::write(&script_file, script).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let result = Command::new(&compiler)
        .args(["-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-n"])
        .args(flags)
        .arg("-T")
        .args([&script_file, &input])
        .arg("-o")
        .arg(&output)
        .output()
        .unwrap_or_else(|error| {
            panic!("these tests need a C compiler for i386; `{compiler}` failed: {error}")
        });
    assert!(result.status.success(), "{compiler}: {}", String::from_utf8_lossy(&result.stderr));
    fs::read(output).unwrap()
}

const SOURCE: &str = "
    .section .boot, \"a\"
    .balign 8
#if PROTOCOL == 1
    .long 0x1badb002, 3, -(0x1badb002 + 3)
#elif PROTOCOL == 2
1:  .long 0xe85250d6, 0, 2f - 1b, -(0xe85250d6 + (2f - 1b))
    .short 0, 0
    .long 8
2:
#else
    .section .note.Xen, \"a\", @note
    .long 4, 4, 18
    .asciz \"Xen\"
    .long start - OFFSET
#endif
    .text
    .globl start, counter, scratch
    .type start, @function
start:
    mov $counter, %esi
    incl (%esi)
    hlt
    .size start, . - start
    .data
    .type counter, @object
counter: .long 0x12345678
    .size counter, 4
    .bss
    .type scratch, @object
scratch: .skip 0x4000
    .size scratch, 0x4000
";

const SCRIPT: &str = "
    ENTRY(start)
    PHDRS { text PT_LOAD; data PT_LOAD; note PT_NOTE; }
    SECTIONS {
        . = OFFSET + 0x100000;
        .boot : AT(ADDR(.boot) - OFFSET) { *(.boot) } :text
        .note : AT(ADDR(.note) - OFFSET) { *(.note.Xen) } :text :note
        .text : AT(ADDR(.text) - OFFSET) { *(.text) } :text
        . = ALIGN(4096);
        .data : AT(ADDR(.data) - OFFSET) { *(.data) } :data
        .bss : AT(ADDR(.bss) - OFFSET) { *(.bss) }
        _end = .;
        /DISCARD/ : { *(.note.gnu*) *(.comment) *(.eh_frame) }
    }
";

fn kernel(name: &str, protocol: u32, offset: &str) -> Vec<u8> {
    let define = [format!("-DPROTOCOL={protocol}"), format!("-DOFFSET={offset}")];
    link(name, SOURCE, &SCRIPT.replace("OFFSET", offset), &define.each_ref().map(String::as_str))
}

fn symbol(plan: &Plan, name: &str) -> (u32, u32) {
    let symbol = plan.symbols.iter().find(|symbol| symbol.name == name);
    symbol
        .map(|symbol| (symbol.value, symbol.size))
        .unwrap_or_else(|| panic!("no `{name}` in {:?}", plan.symbols))
}

/// The code at the entry point is `start`, and `counter` and `scratch` are where their symbols say, less `offset`.
fn assert_loaded(plan: &Plan, offset: u32) {
    let (start, size) = symbol(plan, "start");
    let (eip, _, _) = protected(plan);
    assert_eq!(eip, start - offset);
    let (counter, counter_size) = symbol(plan, "counter");
    let guest = Guest(plan);
    let mut code = vec![0xbe]; // MOV ESI, imm32
    code.extend(counter.to_le_bytes());
    code.extend([0xff, 0x06, 0xf4]); // INC DWORD [ESI]; HLT
    assert_eq!(guest.bytes(eip, size as usize), code);
    assert_eq!((guest.u32(counter - offset), counter_size), (0x1234_5678, 4));
    let (scratch, scratch_size) = symbol(plan, "scratch");
    assert_eq!(guest.bytes(scratch - offset, scratch_size as usize), vec![0; 0x4000]);
    assert_eq!(symbol(plan, "_end").0, scratch + 0x4000);
    assert_sound(plan, &pc());
}

#[test]
fn a_compiled_multiboot_kernel_linked_where_it_lies() {
    let plan = planned(&kernel("multiboot1", 1, "0"));
    assert_eq!(plan.kind, Kind::Multiboot1);
    assert_loaded(&plan, 0);
}

#[test]
fn a_compiled_multiboot_kernel_linked_at_3_gib() {
    let plan = planned(&kernel("multiboot1-high", 1, "0xc0000000"));
    assert_loaded(&plan, 0xc000_0000);
}

#[test]
fn a_compiled_multiboot_2_kernel_linked_at_3_gib() {
    let plan = planned(&kernel("multiboot2-high", 2, "0xc0000000"));
    assert_eq!(plan.kind, Kind::Multiboot2);
    assert_loaded(&plan, 0xc000_0000);
}

#[test]
fn a_compiled_pvh_kernel_linked_at_3_gib() {
    let plan = planned(&kernel("pvh-high", 3, "0xc0000000"));
    assert_eq!(plan.kind, Kind::Pvh);
    assert_loaded(&plan, 0xc000_0000);
}
