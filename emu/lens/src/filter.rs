//! What to show: topics, and filters by address, ring, kind and instruction count.

use std::ops::RangeInclusive;
use std::str::FromStr;

use pagewalk_x86::mmu::walk::Kind;
use pagewalk_x86::observe::At;

/// A kind of event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Every translation of a linear address.
    Translations,
    /// Every instruction.
    Instructions,
    /// Exceptions and software interrupts delivered.
    Exceptions,
    /// Hardware interrupts delivered.
    Interrupts,
    /// Control registers, descriptor tables, MSRs, TLB flushes, task switches.
    Control,
    /// Ports and memory-mapped registers.
    Io,
}

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 6] = [
        Topic::Translations,
        Topic::Instructions,
        Topic::Exceptions,
        Topic::Interrupts,
        Topic::Control,
        Topic::Io,
    ];

    /// The name on the command line, in records and, after `pagewalk::`, as `tracing` target.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Translations => "translations",
            Topic::Instructions => "instructions",
            Topic::Exceptions => "exceptions",
            Topic::Interrupts => "interrupts",
            Topic::Control => "control",
            Topic::Io => "io",
        }
    }
}

impl FromStr for Topic {
    type Err = String;
    fn from_str(text: &str) -> Result<Topic, String> {
        Topic::ALL.into_iter().find(|t| t.name() == text).ok_or_else(|| {
            let names = Topic::ALL.map(Topic::name).join(", ");
            format!("'{text}' is nothing that can be traced; there are: {names}")
        })
    }
}

/// A set of topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Topics(u8);

impl Topics {
    /// Whether the topic is in the set.
    #[inline(always)]
    pub fn has(self, topic: Topic) -> bool {
        self.0 >> topic as u8 & 1 != 0
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Topics {
        Topics(topics.into_iter().fold(0, |set, topic| set | 1 << topic as u8))
    }
}

/// Which events of the topics are shown. An empty list or `None` lets everything through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// What to show at all.
    pub topics: Topics,
    /// Linear addresses: of the access for translations, of the instruction's EIP for everything else.
    pub addresses: Vec<RangeInclusive<u32>>,
    /// Rings.
    pub rings: Vec<u8>,
    /// Kinds of translations.
    pub kinds: Vec<Kind>,
    /// Instruction counts.
    pub window: Option<RangeInclusive<u64>>,
}

impl Filter {
    /// Whether an event of `topic` about `address` is shown.
    pub fn lets(&self, topic: Topic, at: &At, address: u32) -> bool {
        self.topics.has(topic)
            && (self.rings.is_empty() || self.rings.contains(&at.cpl))
            && self.window.as_ref().is_none_or(|window| window.contains(&at.retired))
            && (self.addresses.is_empty() || self.addresses.iter().any(|range| range.contains(&address)))
    }

    /// Whether translations of this kind are shown.
    pub fn lets_kind(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold() {
        let filter = Filter {
            topics: [Topic::Io].into_iter().collect(),
            addresses: vec![0x1000..=0x1fff],
            rings: vec![3],
            window: Some(10..=20),
            ..Filter::default()
        };
        let at = At { retired: 15, cpl: 3, ..At::default() };
        assert!(filter.lets(Topic::Io, &at, 0x1fff));
        assert!(!filter.lets(Topic::Io, &at, 0x2000));
        assert!(!filter.lets(Topic::Control, &at, 0x1000));
        assert!(!filter.lets(Topic::Io, &At { retired: 21, ..at }, 0x1000));
        assert!(!filter.lets(Topic::Io, &At { cpl: 0, ..at }, 0x1000));
    }
}
