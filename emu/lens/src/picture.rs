//! A page walk as a picture in text.

use pagewalk_x86::bus::{Bus, Frame, Phys};
use pagewalk_x86::cpu::Cpu;
use pagewalk_x86::mmu::tlb::Slot;
use pagewalk_x86::mmu::walk::{self, Access, Entries, Kind, Leaf, Level, PagingMode, Privilege, WalkFault};
use pagewalk_x86::observe::{Observer, Step};
use pagewalk_x86::ram::Ram;

use crate::bits;
use crate::record::StepRecord;

/// A walk made for looking: nothing in the machine changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    /// The linear address.
    pub linear: u32,
    /// How addresses are translated now.
    pub mode: PagingMode,
    /// CR3.
    pub cr3: u32,
    /// The entries used.
    pub steps: Vec<Step>,
    /// The page, or why there is none.
    pub result: Result<Leaf, WalkFault>,
    /// Whether a user-mode read, write and fetch would be permitted.
    pub user: [bool; 3],
    /// The same for a supervisor.
    pub supervisor: [bool; 3],
    /// What the TLB holds for it: slot, physical address, and whether the walk says the same.
    pub cached: Vec<(Slot, Phys, bool)>,
}

struct Looking<'a, B> {
    bus: &'a B,
    steps: Vec<Step>,
}

/// Reads memory without touching devices.
pub fn peek_phys<B: Bus>(bus: &B, at: Phys, bytes: u32) -> Option<u64> {
    match bus.frame(at.0 >> 12) {
        Frame::Ram(page) | Frame::Rom(page) => {
            let ram: &Ram = bus.ram();
            let slice = ram.slice(page + (at.0 & 0xfff) as usize, bytes as usize);
            Some(slice.iter().rev().fold(0, |value, &byte| value << 8 | byte as u64))
        }
        Frame::Device => None,
    }
}

impl<B: Bus> Entries for Looking<'_, B> {
    fn read(&mut self, at: Phys, bytes: u32) -> u64 {
        peek_phys(self.bus, at, bytes).unwrap_or(u64::MAX >> (64 - bytes * 8))
    }
    fn set_bits(&mut self, at: Phys, _: u32, _: u64, bits: u64) {
        if let Some(step) = self.steps.iter_mut().find(|s| s.at == Some(at)) {
            step.set |= bits;
        }
    }
    fn step(&mut self, level: Level, at: Option<Phys>, value: u64) {
        self.steps.push(Step { level, at, value, set: 0 });
    }
}

/// Walks `linear` for looking.
pub fn look<B: Bus, O: Observer>(cpu: &Cpu<B, O>, linear: u32) -> Look {
    let paging = *cpu.paging();
    let try_walk = |kind, privilege| {
        let mut looking = Looking { bus: &cpu.bus, steps: Vec::new() };
        let result = walk::walk(&paging, &mut looking, linear, Access { kind, privilege });
        (looking.steps, result)
    };
    let kinds = [Kind::Read, Kind::Write, Kind::Fetch];
    if paging.mode == PagingMode::Off {
        let leaf = Leaf {
            base: Phys((linear & !0xfff) as u64),
            shift: 12,
            rights: walk::Rights::default(),
            dirty: false,
            global: false,
            sources: Default::default(),
            reads: 0,
        };
        return Look {
            linear,
            mode: paging.mode,
            cr3: cpu.cr3,
            steps: Vec::new(),
            result: Ok(leaf),
            user: [true; 3],
            supervisor: [true; 3],
            cached: Vec::new(),
        };
    }
    let supervisor = Privilege::Supervisor { ac: true };
    let (steps, result) = try_walk(Kind::Read, supervisor);
    let permitted = |privilege| kinds.map(|kind| try_walk(kind, privilege).1.is_ok());
    let mut cached: Vec<(Slot, Phys, bool)> = [Kind::Fetch, Kind::Read]
        .into_iter()
        .filter_map(|kind| cpu.tlb.lookup(kind, linear))
        .map(|slot| {
            let phys = cpu.tlb.entry(slot).phys(linear);
            let same = result.is_ok_and(|leaf| phys_in(&leaf, linear) == phys);
            (slot, phys, same)
        })
        .collect();
    cached.dedup();
    let plain = Privilege::Supervisor { ac: cpu.flags.system(pagewalk_x86::flags::AC) };
    Look {
        linear,
        mode: paging.mode,
        cr3: cpu.cr3,
        steps,
        result,
        user: permitted(Privilege::User),
        supervisor: permitted(plain),
        cached,
    }
}

fn phys_in(leaf: &Leaf, linear: u32) -> Phys {
    Phys(leaf.base.0 | (linear & ((1u32 << leaf.shift) - 1)) as u64)
}

