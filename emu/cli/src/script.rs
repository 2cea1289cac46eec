//! `--keys SCRIPT`: what is typed on the PC's keyboard, and when. Times are virtual, and texts are looked for at certain
//! instruction counts, so that the same script gives the same run.

use std::collections::VecDeque;
use std::str::FromStr;

use pagewalk_pc::board::Input;
use pagewalk_pc::machine::Machine;
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::observe::Observer;

use crate::keys::Stroke;

/// How often a script looks at the machine, in instructions.
pub const INTERVAL: u64 = 1 << 18;
/// Virtual time between two keys: short for a person, long enough for a firmware that keeps fifteen keys.
const BETWEEN_KEYS: u64 = 10_000_000;

/// A part of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A key is pressed and released.
    Press(Stroke),
    /// Wait until the text screen shows this.
    After(String),
    /// Wait until this many instructions are retired.
    At(u64),
    /// Wait for this long in virtual nanoseconds.
    Wait(u64),
}

/// The parts in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    /// Virtual time before which nothing is done.
    not_before: Ticks,
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Script, String> {
        let mut steps = VecDeque::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(inside) = rest.strip_prefix('<') {
                let (name, after) = inside
                    .split_once('>')
                    .ok_or_else(|| format!("'{rest}' has a '<' without '>'; write <lt> for the character"))?;
                steps.push_back(step(name)?);
                rest = after;
                continue;
            }
            let (character, length) = match rest.strip_prefix('\\').and_then(|next| next.chars().next()) {
                Some('n') => ('\n', 2),
                Some('t') => ('\t', 2),
                Some('\\') => ('\\', 2),
                _ => (first, first.len_utf8()),
            };
            steps.push_back(Step::Press(stroke(character)?));
            rest = &rest[length..];
        }
        Ok(Script { steps, not_before: Ticks(0) })
    }
}

fn stroke(character: char) -> Result<Stroke, String> {
    Stroke::of_character(character).ok_or_else(|| format!("no key of a US keyboard writes '{character}'"))
}

/// What stands between angle brackets.
fn step(name: &str) -> Result<Step, String> {
    match name.split_once(' ') {
        Some(("after", text)) if !text.is_empty() => Ok(Step::After(text.to_string())),
        Some(("at", count)) => Ok(Step::At(crate::options::parse_count(count)?)),
        Some(("wait", time)) => Ok(Step::Wait(nanoseconds(time)?)),
        _ => key(name).map(Step::Press),
    }
}

fn nanoseconds(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1_000_000),
        None => (text.strip_suffix('s').unwrap_or_default(), 1_000_000_000),
    };
    let time: Option<u64> = digits.parse().ok().and_then(|n: u64| n.checked_mul(factor));
    time.ok_or_else(|| format!("'{text}' is no time to wait; write <wait 500ms> or <wait 2s>"))
}

/// A key's name, such as `enter`, `ctrl-c`, `ctrl-alt-delete` or `alt-f2`.
fn key(name: &str) -> Result<Stroke, String> {
    for (prefix, held) in [("ctrl-", 0), ("alt-", 1), ("shift-", 2)] {
        if let Some(rest) = name.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
            let mut stroke = key(rest)?;
            *[&mut stroke.ctrl, &mut stroke.alt, &mut stroke.shift][held] = true;
            return Ok(stroke);
        }
    }
    let mut characters = name.chars();
    match (name, characters.next(), characters.next()) {
        ("lt", ..) => stroke('<'),
        (_, Some(character), None) => stroke(character),
        _ => Stroke::named(name).ok_or_else(|| {
            format!(
                "'<{name}>' is neither a key nor one of <after TEXT>, <at COUNT>, <wait TIME>; keys are: {}",
                Stroke::names()
            )
        }),
    }
}

impl Script {
    /// The instruction count at which it must be looked at again, if there is a certain one.
    pub fn next_count(&self) -> Option<u64> {
        match self.steps.front() {
            Some(Step::At(count)) => Some(*count),
            _ => None,
        }
    }

    /// What it waits for, in words; `None` when all is done.
    pub fn waits_for(&self) -> Option<String> {
        Some(match self.steps.front()? {
            Step::Press(_) => "the next key's time".into(),
            Step::After(text) => format!("'{text}' on the screen"),
            Step::At(count) => format!("instruction {count}"),
            Step::Wait(_) => "a time to pass".into(),
        })
    }

    /// Adds a key.
    pub fn push(&mut self, stroke: Stroke) {
        self.steps.push_back(Step::Press(stroke));
    }

    /// Types what is due. Says whether it typed anything. `halted`: nothing but a key can happen, so that no time passes.
    pub fn play<O: Observer>(&mut self, machine: &mut Machine<O>, halted: bool) -> bool {
        let mut typed = false;
        while let Some(step) = self.steps.front() {
            let now = machine.now();
            let waits = now < self.not_before && (!halted || typed);
            match step {
                _ if waits => break,
                Step::Press(stroke) => {
                    machine.give(Input::Keys(stroke.bytes()));
                    self.not_before = Ticks(now.0.saturating_add(BETWEEN_KEYS));
                    typed = true;
                }
                Step::Wait(time) => self.not_before = Ticks(now.0.saturating_add(*time)),
                Step::At(count) if machine.processor.cpu.retired < *count => break,
                Step::After(text) if !shows(machine, text) => break,
                Step::At(_) | Step::After(_) => {}
            }
            self.steps.pop_front();
        }
        typed
    }
}

fn shows<O: Observer>(machine: &Machine<O>, text: &str) -> bool {
    machine.processor.cpu.bus.screen().iter().any(|line| line.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        text.parse::<Script>().unwrap().steps.into()
    }

    fn press(character: char) -> Step {
        Step::Press(Stroke::of_character(character).unwrap())
    }

    #[test]
    fn text_is_typed_and_angle_brackets_name_keys_times_and_texts() {
        assert_eq!(steps("a\\n<lt>\\\\"), [press('a'), press('\n'), press('<'), press('\\')]);
        let enter = Step::Press(Stroke::named("enter").unwrap());
        assert_eq!(
            steps("<after GNU GRUB>e<at 20M><wait 500ms><wait 2s><enter>"),
            [
                Step::After("GNU GRUB".into()),
                press('e'),
                Step::At(20_000_000),
                Step::Wait(500_000_000),
                Step::Wait(2_000_000_000),
                enter
            ]
        );
        let Step::Press(stroke) = steps("<ctrl-alt-delete>")[0] else { panic!("a key") };
        assert!(stroke.ctrl && stroke.alt && !stroke.shift);
        assert_eq!(stroke.key, Stroke::named("delete").unwrap().key);
        let Step::Press(stroke) = steps("<ctrl-x>")[0] else { panic!("a key") };
        assert_eq!(stroke.bytes(), [0x1d, 0x2d, 0xad, 0x9d]);
    }

    #[test]
    fn what_is_no_script_is_refused_by_a_sentence() {
        for (text, part) in [
            ("<enter", "without '>'"),
            ("é", "US keyboard"),
            ("<any key>", "neither"),
            ("<wait 5>", "<wait 2s>"),
            ("<at soon>", "soon"),
            ("<after >", "neither"),
        ] {
            let error = text.parse::<Script>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
