//! An onlooker that remembers everything it is told, as digests, or in words where somebody will read them.

use iced_x86::{Decoder, DecoderError, DecoderOptions};
use pagewalk_x86::bus::Phys;
use pagewalk_x86::cpu::State;
use pagewalk_x86::mmu::tlb::Entry;
use pagewalk_x86::observe::{At, Cause, Control, Io, Observer, Outcome, Translation};

/// What it asks for, and what it was told.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    /// Wants every translation.
    pub translations: bool,
    /// Wants every store.
    pub stores: bool,
    /// Counts of retired instructions at which it wants the run to stop, the last one first.
    pub stops: Vec<u64>,
    /// A digest of each thing it was told.
    pub told: Vec<u64>,
    /// The same in words.
    pub words: Option<Vec<String>>,
    /// Where the processor stood.
    pub retired: u64,
    /// The instruction that was shown last came from a device, which sees another read when it is fetched again.
    from_device: bool,
}

/// Numbers, mixed.
struct Digest(u64);

impl Digest {
    fn of(kind: u64) -> Digest {
        Digest(kind.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
    fn mix(&mut self, value: u64) -> &mut Digest {
        self.0 = (self.0 ^ value).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 ^= self.0 >> 29;
        self
    }
    fn all(&mut self, values: &[u64]) -> &mut Digest {
        values.iter().fold(self, |digest, &value| digest.mix(value))
    }
    fn at(&mut self, at: &At) -> &mut Digest {
        self.all(&[at.retired, (at.cs as u64) << 40 | (at.cpl as u64) << 32 | at.eip as u64])
    }
    fn text(&mut self, value: &dyn std::fmt::Debug) -> &mut Digest {
        format!("{value:?}").bytes().fold(self, |digest, byte| digest.mix(byte as u64))
    }
    fn entry(&mut self, entry: &Entry) -> &mut Digest {
        let rights = [entry.rights.user, entry.rights.writable, entry.rights.no_execute];
        let bits = [entry.dirty, entry.global].into_iter().chain(rights);
        let bits = bits.fold(0, |bits, bit| bits << 1 | bit as u64);
        let shifts = (entry.shift as u64) << 8 | entry.page_shift as u64;
        self.all(&[entry.linear as u64, entry.base.0, shifts, bits, entry.tag as u64]);
        entry.sources.iter().fold(self, |digest, source| digest.mix(source.at.0).mix(source.value))
    }
}

impl Watcher {
    /// One who asks for these things.
    pub fn new(translations: bool, stores: bool, stops: Vec<u64>, words: bool) -> Watcher {
        Watcher { translations, stores, stops, words: words.then(Vec::new), ..Watcher::default() }
    }

    fn tell(&mut self, digest: &Digest, words: impl FnOnce() -> String) {
        self.told.push(digest.0);
        if let Some(all) = &mut self.words {
            all.push(words());
        }
    }
}

impl Observer for Watcher {
    const ACTIVE: bool = true;
    fn wants_translations(&self) -> bool {
        self.translations
    }
    fn wants_stores(&self) -> bool {
        self.stores
    }
    fn wants_stop(&self) -> bool {
        !self.from_device && self.stops.last().is_some_and(|&stop| stop <= self.retired)
    }
    fn instruction(&mut self, at: &At, bytes: &[u8], is_32bit: bool) {
        self.retired = at.retired;
        if !self.stops.is_empty() {
            // only memory can be peeked at
            let bitness = if is_32bit { 32 } else { 16 };
            let mut decoder = Decoder::new(bitness, bytes, DecoderOptions::NO_WBNOINVD);
            self.from_device =
                decoder.decode().is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes;
        }
        let mut digest = Digest::of(1);
        digest.at(at).mix(is_32bit as u64);
        bytes.iter().for_each(|&byte| {
            digest.mix(byte as u64);
        });
        self.tell(&digest, || format!("{at:x?} instruction {bytes:02x?}"));
    }
    fn translation(&mut self, at: &At, translation: &Translation<'_>) {
        let t = translation;
        let mut digest = Digest::of(2);
        let kind = (t.access.kind as u64) << 32 | t.bytes as u64;
        digest.at(at).all(&[kind, t.linear as u64, t.phys.map_or(u64::MAX, |phys| phys.0)]);
        digest.text(&t.asker).text(&t.access.privilege);
        match t.outcome {
            Outcome::Unpaged => &mut digest,
            Outcome::Hit { slot, entry } => digest.mix(slot as u64).entry(entry),
            Outcome::Walk { steps, leaf, slot, evicted, for_dirty } => {
                evicted.into_iter().for_each(|entry| {
                    digest.entry(entry);
                });
                digest.all(&[slot as u64, for_dirty as u64, leaf.base.0]).text(&steps)
            }
            Outcome::Fault { steps, cached, code } => {
                cached.into_iter().for_each(|entry| {
                    digest.entry(entry);
                });
                digest.mix(code as u64).text(&steps)
            }
        };
        self.tell(&digest, || format!("{at:x?} {translation:x?}"));
    }
    fn delivery(&mut self, at: &At, cause: Cause, state: &State) {
        self.retired = at.retired;
        let mut digest = Digest::of(3);
        digest.at(at).text(&cause).mix(state.flags.get() as u64).mix(state.cr2 as u64);
        state.regs.all().iter().for_each(|&value| {
            digest.mix(value as u64);
        });
        self.tell(&digest, || {
            format!("{at:x?} delivery {cause:x?} {:?} {:x?}", state.flags, state.regs.all())
        });
    }
    fn control(&mut self, at: &At, change: Control) {
        self.tell(Digest::of(4).at(at).text(&change), || format!("{at:x?} {change:x?}"));
    }
    fn io(&mut self, at: &At, io: Io) {
        self.tell(Digest::of(5).at(at).text(&io), || format!("{at:x?} {io:x?}"));
    }
    fn store(&mut self, at: &At, phys: Phys, bytes: u32, value: u64) {
        let mut digest = Digest::of(6);
        digest.at(at).all(&[phys.0, bytes as u64, value]);
        self.tell(&digest, || format!("{at:x?} store {phys:?} {bytes} bytes {value:#x}"));
    }
}
