//! What is noted of our side as it runs: where its page tables and descriptor tables are.

use pagewalk_pc::machine::Machine;
use pagewalk_x86::observe::{At, Control, Observer};

use crate::tables::{Roots, Tables};

/// So many page directories are noted in a slice at most.
const MOST: usize = 1 << 12;

/// The observer of our side.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// CR3, and the descriptor tables, as they were loaded since the last slice.
    cr3: Vec<u32>,
    gdt: Vec<(u32, u32)>,
    /// All tables so far.
    pub(super) tables: Tables,
}

impl Observer for Watch {
    const ACTIVE: bool = true;

    fn control(&mut self, _at: &At, change: Control) {
        match change {
            Control::Cr { number: 3, old, new } => {
                for cr3 in [old, new] {
                    if self.cr3.len() < MOST && !self.cr3.contains(&cr3) {
                        self.cr3.push(cr3);
                    }
                }
            }
            Control::Table { name: "gdtr", base, limit } if self.gdt.len() < MOST => {
                self.gdt.push((base, limit as u32));
            }
            _ => {}
        }
    }
}

/// Follows the tables that were in use in the slice that has just run.
pub fn follow(machine: &mut Machine<Watch>) {
    let cpu = &mut machine.processor.cpu;
    let mut watch = std::mem::take(&mut cpu.observer);
    let now = Roots::from(&cpu.state);
    for gdt in watch.gdt.drain(..) {
        watch.tables.note(Roots { gdt, paging: false, ..now }, &cpu.bus);
    }
    for cr3 in watch.cr3.drain(..) {
        watch.tables.note(Roots { cr3, paging: true, ..now }, &cpu.bus);
    }
    watch.tables.refresh(now, &cpu.bus);
    cpu.observer = watch;
}
