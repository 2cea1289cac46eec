//! `pagewalk walk`: runs to a point and draws page walks.

use anyhow::{Result, bail};
use pagewalk_lens::{Lens, picture};
use pagewalk_x86::fault::Stop;

use crate::options::{Walk, parse_address};
use crate::say::say;
use crate::setup::Setup;
use crate::status::{DONE, LIMIT, Status};

enum Point {
    Linear(u32),
    Count(u64),
}

/// Runs the command.
pub fn run(options: &Walk) -> Result<Status> {
    let setup = Setup::new(Some(&options.image), &options.machine)?;
    let mut addresses = Vec::new();
    for text in &options.addresses {
        addresses.push(resolve(&setup, text)?);
    }
    let point = match &options.at {
        None => None,
        Some(text) => Some(match (setup.symbol(text), text.strip_prefix("0x")) {
            (Some(value), _) => Point::Linear(value),
            (None, Some(_)) => Point::Linear(parse_address(text).map_err(anyhow::Error::msg)?),
            (None, None) => match text.parse() {
                Ok(count) => Point::Count(count),
                Err(_) => bail!(
                    "'{text}' is no symbol of the image, no address (0x...) and no instruction count; the image has {} symbols",
                    setup.plan.symbols.len()
                ),
            },
        }),
    };
    let mut machine = setup.machine(Lens::default())?;
    let until = match point {
        Some(Point::Count(count)) => count.min(options.max_instructions),
        Some(Point::Linear(linear)) => {
            machine.processor.cpu.observer.stop_at = Some(linear);
            options.max_instructions
        }
        None => options.max_instructions,
    };
    let stop = loop {
        match machine.run(until) {
            Stop::Idle => {}
            stop => break stop,
        }
    };
    let cpu = &machine.processor.cpu;
    let reached = match point {
        Some(Point::Linear(_)) => stop == Stop::Observer,
        Some(Point::Count(count)) => cpu.retired >= count,
        None => true,
    };
    let place = setup.symbol_at(cpu.eip).map(|n| format!(" <{n}>")).unwrap_or_default();
    let here = format!(
        "after {} instructions, at {:04x}:{:08x}{place}, ring {}",
        cpu.retired,
        cpu.segs[pagewalk_x86::segment::CS].selector,
        cpu.eip,
        cpu.cpl
    );
    if reached {
        say!("{here}");
    } else {
        say!("the point was not reached; this is {here}");
    }
    for address in addresses {
        print!("{}", picture::look(cpu, address));
    }
    Ok(if reached { DONE } else { LIMIT })
}

fn resolve(setup: &Setup, text: &str) -> Result<u32> {
    if let Some(value) = setup.symbol(text) {
        return Ok(value);
    }
    match parse_address(text) {
        Ok(address) => Ok(address),
        Err(_) => bail!("'{text}' is neither a symbol of the image nor a hex address"),
    }
}
