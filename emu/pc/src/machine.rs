//! A whole PC: the processor on its board, with an image placed in memory and the registers set for its start.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};

use pagewalk_loader::{MemoryKind, MemoryRegion, Plan, Start};
use pagewalk_x86::Processor;
use pagewalk_x86::bus::{Bus, Phys, Request, Ticks};
use pagewalk_x86::clock::Clock;
use pagewalk_x86::control::{CR0_ET, CR0_PE};
use pagewalk_x86::fault::Stop;
use pagewalk_x86::flags;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model::{Features, Model};
use pagewalk_x86::observe::Observer;
use pagewalk_x86::regs::{EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP};
use pagewalk_x86::segment::{CS, DS, ES, FS, GS, SS, Segment, TableRegister};

use crate::board::{Board, BoardError, Input};
use crate::memory::Use;

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// What a machine is made of, beside its board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    /// The processor.
    pub model: Model,
    /// Its TLB.
    pub tlb: Geometry,
    /// Virtual time that an instruction takes, in picoseconds (1 to 10^9).
    pub ps_per_instruction: u64,
}

/// Something that came from outside, and when it took effect. All of it together makes a run repeatable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamped {
    /// Instructions retired when it came.
    pub count: u64,
    /// What came.
    pub input: Input,
}

/// A PC.
#[derive(Clone, Debug)]
pub struct Machine<O: Observer> {
    /// The processor, the board being its bus.
    pub processor: Processor<Board, O>,
    /// Whether there is firmware at the reset vector, so that a reset starts over.
    pub(crate) has_firmware: bool,
    pub(crate) inputs: Vec<Stamped>,
    /// Inputs of an earlier run still to be given, next one last.
    pub(crate) replay: Vec<Stamped>,
}

impl<O: Observer> Machine<O> {
    /// Places `plan` in the board's memory and sets the processor up for its start. The board must have been made with
    /// the plan's firmware, if it is one.
    pub fn new(parts: Parts, mut board: Board, plan: &Plan, observer: O) -> Result<Machine<O>, BoardError> {
        board.fit_local_apics(u8::from(parts.model.has(Features::APIC)));
        if plan.start != Start::Reset {
            board.firmware_defaults();
        }
        for place in &plan.places {
            board.place(Phys(place.at), &place.data)?;
            let mut zeros = Phys(place.at + place.data.len() as u64);
            let end = place.end();
            while zeros.0 < end {
                let len = (end - zeros.0).min(ZEROS.len() as u64);
                board.place(zeros, &ZEROS[..len as usize])?;
                zeros.0 += len;
            }
        }
        let mut processor = Processor::new(parts.model, parts.tlb, board, observer);
        processor.cpu.clock = Clock::new(parts.ps_per_instruction);
        start(&mut processor, plan.start);
        Ok(Machine {
            processor,
            has_firmware: plan.start == Start::Reset,
            inputs: Vec::new(),
            replay: Vec::new(),
        })
    }

    /// Runs until `until` instructions are retired in all, or something stops it.
    pub fn run(&mut self, until: u64) -> Stop {
        loop {
            let next = self.replay.last().map_or(until, |input| input.count.min(until));
            let stop = self.processor.run(next.max(self.processor.cpu.retired));
            if stop == Stop::Request(Request::Reset) && self.has_firmware {
                let cpu = &mut self.processor.cpu;
                let now = cpu.now();
                cpu.bus.reset(now);
                continue;
            }
            let due = self.replay.last().is_some_and(|input| input.count <= self.processor.cpu.retired);
            if !due || !matches!(stop, Stop::Limit | Stop::Halted) {
                return stop;
            }
            while let Some(due) = self.replay.pop_if(|due| due.count <= self.processor.cpu.retired) {
                self.give(due.input);
            }
        }
    }

    /// Something comes from outside now.
    pub fn give(&mut self, input: Input) {
        let cpu = &mut self.processor.cpu;
        let now = cpu.now();
        cpu.bus.input(&input, now);
        self.inputs.push(Stamped { count: cpu.retired, input });
    }

    /// Everything that came from outside so far.
    pub fn inputs(&self) -> &[Stamped] {
        &self.inputs
    }

