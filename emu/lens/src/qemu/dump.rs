//! The processor's state as QEMU prints it, in its log and to `info registers`.

/// A segment register with its hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hidden {
    /// Selector.
    pub selector: u16,
    /// Base address.
    pub base: u32,
    /// Limit in bytes.
    pub limit: u32,
    /// The access byte in bits 0-7; AVL, L, D/B, G in bits 12-15.
    pub attributes: u16,
}

/// The state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dump {
    /// General registers in the order of their encoding.
    pub regs: [u32; 8],
    /// EIP.
    pub eip: u32,
    /// EFLAGS.
    pub eflags: u32,
    /// Current privilege level.
    pub cpl: u8,
    /// Interrupts are held back for one instruction.
    pub inhibited: bool,
    /// Address line 20 is open.
    pub a20: bool,
    /// ES, CS, SS, DS, FS, GS.
    pub segs: [Hidden; 6],
    /// LDTR.
    pub ldtr: Hidden,
    /// TR.
    pub tr: Hidden,
    /// GDTR: base and limit.
    pub gdt: (u32, u32),
    /// IDTR: base and limit.
    pub idt: (u32, u32),
    /// CR0 to CR4 (CR1 stays 0).
    pub cr: [u32; 5],
    /// DR0 to DR7 (DR4 and DR5 stay 0).
    pub dr: [u32; 8],
    /// EFER.
    pub efer: u64,
}

/// A line to look for numbers in.
pub(super) struct Line<'a>(pub &'a [u8]);

impl Line<'_> {
    /// The hexadecimal number behind `label`.
    pub fn after(&self, label: &[u8]) -> Option<u64> {
        let at = self.0.windows(label.len()).position(|window| window == label)?;
        let digits = &self.0[at + label.len()..];
        let len = digits.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(digits.len());
        number(&digits[..len], 16)
    }
}

/// A number in this base.
pub(super) fn number(digits: &[u8], base: u32) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &byte| {
        let digit = (byte as char).to_digit(base)?;
        Some(value.wrapping_mul(base as u64) + digit as u64)
    })
}

/// Eight hexadecimal digits at a place; 0 where there is something else.
fn hex8(text: &[u8], at: usize) -> u32 {
    hex(text, at, 8) as u32
}

fn hex(text: &[u8], at: usize, len: usize) -> u64 {
    let Some(digits) = text.get(at..at + len) else { return 0 };
    digits.iter().fold(0, |value, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => 0,
        };
        value << 4 | digit as u64
    })
}

/// Line lengths that do not change: the three lines of general registers, EIP and EFLAGS.
const REGISTERS: usize = 52;

impl Dump {
    /// How long the text of the state at the beginning of `text` is, if all of it is there: to the end of the line of EFER.
    pub(super) fn text_len(text: &[u8]) -> Option<usize> {
        // the shortest text there can be lies well before it
        const LEAST: usize = 3 * REGISTERS + 8 * 36;
        let from = text.get(LEAST..)?;
        let label = LEAST + find(from, b"\nEFER=")? + 1;
        let end = text[label..].iter().position(|&byte| byte == b'\n')?;
        Some(label + end + 1)
    }

    /// Reads the text of a state. `last` is the text that this state was read from before: lines that are the same are
    /// not read again.
    pub(super) fn read(&mut self, text: &[u8], last: &[u8]) {
        let mut at = 0;
        while let Some(len) = text[at..].iter().position(|&byte| byte == b'\n') {
            let line = &text[at..at + len];
            // most lines keep their length, and so their place
            if last.get(at..at + len + 1) != Some(&text[at..at + len + 1]) {
                self.read_line(line);
            }
            at += len + 1;
        }
    }

    /// Reads a state on its own, such as the answer to `info registers`.
    pub fn parse(text: &str) -> Option<Dump> {
        let mut dump = Dump::default();
        let start = text.find("EAX=")?;
        text.contains("EFER=").then(|| dump.read(&text.as_bytes()[start..], &[]))?;
        Some(dump)
    }

    fn read_line(&mut self, line: &[u8]) {
        match line.get(..3).unwrap_or_default() {
            b"EAX" => {
                for (place, register) in [0, 3, 1, 2].into_iter().enumerate() {
                    self.regs[register] = hex8(line, 4 + place * 13);
                }
            }
            b"ESI" => {
                for (place, register) in [6, 7, 5, 4].into_iter().enumerate() {
                    self.regs[register] = hex8(line, 4 + place * 13);
                }
            }
            b"EIP" => {
                self.eip = hex8(line, 4);
                self.eflags = hex8(line, 17);
                self.cpl = hex(line, 40, 1) as u8;
                self.inhibited = hex(line, 45, 1) == 1;
                self.a20 = hex(line, 51, 1) == 1;
            }
            b"ES " => self.segs[0] = hidden(line),
            b"CS " => self.segs[1] = hidden(line),
            b"SS " => self.segs[2] = hidden(line),
            b"DS " => self.segs[3] = hidden(line),
            b"FS " => self.segs[4] = hidden(line),
            b"GS " => self.segs[5] = hidden(line),
            b"LDT" => self.ldtr = hidden(line),
            b"TR " => self.tr = hidden(line),
            b"GDT" => self.gdt = (hex8(line, 9), hex8(line, 18)),
            b"IDT" => self.idt = (hex8(line, 9), hex8(line, 18)),
            b"CR0" => {
                self.cr = [hex8(line, 4), 0, hex8(line, 17), hex8(line, 30), hex8(line, 43)];
            }
            b"DR0" => {
                for number in 0..4 {
                    self.dr[number] = hex8(line, 4 + number * 13);
                }
            }
            b"DR6" => (self.dr[6], self.dr[7]) = (hex8(line, 4), hex8(line, 17)),
            b"EFE" => self.efer = hex(line, 5, 16),
            _ => {}
        }
    }
}

/// `ES =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]`.
fn hidden(line: &[u8]) -> Hidden {
    Hidden {
        selector: hex(line, 4, 4) as u16,
        base: hex8(line, 9),
        limit: hex8(line, 18),
        attributes: (hex8(line, 27) >> 8) as u16 & 0xf0ff,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let (&first, rest) = what.split_first()?;
    let mut from = 0;
    loop {
        let at = from + text[from..].iter().position(|&byte| byte == first)?;
        if text[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}
