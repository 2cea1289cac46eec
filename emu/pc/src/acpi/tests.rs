//! Expected values are those of the ACPI specification 2.0c and the MultiProcessor Specification 1.4.

use super::*;
use std::collections::BTreeMap;

const PC: Hardware = Hardware { processors: 1, serial_ports: 2, power_ports: 0x600, hole: 0x800_0000 };

fn dword(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The tables by signature, found as an operating system finds them.
fn found(hardware: &Hardware) -> BTreeMap<String, Vec<u8>> {
    let placed: BTreeMap<u64, Vec<u8>> = tables(hardware).into_iter().collect();
    let get = |at: u32| placed[&at.into()].clone();
    let root = placed.values().find(|table| table.starts_with(b"RSD PTR ")).unwrap();
    assert_eq!(checksum(root), 0);
    let rsdt = get(dword(root, 16));
    let mut tables = vec![rsdt.clone()];
    tables.extend((36..rsdt.len()).step_by(4).map(|at| get(dword(&rsdt, at))));
    let fadt = tables.iter().find(|table| table.starts_with(b"FACP")).unwrap();
    tables.extend([get(dword(fadt, 40)), get(dword(fadt, 36))]);
    tables.into_iter().map(|table| (String::from_utf8_lossy(&table[..4]).into_owned(), table)).collect()
}

#[test]
fn every_table_has_its_length_and_adds_up_to_zero() {
    let tables = found(&PC);
    assert_eq!(
        tables.keys().map(String::as_str).collect::<Vec<_>>(),
        ["APIC", "DSDT", "FACP", "FACS", "RSDT"]
    );
    for (name, table) in &tables {
        assert_eq!(dword(table, 4) as usize, table.len(), "{name}");
        assert!(name == "FACS" || checksum(table) == 0, "{name}");
    }
    assert_eq!((tables["FACP"].len(), tables["FACS"].len()), (244, 64));
}

#[test]
fn nothing_overlaps_and_all_of_it_stands_in_the_firmwares_memory() {
    let mut placed = tables(&PC);
    placed.sort();
    for pair in placed.windows(2) {
        assert!(pair[0].0 + pair[0].1.len() as u64 <= pair[1].0);
    }
    // the interrupt handlers of the stub begin at FEA5h
    let end = placed.iter().map(|(at, bytes)| at + bytes.len() as u64).max().unwrap();
    assert!(end < 0xf_fea5, "{end:#x}");
    assert_eq!(FACS % 64, 0);
}

#[test]
fn a_processor_without_a_local_apic_has_neither_madt_nor_mp_table() {
    let old = Hardware { processors: 0, ..PC };
    assert!(!found(&old).contains_key("APIC"));
    assert!(tables(&old).iter().all(|(_, bytes)| !bytes.starts_with(b"_MP_")));
}

#[test]
fn the_mp_table_counts_its_entries_and_adds_up_to_zero() {
    let placed: BTreeMap<u64, Vec<u8>> = tables(&PC).into_iter().collect();
    let pointer = placed.values().find(|table| table.starts_with(b"_MP_")).unwrap();
    assert_eq!(checksum(pointer), 0);
    let table = &placed[&dword(pointer, 4).into()];
    assert_eq!((checksum(table), &table[..4]), (0, &b"PCMP"[..]));
    assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
    let (mut at, mut count) = (44, 0);
    while at < table.len() {
        at += if table[at] == 0 { 20 } else { 8 };
        count += 1;
    }
    assert_eq!((at, count), (table.len(), u16::from_le_bytes([table[34], table[35]])));
}

/// `iasl` (ACPICA), where it is installed, reads the DSDT back and compiles what it read without an error.
#[test]
fn iasl_understands_the_dsdt_if_it_is_there() {
    let iasl = |dir: &std::path::Path, arguments: &[&str]| {
        std::process::Command::new("iasl").args(arguments).current_dir(dir).output()
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("dsdt.aml"), &found(&PC)["DSDT"]).unwrap();
    let Ok(read) = iasl(dir.path(), &["-d", "dsdt.aml"]) else { return };
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = std::fs::read_to_string(dir.path().join("dsdt.dsl")).unwrap();
    for want in ["Name (\\_S5, Package (0x04)", "EisaId (\"PNP0A03\")", "Device (LNKS)", "Device (COM2)"] {
        assert!(text.contains(want), "{want}\n{text}");
    }
    let compiled = iasl(dir.path(), &["dsdt.dsl"]).unwrap();
    let said = String::from_utf8_lossy(&compiled.stdout).into_owned();
    assert!(compiled.status.success() && said.contains(" 0 Errors"), "{said}");
}
