//! A plan in the making: what every protocol shares.

use std::ops::Range;

use crate::layout::{Layout, Reserved};
use crate::plan::{Kind, Plan, Start, Symbol};
use crate::refusal::Refusal;
use crate::request::Request;

pub(crate) struct Draft<'r> {
    pub(crate) request: &'r Request<'r>,
    /// The image, unpacked.
    pub(crate) image: &'r [u8],
    pub(crate) layout: Layout,
    pub(crate) symbols: Vec<Symbol>,
    pub(crate) notes: Vec<String>,
}

impl<'r> Draft<'r> {
    pub(crate) fn new(request: &'r Request<'r>, image: &'r [u8]) -> Self {
        Draft { request, image, layout: Layout::new(&request.memory), symbols: Vec::new(), notes: Vec::new() }
    }

    /// Loads the modules above what has been placed and answers with their addresses; an end is the first address
    /// after the module.
    pub(crate) fn load_modules(&mut self) -> Result<Vec<Range<u32>>, Refusal> {
        let modules = self.request.modules.iter().enumerate();
        let place = |(index, module): (usize, &crate::request::Module)| {
            let start = self.layout.choose(module.data, format!("module {} ({})", index + 1, module.name))?;
            // The place ends at 4 GiB or below, so only an end of exactly 4 GiB wraps, to 0, as the field does.
            Ok(start..start.wrapping_add(module.data.len() as u32))
        };
        modules.map(place).collect()
    }

    /// Gives reserved information its bytes.
    pub(crate) fn fill(&mut self, reserved: &Reserved, data: Vec<u8>) {
        self.layout.fill(reserved, data);
    }

    pub(crate) fn finish(self, kind: Kind, start: Start) -> Plan {
        let Draft { layout, mut symbols, notes, .. } = self;
        symbols.sort_by(|a, b| (a.value, &a.name).cmp(&(b.value, &b.name)));
        Plan { kind, places: layout.places, roms: Vec::new(), handed: Vec::new(), start, symbols, notes }
    }
}

/// A name and its arguments as one line, as a shell would have them.
pub(crate) fn with_name(name: &str, args: &str) -> String {
    if args.is_empty() { name.to_owned() } else { format!("{name} {args}") }
}
