//! Where the processor of the host differs from the manual's order or from what any processor must do, by name. A
//! difference that is not one of these is a bug, here or in pagewalk.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::case::{End, Outcome};
use crate::compare::{Difference, instructions, same_fpu};
use crate::world::{Kind, PAGE, PAGES, Rights, World};

/// A permitted difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Explained {
    /// ENTER, PUSHA and CALL FAR push one by one and do not take back what they pushed below ESP when they fault; pagewalk
    /// writes nothing. The manual (SDM 2A "ENTER") leaves open what lies below the stack pointer of an instruction to be
    /// restarted.
    PushesStay,
    /// CALL FAR: AMD's processors push before they look at the offset and at the room for the second push, and fault on the
    /// page of the first one (SDM 2A "CALL" checks both before it pushes).
    CallFarPushesFirst,
    /// CALL near: AMD's processors push before they hold the target against the limit (SDM 2A "CALL" checks that first).
    CallPushesFirst,
    /// POPA that faults midway has loaded the registers it came to; pagewalk loads none. The instruction is restarted.
    PopaKeepsPops,
    /// RET FAR and IRET: AMD's processors read CS before EIP, and with an RPL other than CPL the outer SS before they check CS; they
    /// fault on what they read first (SDM 2B "RET", Operation, has the other order).
    RetfReadsInAnotherOrder,
    /// A trap between two iterations of a repeated string instruction saves RF as 0 on AMD's processors, and as 1 on
    /// Intel's (SDM 3B "Instruction-Breakpoint Exception Condition").
    TrapWithinRepetition,
    /// INT1 saves EIP of the next instruction; under a hypervisor that intercepts #DB, now and then its own.
    Int1UnderHypervisor,
    /// The parts of an x87 environment or image are accessed in any order: on two pages, either may fault first, and a load
    /// that faults may have loaded a part.
    ImageOrder,
    /// An x87 image or MASKMOV's operand that crosses 64 KiB with 16-bit addresses, or 4 GiB, or POPA on a 16-bit stack that does, faults
    /// on AMD's processors and wraps here, or the other way round; it is for each processor to say (SDM 3B "Segment Wraparound").
    ImageWraps,
    /// Bytes that are undefined and too long: #UD and #GP(0) have the same priority (SDM 3A "Priority Among Concurrent Events").
    LongAndUndefined,
    /// Bytes that are undefined before all of them are fetched, at the end of the last page that may be: #UD here, while AMD's
    /// processors fetch what would belong to them (SDM 3A "Priority Among Concurrent Events" does not say how long they are).
    UndefinedAcrossPages,
    /// A repeated string instruction that overwrites itself: here the next iteration is of what stands there then; AMD's
    /// processors go on (SDM 3A "Self-Modifying Code" asks for a jump in between).
    RepetitionOverwritesItself,
    /// A branch close to the code segment's limit: AMD's processors may find what lies beyond it before they follow it.
    LoopAtTheLimit,
    /// IRET with NT set returns to another task, or faults on its TSS; under a 64-bit kernel it is #GP(0) (SDM 2A "IRET", IA-32e
    /// mode).
    NestedReturn,
    /// A far transfer to Linux's 64-bit code segment (33h): CALL FAR pushes as 64-bit code does, without a base, and what stands
    /// there is executed as 64-bit code.
    LongMode,
    /// LSL of Linux's selector 78h tells which processor it runs on.
    LslOfCpuNumber,
    /// FXSAVE: the last instruction's pointers and opcode, MXCSR_MASK and reserved bytes differ from one processor to the next
    /// (SDM 1 "FXSAVE Area").
    FxsavePointers,
    /// FXSAVE, FXRSTOR of an image that is not wholly within reach: which of limit, alignment and pages counts first, and
    /// whether the part that is not in use counts, differs (SDM 2A "FXSAVE" leaves #AC to the processor).
    FxsaveBeyond,
    /// MASKMOVQ and MASKMOVDQU: which of #AC, the limit's fault and #PF comes first, and whether bytes that are masked off count
    /// (SDM 2A "MASKMOVDQU" leaves that to the processor).
    MaskmovFaults,
    /// MASKMOVQ and conversions with MM registers that fault have entered the MMX state already on AMD's processors: TOP is 0, no
    /// register empty.
    MmxEntered,
    /// Bit 17 of MXCSR (MM, misaligned operands) exists on AMD's processors, and is refused here (AMD APM 1 "MXCSR Register").
    MisalignedMask,
}

