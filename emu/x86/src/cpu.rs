//! The processor's state, and the small questions that every instruction asks of it.

use crate::bus::{Bus, Ticks};
use crate::clock::Clock;
use crate::control::*;
use crate::fault::{Fault, Pending, Shutdown};
use crate::flags::{self, Flags};
use crate::mmu::FetchPage;
use crate::mmu::front::{Class, Front};
use crate::mmu::tlb::{Geometry, Tlb};
use crate::mmu::walk::{Paging, PagingMode};
use crate::model::{Features, Model};
use crate::observe::{At, Observer};
use crate::planted::Planted;
use crate::random::Random;
use crate::regs::{EDX, Regs};
use crate::segment::{CS, SS, Segment, TableRegister};
use crate::undefined::Bodies;
use serde::{Deserialize, Serialize};

/// How addresses are made and privilege is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// CR0.PE is clear.
    Real,
    /// CR0.PE and EFLAGS.VM.
    Vm86,
    /// CR0.PE without EFLAGS.VM.
    Protected,
}

/// What the processor does between instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Activity {
    /// Runs.
    #[default]
    Running,
    /// Waits after HLT for an interrupt.
    Halted,
}

/// What holds back interrupts or debug traps for one instruction (SDM 3A "Masking Exceptions and Interrupts When
/// Switching Stacks").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Shadow {
    /// Nothing.
    #[default]
    None,
    /// STI set IF: external interrupts wait for one more instruction.
    Sti,
    /// MOV or POP to SS: interrupts, NMIs and debug traps wait for one more instruction.
    MovSs,
}

/// The x87 unit's control state, as far as it is implemented.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fpu {
    /// Control word.
    pub control: u16,
    /// Status word without ES and B, which follow from it and the control word.
    pub status: u16,
    /// Tag word as FNSTENV stores it: two bits for each of R0 to R7.
    pub tag: u16,
    /// Last instruction pointer, code selector, opcode, operand offset and selector.
    pub pointers: [u32; 5],
    /// The eight 80-bit registers, R0 first (ST(0) is the one that TOP names).
    pub registers: [[u8; 10]; 8],
}

impl Default for Fpu {
    /// The state after reset.
    fn default() -> Fpu {
        Fpu { control: 0x40, status: 0, tag: 0x5555, pointers: [0; 5], registers: [[0; 10]; 8] }
    }
}

/// Model-specific registers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Msrs {
    /// What is added to virtual nanoseconds to give the time-stamp counter.
    pub tsc_offset: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u32,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u32,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u32,
    /// IA32_EFER.
    pub efer: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u32,
    /// The others that hold what was written to them, sorted by number.
    pub others: Vec<(u32, u64)>,
}

/// All architectural state: plain data that can be cloned, compared and written down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct State {
    /// General registers.
    pub regs: Regs,
    /// EFLAGS.
    pub flags: Flags,
    /// EIP of the next instruction (between instructions).
    pub eip: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub segs: [Segment; 6],
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: TableRegister,
    /// IDTR.
    pub idtr: TableRegister,
    /// Current privilege level.
    pub cpl: u8,
    /// CR0.
    pub cr0: u32,
    /// CR2.
    pub cr2: u32,
    /// CR3.
    pub cr3: u32,
    /// CR4.
    pub cr4: u32,
    /// The PDPTE registers.
    pub pdptes: [u64; 4],
    /// DR0 to DR7.
    pub dr: [u32; 8],
    /// MSRs.
    pub msrs: Msrs,
    /// x87, and MMX in its registers.
    pub fpu: Fpu,
    /// XMM0 to XMM7.
    pub xmm: [u128; 8],
    /// MXCSR.
    pub mxcsr: u32,
    /// Running or halted.
    pub activity: Activity,
    /// What the last instruction holds back.
    pub shadow: Shadow,
    /// Causes of a debug trap due before the next instruction, as DR6 bits.
    pub debug_trap: u32,
    /// NMIs are blocked until IRET.
    pub nmi_blocked: bool,
    /// An NMI waits.
    pub nmi_pending: bool,
    /// The pseudo-random source behind RDRAND.
    pub random: Random,
    /// Instructions retired (each iteration of a repeated string instruction is one).
    pub retired: u64,
    /// What `retired` was when an exception or interrupt was last delivered.
    pub delivered_at: Option<u64>,
    /// Virtual time.
    pub clock: Clock,
}

