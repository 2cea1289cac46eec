//! Whole machines with random memory, registers, segments and page tables: nothing a guest does may panic, overflow,
//! hang or reach outside its memory. PAGEWALK_FUZZ says how many instructions to run at least.

use pagewalk_loader::{Kind, Plan, Start};
use pagewalk_pc::board::{Board, Config, Input};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, Parts};
use pagewalk_pc::mouse::Movement;
use pagewalk_tests::metamorphic::{install, random_plan, raw_bytes};
use pagewalk_tests::number;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::random::Random;

const MEMORY: u64 = 4 << 20;

/// A machine with a board, and nothing to boot.
fn machine(model: pagewalk_x86::model::Model, random: &mut Random) -> Machine<()> {
    let disks = vec![Disk::blank(128)];
    let board = Board::new(Config { memory: MEMORY, disks, ..Config::default() }).unwrap();
    let tlb = random_plan(random.bits()).geometry;
    let parts = Parts { model, tlb, ps_per_instruction: 1 + random.below(100_000) as u64 };
    let plan = Plan {
        kind: Kind::Raw,
        places: Vec::new(),
        roms: Vec::new(),
        handed: Vec::new(),
        start: Start::Reset,
        symbols: Vec::new(),
        notes: Vec::new(),
    };
    Machine::new(parts, board, &plan, ()).unwrap()
}

#[test]
fn nothing_that_a_guest_does_harms_the_host() {
    let wanted = number("PAGEWALK_FUZZ").unwrap_or(2_000_000);
    let seed = number("PAGEWALK_SEED").unwrap_or(0x5eed_0001);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut executed = 0;
    let mut unimplemented = std::collections::BTreeSet::new();
    while executed < wanted {
        let plan = random_plan(random.bits());
        let mut machine = machine(plan.model, &mut random);
        for _ in 0..32 {
            // what one state left is the next one's world, now and then
            let plan = random_plan(random.bits());
            let cpu = &mut machine.processor.cpu;
            if !random.once_in(4) {
                cpu.bus.ram_mut().write(0, &plan.memory);
            }
            for _ in 0..random.below(200) {
                let at = random.below(plan.memory.len() as u32 - 64) as usize;
                cpu.bus.ram_mut().write(at, &raw_bytes(&mut random));
            }
            install(cpu, &plan);
            let before = cpu.retired;
            let stop = machine.run(before + 2000);
            executed += machine.processor.cpu.retired - before;
            if let Stop::Unimplemented { code, .. } = stop {
                unimplemented.insert(format!("{code:?}"));
            }
            machine.give(Input::Serial { port: 0, bytes: vec![random.bits() as u8] });
            machine.give(Input::Keys(vec![random.bits() as u8]));
            let [right, up] = [random.bits() as i16, random.bits() as i16];
            machine.give(Input::Mouse(Movement {
                right,
                up,
                wheel: random.bits() as i8,
                buttons: random.bits() as u8,
            }));
        }
        machine.take_serial();
    }
    println!("{executed} instructions; opcodes without a body met: {unimplemented:?}");
}
