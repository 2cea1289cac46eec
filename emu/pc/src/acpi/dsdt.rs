//! The DSDT: what there is on the board that can't be found by asking, in ACPI machine language.
//!
//! The interrupt links are fixed: they say where our own firmware has routed each PCI interrupt, and nothing moves it.

use super::Hardware;
use super::aml::*;

/// Links and the inputs they lead to. `S` is that of the power management function, which has the SCI.
const LINKS: [(&str, u8); 5] = [("LNKA", 10), ("LNKB", 10), ("LNKC", 11), ("LNKD", 11), ("LNKS", 9)];

/// The interrupt input of a device's pin (0 for INTA#), by the name of its link: boards of this kind turn the pins by the
/// device's number.
fn link(device: u32, pin: u32) -> &'static str {
    if (device, pin) == (1, 0) { "LNKS" } else { LINKS[((device + pin + 3) & 3) as usize].0 }
}

fn routing() -> Vec<u8> {
    let entries: Vec<Vec<u8>> = (0..32u32)
        .flat_map(|device| (0..4u32).map(move |pin| (device, pin)))
        .map(|(device, pin)| {
            let link = path(&format!("\\_SB.{}", link(device, pin)));
            package(&[number(device << 16 | 0xffff), number(pin), link, number(0)])
        })
        .collect();
    package(&entries)
}

fn links() -> Vec<u8> {
    let one = |(index, &(name, input)): (u32, &(&str, u8))| {
        let interrupt = resources(&[shared_interrupt(input.into())]);
        device(
            name,
            &[
                named("_HID", &eisa_id("PNP0C0F")),
                named("_UID", &number(index)),
                named("_STA", &number(0x0b)),
                named("_PRS", &interrupt),
                named("_CRS", &interrupt),
                empty_method("_DIS", 0),
                empty_method("_SRS", 1),
            ],
        )
    };
    (0..).zip(&LINKS).flat_map(one).collect()
}

fn host_bridge(hardware: &Hardware) -> Vec<Vec<u8>> {
    vec![
        named("_HID", &eisa_id("PNP0A03")),
        named("_UID", &number(0)),
        named("_PRT", &routing()),
        named(
            "_CRS",
            &resources(&[
                word_range(Space::Buses, 0, 0xff),
                io(0xcf8, 8),
                word_range(Space::Ports, 0, 0xcf7),
                word_range(Space::Ports, 0xd00, 0xffff),
                dword_range(Space::Memory { cacheable: true }, 0xa_0000, 0xb_ffff),
                dword_range(Space::Memory { cacheable: false }, hardware.hole, 0xfebf_ffff),
            ]),
        ),
    ]
}

fn isa_device(name: &str, id: &str, what: &[Vec<u8>]) -> Vec<u8> {
    device(name, &[named("_HID", &eisa_id(id)), named("_CRS", &resources(what))])
}

fn serial(index: usize, port: u16, request: u8) -> Vec<u8> {
    device(
        ["COM1", "COM2"][index & 1],
        &[
            named("_HID", &eisa_id("PNP0501")),
            named("_UID", &number(index as u32 + 1)),
            named("_CRS", &resources(&[io(port, 8), irq(request)])),
        ],
    )
}

fn isa_bridge(hardware: &Hardware) -> Vec<u8> {
    let mut body = vec![
        named("_ADR", &number(0x1_0000)),
        isa_device("RTC", "PNP0B00", &[io(0x70, 2), irq(8)]),
        isa_device("KBD", "PNP0303", &[io(0x60, 1), io(0x64, 1), irq(1)]),
        isa_device("MOU", "PNP0F13", &[irq(12)]),
        // what belongs to the board itself: power management
        isa_device("MBRD", "PNP0C02", &[io(hardware.power_ports, 64), io(0xb2, 2)]),
    ];
    let ports = [(0x3f8, 4), (0x2f8, 3)];
    body.extend(
        ports
            .iter()
            .enumerate()
            .take(hardware.serial_ports)
            .map(|(index, &(port, irq))| serial(index, port, irq)),
    );
    device("ISA", &body)
}

/// The table's body, after its header.
pub fn body(hardware: &Hardware) -> Vec<u8> {
    let processors = (0..hardware.processors.max(1)).map(|index| {
        let body = [named("_HID", &string("ACPI0007")), named("_UID", &number(index.into()))];
        device(&format!("CP{index:02X}"), &body)
    });
    let mut bridge = host_bridge(hardware);
    bridge.push(isa_bridge(hardware));
    let mut system: Vec<Vec<u8>> = processors.collect();
    system.extend([links(), device("PCI0", &bridge)]);
    // sleep type 0 in both control registers, and two reserved elements
    let soft_off = package(&vec![number(crate::power::SOFT_OFF.into()); 4]);
    [scope("\\_SB", &system), named("\\_S5", &soft_off)].concat()
}
