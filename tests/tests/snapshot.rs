//! A run that is split by saving and loading is the run that is not: state, counters, serial text and trace, wherever the
//! split is.

use std::io::{Cursor, Read as _, Write};
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use pagewalk_lens::trace::Sink;
use pagewalk_lens::{Filter, Lens, Topic, Trace};
use pagewalk_pc::board::{Board, Config, Input};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, Parts};
use pagewalk_pc::snapshot;
use pagewalk_testbins::{GUESTS, Guest, STORY, find};
use pagewalk_tests::{DISK, MEMORY, machine, number, plan};
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::{Counters, Geometry, Policy, Space};
use pagewalk_x86::model;
use pagewalk_x86::observe::Observer;
use pagewalk_x86::random::Random;

/// Enough of each guest for the story to swap and for all others to end.
const MOST: u64 = 3_000_000;

/// What a run came to.
#[derive(PartialEq, Debug)]
struct Outcome {
    stop: Stop,
    text: String,
    retired: u64,
    hash: u64,
    counters: Counters,
    spaces: Vec<Space>,
    deliveries: Vec<u64>,
}

impl Outcome {
    fn of<O: Observer>(machine: &Machine<O>, stop: Stop, text: &[u8]) -> Outcome {
        let cpu = &machine.processor.cpu;
        Outcome {
            stop,
            text: String::from_utf8_lossy(text).into_owned(),
            retired: cpu.retired,
            hash: machine.state_hash(),
            counters: cpu.tlb.counters.clone(),
            spaces: cpu.tlb.spaces(),
            deliveries: cpu.deliveries.to_vec(),
        }
    }
}

/// Saves and loads in memory.
fn through_a_file<O: Observer, P: Observer>(machine: &Machine<O>, observer: P) -> Machine<P> {
    let mut file = Cursor::new(Vec::new());
    snapshot::write(machine, &mut file).unwrap();
    snapshot::read(&mut file, observer).unwrap()
}

/// Runs on to `until`, past waits for nothing.
fn run_to<O: Observer>(machine: &mut Machine<O>, until: u64, text: &mut Vec<u8>) -> Stop {
    loop {
        let stop = machine.run(until);
        text.extend(machine.take_serial());
        if stop != Stop::Idle {
            return stop;
        }
    }
}

fn unsplit(guest: &Guest, tlb: Geometry) -> Outcome {
    let mut machine = machine(guest, tlb, ()).unwrap();
    let mut text = Vec::new();
    let stop = run_to(&mut machine, MOST, &mut text);
    Outcome::of(&machine, stop, &text)
}

/// The run split at each of these counts.
fn split(guest: &Guest, tlb: Geometry, at: &[u64]) -> Outcome {
    let mut machine = machine(guest, tlb, ()).unwrap();
    let mut text = Vec::new();
    for &at in at {
        let stop = run_to(&mut machine, at, &mut text);
        assert_eq!(stop, Stop::Limit, "{} at {at}", guest.name);
        let loaded = through_a_file(&machine, ());
        assert_eq!(loaded.state_hash(), machine.state_hash(), "{} at {at}", guest.name);
        machine = loaded;
    }
    let stop = run_to(&mut machine, MOST, &mut text);
    Outcome::of(&machine, stop, &text)
}

/// Ascending counts before `end`.
fn points(random: &mut Random, many: u32, end: u64) -> Vec<u64> {
    let mut points: Vec<u64> = (0..many).map(|_| 1 + random.bits() % (end - 1).max(1)).collect();
    points.sort_unstable();
    points.dedup();
    points.retain(|&at| at < end);
    points
}

#[test]
fn a_split_run_of_every_guest_is_the_unsplit_run() {
    let mut random = Random::new(1);
    for guest in GUESTS {
        let whole = unsplit(guest, Geometry::default());
        let at = points(&mut random, 12, whole.retired);
        assert_eq!(split(guest, Geometry::default(), &at), whole, "{} split at {at:?}", guest.name);
    }
}

#[test]
fn the_story_split_at_many_points_is_the_unsplit_story() {
    let whole = unsplit(&STORY, Geometry::default());
    let mut random = Random::new(2);
    for many in [1, 3, 40] {
        let at = points(&mut random, many, whole.retired);
        assert_eq!(split(&STORY, Geometry::default(), &at), whole, "split at {at:?}");
    }
}

#[test]
fn a_tlb_of_any_shape_and_policy_goes_on_where_it_was() {
    let mut random = Random::new(3);
    for policy in [Policy::Lru, Policy::Plru, Policy::Fifo, Policy::Random] {
        for (split_sides, tagged) in [(true, false), (false, true)] {
            let tlb = Geometry { entries: 16, ways: 4, large: 0, split: split_sides, policy, tagged };
            let whole = unsplit(&STORY, tlb);
            let at = points(&mut random, 4, whole.retired);
            assert_eq!(split(&STORY, tlb, &at), whole, "{tlb:?} split at {at:?}");
        }
    }
}

/// What an onlooker is told, as text.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lens(&self) -> Lens {
        let filter = Filter { topics: Topic::ALL.into_iter().collect(), ..Filter::default() };
        Lens::tracing(Trace::new(filter, Sink::Text(Box::new(self.clone()))))
    }
}

