//! The ways to run one plan, all of which must come to the same.

use pagewalk_x86::Processor;
use pagewalk_x86::bus::Request;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::image::Image;
use pagewalk_x86::observe::Observer;
use pagewalk_x86::random::Random;

use super::bus::World;
use super::state::Plan;
use super::watcher::Watcher;

/// Plants what a test wants planted, in every processor before it runs.
pub trait Prepare {
    /// Changes a processor that is about to run.
    fn prepare<O: Observer>(&self, processor: &mut Processor<World, O>);
}

impl Prepare for () {
    fn prepare<O: Observer>(&self, _: &mut Processor<World, O>) {}
}

/// One way to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// All at once, with everything that makes it fast.
    Run,
    /// Without the front table.
    NoFront,
    /// Without kept blocks.
    NoCache,
    /// Without both.
    Bare,
    /// One instruction at a time.
    Steps,
    /// One instruction at a time, without shortcuts.
    BareSteps,
    /// In pieces of random lengths.
    Pieces,
    /// In pieces, each by a clone of what the one before left.
    Clones,
    /// In pieces, each by a processor made of the image of what the one before left.
    Images,
    /// The original goes on after it was cloned.
    Cloned,
    /// At some points the fetched page is forgotten, as it must be where shortcuts are switched: what `Cold` is compared
    /// with.
    Forgetful,
    /// At the same points everything that makes it fast is dropped, or switched on and off.
    Cold,
    /// Watched by somebody who asks for nothing more.
    Watched,
    /// Watched by somebody who asks for every translation.
    WatchedTranslations,
    /// Watched by somebody who asks for every store.
    WatchedStores,
    /// Watched by somebody who asks for all there is.
    WatchedAll,
    /// The same without shortcuts.
    WatchedBare,
    /// The same one instruction at a time.
    WatchedSteps,
    /// The same in pieces.
    WatchedPieces,
    /// Quietly watched, without shortcuts.
    WatchedBareQuiet,
    /// Quietly watched, one instruction at a time.
    WatchedQuietSteps,
    /// The onlooker stops the run now and then.
    Stopped,
}

impl Way {
    /// All of them; the first is what the others are compared with.
    pub const ALL: [Way; 22] = [
        Way::Run,
        Way::NoFront,
        Way::NoCache,
        Way::Bare,
        Way::Steps,
        Way::BareSteps,
        Way::Pieces,
        Way::Clones,
        Way::Images,
        Way::Cloned,
        Way::Forgetful,
        Way::Cold,
        Way::Watched,
        Way::WatchedTranslations,
        Way::WatchedStores,
        Way::WatchedAll,
        Way::WatchedBare,
        Way::WatchedSteps,
        Way::WatchedPieces,
        Way::WatchedBareQuiet,
        Way::WatchedQuietSteps,
        Way::Stopped,
    ];

    /// The way that must have come to the same end.
    pub fn ends_like(self) -> Option<Way> {
        match self {
            Way::Run | Way::Forgetful => None,
            Way::Cold => Some(Way::Forgetful),
            _ => Some(Way::Run),
        }
    }

    /// The way whose onlooker must have been told the same.
    pub fn told_like(self) -> Option<Way> {
        match self {
            Way::WatchedBare | Way::WatchedSteps | Way::WatchedPieces => Some(Way::WatchedAll),
            Way::WatchedBareQuiet | Way::WatchedQuietSteps => Some(Way::Watched),
            _ => None,
        }
    }

    fn shortcuts(self) -> (bool, bool) {
        match self {
            Way::NoFront => (false, true),
            Way::NoCache => (true, false),
            Way::Bare | Way::BareSteps | Way::WatchedBare | Way::WatchedBareQuiet => (false, false),
            _ => (true, true),
        }
    }

    fn asks(self) -> Option<(bool, bool)> {
        match self {
            Way::Watched | Way::WatchedBareQuiet | Way::WatchedQuietSteps | Way::Stopped => {
                Some((false, false))
            }
            Way::WatchedTranslations => Some((true, false)),
            Way::WatchedStores => Some((false, true)),
            Way::WatchedAll | Way::WatchedBare | Way::WatchedSteps | Way::WatchedPieces => Some((true, true)),
            _ => None,
        }
    }
}