fn rights(permitted: [bool; 3]) -> String {
    let letters = ["r", "w", "x"];
    letters.iter().zip(permitted).map(|(letter, yes)| if yes { *letter } else { "-" }).collect()
}

impl std::fmt::Display for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let linear = self.linear;
        if self.mode == PagingMode::Off {
            return writeln!(
                f,
                "linear {linear:#010x}\n└─ paging is off (CR0.PG = 0): physical {linear:#010x}"
            );
        }
        let pae = self.mode == PagingMode::Pae;
        let fields: &[(&str, u32, u32)] = match (pae, self.large()) {
            (false, false) => &[("directory", 31, 22), ("table", 21, 12), ("offset", 11, 0)],
            (false, true) => &[("directory", 31, 22), ("offset", 21, 0)],
            (true, false) => &[("pdpt", 31, 30), ("directory", 29, 21), ("table", 20, 12), ("offset", 11, 0)],
            (true, true) => &[("pdpt", 31, 30), ("directory", 29, 21), ("offset", 20, 0)],
        };
        writeln!(f, "linear {linear:#010x}")?;
        let cells: Vec<(String, String)> = fields
            .iter()
            .map(|&(name, high, low)| {
                let width = high - low + 1;
                let value = (linear as u64 >> low) & ((1 << width) - 1);
                (format!("{name} {high}..{low}"), format!("{value:0w$b} = {value:#x}", w = width as usize))
            })
            .map(|(head, value)| {
                let width = head.len().max(value.len());
                (format!("{head:^width$}"), format!("{value:^width$}"))
            })
            .collect();
        let rule = |left: &str, mid: &str, right: &str| {
            let bars: Vec<String> = cells.iter().map(|(h, _)| "─".repeat(h.len() + 2)).collect();
            format!("  {left}{}{right}", bars.join(mid))
        };
        let row = |pick: &dyn Fn(&(String, String)) -> String| {
            let texts: Vec<String> = cells.iter().map(pick).collect();
            format!("  │ {} │", texts.join(" │ "))
        };
        writeln!(f, "{}", rule("┌", "┬", "┐"))?;
        writeln!(f, "{}", row(&|c| c.0.clone()))?;
        writeln!(f, "{}", row(&|c| c.1.clone()))?;
        writeln!(f, "{}", rule("└", "┴", "┘"))?;
        writeln!(f, "  CR3 = {:#010x}", self.cr3)?;
        for (depth, step) in self.steps.iter().enumerate() {
            let step = StepRecord::new(step, linear, pae);
            let place = match step.at {
                Some(at) => format!("at {at}"),
                None => "in its register".into(),
            };
            let indent = "   ".repeat(depth);
            writeln!(
                f,
                "  {indent}└─▶ {}[{:#x}] {place}  =  {}   {}",
                step.level, step.index, step.value, step.bits
            )?;
        }
        let indent = "   ".repeat(self.steps.len());
        match &self.result {
            Ok(leaf) => {
                let size = match leaf.shift {
                    12 => "4 KiB",
                    21 => "2 MiB",
                    _ => "4 MiB",
                };
                let phys = phys_in(leaf, linear);
                let global = if leaf.global { ", global" } else { "" };
                let offset = phys.0 - leaf.base.0;
                writeln!(
                    f,
                    "  {indent}└─▶ {size} page at {:#010x} + {offset:#x}  =  physical {:#010x}",
                    leaf.base.0, phys.0
                )?;
                writeln!(
                    f,
                    "  rights: user {}, supervisor {}{global}",
                    rights(self.user),
                    rights(self.supervisor)
                )?;
            }
            Err(fault) => {
                let level = bits::level_name(fault.level);
                let rule = if fault.code & walk::CODE_RSVD != 0 {
                    "has reserved bits set"
                } else if fault.code & walk::CODE_P == 0 {
                    "is not present"
                } else {
                    "forbids a supervisor read"
                };
                writeln!(f, "  {indent}└─✗ page fault: the {level} {rule} (error code {:#x})", fault.code)?;
            }
        }
        if self.cached.is_empty() {
            writeln!(f, "  TLB: nothing for this page")?;
        }
        for (slot, phys, same) in &self.cached {
            let verdict = if *same { "as the walk says" } else { "STALE: the tables say otherwise" };
            writeln!(f, "  TLB: slot {slot} gives physical {:#010x}, {verdict}", phys.0)?;
        }
        Ok(())
    }
}

impl Look {
    fn large(&self) -> bool {
        self.result.is_ok_and(|leaf| leaf.shift > 12)
    }
}