impl State {
    /// The state after RESET (SDM 3A "Processor State After Reset").
    pub fn reset(model: &Model) -> State {
        let data = Segment::reset(0, 0);
        let mut segs = [data; 6];
        segs[CS] = Segment::reset(0xf000, 0xffff_0000);
        let mut regs = Regs::default();
        regs.set_dword(EDX, model.signature);
        let mut state = State {
            regs,
            flags: Flags::default(),
            eip: 0xfff0,
            segs,
            ldtr: Segment::new(0, 0, 0xffff, 0x82),
            tr: Segment::new(0, 0, 0xffff, 0x8b),
            gdtr: TableRegister { base: 0, limit: 0xffff },
            idtr: TableRegister { base: 0, limit: 0xffff },
            cpl: 0,
            cr0: if model.has(Features::I486) { 0x6000_0010 } else { 0x10 },
            cr2: 0,
            cr3: 0,
            cr4: 0,
            pdptes: [0; 4],
            dr: [0, 0, 0, 0, 0, 0, DR6_ONES, DR7_ONES],
            msrs: Msrs::default(),
            fpu: Fpu::default(),
            xmm: [0; 8],
            mxcsr: MXCSR_RESET,
            activity: Activity::Running,
            shadow: Shadow::None,
            debug_trap: 0,
            nmi_blocked: false,
            nmi_pending: false,
            random: Random::new(0x2545_f491_4f6c_dd1d),
            retired: 0,
            delivered_at: None,
            clock: Clock::default(),
        };
        state.flags.set_arithmetic(0);
        state
    }
}

/// A processor with its memory system. Instruction bodies get it as `cpu`; its architectural [`State`] is reached as
/// if it were the processor's own fields.
#[derive(Clone, Debug)]
pub struct Cpu<B, O> {
    /// Architectural state.
    pub state: State,
    /// The world.
    pub bus: B,
    /// The onlooker.
    pub observer: O,
    /// What kind of processor this is.
    pub model: Model,
    /// The TLB.
    pub tlb: Tlb,
    pub(crate) front: Front,
    pub(crate) class: Class,
    /// The row of the hit counters: cpl, or 4 while paging is off.
    pub(crate) counter_row: usize,
    pub(crate) paging: Paging,
    /// EFLAGS.AC, CR0.AM and CPL 3: misaligned program accesses fault.
    pub(crate) check_alignment: bool,
    /// Some DR7 data breakpoint is enabled.
    pub(crate) data_breakpoints: bool,
    pub(crate) fetch_page: Option<FetchPage>,
    /// The first page of the last instruction that was fetched from two.
    pub(crate) crossed_from: Option<FetchPage>,
    /// An instruction that was fetched from two pages and is still to come: its EIP and its second page.
    pub(crate) fetched_ahead: Option<(u32, FetchPage)>,
    pub(crate) pending: Pending,
    /// EIP of the first instruction of the running block.
    pub(crate) block_eip: u32,
    /// How many instructions of the running block are done.
    pub(crate) done: u32,
    /// Retired count at which the engine must look up.
    pub(crate) horizon: u64,
    /// The running block is no kept one, so that writes to its bytes go unnoticed.
    pub(crate) unkept: bool,
    /// The running block must not go on after the current instruction.
    pub(crate) leave: bool,
    /// The current instruction handed control to a handler, so that no single-step trap follows it.
    pub(crate) no_step_trap: bool,
    /// What the last delivery chain went through, for explaining a shutdown.
    pub(crate) chain: Shutdown,
    /// Exceptions and interrupts delivered, by vector.
    pub deliveries: Box<[u64; 256]>,
    /// Of these, exceptions.
    pub exceptions: Box<[u64; 32]>,
    /// Of these, external interrupts.
    pub external: Box<[u64; 256]>,
    pub(crate) bus_layout: u32,
    /// Whether the front table may be used at all (a test switch; results must not depend on it).
    pub(crate) front_allowed: bool,
    pub(crate) planted: Planted,
    /// Bodies that leave other flags than silicon does.
    pub(crate) bodies: Bodies<B, O>,
}

impl<B, O> std::ops::Deref for Cpu<B, O> {
    type Target = State;
    #[inline(always)]
    fn deref(&self) -> &State {
        &self.state
    }
}