/// What a run came to.
pub struct End<O: Observer> {
    /// The processor as it was left.
    pub processor: Processor<World, O>,
    /// Where it stopped on its way, and why: all but the end of a piece.
    pub stops: Vec<(u64, Stop)>,
}

/// Either kind of end.
pub enum Ended {
    /// Nobody watched.
    Alone(End<()>),
    /// Somebody did.
    Watched(End<Watcher>),
}

/// Whether a processor that stopped so may be run again.
fn goes_on(stop: &Stop) -> bool {
    matches!(stop, Stop::Limit | Stop::Idle | Stop::Observer | Stop::Request(Request::Reset))
}

/// Runs to `until`, in pieces that `next` gives.
fn run<O: Observer>(
    mut processor: Processor<World, O>,
    until: u64,
    mut next: impl FnMut(&mut Processor<World, O>) -> u64,
) -> End<O> {
    let mut stops = Vec::new();
    loop {
        let now = processor.cpu.retired;
        let to = next(&mut processor).clamp(now + 1, until.max(now + 1));
        let stop = processor.run(to.min(until));
        let done = processor.cpu.retired >= until;
        let again = goes_on(&stop);
        if !matches!(stop, Stop::Limit | Stop::Observer) {
            stops.push((processor.cpu.retired, stop));
        }
        if done || !again || stops.len() > 100 {
            return End { processor, stops };
        }
    }
}

/// Runs a plan to its end in one way.
pub fn go(plan: &Plan, way: Way, until: u64, seed: u64, words: bool, prepare: &impl Prepare) -> Ended {
    let mut random = Random::new(seed ^ way as u64);
    let (front, cache) = way.shortcuts();
    let mut piece = {
        let mut random = random.clone();
        move |retired: u64| retired + random.pick(&[1, 1, 2, 3, 5, 8, 20, 60])
    };
    if let Some((translations, stores)) = way.asks() {
        let mut stops = Vec::new();
        if way == Way::Stopped {
            stops = (0..1 + random.below(6)).map(|_| random.below(until as u32) as u64).collect();
            stops.sort_unstable_by(|a, b| b.cmp(a));
        }
        let mut processor = plan.build(Watcher::new(translations, stores, stops, words));
        prepare.prepare(&mut processor);
        if (front, cache) != (true, true) {
            processor.set_shortcuts(front, cache);
        }
        return Ended::Watched(match way {
            Way::WatchedSteps | Way::WatchedQuietSteps => run(processor, until, |p| p.cpu.retired + 1),
            Way::WatchedPieces => run(processor, until, |p| piece(p.cpu.retired)),
            Way::Stopped => run(processor, until, |p| {
                // it was heard
                while p.cpu.observer.wants_stop() {
                    p.cpu.observer.stops.pop();
                }
                until
            }),
            _ => run(processor, until, |_| until),
        });
    }
    let mut processor = plan.build(());
    prepare.prepare(&mut processor);
    if (front, cache) != (true, true) {
        processor.set_shortcuts(front, cache);
    }
    Ended::Alone(match way {
        Way::Steps | Way::BareSteps => run(processor, until, |p| p.cpu.retired + 1),
        Way::Pieces => run(processor, until, |p| piece(p.cpu.retired)),
        Way::Clones | Way::Images => {
            let mut pieces = 0;
            run(processor, until, |p| {
                // a few, since they cost
                pieces += 1;
                if pieces < 4 {
                    *p = if way == Way::Clones { p.clone() } else { by_image(p) };
                    prepare.prepare(p);
                    p.cpu.retired + 1 + random.below(80) as u64
                } else {
                    until
                }
            })
        }
        Way::Forgetful | Way::Cold => {
            let mut points = Random::new(seed);
            let mut switches = random;
            run(processor, until, |p| {
                if way == Way::Cold {
                    p.cpu.forget_front();
                    let (front, cache) = (switches.flag(), switches.flag());
                    p.set_shortcuts(front, cache);
                }
                p.cpu.update_context();
                p.cpu.retired + 1 + points.below(60) as u64
            })
        }
        Way::Cloned => {
            let mut end = run(processor, 1 + random.below(until as u32) as u64, |_| until);
            let going = end.stops.last().is_none_or(|(_, stop)| goes_on(stop));
            if going && end.processor.cpu.retired < until {
                // the clone runs first, and may not disturb the original
                let mut clone = end.processor.clone();
                clone.run(until);
                let rest = run(end.processor, until, |_| until);
                end.stops.extend(rest.stops);
                end.processor = rest.processor;
            }
            end
        }
        _ => run(processor, until, |_| until),
    })
}