impl Explained {
    /// All of them.
    pub const ALL: [Explained; 21] = [
        Explained::PushesStay,
        Explained::CallFarPushesFirst,
        Explained::CallPushesFirst,
        Explained::PopaKeepsPops,
        Explained::RetfReadsInAnotherOrder,
        Explained::TrapWithinRepetition,
        Explained::Int1UnderHypervisor,
        Explained::ImageOrder,
        Explained::ImageWraps,
        Explained::LongAndUndefined,
        Explained::UndefinedAcrossPages,
        Explained::RepetitionOverwritesItself,
        Explained::LoopAtTheLimit,
        Explained::NestedReturn,
        Explained::LongMode,
        Explained::LslOfCpuNumber,
        Explained::FxsavePointers,
        Explained::FxsaveBeyond,
        Explained::MaskmovFaults,
        Explained::MmxEntered,
        Explained::MisalignedMask,
    ];

    /// One clause for figures.
    pub fn sentence(self) -> &'static str {
        match self {
            Explained::PushesStay => "ENTER, PUSHA, CALL FAR that fault leave their pushes below ESP",
            Explained::CallFarPushesFirst => "CALL FAR pushes before it checks the rest",
            Explained::CallPushesFirst => "CALL near pushes before it checks the target",
            Explained::PopaKeepsPops => "POPA that faults keeps the registers it loaded",
            Explained::RetfReadsInAnotherOrder => {
                "RET FAR and IRET read CS before EIP, the outer SS before it checks CS"
            }
            Explained::TrapWithinRepetition => "a trap within a repeated string instruction saves RF as 0",
            Explained::Int1UnderHypervisor => "INT1 saves its own EIP under a hypervisor",
            Explained::ImageOrder => "the parts of an x87 image are accessed in another order",
            Explained::ImageWraps => {
                "an x87 image, MASKMOV or POPA that crosses 64 KiB with 16-bit addresses, or 4 GiB, faults"
            }
            Explained::LongAndUndefined => "bytes both undefined and too long raise the other exception",
            Explained::UndefinedAcrossPages => "undefined bytes at the end of a page are fetched whole first",
            Explained::RepetitionOverwritesItself => {
                "a repeated string instruction overwrites itself and goes on"
            }
            Explained::LoopAtTheLimit => "a loop that ends at the code segment's limit faults before it ends",
            Explained::NestedReturn => "IRET with NT set is #GP(0) under a 64-bit kernel",
            Explained::LongMode => "a far transfer to Linux's 64-bit code segment",
            Explained::LslOfCpuNumber => "LSL of selector 78h tells the processor's number",
            Explained::FxsavePointers => "FXSAVE stores other pointers, mask and reserved bytes",
            Explained::FxsaveBeyond => "FXSAVE, FXRSTOR of an image partly out of reach fault otherwise",
            Explained::MaskmovFaults => "MASKMOVQ, MASKMOVDQU fault otherwise, or for other bytes",
            Explained::MmxEntered => "MASKMOVQ, CVTPS2PI and their kin that fault have entered the MMX state",
            Explained::MisalignedMask => "MXCSR has a bit 17",
        }
    }
}