#[test]
fn the_traces_of_the_parts_are_the_trace_of_the_whole() {
    const END: u64 = 30_000;
    let mut random = Random::new(4);
    for name in ["story", "pae", "interrupts", "vm86", "rep", "smc", "apic", "task_switch", "debug_regs"] {
        let guest = find(name).unwrap();
        let whole = Shared::default();
        let mut machine = machine(guest, Geometry::default(), whole.lens()).unwrap();
        run_to(&mut machine, END, &mut Vec::new());
        let end = machine.processor.cpu.retired;

        let parts = Shared::default();
        let mut machine = pagewalk_tests::machine(guest, Geometry::default(), parts.lens()).unwrap();
        for at in points(&mut random, 20, end) {
            run_to(&mut machine, at, &mut Vec::new());
            machine = through_a_file(&machine, parts.lens());
        }
        run_to(&mut machine, END, &mut Vec::new());
        assert!(*parts.0.lock().unwrap() == *whole.0.lock().unwrap(), "{name}: the trace differs");
    }
}

/// The content of a snapshot, by the format that docs/snapshots.md describes.
fn unpack(file: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    ZlibDecoder::new(&file[36..]).read_to_end(&mut content).unwrap();
    content
}

/// A snapshot with this content, whose sums are all as they should be.
fn pack(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    let stream = encoder.finish().unwrap();
    let mut file = b"PAGEWALK".to_vec();
    file.extend(snapshot::VERSION.to_le_bytes());
    file.extend((stream.len() as u64).to_le_bytes());
    file.extend((content.len() as u64).to_le_bytes());
    file.extend(crc32fast::hash(&stream).to_le_bytes());
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file.extend(stream);
    file
}

/// The story's machine, half way, on a board with little memory and all kinds of disks.
fn half_way(at: u64) -> Machine<()> {
    let config = Config {
        memory: MEMORY,
        disks: vec![Disk::blank(DISK as u64 / 512), Disk::from_bytes(vec![7; 8192]).unwrap()],
        cdrom: Some(Disk::from_bytes(vec![9; 20480]).unwrap()),
        serial_ports: 2,
        ..Config::default()
    };
    let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 1000 };
    let plan = plan(STORY.image, "story", "").unwrap();
    let mut machine = Machine::new(parts, Board::new(config).unwrap(), &plan, ()).unwrap();
    run_to(&mut machine, at, &mut Vec::new());
    machine.give(Input::Serial { port: 0, bytes: b"typed".to_vec() });
    machine.give(Input::Keys(vec![0x1e, 0x9e]));
    machine
}

#[test]
fn a_snapshot_is_as_the_format_says() {
    let mut file = Cursor::new(Vec::new());
    let machine = half_way(300_000);
    snapshot::write(&machine, &mut file).unwrap();
    let content = unpack(file.get_ref());
    let loaded = snapshot::read(&mut Cursor::new(pack(&content)), ()).unwrap();
    assert_eq!(loaded.state_hash(), machine.state_hash());
}

/// Whatever a file holds whose sums are right, it is refused, or is a machine that runs.
#[test]
fn a_machine_from_a_damaged_file_is_refused_or_runs() {
    let wanted = number("PAGEWALK_FUZZ").unwrap_or(2_000_000) / 2_000;
    let seed = number("PAGEWALK_SEED").unwrap_or(0x5eed_0005);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let contents: Vec<Vec<u8>> = [1, 300_000, 900_000]
        .map(|at| {
            let mut file = Cursor::new(Vec::new());
            snapshot::write(&half_way(at), &mut file).unwrap();
            unpack(file.get_ref())
        })
        .to_vec();
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..wanted {
        let mut content = random.pick(&[&contents[0], &contents[1], &contents[2]]).clone();
        let machine = u64::from_le_bytes(content[..8].try_into().unwrap()) as usize;
        for _ in 0..1 + random.below(3) {
            // mostly in the processor and the chips; now and then in the numbers of pages and sectors
            let end = if random.once_in(8) { content.len() } else { content.len().min(machine + 8) };
            let at = random.bits() as usize % end;
            match random.below(8) {
                0 => content[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                1 => content.truncate(at.max(9)),
                2 => content.insert(at, random.bits() as u8),
                3 => drop(content.remove(at)),
                _ => content[at] ^= 1 << random.below(8),
            }
        }
        match snapshot::read(&mut Cursor::new(pack(&content)), ()) {
            Err(problem) => {
                let text = problem.to_string();
                assert!(!text.is_empty() && !text.contains('\n'), "{text}");
                refused += 1;
            }
            Ok(mut machine) => {
                ran += 1;
                let until = machine.processor.cpu.retired + 10_000;
                run_to(&mut machine, until, &mut Vec::new());
                machine.processor.cpu.bus.picture();
                machine.processor.cpu.bus.screen();
                // and it can be saved in its turn
                through_a_file(&machine, ());
            }
        }
    }
    println!("{refused} refused, {ran} ran");
    assert!(refused > wanted / 20 && ran > wanted / 20, "{refused} refused, {ran} ran: not much of a test");
}
