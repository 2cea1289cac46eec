//! Integer instructions against silicon: what `vectors/measure.c` measured, flags that the manual leaves undefined included.
//!
//! `vectors/silicon.txt` holds for each instruction a digest over thousands of random inputs, made on an AMD EPYC of family
//! 1Ah. To see where an instruction differs, set `PAGEWALK_SHOW` to its bytes and compare with `measure --show BYTES`.

use pagewalk_x86::bus::Bus;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::flags::ARITHMETIC;
use pagewalk_x86::flat::{FlatBus, Start, processor};
use pagewalk_x86::random::Random;
use pagewalk_x86::{Processor, regs};

const CASES: usize = 4000;
const CODE: u32 = 0x1000;
const FNV: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x100_0000_01b3;
/// EAX, EBX, ECX, EDX, in the order of the measurement.
const REGISTERS: [u8; 4] = [regs::EAX, regs::EBX, regs::ECX, regs::EDX];

/// The generator is that of `measure.c`.
fn operand(random: &mut Random) -> u32 {
    const EDGES: [u32; 16] = [
        0,
        1,
        0xffff_ffff,
        0x8000_0000,
        0x7fff_ffff,
        0x8000,
        0x7fff,
        0xffff,
        0x80,
        0x7f,
        0xff,
        0x10000,
        0x8080,
        0x8000_8000,
        0xff00,
        0x100,
    ];
    let r = random.bits();
    let value = (r >> 32) as u32;
    match r & 7 {
        0 => EDGES[(r >> 3 & 15) as usize],
        1 => value & 0x1f,
        2 => value & 0xff,
        3 => value & 0xffff,
        4 => 1 << (value & 31),
        _ => value,
    }
}

fn hash(h: u64, value: u32) -> u64 {
    value.to_le_bytes().iter().fold(h, |h, &byte| (h ^ byte as u64).wrapping_mul(PRIME))
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("hex")).collect()
}

/// Where the divide error's handler is.
const HANDLER: u32 = 0x3000;

/// A flat 32-bit processor with an interrupt gate for #DE.
fn machine(code: &[u8]) -> Processor<FlatBus, ()> {
    let mut processor = processor(Start::Flat32, code, CODE, 0x10000);
    let ram = processor.cpu.bus.ram_mut();
    ram.write(0x4008, &[0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0]);
    ram.write(0x5000, &[HANDLER as u8, (HANDLER >> 8) as u8, 8, 0, 0, 0x8e, 0, 0]);
    ram.write(HANDLER as usize, &[0x90]);
    processor.cpu.gdtr.base = 0x4000;
    processor.cpu.gdtr.limit = 0xf;
    processor.cpu.idtr.base = 0x5000;
    processor.cpu.idtr.limit = 7;
    processor
}

fn digest(hex: &str, show: bool) -> u64 {
    let code = bytes_of(hex);
    let mut random = Random::new(code.iter().fold(FNV, |h, &byte| (h ^ byte as u64).wrapping_mul(PRIME)));
    let mut processor = machine(&code);
    let mut h = FNV;
    for case in 0..CASES {
        let inputs: [u32; 4] = std::array::from_fn(|_| operand(&mut random));
        let flags = random.bits() as u32 & ARITHMETIC;
        let cpu = &mut processor.cpu;
        for (register, input) in REGISTERS.into_iter().zip(inputs) {
            cpu.regs.set_dword(register, input);
        }
        cpu.flags.set(flags, ARITHMETIC);
        cpu.regs.set_dword(regs::ESP, 0x8000);
        cpu.eip = CODE;
        let [a, b, c, d] = inputs;
        let divide_errors = cpu.deliveries[0];
        // after a fault, the one instruction is the handler's NOP
        let until = cpu.retired + 1;
        assert_eq!(processor.run(until), Stop::Limit, "{hex}, case {case}");
        let cpu = &processor.cpu;
        let faulted = cpu.deliveries[0] != divide_errors;
        let outputs = REGISTERS.map(|register| cpu.regs.dword(register));
        let after = cpu.flags.get() & ARITHMETIC;
        if faulted {
            h = hash(h, 0xdede);
            assert_eq!(outputs, inputs, "{hex}: a fault changes no register");
        } else {
            assert_eq!(cpu.eip, CODE + code.len() as u32, "{hex}");
            h = outputs.into_iter().chain([after]).fold(h, hash);
        }
        if show {
            print!("{hex} {a:08x} {b:08x} {c:08x} {d:08x} {flags:03x} => ");
            if faulted {
                println!("#DE");
            } else {
                let [a, b, c, d] = outputs;
                println!("{a:08x} {b:08x} {c:08x} {d:08x} {after:03x}");
            }
        }
    }
    h
}

#[test]
fn every_measured_instruction_does_what_silicon_does() {
    let show = std::env::var("PAGEWALK_SHOW").unwrap_or_default();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("vectors/silicon.txt").lines() {
        let [hex, expected, name] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("three fields: {line}");
        };
        let expected = u64::from_str_radix(expected, 16).expect("a digest");
        if digest(hex, show == hex) != expected {
            wrong.push(format!("{name} ({hex})"));
        }
        count += 1;
    }
    assert!(count > 700, "the vectors are there");
    assert!(wrong.is_empty(), "{} of {count} differ: {}", wrong.len(), wrong.join(", "));
}
