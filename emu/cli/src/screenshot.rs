//! The screen as a PNG file.

use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pagewalk_pc::machine::Machine;
use pagewalk_x86::observe::Observer;

/// How many pictures are made of one name.
const MOST_PICTURES: u32 = 9999;

/// Writes what the screen shows now.
pub fn write<O: Observer>(machine: &Machine<O>, path: &Path) -> Result<()> {
    let failed = || format!("cannot write the picture to '{}'", path.display());
    encode(machine, File::create(path).with_context(failed)?).with_context(failed)
}

/// Writes what the screen shows now to a file that was not there: `NAME-1.png`, `NAME-2.png` and so on, where NAME is the
/// name of `like` without its extension, or `pagewalk`. Returns the file's name.
pub fn write_new<O: Observer>(machine: &Machine<O>, like: Option<&Path>) -> Result<PathBuf> {
    let like = like.unwrap_or(Path::new("pagewalk.png"));
    let stem = like.file_stem().unwrap_or_default().to_string_lossy();
    for number in 1..=MOST_PICTURES {
        let path = like.with_file_name(format!("{stem}-{number}.png"));
        let failed = || format!("cannot write the picture to '{}'", path.display());
        match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            file => {
                encode(machine, file.with_context(failed)?).with_context(failed)?;
                return Ok(path);
            }
        }
    }
    bail!("there are {MOST_PICTURES} pictures like '{}' already: move them away", like.display())
}

fn encode<O: Observer>(machine: &Machine<O>, file: File) -> Result<()> {
    let picture = machine.processor.cpu.bus.picture();
    let mut encoder = png::Encoder::new(BufWriter::new(file), picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.rgb)?;
    Ok(writer.finish()?)
}