/// Why a difference is permitted, if it is.
pub fn explain(world: &World, difference: &Difference) -> Option<Explained> {
    let (ours, native) = (&difference.ours, &difference.native);
    if differ_by_cpu_number(difference) {
        return Some(Explained::LslOfCpuNumber);
    }
    if ours.selectors[1] | 3 == 0x33 {
        return Some(Explained::LongMode);
    }
    if image_wraps(world, difference) {
        return Some(Explained::ImageWraps);
    }
    if has_misaligned_mask(native) && !has_misaligned_mask(ours) {
        return Some(Explained::MisalignedMask);
    }
    let loads_mxcsr = |at: Instruction| matches!(at.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Fxrstor);
    let refused = ours.end == (End::Fault { vector: 13, code: 0, cr2: 0 }) && native.eip != ours.eip;
    if refused && instruction_at(world, difference, ours.eip).is_some_and(loads_mxcsr) {
        return Some(Explained::MisalignedMask);
    }
    if differ_by_fxsave(difference) {
        return Some(Explained::FxsavePointers);
    }
    if maskmov_faults(world, difference) {
        return Some(Explained::MaskmovFaults);
    }
    if fxsave_reaches_beyond(world, difference) {
        return Some(Explained::FxsaveBeyond);
    }
    let End::Fault { vector, cr2, .. } = native.end else { return None };
    let fetch = matches!(native.end, End::Fault { vector: 14, code, .. } if code & 0x10 != 0);
    if fetch && matches!(ours.end, End::Fault { vector: 6, .. }) && native.eip == ours.eip {
        return Some(Explained::UndefinedAcrossPages);
    }
    if is_long_and_undefined(difference) {
        return Some(Explained::LongAndUndefined);
    }
    let nested =
        matches!(ours.end, End::Fault { vector: 10, .. }) && ours.eflags & native.eflags & 0x4000 != 0;
    if nested && native.end == (End::Fault { vector: 13, code: 0, cr2: 0 }) && ours.regs == native.regs {
        return Some(Explained::NestedReturn);
    }
    if loops_at_the_limit(world, difference) {
        return Some(Explained::LoopAtTheLimit);
    }
    if overwrites_itself(world, difference) {
        return Some(Explained::RepetitionOverwritesItself);
    }
    // INT1 may also stand where the case jumped to
    let stepped_back = ours.end == native.end && vector == 1 && ours.eip == native.eip.wrapping_add(1);
    if stepped_back && faulting(world, difference).is_none() {
        let same = ours.regs == native.regs && same_but_memory(ours, native, difference.masked);
        return (same && ours.written == native.written).then_some(Explained::Int1UnderHypervisor);
    }
    let at = faulting(world, difference)?;
    let same_end = ours.end == native.end;
    if at.mnemonic() == Mnemonic::Int1 {
        let next = at.next_ip() as u32;
        let same = same_end && ours.regs == native.regs && same_but_memory(ours, native, difference.masked);
        return (same && ours.eip == next && ours.written == native.written)
            .then_some(Explained::Int1UnderHypervisor);
    }
    if ours.eip != native.eip {
        return None;
    }
    let pops_all = matches!(at.mnemonic(), Mnemonic::Popa | Mnemonic::Popad);
    if pops_all {
        // the eight slots may be read in another order
        let End::Fault { vector: other, cr2: first, .. } = ours.end else { return None };
        let same_end = vector == other && first.abs_diff(cr2) < 32;
        let same = same_end && same_but_memory(ours, native, difference.masked);
        return (same && ours.written == native.written).then_some(Explained::PopaKeepsPops);
    }
    if ours.regs != native.regs {
        return None;
    }
    if vector == 1 && at.is_string_instruction() {
        const RF: u32 = 1 << 16;
        let same = same_end && same_but_memory(ours, native, difference.masked | RF);
        return (same && ours.written == native.written).then_some(Explained::TrapWithinRepetition);
    }
    let ss = world.descriptor(ours.selectors[2]);
    let (stack, big) = ss.map_or((0, true), |descriptor| (descriptor.base, descriptor.big));
    let mask = if big { u32::MAX } else { 0xffff };
    // how far below the top of the stack
    let below =
        |address: u32| (ours.regs[4].wrapping_sub(address.wrapping_sub(stack)) & mask).wrapping_sub(1);
    let same = same_end && same_but_memory(ours, native, difference.masked);
    let size = (at.code().op_code().operand_size() / 8).max(2);
    match at.mnemonic() {
        Mnemonic::Enter | Mnemonic::Pusha | Mnemonic::Pushad => {
            // at most 32 levels, the frame pointer and as many bytes again for a partial line
            let allowed = changed(ours, native).all(|address| below(address) < 136);
            (same && allowed).then_some(Explained::PushesStay)
        }
        Mnemonic::Call if at.is_call_far() || at.is_call_far_indirect() => {
            let allowed = changed(ours, native).all(|address| below(address) < 2 * size);
            let on_stack = vector == 14 && below(cr2) < 2 * size;
            if same && allowed {
                Some(Explained::PushesStay)
            } else {
                // or beyond the stack segment, or misaligned
                let on_stack = on_stack || matches!(vector, 12 | 17);
                (!same_end && allowed && on_stack).then_some(Explained::CallFarPushesFirst)
            }
        }
        Mnemonic::Call => {
            let refused = matches!(ours.end, End::Fault { vector: 13, .. });
            let on_stack = matches!(vector, 12 | 17) || vector == 14 && below(cr2) < size;
            (refused && on_stack && ours.written == native.written).then_some(Explained::CallPushesFirst)
        }
        Mnemonic::Retf | Mnemonic::Iret | Mnemonic::Iretd => {
            let released = if at.op_count() == 1 { at.immediate16() as u32 } else { 0 };
            let lies_at = |distance: u32| {
                let offset = ours.regs[4].wrapping_add(distance) & mask;
                cr2.wrapping_sub(stack.wrapping_add(offset)) < size
            };
            let is_outer = (2..5).any(|slot| lies_at(slot * size + released));
            // the outer stack pointer may also lie beyond the segment, or misaligned
            let reads = vector == 14 && (lies_at(size) || is_outer) || matches!(vector, 12 | 17);
            (!same_end && reads).then_some(Explained::RetfReadsInAnotherOrder)
        }
        mnemonic if is_image(mnemonic) => {
            let End::Fault { vector: other_vector, cr2: other, .. } = ours.end else { return None };
            let loads = matches!(mnemonic, Mnemonic::Fldenv | Mnemonic::Frstor | Mnemonic::Fxrstor);
            let same_fpu = loads || same_fpu(ours, native);
            let same = same_but_fpu(ours, native, difference.masked) && same_fpu;
            // a part beyond the limit, or a page that is not there
            let limit = matches!((vector, other_vector), (12 | 13, 14) | (14, 12 | 13));
            let both = limit || vector == other_vector && other.abs_diff(cr2) < image_bytes(mnemonic);
            (same && both).then_some(Explained::ImageOrder)
        }
        Mnemonic::Maskmovq
        | Mnemonic::Cvtps2pi
        | Mnemonic::Cvttps2pi
        | Mnemonic::Cvtpd2pi
        | Mnemonic::Cvttpd2pi
        | Mnemonic::Cvtpi2ps
        | Mnemonic::Cvtpi2pd => {
            let same = same_end && same_but_fpu(ours, native, difference.masked);
            (same && ours.written == native.written).then_some(Explained::MmxEntered)
        }
        _ => None,
    }
}

