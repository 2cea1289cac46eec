//! What the command itself says: on standard error, marked, in colour only on a terminal.

/// Prints a line of ours.
macro_rules! say {
    ($($arg:tt)*) => {{
        let style = anstyle::Style::new().dimmed();
        anstream::eprintln!("{style}pagewalk:{style:#} {}", format_args!($($arg)*));
    }};
}
pub(crate) use say;

/// Prints an error of ours.
pub fn complain(error: &anyhow::Error) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{style}pagewalk:{style:#} {error:#}");
}
