//! The inside of a snapshot: the machine but for memory and sectors, then memory by pages, then each disk's sectors.
//!
//! Pages and sectors stand behind their numbers, in ascending order; those of zeros are left out, and a number of all ones
//! ends each list.

use std::io::{Read, Write};

use super::Problem;
use crate::board::Board;
use crate::disk::{Contents, Identity, MOST_SECTORS, SECTOR};
use crate::machine::{Machine, Stamped};
use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::image::Image;
use pagewalk_x86::observe::Observer;
use serde::{Deserialize, Serialize};

const PAGE: usize = 4096;
const END: u64 = u64::MAX;
/// Places for disks.
const DISKS: usize = 4;
/// The most that the machine but for memory and sectors takes.
const MOST: u64 = 128 << 20;

/// The machine but for memory and sectors, to be written.
#[derive(Serialize)]
struct Written<'a> {
    processor: Image,
    board: &'a Board,
    has_firmware: bool,
    inputs: &'a [Stamped],
    replay: &'a [Stamped],
    files: Vec<Option<Identity>>,
}

/// The same as it was read.
#[derive(Deserialize)]
struct Found {
    processor: Image,
    board: Board,
    has_firmware: bool,
    inputs: Vec<Stamped>,
    replay: Vec<Stamped>,
    files: Vec<Option<Identity>>,
}

/// The machine but for memory and sectors.
pub(super) fn machine<O: Observer>(machine: &Machine<O>) -> Result<Vec<u8>, Problem> {
    let board = &machine.processor.cpu.bus;
    let disks = (0..DISKS).filter_map(|index| board.disk(index));
    let written = Written {
        processor: machine.processor.image().ok_or(Problem::Unsavable("its processor has no name"))?,
        board,
        has_firmware: machine.has_firmware,
        inputs: &machine.inputs,
        replay: &machine.replay,
        files: disks.map(|disk| disk.identity()).collect::<Result<_, _>>()?,
    };
    let bytes = postcard::to_stdvec(&written).map_err(|_| Problem::Unsavable("it can't be written down"))?;
    if bytes.len() as u64 > MOST {
        return Err(Problem::Unsavable("more has been typed than a snapshot holds"));
    }
    Ok(bytes)
}

/// Writes everything.
pub(super) fn write<O: Observer>(machine: &Machine<O>, to: &mut dyn Write) -> Result<(), Problem> {
    let board = &machine.processor.cpu.bus;
    let bytes = self::machine(machine)?;
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(&bytes)?;
    drop(bytes);

    let pages = (0..).zip(board.ram().bytes().chunks_exact(PAGE));
    list(to, pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0)))?;
    for disk in (0..DISKS).filter_map(|index| board.disk(index)) {
        let in_memory = disk.in_memory();
        if in_memory.len() > MOST_SECTORS {
            return Err(Problem::Unsavable("a disk in memory is larger than a snapshot holds"));
        }
        list(to, in_memory.iter().map(|(&lba, sector)| (lba, &**sector)))?;
        list(to, disk.overlay().iter().map(|(&lba, sector)| (lba, &**sector)))?;
    }
    Ok(())
}

fn list<'a>(to: &mut dyn Write, rows: impl Iterator<Item = (u64, &'a [u8])>) -> Result<(), Problem> {
    for (number, bytes) in rows {
        to.write_all(&number.to_le_bytes())?;
        to.write_all(bytes)?;
    }
    Ok(to.write_all(&END.to_le_bytes())?)
}

/// Reads everything, and makes the machine.
pub(super) fn read<O: Observer>(from: &mut dyn Read, observer: O) -> Result<Machine<O>, Problem> {
    let damaged = |what: &str| Problem::Damaged(what.into());
    let len = number(from)?;
    let mut bytes = Vec::new();
    from.take(len.min(MOST)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(damaged("its machine has another length"));
    }
    let Ok((found, [])) = postcard::take_from_bytes::<Found>(&bytes) else {
        return Err(damaged("its machine can't be read"));
    };
    drop(bytes);

    let mut board = found.board.revived()?;
    let pages = (board.ram().len() / PAGE) as u64;
    rows::<PAGE>(from, pages, |page, bytes| {
        board.ram_mut().write(page as usize * PAGE, bytes);
        true
    })?;
    let mut files = found.files.into_iter();
    for index in 0..DISKS {
        let Some(disk) = board.disk_mut(index) else { continue };
        let file = files.next().ok_or_else(|| damaged("it names too few disk images"))?;
        let (in_memory, overlay) = (sectors(from)?, sectors(from)?);
        disk.attach(file, in_memory, overlay)?.ok_or_else(|| damaged("a disk has sectors of another"))?;
    }
    if files.next().is_some() || from.read(&mut [0])? != 0 {
        return Err(damaged("more follows than the machine has"));
    }
    let processor = Processor::revive(found.processor, board, observer)?;
    let Found { has_firmware, inputs, replay, .. } = found;
    Ok(Machine { processor, has_firmware, inputs, replay })
}

fn number(from: &mut dyn Read) -> Result<u64, Problem> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads a list of blocks whose numbers ascend and are less than `end`, until `take` has had enough.
fn rows<const LEN: usize>(
    from: &mut dyn Read,
    end: u64,
    mut take: impl FnMut(u64, &[u8; LEN]) -> bool,
) -> Result<(), Problem> {
    let mut least = 0;
    loop {
        let number = number(from)?;
        if number == END {
            return Ok(());
        }
        if number < least || number >= end {
            return Err(Problem::Damaged("its pages or sectors are out of order".into()));
        }
        let mut block = [0; LEN];
        from.read_exact(&mut block)?;
        if !take(number, &block) {
            return Err(Problem::Damaged("it has more sectors than are kept in memory".into()));
        }
        least = number + 1;
    }
}

fn sectors(from: &mut dyn Read) -> Result<Contents, Problem> {
    let mut sectors = Contents::new();
    rows::<SECTOR>(from, END, |lba, sector| {
        sectors.insert(lba, sector.as_slice().into());
        sectors.len() <= MOST_SECTORS
    })?;
    Ok(sectors)
}
