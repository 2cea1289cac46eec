//! The screen as a PNG file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use pagewalk_pc::machine::Machine;
use pagewalk_x86::observe::Observer;

/// Writes what the screen shows now.
pub fn write<O: Observer>(machine: &Machine<O>, path: &Path) -> Result<()> {
    let picture = machine.processor.cpu.bus.picture();
    let failed = || format!("cannot write the picture to '{}'", path.display());
    let file = File::create(path).with_context(failed)?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().with_context(failed)?;
    writer.write_image_data(&picture.rgb).with_context(failed)?;
    writer.finish().with_context(failed)
}
