//! What a case may have in it. Each is drawn for itself and from random numbers of its own, so that the others stay as
//! they are when one is taken away.

use pagewalk_x86::random::Random;

macro_rules! features {
    ($($name:ident $text:literal $often:literal;)*) => {
        /// One thing that a case may have.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Feature { $(#[doc = $text] $name),* }

        impl Feature {
            /// All of them.
            pub const ALL: &[Feature] = &[$(Feature::$name),*];

            /// What it is.
            pub fn text(self) -> &'static str {
                match self { $(Feature::$name => $text),* }
            }

            /// In how many of a hundred cases it is drawn.
            fn often(self) -> u32 {
                match self { $(Feature::$name => $often),* }
            }
        }
    };
}

features! {
    Real "real mode" 12;
    Vm86 "virtual-8086 mode" 12;
    Ring "a ring other than 0" 50;
    Code16 "16-bit code and stacks" 30;
    Paging "paging" 65;
    Pae "PAE paging" 40;
    LargePages "large pages" 50;
    GlobalPages "global pages" 50;
    NoExecute "no-execute pages" 25;
    Holes "pages that are not present, or not writable" 40;
    Reserved "entries with reserved bits" 10;
    Protections "CR0.WP and CR4.SMEP and SMAP" 40;
    Prefill "a TLB that is warm" 40;
    Stale "a TLB that is stale" 30;
    Geometry "a TLB of another shape" 50;
    Model "an older model" 12;
    Control "other bits of CR0 and CR4" 30;
    Segments "odd segments" 35;
    Tables "odd descriptors" 15;
    Gates "odd gates" 20;
    Flags "AC, NT, IOPL, VIF and VIP" 40;
    Trap "single-stepping" 10;
    Breakpoints "debug registers" 15;
    Interrupts "interrupts" 40;
    Dma "writes to memory behind the processor's back" 20;
    Window "memory that moves" 20;
    Raw "random bytes as code" 40;
    Strings "repeated string instructions" 60;
    SelfModify "stores to code" 45;
    PageWrites "stores to page tables and control registers" 50;
    Far "far transfers" 45;
    Selectors "segment register loads" 45;
    System "system instructions" 35;
    Ports "ports and devices" 30;
    PageEnd "code across page ends" 60;
}

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(pub u64);

impl Features {
    /// Whether the set has this one.
    pub fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 != 0
    }

    /// The set without it.
    pub fn without(self, feature: Feature) -> Features {
        Features(self.0 & !(1 << feature as u32))
    }

    /// Those that a seed draws.
    pub fn draw(seed: u64) -> Features {
        let drawn = |&feature: &Feature| stream(seed, feature as u64).below(100) < feature.often();
        Features(Feature::ALL.iter().filter(|f| drawn(f)).fold(0, |set, &f| set | 1 << f as u32))
    }

    /// Those of the set, in words.
    pub fn text(self) -> String {
        let names: Vec<&str> = Feature::ALL.iter().filter(|f| self.has(**f)).map(|f| f.text()).collect();
        names.join(", ")
    }
}

/// Random numbers of a seed for one purpose.
pub fn stream(seed: u64, purpose: u64) -> Random {
    let mut random = Random::new(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
    Random::new(random.bits())
}
