//! What the command itself says: on standard error, marked, in colour only on a terminal.

/// Prints a line of ours.
macro_rules! say {
    ($($arg:tt)*) => {{
        let style = anstyle::Style::new().dimmed();
        anstream::eprintln!("{style}pagewalk:{style:#} {}", format_args!($($arg)*));
    }};
}
pub(crate) use say;

/// Prints an error of ours with its causes, but for those that it tells itself.
pub fn complain(error: &anyhow::Error) {
    let text = error
        .chain()
        .map(ToString::to_string)
        .reduce(|text, cause| if text.ends_with(&cause) { text } else { text + ": " + &cause });
    let text = text.unwrap_or_default();
    let style = anstyle::AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{style}pagewalk:{style:#} {text}");
}
