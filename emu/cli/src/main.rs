//! The `pagewalk` command.

mod beside;
mod both;
mod console;
mod demo;
mod diff;
mod display;
mod drive;
mod explain;
mod keys;
mod options;
mod program;
mod run;
mod say;
mod screenshot;
mod script;
mod setup;
mod status;
mod walk;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use options::{Command, Options};
use pagewalk_pc::snapshot::SnapshotError;
use status::{BAD_INPUT, BAD_SNAPSHOT, Status};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // a failed write of the message leaves nothing to be done
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { 0 } else { BAD_INPUT.0 });
        }
    };
    let filter = EnvFilter::try_from_env("PAGEWALK_LOG").unwrap_or_else(|_| EnvFilter::new(default_log()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(console::terminal::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
    let result = drive::catch_signals().and_then(|()| match options.command.unwrap_or(Command::Demo) {
        Command::Demo => demo::run(),
        Command::Run(options) => run::run(&options),
        Command::Walk(options) => walk::run(&options),
        Command::Diff(options) => diff::run(&options),
        Command::Both(options) => both::run(&options),
    });
    match result {
        Ok(Status(code)) => ExitCode::from(code),
        Err(error) => {
            say::complain(&error);
            let refused = matches!(error.downcast_ref(), Some(SnapshotError::Refused { .. }));
            ExitCode::from(if refused { BAD_SNAPSHOT.0 } else { BAD_INPUT.0 })
        }
    }
}

/// Traces are asked for by option, so every topic's target is open; of all else only warnings are shown, unless
/// PAGEWALK_LOG says otherwise.
fn default_log() -> String {
    let topics = pagewalk_lens::Topic::ALL.map(|topic| format!(",pagewalk::{}=trace", topic.name()));
    "warn".to_string() + &topics.concat()
}
