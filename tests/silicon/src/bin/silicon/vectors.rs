//! Vectors: measured, and checked.

use std::path::{Path, PathBuf};

use anyhow::Result;
use pagewalk_silicon::vector::{self, Oracles};

/// Prints the lines of a file with what this processor makes of them. Comments and blank lines stay.
pub fn measure(file: &Path) -> Result<u8> {
    let vectors = vector::parse_file(file)?;
    let text = std::fs::read_to_string(file)?;
    let mut oracles = Oracles::default();
    let mut status = 0;
    let mut next = vectors.iter().peekable();
    for (n, line) in text.lines().enumerate() {
        let place = format!("{}:{}", file.display(), n + 1);
        let Some(vector) = next.next_if(|vector| vector.place == place) else {
            println!("{line}");
            continue;
        };
        match vector::measure(vector, |world, case| oracles.native(world, case)) {
            Ok(measured) => println!("{measured}"),
            Err(error) => {
                status = super::DIFFERENCES;
                eprintln!("{place}: {error}: {line}");
            }
        }
    }
    Ok(status)
}

/// Runs vectors here, and natively where that can be.
pub fn check(files: &[PathBuf]) -> Result<u8> {
    let mut oracles = Oracles::default();
    let mut status = 0;
    for file in files {
        for vector in vector::parse_file(file)? {
            for complaint in oracles.check(&vector)? {
                status = super::DIFFERENCES;
                println!("{complaint}");
            }
        }
    }
    Ok(status)
}