    /// Gives these inputs of an earlier run again, each at its time. Those that the machine has had already, being one
    /// of the same run that was saved half way, are not given again.
    pub fn replay(&mut self, inputs: &[Stamped]) {
        self.replay = inputs.get(self.inputs.len()..).unwrap_or_default().to_vec();
        self.replay.reverse();
    }

    /// What the guest sent on COM1 since this was last asked.
    pub fn take_serial(&mut self) -> Vec<u8> {
        self.processor.cpu.bus.take_serial_output(0)
    }

    /// Virtual time.
    pub fn now(&self) -> Ticks {
        self.processor.cpu.now()
    }

    /// A hash of the whole state: processor, TLB, chips, memory, disks. Equal runs have equal hashes.
    pub fn state_hash(&self) -> u64 {
        struct Sink(DefaultHasher);
        impl std::fmt::Write for Sink {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        let cpu = &self.processor.cpu;
        let mut sink = Sink(DefaultHasher::new());
        // plain data all of it, so that its debug text is all of it
        let written = write!(sink, "{:?}{:?}{:?}", cpu.state, cpu.tlb, cpu.bus);
        debug_assert!(written.is_ok());
        sink.0.write(cpu.bus.ram().bytes());
        sink.0.finish()
    }
}

/// The board's memory map as the loader wants it: the VGA window is a hole.
pub fn memory_map(board: &Board) -> pagewalk_loader::MemoryMap {
    let regions = board.memory_map().regions.into_iter().filter(|region| region.purpose != Use::Video);
    pagewalk_loader::MemoryMap::new(
        regions
            .map(|region| MemoryRegion {
                base: region.start,
                len: region.len,
                kind: if region.purpose == Use::Usable {
                    MemoryKind::Available
                } else {
                    MemoryKind::Reserved
                },
            })
            .collect(),
    )
}

fn start<O: Observer>(processor: &mut Processor<Board, O>, start: Start) {
    let cpu = &mut processor.cpu;
    match start {
        Start::Reset => {}
        Start::Real { cs, ip, ds, es, ss, sp, dx } => {
            for (segment, selector) in [(CS, cs), (DS, ds), (ES, es), (SS, ss), (FS, 0), (GS, 0)] {
                cpu.segs[segment] = Segment::real(selector, 0);
            }
            cpu.eip = ip as u32;
            cpu.regs.set_dword(ESP, sp as u32);
            cpu.regs.set_dword(EDX, dx as u32);
            cpu.idtr.base = 0;
            cpu.idtr.limit = 0x3ff;
            cpu.flags.set(flags::IF, flags::IF);
        }
        Start::Linux { eip, esi, gdt } => {
            self::start(
                processor,
                Start::Protected { eip, eax: 0, ebx: 0, ecx: 0, edx: 0, esi, edi: 0, ebp: 0, esp: 0 },
            );
            let cpu = &mut processor.cpu;
            for segment in [DS, ES, SS, FS, GS] {
                cpu.segs[segment] = Segment::new(0x18, 0, 0xffff_ffff, 0xc093);
            }
            cpu.segs[CS] = Segment::new(0x10, 0, 0xffff_ffff, 0xc09b);
            cpu.state.gdtr = TableRegister { base: gdt, limit: 31 };
            cpu.update_context();
            return;
        }
        Start::Protected { eip, eax, ebx, ecx, edx, esi, edi, ebp, esp } => {
            // no table backs these: a kernel loads its own before it loads a segment register
            for segment in [DS, ES, SS, FS, GS] {
                cpu.segs[segment] = Segment::new(0x10, 0, 0xffff_ffff, 0xc093);
            }
            cpu.segs[CS] = Segment::new(0x08, 0, 0xffff_ffff, 0xc09b);
            let registers = [
                (EAX, eax),
                (EBX, ebx),
                (ECX, ecx),
                (EDX, edx),
                (ESI, esi),
                (EDI, edi),
                (EBP, ebp),
                (ESP, esp),
            ];
            for (register, value) in registers {
                cpu.regs.set_dword(register, value);
            }
            cpu.cr0 = CR0_PE | CR0_ET;
            cpu.eip = eip;
            for table in [&mut cpu.state.gdtr, &mut cpu.state.idtr] {
                *table = TableRegister { base: 0, limit: 0 };
            }
            cpu.ldtr = Segment::null(0);
            cpu.tr = Segment::new(0, 0, 0x67, 0x8b);
        }
    }
    cpu.update_context();
}