impl<B, O> std::ops::DerefMut for Cpu<B, O> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// A processor in reset state on this bus.
    pub fn new(model: Model, geometry: Geometry, bus: B, observer: O) -> Cpu<B, O> {
        let state = State::reset(&model);
        let bus_layout = bus.layout();
        let mut cpu = Cpu {
            state,
            bus,
            observer,
            model,
            tlb: Tlb::new(geometry),
            front: Front::default(),
            class: Class::Unpaged,
            counter_row: 4,
            paging: Paging::default(),
            check_alignment: false,
            data_breakpoints: false,
            fetch_page: None,
            crossed_from: None,
            fetched_ahead: None,
            pending: Pending::None,
            block_eip: 0,
            done: 0,
            horizon: 0,
            unkept: false,
            leave: false,
            no_step_trap: false,
            chain: Shutdown::default(),
            deliveries: Box::new([0; 256]),
            exceptions: Box::new([0; 32]),
            external: Box::new([0; 256]),
            bus_layout,
            front_allowed: true,
            planted: Planted::default(),
            bodies: Bodies::default(),
        };
        cpu.update_context();
        cpu
    }

    /// Plants a bug, or cures the processor of it.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Option<crate::planted::Bug>) {
        self.planted = Planted::new(bug);
        self.update_context();
    }

    /// RESET: everything but memory, time and counters starts over.
    pub fn reset(&mut self) {
        let (retired, clock) = (self.retired, self.clock);
        self.state = State::reset(&self.model);
        self.retired = retired;
        self.clock = clock;
        // the time-stamp counter starts over with the processor, time does not
        self.msrs.tsc_offset = self.now().0.wrapping_neg();
        self.flush_tlb_all(crate::mmu::tlb::FlushCause::Reset);
        self.update_context();
    }

    /// Real, virtual-8086 or protected.
    #[inline(always)]
    pub fn mode(&self) -> Mode {
        if self.cr0 & CR0_PE == 0 {
            Mode::Real
        } else if self.flags.vm() {
            Mode::Vm86
        } else {
            Mode::Protected
        }
    }

    /// Protected mode proper: neither real nor virtual-8086.
    #[inline(always)]
    pub fn is_protected(&self) -> bool {
        self.mode() == Mode::Protected
    }

    /// Instructions retired up to the current one.
    #[inline(always)]
    pub fn retired_now(&self) -> u64 {
        self.retired + self.done as u64
    }

    /// Virtual time at the current instruction.
    pub fn now(&self) -> Ticks {
        self.clock.at(self.retired_now())
    }

    /// Where the processor stands, for observers.
    pub fn at(&self) -> At {
        At { retired: self.retired_now(), cs: self.segs[CS].selector, eip: self.eip, cpl: self.cpl }
    }

    /// Ends the running block after the current instruction: what it was decoded under may have changed.
    #[inline(always)]
    pub fn leave_block(&mut self) {
        self.leave = true;
    }

    /// The stack pointer's mask by SS.B.
    #[inline(always)]
    pub fn stack_mask(&self) -> u32 {
        if self.segs[SS].is_32bit() { 0xffff_ffff } else { 0xffff }
    }

    /// Changes the privilege level, and what depends on it.
    pub fn set_cpl(&mut self, cpl: u8) {
        self.cpl = cpl;
        self.update_context();
    }

    /// Changes system flags (and any others of `mask`), and what depends on them.
    pub fn set_flags(&mut self, value: u32, mask: u32) {
        self.flags.set(value, mask);
        if mask & (flags::TF | flags::IF | flags::RF | flags::VM | flags::AC | flags::VIP) != 0 {
            self.leave_block();
        }
        if mask & (flags::VM | flags::AC) != 0 {
            self.update_context();
        }
    }

    /// Works out everything that follows from control registers, CPL, EFLAGS and debug registers. To be called after
    /// any of them changed. Flushes no TLB entry.
    pub fn update_context(&mut self) {
        let paging_on = self.cr0 & CR0_PG != 0;
        let mode = match (paging_on, self.cr4 & CR4_PAE != 0) {
            (false, _) => PagingMode::Off,
            (true, false) => PagingMode::TwoLevel,
            (true, true) => PagingMode::Pae,
        };
        self.paging = Paging {
            mode,
            cr3: self.cr3,
            pdptes: self.pdptes,
            wp: self.cr0 & CR0_WP != 0,
            pse: self.cr4 & CR4_PSE != 0,
            pse36: self.model.has(Features::PSE36),
            pat: self.model.has(Features::PAT),
            pge: self.cr4 & CR4_PGE != 0,
            smep: self.cr4 & CR4_SMEP != 0,
            smap: self.cr4 & CR4_SMAP != 0,
            nxe: self.msrs.efer & EFER_NXE != 0,
            width: self.model.physical_bits,
            planted: self.planted,
        };
        let ac = self.flags.system(flags::AC);
        self.class = match (paging_on, self.cpl) {
            (false, _) => Class::Unpaged,
            (true, 3) => Class::User,
            (true, _) if ac && self.paging.smap => Class::SupervisorAc,
            (true, _) => Class::Supervisor,
        };
        self.counter_row = if paging_on { self.cpl as usize & 3 } else { 4 };
        self.check_alignment = ac && self.cr0 & CR0_AM != 0 && self.cpl == 3;
        self.data_breakpoints = self.has_data_breakpoints();
        let enabled = self.front_allowed
            && !self.check_alignment
            && !self.data_breakpoints
            && !(O::ACTIVE && (self.observer.wants_translations() || self.observer.wants_stores()));
        if !enabled && self.front.enabled {
            self.front.flush();
        }
        self.front.enabled = enabled;
        self.forget_fetches();
    }

    /// The fault of an access outside segment number `segment`: #SS(0) for SS, else #GP(0).
    pub fn segment_fault(segment: usize) -> Fault {
        if segment == SS { Fault::Stack(0) } else { Fault::GeneralProtection(0) }
    }
}