/// Whether the instruction stores or loads an x87 environment or image.
fn is_image(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(mnemonic, Fnstenv | Fnsave | Fldenv | Frstor | Fxsave | Fxrstor)
}

/// Its size at most.
fn image_bytes(mnemonic: Mnemonic) -> u32 {
    if matches!(mnemonic, Mnemonic::Fxsave | Mnemonic::Fxrstor) { 512 } else { 108 }
}

fn has_misaligned_mask(outcome: &Outcome) -> bool {
    outcome.fpu.as_ref().is_some_and(|image| image[26] & 2 != 0)
}

/// Whether a case with FXSAVE differs in nothing but the parts of its image that differ between processors.
fn differ_by_fxsave(difference: &Difference) -> bool {
    let (ours, native) = (&difference.ours, &difference.native);
    let all = instructions(&difference.case, difference.big, difference.eip);
    all.iter().any(|instruction| instruction.mnemonic() == Mnemonic::Fxsave)
        && (ours.end, ours.eip, ours.regs) == (native.end, native.eip, native.regs)
        && same_but_memory(ours, native, difference.masked)
        // bytes 5 to 23 and 28 to 31
        && span(changed(ours, native)) < 27
}

/// From the lowest address to the highest.
fn span(addresses: impl Iterator<Item = u32>) -> u32 {
    let (low, high) = addresses.fold((u32::MAX, 0), |(low, high), at| (low.min(at), high.max(at)));
    high.saturating_sub(low)
}

