//! Fetching: from CS:EIP to a block, through the segment limit and the TLB.

use super::Processor;
use super::cache::{self, BlockId};
use crate::bus::{Bus, Frame, Phys};
use crate::cpu::Cpu;
use crate::decode::{Decoded, MAX_LENGTH, decode};
use crate::fault::{Exec, Fault};
use crate::mmu::FetchPage;
use crate::mmu::walk::{Entries, Level, PagingMode};
use crate::observe::Observer;
use crate::op::Op;
use crate::segment::CS;

/// A block that is not kept: its ops and length.
pub(super) type Scratch<B, O> = Option<(Vec<Op<B, O>>, u16)>;

impl<B: Bus, O: Observer> Processor<B, O> {
    /// The block at CS:EIP: its place in the cache, or the block itself in `scratch`.
    pub(super) fn next_block(&mut self, scratch: &mut Scratch<B, O>) -> Exec<BlockId> {
        let cpu = &mut self.cpu;
        let eip = cpu.eip;
        let page = cpu.fetch_page(eip)?;
        // by instructions, by a delivery's frame, or by the accessed bit that this fetch set
        if cpu.bus.ram().code_was_written() {
            Self::drop_written(cpu, &mut self.cache);
        }
        let within = cpu.segs[CS].base.wrapping_add(eip) & 0xfff;
        let is_32bit = cpu.segs[CS].is_32bit();
        let Some(offset) = page.spot.offset().filter(|_| self.cache_allowed) else {
            return self.decode_alone(page, within, is_32bit, scratch);
        };
        let offset = (offset & !0xfff) | within as usize;
        let key = cache::key(offset, is_32bit);
        if let Some(id) = self.cache.find(key) {
            let Some(second) = self.cache.block(id).second else { return Ok(id) };
            let page = self.cpu.second_page(eip)?;
            let same_page = page.spot.offset().map(|o| o & !0xfff) == Some(second);
            if same_page && !self.cpu.bus.ram().code_was_written() {
                return Ok(id);
            }
            // the second page is another one now, or the walk to it wrote to it
            return self.decode_crossing(offset, key, is_32bit, page, scratch);
        }
        self.decode_block(offset, key, is_32bit, scratch)
    }

    /// Decodes a block from memory and keeps it.
    fn decode_block(
        &mut self,
        offset: usize,
        key: u64,
        is_32bit: bool,
        scratch: &mut Scratch<B, O>,
    ) -> Exec<BlockId> {
        let cpu = &mut self.cpu;
        let in_page = 0x1000 - (offset & 0xfff);
        let mut ops = Vec::new();
        let mut len = 0;
        {
            let bytes = cpu.bus.ram().slice(offset, in_page);
            while ops.len() < cache::MAX_OPS && len < in_page {
                let Decoded::Op(op) = decode::<B, O>(&bytes[len..], is_32bit, &cpu.model, len as u16) else {
                    break;
                };
                len += op.len as usize;
                let ends = op.jumps;
                ops.push(op);
                if ends {
                    break;
                }
            }
        }
        if ops.is_empty() {
            // the first instruction crosses into the next page
            let eip = cpu.eip;
            let page = cpu.second_page(eip)?;
            return self.decode_crossing(offset, key, is_32bit, page, scratch);
        }
        Ok(self.keep(key, ops, offset, len as u16, None))
    }

    /// Decodes the instruction at CS:EIP that reaches into `second`, and keeps it as a block of its own.
    fn decode_crossing(
        &mut self,
        offset: usize,
        key: u64,
        is_32bit: bool,
        second: FetchPage,
        scratch: &mut Scratch<B, O>,
    ) -> Exec<BlockId> {
        let eip = self.cpu.eip;
        let op = self.cpu.decode_across(eip, is_32bit)?;
        let len = op.len as u16;
        match second.spot.offset() {
            Some(second) => Ok(self.keep(key, vec![op], offset, len, Some(second & !0xfff))),
            None => {
                *scratch = Some((vec![op], len));
                Ok(0)
            }
        }
    }

    fn keep(
        &mut self,
        key: u64,
        ops: Vec<Op<B, O>>,
        offset: usize,
        len: u16,
        second: Option<usize>,
    ) -> BlockId {
        let cpu = &mut self.cpu;
        let (id, fresh) = self.cache.insert(key, ops, offset, len, second, cpu.bus.ram_mut());
        for page in fresh.into_iter().flatten() {
            cpu.front.flush_writes_to(page as u64);
        }
        id
    }

