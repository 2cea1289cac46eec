//! Random bytes as programs: whatever they do, the processor neither panics nor runs on without end.
//!
//! `PAGEWALK_RANDOM` sets how many programs of each kind are run (default: 2000).

use iced_x86::{Code, Decoder, FlowControl};
use pagewalk_x86::bus::Bus;
use pagewalk_x86::cpu::Cpu;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::flags;
use pagewalk_x86::flat::{FlatBus, Start, processor};
use pagewalk_x86::model::{ALL, MAX};
use pagewalk_x86::random::Random;
use pagewalk_x86::segment::{CS, DS, SS, Segment};

const SIZE: usize = 1 << 18;
const STEPS: u64 = 400;

fn programs() -> u64 {
    std::env::var("PAGEWALK_RANDOM").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

/// Instructions that random bytes seldom make: prefixes and two- and three-byte opcodes.
fn flavour(random: &mut Random, bytes: &mut [u8]) {
    const STARTS: [&[u8]; 14] = [
        &[0x0f],
        &[0x66],
        &[0x67],
        &[0xf3],
        &[0xf2],
        &[0xf0],
        &[0x0f, 0x01],
        &[0x0f, 0x00],
        &[0x0f, 0xc7],
        &[0x0f, 0xae],
        &[0xc4, 0xe2],
        &[0x0f, 0x20],
        &[0x0f, 0x22],
        &[0xea],
    ];
    for _ in 0..bytes.len() / 12 {
        let start = STARTS[random.below(STARTS.len() as u32) as usize];
        let at = random.below((bytes.len() - 4) as u32) as usize;
        bytes[at..at + start.len()].copy_from_slice(start);
    }
}

/// Tables that now and then are valid: descriptors, gates and page table entries all at once.
fn scatter(random: &mut Random, cpu: &mut Cpu<FlatBus, ()>) {
    let types = [
        0x9a, 0x92, 0x9b, 0x93, 0xfa, 0xf2, 0x9e, 0x96, 0x89, 0x8b, 0x82, 0x8c, 0x8e, 0x8f, 0x85, 0xec, 0xee,
        0x84,
    ];
    let ram = cpu.bus.ram_mut();
    for table in [0x4000usize, 0x5000] {
        for entry in 0..256 {
            let mut descriptor = random.bits().to_le_bytes();
            descriptor[5] = types[random.below(types.len() as u32) as usize];
            if random.once_in(2) {
                // a flat segment, or a gate to a selector of this table
                descriptor[..5].copy_from_slice(&[0xff, 0xff, 0, 0, 0]);
                descriptor[6] = 0xcf;
                descriptor[7] = 0;
            } else {
                descriptor[2] &= 0xfb;
                descriptor[3] &= 7;
            }
            ram.write(table + entry * 8, &descriptor);
        }
    }
    for entry in 0..1024 {
        let status = random.bits() as u32 & 0xfff | 7;
        let frame = (random.below(64)) << 12;
        let directory = 0x7000 + (random.below(4)) * 0x1000;
        ram.write(0x6000 + entry * 4, &(directory | status & 0xe67).to_le_bytes());
        for table in 0..4 {
            ram.write(0x7000 + table * 0x1000 + entry * 4, &(frame | status).to_le_bytes());
        }
    }
}

/// A processor at random bytes, in a random state that is near to sensible.
fn random_machine(random: &mut Random, start: Start) -> pagewalk_x86::Processor<FlatBus, ()> {
    let mut code = vec![0; 64];
    code.iter_mut().for_each(|byte| *byte = random.bits() as u8);
    flavour(random, &mut code);
    let mut processor = processor(start, &code, 0x1000, SIZE);
    let cpu = &mut processor.cpu;
    cpu.model = ALL[random.below(ALL.len() as u32) as usize];
    if random.once_in(2) {
        cpu.model = *ALL.last().expect("models");
    }
    scatter(random, cpu);
    for register in 0..8 {
        let mask = [0xff, 0xffff, 0x3_ffff, 0xffff_ffff][random.below(4) as usize];
        cpu.regs.set_dword(register, random.bits() as u32 & mask);
    }
    cpu.flags.set(random.bits() as u32, flags::ARITHMETIC | flags::DF | flags::IOPL | flags::AC | flags::IF);
    if random.once_in(8) {
        cpu.flags.set(random.bits() as u32, flags::TF | flags::RF | flags::NT);
    }
    cpu.gdtr.base = 0x4000;
    cpu.gdtr.limit = 0x7ff;
    cpu.bus.input = random.bits() as u32;
    cpu.bus.interrupt = random.once_in(4).then_some(random.bits() as u8);
    if start != Start::Real {
        cpu.idtr.base = 0x5000;
        cpu.idtr.limit = 0x7ff;
        cpu.tr = Segment::new(0x28, 0x2_0000, 0x2fff, 0x8b);
        cpu.ldtr = Segment::new(0x30, 0x4000, 0x7ff, 0x82);
        if random.once_in(2) {
            cpu.cpl = 3;
            for n in [CS, SS, DS] {
                cpu.segs[n].selector |= 3;
                cpu.segs[n].attributes |= 0x60;
            }
        }
        if random.once_in(4) {
            cpu.flags.set(flags::VM, flags::VM);
            cpu.cpl = 3;
            for n in 0..6 {
                cpu.segs[n] = Segment::new(0, 0, 0xffff, 0xf3);
            }
        }
        if random.once_in(2) {
            cpu.cr3 = 0x6000;
            cpu.cr0 |= 0x8000_0000;
            cpu.cr4 = random.bits() as u32 & 0x30_00ff & !0x20;
        }
    }
    cpu.update_context();
    processor
}

fn run(start: Start, seed: u64) {
    let mut retired = 0;
    let mut stops = [0; 4];
    for program in 0..programs() {
        let mut random = Random::new(seed.wrapping_add(program.wrapping_mul(0x1_0000_0001)));
        let mut processor = random_machine(&mut random, start);
        let stop = processor.run(STEPS);
        let kind = match &stop {
            Stop::Limit => 0,
            Stop::Halted | Stop::Idle => 1,
            Stop::Shutdown(_) => 2,
            Stop::Unimplemented { .. } => 3,
            other => panic!("program {program}: {other:?}"),
        };
        stops[kind] += 1;
        retired += processor.cpu.retired;
        assert!(processor.cpu.retired <= STEPS, "program {program} ran past its limit");
    }
    println!("{start:?}: {retired} instructions; limit, halt, shutdown, unimplemented: {stops:?}");
    assert!(stops[0] > 0, "some programs run long");
}

#[test]
fn random_bytes_never_panic_in_real_mode() {
    run(Start::Real, 1);
}

#[test]
fn random_bytes_never_panic_in_16_bit_protected_mode() {
    run(Start::Flat16, 2);
}

#[test]
fn random_bytes_never_panic_in_32_bit_protected_mode() {
    run(Start::Flat32, 3);
}

/// Runs random instructions that end around a page boundary, one at a time; `programs()` times ten of them.
fn lengths(start: Start, seed: u64) {
    let mut random = Random::new(seed);
    let bitness = if start == Start::Flat32 { 32 } else { 16 };
    let (mut next, mut invalid) = (0, 0);
    for _ in 0..10 * programs() {
        let mut code = [0; 32];
        code.iter_mut().for_each(|byte| *byte = random.bits() as u8);
        if random.once_in(2) {
            flavour(&mut random, &mut code[..16]);
        }
        let at = 0x2000 - random.below(18);
        let decoded = Decoder::with_ip(bitness, &code[..15], at as u64, MAX.decoder_options()).decode();

        let mut processor = processor(start, &code, at, 1 << 16);
        let stop = processor.run(1);
        let cpu = &processor.cpu;
        let shutdown = matches!(stop, Stop::Shutdown(_));
        let delivered = shutdown || cpu.deliveries.iter().any(|&count| count > 0);
        let rep = decoded.has_rep_prefix() || decoded.has_repne_prefix();
        if decoded.code() == Code::INVALID {
            // unless it is a hint in the space of the reserved NOPs
            let hint = code.windows(2).any(|pair| pair[0] == 0x0f && (0x0d..=0x1f).contains(&pair[1]));
            assert!(delivered || hint, "{code:02x?} is no instruction");
            invalid += 1;
        } else if !delivered && decoded.flow_control() == FlowControl::Next && !rep && cpu.retired == 1 {
            assert_eq!(cpu.eip, at + decoded.len() as u32, "{:?} {code:02x?}", decoded.code());
            next += 1;
        }
    }
    println!("{start:?}: {next} lengths agree, {invalid} are no instructions");
    assert!(next > programs() && invalid > 0);
}

#[test]
fn lengths_agree_with_iced_also_across_pages() {
    for (n, start) in [Start::Real, Start::Flat16, Start::Flat32].into_iter().enumerate() {
        lengths(start, 11 + n as u64);
    }
}

#[test]
fn a_handler_whose_first_instruction_faults_runs_into_the_limit() {
    // UD2 with #UD's vector at itself; SP is even, so the stack wraps and delivery never fails
    let mut processor = processor(Start::Real, &[0x0f, 0x0b], 0x1000, SIZE);
    processor.cpu.bus.ram_mut().write(6 * 4, &[0x00, 0x10, 0, 0]);
    processor.cpu.idtr.limit = 0x3ff;
    // above the vectors: 64 KiB of stack that may be overwritten
    processor.cpu.segs[SS] = Segment::new(0x1000, 0x1_0000, 0xffff, 0x93);
    assert_eq!(processor.run(100_000), Stop::Limit);
    assert_eq!(processor.cpu.retired, 100_000);
}
