//! Benchmarks against peers: the same guest on each emulator in turn, several rounds, and ratios of medians. Needs
//! qemu-system-i386 and Bochs (tests/run.sh --bench installs them).
//!
//!     bench [integer] [boot]      PAGEWALK_ROUNDS=N for another number of rounds than three

mod boot;
mod integer;

use std::process::Command;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted = vec!["integer".into(), "boot".into()];
    }
    for name in wanted {
        match name.as_str() {
            "integer" => integer::run()?,
            "boot" => boot::run()?,
            _ => bail!("there is no benchmark '{name}'; there are: integer, boot"),
        }
    }
    Ok(())
}

/// Measures each peer once in every round, in turn, and prints the medians. The first is ours.
fn compare<T>(
    title: &str,
    what: &str,
    peers: &[(&str, T)],
    mut measure: impl FnMut(&T) -> Result<f64>,
) -> Result<()> {
    let rounds = pagewalk_tests::number("PAGEWALK_ROUNDS").unwrap_or(3);
    let mut seconds = vec![Vec::new(); peers.len()];
    for round in 1..=rounds {
        for ((name, peer), seconds) in peers.iter().zip(&mut seconds) {
            let measured = measure(peer).with_context(|| format!("{name}, {title}"))?;
            eprintln!("round {round} {name:<10} {measured:>8.3} s");
            seconds.push(measured);
        }
    }
    let medians: Vec<f64> = seconds.into_iter().map(median).collect();
    println!("{title}: {what}, medians of {rounds} interleaved rounds");
    for ((name, _), seconds) in peers.iter().zip(&medians) {
        println!("  {name:<10} {seconds:>8.3} s   pagewalk's speed is {:.2} of it", seconds / medians[0]);
    }
    Ok(())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The command as it is shipped; PAGEWALK names another.
fn pagewalk_command() -> Command {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/pagewalk");
    Command::new(std::env::var("PAGEWALK").unwrap_or_else(|_| built.to_string()))
}