/// The instruction that EIP points at.
fn faulting(world: &World, difference: &Difference) -> Option<Instruction> {
    instruction_at(world, difference, difference.native.eip)
}

/// The instruction at this EIP, also where the case jumped into the midst of another, or to what memory holds elsewhere.
fn instruction_at(world: &World, difference: &Difference, eip: u32) -> Option<Instruction> {
    let at = eip.wrapping_sub(difference.eip) as usize;
    let own = difference.case.code.get(at..).filter(|bytes| !bytes.is_empty());
    let (bytes, big) = match own {
        Some(bytes) => (bytes.to_vec(), difference.big),
        None => {
            let cs = difference.native.selectors[1];
            let base = world.descriptor(cs).map_or(0, |descriptor| descriptor.base);
            (memory_at(world, difference, base.wrapping_add(eip)), world.is_big(cs))
        }
    };
    let bitness = if big { 32 } else { 16 };
    let mut decoder = Decoder::with_ip(bitness, &bytes, eip as u64, DecoderOptions::NONE);
    decoder.can_decode().then(|| decoder.decode())
}

/// What memory held at a linear address outside the code when the case ended natively: at most the bytes of an instruction.
fn memory_at(world: &World, difference: &Difference, linear: u32) -> Vec<u8> {
    let run = |runs: &[(u32, Vec<u8>)], at: u32| -> Option<u8> {
        runs.iter().find_map(|(start, run)| run.get(at.wrapping_sub(*start) as usize).copied())
    };
    let byte = |at: u32| -> Option<u8> {
        let (page, _) = PAGES.iter().find(|(page, _)| at.wrapping_sub(*page) < PAGE)?;
        let pattern = || world.pattern(*page)[(at - page) as usize];
        run(&difference.native.written, at)
            .or_else(|| run(&difference.case.memory, at))
            .or_else(|| Some(pattern()))
    };
    (0..15).map_while(|n| byte(linear.wrapping_add(n))).collect()
}

fn same_but_memory(a: &Outcome, b: &Outcome, masked: u32) -> bool {
    same_but_fpu(a, b, masked) && same_fpu(a, b)
}

fn same_but_fpu(a: &Outcome, b: &Outcome, masked: u32) -> bool {
    (a.eflags ^ b.eflags) & !masked == 0 && a.selectors == b.selectors
}

/// Whether a case with LSL differs in nothing but registers that hold the number of a processor.
fn differ_by_cpu_number(difference: &Difference) -> bool {
    let (ours, native) = (&difference.ours, &difference.native);
    let all = instructions(&difference.case, difference.big, difference.eip);
    all.iter().any(|instruction| instruction.mnemonic() == Mnemonic::Lsl)
        && (ours.end, ours.eip, &ours.written) == (native.end, native.eip, &native.written)
        && same_but_memory(ours, native, difference.masked)
        && ours.regs.iter().zip(native.regs).all(|(&a, b)| a == b || (a & 0xffff < 256 && b & 0xffff < 256))
}

