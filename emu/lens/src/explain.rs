//! Explanations: why an exception came, step by step, and how its delivery went.

use std::fmt::Write as _;

use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::CR0_PE;
use pagewalk_x86::cpu::{Cpu, State};
use pagewalk_x86::fault::{Fault, Shutdown, vector_mnemonic};
use pagewalk_x86::observe::{Cause, Observer};
use pagewalk_x86::segment::Segment;

use crate::bits;
use crate::disassemble::{disassemble, hex};
use crate::history::{Frame, Writers};
use crate::picture::peek_phys;

/// A function that names an address, such as `handler+0x12`.
pub type Namer<'a> = &'a dyn Fn(u32) -> Option<String>;

fn place(at: u32, name: Namer<'_>) -> String {
    match name(at) {
        Some(name) => format!("{at:#010x} <{name}>"),
        None => format!("{at:#010x}"),
    }
}

/// One frame as a paragraph.
pub fn frame(frame: &Frame, writers: Option<&Writers>, name: Namer<'_>) -> String {
    let mut out = String::new();
    let Frame { at, cause, state, .. } = frame;
    let _ = writeln!(out, "{}", headline(*cause));
    let _ = writeln!(
        out,
        "  where    instruction {} at {:04x}:{}, ring {}, {}",
        at.retired,
        at.cs,
        place(at.eip, name),
        at.cpl,
        mode(state)
    );
    let fetching = frame.translation.as_ref().is_some_and(|t| t.kind == "fetch");
    if !fetching {
        let text = disassemble(&frame.bytes, at.eip, frame.is_32bit);
        let _ = writeln!(out, "  running  {text}   [{}]", hex(&frame.bytes));
    }
    if let Some(t) = &frame.translation {
        let asker = match (t.asker, &t.about) {
            ("program", Some(segment)) => format!("its operand in {segment}"),
            ("fetch", _) => "the instruction fetch".into(),
            (asker, Some(about)) => format!("the processor itself ({asker} {about})"),
            (asker, None) => format!("the processor itself ({asker})"),
        };
        let offset = t.offset.map(|o| format!(" offset {o}")).unwrap_or_default();
        let _ = writeln!(out, "  access   {} by {asker}{offset} -> linear {}", t.kind, t.linear);
        if t.cached_rights {
            let _ =
                writeln!(out, "  tlb      the rights that the TLB held forbid it; the tables were not asked");
        }
        for step in &t.steps {
            let _ = writeln!(out, "  walk     {step}");
            if let Some(at) = step.at {
                let _ = writeln!(out, "           {}", last_writer(at.0, frame, writers, name));
            }
        }
        if t.steps.is_empty() {
            for source in &frame.sources {
                let _ = writeln!(out, "           {}", last_writer(source.0, frame, writers, name));
            }
        }
    } else if let Cause::Fault(Fault::GeneralProtection(0) | Fault::Stack(0)) = cause {
        for line in segments(state) {
            let _ = writeln!(out, "  segment  {line}");
        }
    }
    let _ = writeln!(out, "  rule     {}", rule(*cause));
    for t in &frame.delivery {
        let about = t.about.as_deref().map(|a| format!(" {a}")).unwrap_or_default();
        let end = match (&t.physical, &t.meaning) {
            (Some(physical), _) => format!("physical {physical}"),
            (None, Some(meaning)) => format!("#PF: {meaning}"),
            _ => String::new(),
        };
        let _ = writeln!(out, "  delivery {} {}{about} at linear {} -> {end}", t.kind, t.asker, t.linear);
    }
    out
}

fn headline(cause: Cause) -> String {
    let vector = cause.vector();
    match cause {
        Cause::Fault(fault) => {
            let code = fault.error_code().map(|c| format!(" error code {c:#06x}")).unwrap_or_default();
            let words = crate::record::explain_code(fault).map(|w| format!(": {w}")).unwrap_or_default();
            let address = match fault {
                Fault::Page { address, .. } => format!(", CR2 = {address:#010x}"),
                _ => String::new(),
            };
            format!("{} (vector {vector}){code}{words}{address}", fault.mnemonic())
        }
        Cause::External(_) => format!("hardware interrupt, vector {vector}"),
        Cause::Software(_) => format!("INT {vector:#x}"),
        _ => format!("{} (vector {vector})", vector_mnemonic(vector)),
    }
}

