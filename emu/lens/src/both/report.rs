//! What is told of the two.

use std::fmt::Write as _;

use super::{End, Outcome, Verdict};
use crate::explain::Namer;
use crate::qemu::Ending;

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Ended(Ending::Status(status)) => write!(f, "exit status {status}"),
            End::Ended(Ending::PowerOff) => f.write_str("switched off"),
            End::Ended(Ending::Reset) => f.write_str("reset"),
            End::Ended(Ending::TripleFault) => f.write_str("triple fault"),
            End::Ended(Ending::Halted) => f.write_str("halted for good"),
            End::Runs => f.write_str("still ran"),
            End::Unimplemented(stop) => write!(f, "{stop:?}"),
        }
    }
}

impl Outcome {
    /// The comparison in words; nothing beyond a line for each part that is the same.
    pub fn text(&self, namer: Namer<'_>) -> String {
        let mut text = String::new();
        self.write(&mut text, namer).unwrap_or_else(|_| unreachable!("a string takes all that is written"));
        text
    }

    fn write(&self, out: &mut String, namer: Namer<'_>) -> std::fmt::Result {
        match &self.line {
            Some(line) => {
                writeln!(out, "serial text: line {} differs", line.number)?;
                if let Some(before) = &line.before {
                    writeln!(out, "  both  {before}")?;
                }
                const NOTHING: &str = "(the text ends here)";
                writeln!(out, "  here  {}", line.ours.as_deref().unwrap_or(NOTHING))?;
                writeln!(out, "  QEMU  {}", line.theirs.as_deref().unwrap_or(NOTHING))?;
                if line.ours.is_some() && line.theirs.is_some() {
                    writeln!(out, "        {:>1$}", "^", line.column() + 1)?;
                }
            }
            None => {
                let lines = self.ours.text.iter().filter(|&&byte| byte == b'\n').count();
                writeln!(out, "serial text: the same, {lines} lines")?;
            }
        }
        if self.ours.end == self.theirs.end {
            writeln!(out, "end: {} in both", self.ours.end)?;
        } else {
            writeln!(out, "end: here {}, in QEMU {}", self.ours.end, self.theirs.end)?;
        }
        let Some(memory) = &self.memory else {
            return writeln!(out, "memory: not compared, since not both came to an end");
        };
        let (ours, theirs) = memory.hashes;
        let kib = memory.bytes >> 10;
        if memory.words == 0 {
            writeln!(out, "memory: the same, {kib} KiB, hash {ours:016x}")?;
        } else {
            let (words, pages) = (memory.words, memory.pages);
            writeln!(
                out,
                "memory: {words} words in {pages} pages differ, hash {ours:016x} here, {theirs:016x} in QEMU"
            )?;
            for word in &memory.first {
                let name = u32::try_from(word.at).ok().and_then(namer);
                let name = name.map(|name| format!(" <{name}>")).unwrap_or_default();
                writeln!(
                    out,
                    "  {:#010x}{name}, page {:#010x}: {:08x} here, {:08x} in QEMU",
                    word.at,
                    word.at & !0xfff,
                    word.ours,
                    word.theirs
                )?;
            }
            if memory.words > memory.first.len() as u64 {
                writeln!(out, "  and more")?;
            }
        }
        for (reason, words) in &memory.left_out {
            writeln!(out, "  left out: {words} words, {reason}")?;
        }
        Ok(())
    }
}

impl Verdict {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Same => "the same in both",
            Verdict::Text => "the serial text differs",
            Verdict::End => "they end differently",
            Verdict::Memory => "memory differs at the end",
            Verdict::Unfinished => "no difference, but both still ran when their time was over",
            Verdict::Unimplemented => "pagewalk does not implement an instruction",
        }
    }
}
