//! Blocks of lowered code, kept by physical address and code size, dropped exactly when their bytes are written.

use std::collections::HashMap;

use crate::op::Op;
use crate::ram::{CodeWrite, Ram};

/// Straight-line code, up to a transfer of control, a page's end or [`MAX_OPS`].
#[derive(Clone, Debug)]
pub struct Block<B, O> {
    key: u64,
    /// The instructions.
    pub ops: Box<[Op<B, O>]>,
    /// Bytes of code, all pages together.
    pub len: u16,
    /// Offset of the first byte into guest memory.
    offset: usize,
    /// Bytes in the first page.
    first_len: u16,
    /// For the single instruction of a block that crosses a page: offset of the second page into guest memory.
    pub second: Option<usize>,
}

/// The most instructions of a block.
pub const MAX_OPS: usize = 64;
/// The most blocks kept; past it all are dropped.
const MAX_BLOCKS: usize = 1 << 16;
const JUMPS: usize = 1 << 13;
const NO_KEY: u64 = u64::MAX;

/// A block's place in the cache.
pub type BlockId = u32;

/// What keeps the blocks.
#[derive(Clone, Debug)]
pub struct Cache<B, O> {
    blocks: Vec<Block<B, O>>,
    free: Vec<BlockId>,
    by_key: HashMap<u64, BlockId>,
    by_page: HashMap<usize, Vec<BlockId>>,
    /// Recently found blocks, direct-mapped.
    jumps: Box<[(u64, BlockId)]>,
    /// Blocks decoded so far.
    pub decoded: u64,
    /// Instructions in them.
    pub instructions: u64,
    /// Blocks dropped because their bytes were written.
    pub dropped: u64,
    /// How often all were dropped because there were too many.
    pub cleared: u64,
}

/// What the cache did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheFigures {
    /// Blocks decoded.
    pub built: u64,
    /// Instructions in them.
    pub instructions: u64,
    /// Blocks dropped because their bytes were written.
    pub invalidated: u64,
    /// How often all were dropped because there were too many.
    pub cleared: u64,
    /// Blocks kept now.
    pub kept: u64,
}

impl<B, O> Default for Cache<B, O> {
    fn default() -> Cache<B, O> {
        Cache {
            blocks: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            by_page: HashMap::new(),
            jumps: vec![(NO_KEY, 0); JUMPS].into(),
            decoded: 0,
            instructions: 0,
            dropped: 0,
            cleared: 0,
        }
    }
}

/// The key of code at `offset` into guest memory.
pub fn key(offset: usize, is_32bit: bool) -> u64 {
    (offset as u64) << 1 | is_32bit as u64
}

impl<B, O> Cache<B, O> {
    /// The block with this key.
    #[inline(always)]
    pub fn find(&mut self, key: u64) -> Option<BlockId> {
        let slot = (key ^ key >> 13) as usize & (JUMPS - 1);
        let (found, id) = self.jumps[slot];
        if found == key {
            return Some(id);
        }
        let id = *self.by_key.get(&key)?;
        self.jumps[slot] = (key, id);
        Some(id)
    }

    /// The block itself.
    #[inline(always)]
    pub fn block(&self, id: BlockId) -> &Block<B, O> {
        &self.blocks[id as usize]
    }

    /// Keeps a block: `ops` decoded at `offset`, `len` bytes, continuing at `second` where it crosses a page. Marks
    /// its bytes; returns the pages that hold code for the first time.
    pub fn insert(
        &mut self,
        key: u64,
        ops: Vec<Op<B, O>>,
        offset: usize,
        len: u16,
        second: Option<usize>,
        ram: &mut Ram,
    ) -> (BlockId, [Option<usize>; 2]) {
        if self.by_key.len() >= MAX_BLOCKS {
            self.clear(ram);
            self.cleared += 1;
        }
        if let Some(&old) = self.by_key.get(&key) {
            self.remove(old, ram);
        }
        let in_page = 0x1000 - (offset & 0xfff) as u16;
        let first_len = len.min(in_page);
        self.instructions += ops.len() as u64;
        let block = Block { key, ops: ops.into(), len, offset, first_len, second };
        let id = match self.free.pop() {
            Some(id) => {
                self.blocks[id as usize] = block;
                id
            }
            None => {
                self.blocks.push(block);
                (self.blocks.len() - 1) as BlockId
            }
        };
        self.by_key.insert(key, id);
        self.decoded += 1;
        let mut fresh = [None; 2];
        let parts = [Some((offset, first_len)), second.map(|page| (page, len - first_len))];
        for (n, (offset, len)) in parts.into_iter().flatten().enumerate() {
            self.by_page.entry(offset >> 12).or_default().push(id);
            if ram.mark_code(offset, len as usize) {
                fresh[n] = Some(offset & !0xfff);
            }
        }
        (id, fresh)
    }

    fn remove(&mut self, id: BlockId, ram: &mut Ram) {
        let block = &mut self.blocks[id as usize];
        let key = std::mem::replace(&mut block.key, NO_KEY);
        block.ops = Box::default();
        let pages = [Some(block.offset), block.second];
        self.by_key.remove(&key);
        let slot = (key ^ key >> 13) as usize & (JUMPS - 1);
        if self.jumps[slot].0 == key {
            self.jumps[slot] = (NO_KEY, 0);
        }
        for offset in pages.into_iter().flatten() {
            let Some(ids) = self.by_page.get_mut(&(offset >> 12)) else { continue };
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.by_page.remove(&(offset >> 12));
                ram.unmark_page(offset);
            }
        }
        self.free.push(id);
    }

    /// Drops the blocks that hold any of the written bytes.
    pub fn drop_written(&mut self, write: CodeWrite, ram: &mut Ram) {
        let end = write.offset + write.len;
        for page in write.offset >> 12..=(end - 1) >> 12 {
            let Some(ids) = self.by_page.get(&page) else { continue };
            let hit: Vec<BlockId> = ids
                .iter()
                .copied()
                .filter(|&id| self.blocks[id as usize].overlaps(write.offset, end))
                .collect();
            self.dropped += hit.len() as u64;
            for id in hit {
                self.remove(id, ram);
            }
        }
    }

    /// Drops every block.
    pub fn clear(&mut self, ram: &mut Ram) {
        for &page in self.by_page.keys() {
            ram.unmark_page(page << 12);
        }
        self.blocks.clear();
        self.free.clear();
        self.by_key.clear();
        self.by_page.clear();
        self.jumps.fill((NO_KEY, 0));
    }

    /// What it did so far.
    pub fn figures(&self) -> CacheFigures {
        CacheFigures {
            built: self.decoded,
            instructions: self.instructions,
            invalidated: self.dropped,
            cleared: self.cleared,
            kept: self.len() as u64,
        }
    }

    /// How many blocks are kept.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl<B, O> Block<B, O> {
    fn overlaps(&self, start: usize, end: usize) -> bool {
        let first = start < self.offset + self.first_len as usize && self.offset < end;
        let second =
            self.second.is_some_and(|page| start < page + (self.len - self.first_len) as usize && page < end);
        first || second
    }
}