    /// Decodes one instruction that is not kept: code in device space, or with the cache switched off.
    fn decode_alone(
        &mut self,
        page: FetchPage,
        within: u32,
        is_32bit: bool,
        scratch: &mut Scratch<B, O>,
    ) -> Exec<BlockId> {
        let cpu = &mut self.cpu;
        let len = (0x1000 - within as usize).min(MAX_LENGTH);
        let mut bytes = [0; MAX_LENGTH];
        cpu.read_code(page.phys, within, &mut bytes[..len]);
        let op = match decode::<B, O>(&bytes[..len], is_32bit, &cpu.model, 0) {
            Decoded::Op(op) => op,
            Decoded::NeedsMore => {
                let eip = cpu.eip;
                cpu.second_page(eip)?;
                cpu.decode_across(eip, is_32bit)?
            }
        };
        let len = op.len as u16;
        *scratch = Some((vec![op], len));
        Ok(0)
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// The page of the instruction at `eip`: limit check, then translation, unless instructions come from it already.
    #[inline(always)]
    fn fetch_page(&mut self, eip: u32) -> Exec<FetchPage> {
        let code = &self.segs[CS];
        if eip > code.limit {
            return Err(self.raise(Fault::GeneralProtection(0)));
        }
        let linear = code.base.wrapping_add(eip);
        match self.fetch_page {
            Some(page) if page.linear == linear & !0xfff => Ok(page),
            _ => self.enter_page(linear, eip),
        }
    }

    fn enter_page(&mut self, linear: u32, eip: u32) -> Exec<FetchPage> {
        let (spot, phys) = self.translate_fetch(linear, eip)?;
        let page = FetchPage { linear: linear & !0xfff, spot, phys: Phys(phys.0 & !0xfff) };
        self.fetch_page = Some(page);
        Ok(page)
    }

    /// The page after that of `eip`, into which its instruction reaches.
    fn second_page(&mut self, eip: u32) -> Exec<FetchPage> {
        let linear = self.segs[CS].base.wrapping_add(eip);
        let to_boundary = 0x1000 - (linear & 0xfff);
        let next_eip = eip.wrapping_add(to_boundary);
        if next_eip > self.segs[CS].limit || next_eip < eip {
            return Err(self.raise(Fault::GeneralProtection(0)));
        }
        let first = self.fetch_page;
        let next = linear.wrapping_add(to_boundary);
        let page = match self.fetched_ahead.take() {
            Some((at, page)) if at == eip && page.linear == next => page,
            _ => self.enter_page(next, next_eip)?,
        };
        self.fetch_page = Some(page);
        self.crossed_from = first;
        Ok(page)
    }

    /// The run may end here, and the instruction at EIP, which is fetched already, is still to come: it is shown only, or
    /// is to be repeated. When the run goes on it is not fetched a second time.
    pub(crate) fn keep_fetched(&mut self, len: u8) {
        let within = self.segs[CS].base.wrapping_add(self.eip) & 0xfff;
        if within + len as u32 > 0x1000
            && let Some(second) = self.fetch_page
        {
            self.fetch_page = self.crossed_from;
            self.fetched_ahead = Some((self.eip, second));
        }
    }

    /// Decodes the instruction at `eip`, whose bytes lie on both sides of a page boundary; the second page is the
    /// fetch page now.
    fn decode_across(&mut self, eip: u32, is_32bit: bool) -> Exec<Op<B, O>> {
        let linear = self.segs[CS].base.wrapping_add(eip);
        let head = (0x1000 - (linear & 0xfff)) as usize;
        let mut bytes = [0; MAX_LENGTH];
        let (first, rest) = bytes.split_at_mut(head.min(MAX_LENGTH));
        if let Some(phys) = self.peek(linear) {
            self.read_code(Phys(phys.0 & !0xfff), linear & 0xfff, first);
        }
        if let Some(page) = self.fetch_page {
            self.read_code(page.phys, 0, rest);
        }
        match decode::<B, O>(&bytes, is_32bit, &self.model, 0) {
            Decoded::Op(op) => Ok(op),
            Decoded::NeedsMore => Err(self.raise(Fault::InvalidOpcode)),
        }
    }

    /// Copies code bytes from the page at `page`, `within` bytes into it.
    fn read_code(&mut self, page: Phys, within: u32, out: &mut [u8]) {
        let now = self.now();
        match self.bus.frame(page.0 >> 12) {
            Frame::Ram(at) | Frame::Rom(at) => {
                let len = out.len();
                out.copy_from_slice(self.bus.ram().slice(at + within as usize, len));
            }
            Frame::Device => {
                for (n, byte) in out.iter_mut().enumerate() {
                    let at = Phys(page.0 + within as u64 + n as u64);
                    *byte = self.bus.mmio_read(at, crate::bus::Size::Byte, now) as u8;
                }
            }
        }
    }

    /// How many of the first `budget` ops of a block lie within CS's limit; #GP(0) if none does.
    #[inline(always)]
    pub(super) fn within_code_limit(&mut self, ops: &[Op<B, O>], len: u16, budget: usize) -> Exec<usize> {
        let last = self.eip as u64 + len as u64 - 1;
        if last <= self.segs[CS].limit as u64 {
            return Ok(budget);
        }
        let limit = self.segs[CS].limit as u64;
        let fits = |op: &&Op<B, O>| self.eip as u64 + op.start as u64 + op.len as u64 - 1 <= limit;
        let count = ops.iter().take_while(fits).count().min(budget);
        self.ensure(count > 0, Fault::GeneralProtection(0))?;
        Ok(count)
    }

    /// The code breakpoints at a linear address, as DR6 bits.
    pub(crate) fn code_breakpoints_at(&self, linear: u32) -> u32 {
        crate::mmu::breakpoints(&self.dr)
            .filter(|b| b.watch == crate::mmu::Watch::Execute && b.address == linear)
            .fold(0, |bits, b| bits | 1 << b.number)
    }

    /// Where a linear address leads, asking the TLB and the tables without changing anything: for onlookers.
    pub fn peek(&self, linear: u32) -> Option<Phys> {
        if self.paging.mode == PagingMode::Off {
            return Some(Phys(linear as u64));
        }
        use crate::mmu::walk::{Access, Kind, Privilege, walk};
        for kind in [Kind::Fetch, Kind::Read] {
            if let Some(slot) = self.tlb.lookup(kind, linear) {
                return Some(self.tlb.entry(slot).phys(linear));
            }
        }
        struct Quiet<'a, B>(&'a B);
        impl<B: Bus> Entries for Quiet<'_, B> {
            fn read(&mut self, at: Phys, bytes: u32) -> u64 {
                match self.0.frame(at.0 >> 12) {
                    Frame::Ram(page) | Frame::Rom(page) => {
                        let slice = self.0.ram().slice(page + (at.0 & 0xfff) as usize, bytes as usize);
                        slice.iter().rev().fold(0, |value, &byte| value << 8 | byte as u64)
                    }
                    Frame::Device => u64::MAX,
                }
            }
            fn set_bits(&mut self, _: Phys, _: u32, _: u64, _: u64) {}
            fn step(&mut self, _: Level, _: Option<Phys>, _: u64) {}
        }
        let mut paging = self.paging;
        paging.smap = false;
        let access = Access { kind: Kind::Read, privilege: Privilege::Implicit };
        let leaf = walk(&paging, &mut Quiet(&self.bus), linear, access).ok()?;
        Some(Phys(leaf.base.0 | (linear & ((1u32 << leaf.shift) - 1)) as u64))
    }

    /// Reads a byte at a linear address without changing anything; `None` where nothing is mapped or a device stands.
    pub fn peek_byte(&self, linear: u32) -> Option<u8> {
        let phys = self.peek(linear)?;
        match self.bus.frame(phys.0 >> 12) {
            Frame::Ram(page) | Frame::Rom(page) => {
                Some(self.bus.ram().slice(page + (phys.0 & 0xfff) as usize, 1)[0])
            }
            Frame::Device => None,
        }
    }

    /// The code bytes at an EIP, as far as they can be seen, without changing anything.
    pub fn peek_code(&self, eip: u32, len: usize) -> Vec<u8> {
        let linear = self.segs[CS].base.wrapping_add(eip);
        (0..len as u32).map_while(|n| self.peek_byte(linear.wrapping_add(n))).collect()
    }

    /// Tells the observer of the instruction about to run.
    pub(super) fn show_instruction(&mut self, len: u8) {
        let at = self.at();
        let bytes = self.peek_code(self.eip, len as usize);
        self.observer.instruction(&at, &bytes, self.segs[CS].is_32bit());
    }
}