fn mode(state: &State) -> &'static str {
    match (state.cr0 & CR0_PE != 0, state.flags.vm()) {
        (false, _) => "real mode",
        (true, true) => "virtual-8086 mode",
        (true, false) => "protected mode",
    }
}

fn last_writer(at: u64, frame: &Frame, writers: Option<&Writers>, name: Namer<'_>) -> String {
    let Some(writers) = writers else { return "(who wrote it was not recorded)".into() };
    match writers.last(pagewalk_x86::bus::Phys(at), frame.at.retired) {
        Some(write) => format!(
            "last written by instruction {} at {:04x}:{} ({} bytes, {:#x})",
            write.at.retired,
            write.at.cs,
            place(write.at.eip, name),
            write.bytes,
            write.value
        ),
        None => "never written by an instruction: as it was when the machine started".into(),
    }
}

fn segments(state: &State) -> Vec<String> {
    let describe = |n: usize, s: &Segment| {
        let kind = if !s.usable {
            "null: no access at all".to_string()
        } else {
            let kind = match s.kind() & 0xe {
                _ if !s.is_segment() => "system",
                0x0 => "read-only data",
                0x2 => "data",
                0x4 => "expand-down, read-only data",
                0x6 => "expand-down data",
                0x8 | 0xc => "execute-only code",
                _ => "code",
            };
            format!("{kind}, base {:#010x}, limit {:#010x}, dpl {}", s.base, s.limit, s.dpl())
        };
        format!("{} = {:#06x}: {kind}", bits::segment_name(n as u8), s.selector)
    };
    state.segs.iter().enumerate().map(|(n, s)| describe(n, s)).collect()
}

/// The rule that an exception stands for, with the manual's section.
fn rule(cause: Cause) -> &'static str {
    match cause.vector() {
        0 => {
            "the divisor is zero or the quotient does not fit (SDM 3A \"Interrupt 0 - Divide Error Exception\")"
        }
        1 => "a debug condition; DR6 says which (SDM 3B \"Debug Exceptions\")",
        2 => "the NMI line was raised (SDM 3A \"Nonmaskable Interrupt\")",
        3 => "INT3 was executed (SDM 3A \"Interrupt 3 - Breakpoint Exception\")",
        4 => "INTO was executed with OF set (SDM 3A \"Interrupt 4 - Overflow Exception\")",
        5 => "the index is outside its bounds (SDM 3A \"Interrupt 5 - BOUND Range Exceeded Exception\")",
        6 => {
            "these bytes are no instruction that may run here (SDM 3A \"Interrupt 6 - Invalid Opcode Exception\")"
        }
        7 => {
            "CR0.EM or CR0.TS keeps the x87 unit away (SDM 3A \"Interrupt 7 - Device Not Available Exception\")"
        }
        8 => {
            "an exception came while another was being delivered (SDM 3A \"Interrupt 8 - Double Fault Exception\")"
        }
        10 => "the TSS does not hold what a switch needs (SDM 3A \"Interrupt 10 - Invalid TSS Exception\")",
        11 => "the descriptor's present bit is clear (SDM 3A \"Interrupt 11 - Segment Not Present\")",
        12 => "the stack segment does not allow it (SDM 3A \"Interrupt 12 - Stack Fault Exception\")",
        13 => "a protection rule was broken (SDM 3A \"Interrupt 13 - General Protection Exception\")",
        14 => {
            "the entries of the walk do not permit the access (SDM 3A \"Interrupt 14 - Page-Fault Exception\")"
        }
        16 => {
            "an unmasked x87 exception was waiting (SDM 3A \"Interrupt 16 - x87 FPU Floating-Point Error\")"
        }
        17 => "the address is not aligned (SDM 3A \"Interrupt 17 - Alignment Check Exception\")",
        _ => "an interrupt (SDM 3A \"Interrupt and Exception Handling\")",
    }
}