/// Addresses that one wrote and the other did not, or differently.
fn changed<'a>(a: &'a Outcome, b: &'a Outcome) -> impl Iterator<Item = u32> + 'a {
    let byte = |outcome: &Outcome, at: u32| -> Option<u8> {
        outcome.written.iter().find_map(|(start, run)| run.get(at.wrapping_sub(*start) as usize).copied())
    };
    let addresses = |outcome: &'a Outcome| {
        outcome.written.iter().flat_map(|(start, run)| (0..run.len() as u32).map(move |n| start + n))
    };
    addresses(a).chain(addresses(b)).filter(move |&at| byte(a, at) != byte(b, at))
}

/// Whether the case stopped at an x87 environment or image that does not fit below 64 KiB, by 16-bit addresses.
fn image_wraps(world: &World, difference: &Difference) -> bool {
    // whichever of the two stopped there
    [&difference.native, &difference.ours].into_iter().any(|outcome| {
        let at = instruction_at(world, difference, outcome.eip);
        matches!(outcome.end, End::Fault { .. }) && at.is_some_and(|at| wraps(at, outcome))
    })
}

fn wraps(at: Instruction, stopped: &Outcome) -> bool {
    if matches!(at.mnemonic(), Mnemonic::Popa | Mnemonic::Popad) {
        let sp = stopped.regs[4] & 0xffff;
        return sp + 32 > 0x1_0000;
    }
    let bytes = match at.mnemonic() {
        Mnemonic::Maskmovq => 8,
        Mnemonic::Maskmovdqu => 16,
        _ => 0,
    };
    if bytes != 0 {
        let top = if at.op0_kind() == OpKind::MemorySegDI { 0x1_0000 } else { 1 << 32 };
        return (stopped.regs[7] as u64 & (top - 1)) + bytes > top;
    }
    let (offset, narrow) = effective_address(&at, stopped);
    let top = if narrow { 0x1_0000 } else { 1 << 32 };
    is_image(at.mnemonic()) && offset as u64 + image_bytes(at.mnemonic()) as u64 > top
}

/// The offset of an instruction's memory operand, and whether addresses have 16 bits.
fn effective_address(at: &Instruction, stopped: &Outcome) -> (u32, bool) {
    let register = |register: Register| match register {
        Register::None => 0,
        register => stopped.regs[register.number() & 7],
    };
    let (base, index) = (at.memory_base(), at.memory_index());
    let narrow = [base, index].iter().any(|part| part.is_gpr16()) || at.memory_displ_size() == 2;
    let index = register(index).wrapping_mul(at.memory_index_scale());
    let sum = at.memory_displacement32().wrapping_add(register(base)).wrapping_add(index);
    (if narrow { sum & 0xffff } else { sum }, narrow)
}

/// Whether one of the two stopped at a MASKMOVQ or MASKMOVDQU because of its operand, and the other did not, or otherwise.
fn maskmov_faults(world: &World, difference: &Difference) -> bool {
    let (ours, native) = (&difference.ours, &difference.native);
    let stopped = |outcome: &Outcome| {
        let at = instruction_at(world, difference, outcome.eip);
        let is_maskmov =
            at.is_some_and(|at| matches!(at.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu));
        is_maskmov && matches!(outcome.end, End::Fault { vector: 12..=14 | 17, .. })
    };
    ours.end != native.end && (stopped(ours) || stopped(native))
}