/// A processor made of bytes, in a world where nothing has been decoded.
fn by_image(processor: &Processor<World, ()>) -> Processor<World, ()> {
    let image = processor.image().expect("cases are of models that have names");
    let bytes = postcard::to_stdvec(&image).expect("an image is plain data");
    let image: Image = postcard::from_bytes(&bytes).expect("what was written down can be read");
    match Processor::revive(image, processor.cpu.bus.undecoded(), ()) {
        Ok(processor) => processor,
        Err(damaged) => panic!("{} of a processor that ran is refused", damaged.0),
    }
}

impl Ended {
    fn stops(&self) -> &[(u64, Stop)] {
        match self {
            Ended::Alone(end) => &end.stops,
            Ended::Watched(end) => &end.stops,
        }
    }

    /// What differs from how another way ended, of which nobody watched.
    pub fn difference(&self, first: &Ended) -> Option<String> {
        if self.stops() != first.stops() {
            return Some(format!("stops: {:x?}, {:x?}", self.stops(), first.stops()));
        }
        let Ended::Alone(first) = first else { return None };
        match self {
            Ended::Alone(end) => differs(&end.processor, &first.processor),
            Ended::Watched(end) => differs(&end.processor, &first.processor),
        }
    }

    /// Where what the onlooker was told differs.
    pub fn told_otherwise(&self, other: &Ended) -> Option<String> {
        let (Ended::Watched(a), Ended::Watched(b)) = (self, other) else { return None };
        let (a, b) = (&a.processor.cpu.observer, &b.processor.cpu.observer);
        if a.told == b.told {
            return None;
        }
        let n = a.told.iter().zip(&b.told).take_while(|(a, b)| a == b).count();
        let word = |w: &Watcher| w.words.as_ref().and_then(|words| words.get(n).cloned()).unwrap_or_default();
        Some(format!("the onlooker was told otherwise, number {n}:\n  {}\n  {}", word(a), word(b)))
    }
}

/// What differs between two processors: everything that a guest could see, now or later, and the counters.
fn differs<O: Observer, P: Observer>(a: &Processor<World, O>, b: &Processor<World, P>) -> Option<String> {
    let (a, b) = (&a.cpu, &b.cpu);
    if a.state != b.state {
        let (a, b) = (format!("{:#x?}", a.state), format!("{:#x?}", b.state));
        let lines = a.lines().zip(b.lines()).filter(|(a, b)| a != b);
        let lines: Vec<String> = lines.take(6).map(|(a, b)| format!("{} | {}", a.trim(), b.trim())).collect();
        return Some(format!("state: {}", lines.join("; ")));
    }
    if let Some(text) = a.bus.difference(&b.bus) {
        return Some(text);
    }
    if a.tlb.counters != b.tlb.counters {
        return Some(format!("counters:\n  {:?}\n  {:?}", a.tlb.counters, b.tlb.counters));
    }
    if a.tlb != b.tlb {
        let entries = |tlb: &pagewalk_x86::mmu::tlb::Tlb| {
            tlb.valid_entries().map(|(slot, entry)| format!("{slot} {entry:x?}")).collect::<Vec<_>>()
        };
        let (a, b) = (entries(&a.tlb), entries(&b.tlb));
        let at = a.iter().zip(&b).position(|(a, b)| a != b);
        return Some(match at {
            Some(n) => format!("TLB entries:\n  {}\n  {}", a[n], b[n]),
            None => "the TLB's stamps".to_string(),
        });
    }
    (a.deliveries != b.deliveries).then(|| "deliveries".to_string())
}