/// The IDT entry of a vector as it stands now.
pub fn gate<B: Bus, O: Observer>(cpu: &Cpu<B, O>, vector: u8) -> String {
    let idtr = cpu.idtr;
    let size = if cpu.cr0 & CR0_PE != 0 { 8 } else { 4 };
    let end = vector as u32 * size + size - 1;
    if end > idtr.limit as u32 {
        return format!(
            "IDT gate {vector} lies outside the IDT (base {:#010x}, limit {:#06x}, needs {end:#06x})",
            idtr.base, idtr.limit
        );
    }
    let linear = idtr.base.wrapping_add(vector as u32 * size);
    let byte = |n: u32| {
        let phys = cpu.peek(linear.wrapping_add(n))?;
        peek_phys(&cpu.bus, phys, 1)
    };
    let Some(raw) = (0..size).rev().try_fold(0u64, |value, n| Some(value << 8 | byte(n)?)) else {
        return format!("IDT gate {vector} at linear {linear:#010x} is not mapped");
    };
    if size == 4 {
        return format!("vector {vector} at {linear:#010x} leads to {:04x}:{:04x}", raw >> 16, raw & 0xffff);
    }
    let kind = match raw >> 40 & 0x1f {
        0x5 => "task gate",
        0x6 => "16-bit interrupt gate",
        0x7 => "16-bit trap gate",
        0xe => "32-bit interrupt gate",
        0xf => "32-bit trap gate",
        _ => "not a gate that an IDT may hold",
    };
    let present = if raw >> 47 & 1 != 0 { "present" } else { "not present" };
    let offset = raw & 0xffff | raw >> 32 & 0xffff_0000;
    format!(
        "IDT gate {vector} at linear {linear:#010x} = {raw:#018x}: {kind}, {present}, dpl {}, to {:04x}:{offset:08x}",
        raw >> 45 & 3,
        raw >> 16 & 0xffff
    )
}

/// A triple fault step by step: what happened first, what went wrong while delivering it, and so on to what went wrong
/// while delivering the double fault. Three frames, unless an exception that makes no double fault (such as #UD)
/// stands at the beginning.
pub fn shutdown<B: Bus, O: Observer>(
    cpu: &Cpu<B, O>,
    chain: &Shutdown,
    frames: &[&Frame],
    writers: Option<&Writers>,
    name: Namer<'_>,
) -> String {
    let mut out = String::new();
    // the frames of this chain: of one instruction, up to the #DF
    let last = frames.last().map(|f| f.at.retired);
    let steps: Vec<&&Frame> = frames
        .iter()
        .filter(|f| Some(f.at.retired) == last && !matches!(f.cause, Cause::Fault(Fault::DoubleFault)))
        .collect();
    let _ = writeln!(out, "1. What happened first");
    let mut delivering = match steps.first() {
        Some(first) => {
            out += &frame(first, writers, name);
            first.cause
        }
        None => {
            let cause = Cause::Fault(chain.first.unwrap_or(Fault::DoubleFault));
            let _ = writeln!(
                out,
                "{}\n  where    {:04x}:{}",
                headline(cause),
                chain.at.0,
                place(chain.at.1, name)
            );
            cause
        }
    };
    let mut met: Vec<(Option<Fault>, &str)> = Vec::new();
    for step in steps.iter().skip(1) {
        if let Cause::Fault(fault) = step.cause {
            met.push((Some(fault), ""));
        }
    }
    if delivering != Cause::Fault(Fault::DoubleFault) {
        met.push((chain.second, ", which makes #DF"));
    }
    met.push((chain.third, ", which shuts the processor down"));
    for (number, (fault, consequence)) in met.into_iter().enumerate() {
        let vector = delivering.vector();
        let what = vector_mnemonic(vector);
        let _ = writeln!(out, "{}. Delivering {what} (vector {vector}) failed{consequence}", number + 2);
        let _ = writeln!(out, "  gate     {}", gate(cpu, vector));
        if let Some(fault) = fault {
            let _ = writeln!(out, "  fault    {}", headline(Cause::Fault(fault)));
            let _ = writeln!(out, "  rule     {}", rule(Cause::Fault(fault)));
            delivering = Cause::Fault(fault);
        }
        if consequence.contains("#DF") {
            delivering = Cause::Fault(Fault::DoubleFault);
        }
    }
    out
}