/// Whether the case stopped at an FXSAVE or FXRSTOR whose image is misaligned, or not all of it is within its segment and in
/// pages that are there.
fn fxsave_reaches_beyond(world: &World, difference: &Difference) -> bool {
    let (ours, native) = (&difference.ours, &difference.native);
    let Some((at, stopped)) = [native, ours].into_iter().find_map(|outcome| {
        let at = instruction_at(world, difference, outcome.eip)?;
        matches!(outcome.end, End::Fault { .. }).then_some((at, outcome))
    }) else {
        return false;
    };
    if !matches!(at.mnemonic(), Mnemonic::Fxsave | Mnemonic::Fxrstor) {
        return false;
    }
    let writes = at.mnemonic() == Mnemonic::Fxsave;
    let (offset, _) = effective_address(&at, stopped);
    let selector = stopped.selectors[at.memory_segment().number() % 6];
    let descriptor = world.descriptor(selector);
    let base = descriptor.map_or(0, |descriptor| descriptor.base);
    let linear = base.wrapping_add(offset);
    let within = descriptor.is_none_or(|descriptor| {
        let limit = if descriptor.pages { descriptor.limit << 12 | 0xfff } else { descriptor.limit };
        descriptor.kind != Kind::ExpandDown && limit.checked_sub(511).is_some_and(|last| offset <= last)
    });
    let there = [linear, linear.wrapping_add(511)].into_iter().all(|end| {
        let page = PAGES.iter().find(|(page, _)| end.wrapping_sub(*page) < PAGE);
        page.is_some_and(|(_, rights)| *rights == Rights::All || !writes && *rights == Rights::ReadOnly)
    });
    linear & 15 != 0 || !within || !there
}

/// Whether one raises #UD and the other #GP(0) for bytes that begin with many prefixes.
fn is_long_and_undefined(difference: &Difference) -> bool {
    let (ours, native) = (&difference.ours, &difference.native);
    let (End::Fault { vector: a, code: 0, .. }, End::Fault { vector: b, code: 0, .. }) =
        (ours.end, native.end)
    else {
        return false;
    };
    let start = native.eip.wrapping_sub(difference.eip) as usize;
    let bytes = difference.case.code.get(start..).unwrap_or_default();
    let is_prefix = |b: &&u8| matches!(**b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    matches!((a, b), (6, 13) | (13, 6))
        && (ours.regs, ours.eip, &ours.written) == (native.regs, native.eip, &native.written)
        && (bytes.iter().take_while(is_prefix).count() >= 6
            || bytes.iter().take_while(is_prefix).any(|&b| b == 0xf0))
}

/// Whether the case has a repeated string instruction that wrote on itself.
fn overwrites_itself(world: &World, difference: &Difference) -> bool {
    let base = world.descriptor(difference.case.selectors[1]).map_or(0, |descriptor| descriptor.base);
    let all = instructions(&difference.case, difference.big, difference.eip);
    all.iter().any(|at| {
        let first = base.wrapping_add(at.ip32());
        let hit = |(start, run): &(u32, Vec<u8>)| {
            first < start.wrapping_add(run.len() as u32) && *start < first.wrapping_add(at.len() as u32)
        };
        at.is_string_instruction()
            && (at.has_rep_prefix() || at.has_repne_prefix())
            && difference.native.written.iter().chain(&difference.ours.written).any(hit)
    })
}

/// Whether both ended in #GP(0) at the last bytes of the code segment, in or behind a loop.
fn loops_at_the_limit(world: &World, difference: &Difference) -> bool {
    let (ours, native) = (&difference.ours, &difference.native);
    let Some(segment) = world.descriptor(difference.case.selectors[1]) else { return false };
    let limit = if segment.pages { segment.limit << 12 | 0xfff } else { segment.limit };
    let ends = |eip: u32| limit.wrapping_add(1).wrapping_sub(eip) < 16;
    let is_loop = |at: Instruction| at.is_loop() || at.is_loopcc() || at.is_jcc_short() || at.is_jcx_short();
    let refused = native.end == (End::Fault { vector: 13, code: 0, cr2: 0 });
    let last = |at: Instruction| at.next_ip() as u32 == limit.wrapping_add(1);
    let follows = |at: Instruction| at.is_jcc_short_or_near() && last(at);
    if refused && faulting(world, difference).is_some_and(follows) {
        return true;
    }
    ours.end == native.end
        && refused
        && ends(ours.eip)
        && ends(native.eip)
        && faulting(world, difference).is_some_and(is_loop)
}
