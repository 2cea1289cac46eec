//! QEMU's log (`-d cpu,int,nochain` and a few trace events), read as it is written: the processor's state before each
//! translation block, exceptions and interrupts, and what was read from ports and memory-mapped registers.

use std::io::{PipeReader, Read as _};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::dump::{Dump, Line, number};

/// How much is read from the pipe at once.
const CHUNK: usize = 1 << 14;
/// How many chunks may wait, so that QEMU can run ahead a little; few, so that it has not gone far when it is to stop.
const AHEAD: usize = 4;

/// The command whose trace in the log marks a place in it: see [`Event::Marker`].
pub const MARKER: &str = "info registers";

/// A value that QEMU's guest read from a port or a memory-mapped register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Input {
    /// Port number or physical address.
    pub at: u64,
    /// What came.
    pub value: u64,
    /// How many bytes.
    pub bytes: u32,
}

/// An exception or interrupt that QEMU delivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The vector.
    pub vector: u8,
    /// The error code; 0 if the vector has none.
    pub code: u16,
    /// INT n and its kin.
    pub software: bool,
    /// An external interrupt.
    pub hardware: bool,
}

/// What the log tells, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A block is about to run; [`Stream::dump`] is the state before it.
    Block,
    /// A delivery; [`Stream::dump`] is the state that it found.
    Delivery(Delivery),
    /// An external interrupt in real mode, where the log tells no more of deliveries.
    Interrupt(u8),
    /// Something was read.
    Input(Input),
    /// The log has come to the place where [`MARKER`] was asked for.
    Marker,
    /// The block told last did not run after all, and will be told again.
    Stopped,
    /// A triple fault.
    TripleFault,
    /// QEMU has closed its log.
    End,
    /// Nothing came in time.
    Silence,
}

/// The log as a stream of events.
#[derive(Debug)]
pub struct Stream {
    chunks: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    /// The state told last.
    pub dump: Dump,
    /// Whether the last state was, letter by letter, the one before it.
    pub repeated: bool,
    /// Bytes of the last state's text, to see at once what is the same.
    last: Vec<u8>,
    /// The line that came last and is nothing known.
    pub unknown: String,
    servicing: Option<u8>,
}

impl Stream {
    /// Reads the log from a pipe.
    pub fn new(mut pipe: PipeReader) -> Stream {
        let (sender, chunks) = mpsc::sync_channel(AHEAD);
        std::thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK];
                match pipe.read(&mut chunk) {
                    Ok(0) | Err(_) => return,
                    Ok(len) => {
                        chunk.truncate(len);
                        if sender.send(chunk).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Stream {
            chunks,
            buffer: Vec::new(),
            at: 0,
            dump: Dump::default(),
            repeated: false,
            last: Vec::new(),
            unknown: String::new(),
            servicing: None,
        }
    }

    /// What comes next; waits for `patience` at most.
    pub fn next(&mut self, patience: Duration) -> Event {
        loop {
            let Some((start, end)) = self.find_line() else {
                match self.fill(patience) {
                    Ok(()) => continue,
                    Err(event) => return event,
                }
            };
            let line = &self.buffer[start..end];
            if self.servicing.is_some()
                && delivery(line).is_none()
                && let Some(vector) = self.servicing.take()
            {
                return Event::Interrupt(vector);
            }
            match line.first() {
                Some(b'E') if line.starts_with(b"EAX=") => match self.take_dump() {
                    Some(()) => return Event::Block,
                    None => match self.fill(patience) {
                        Ok(()) => continue,
                        Err(event) => return event,
                    },
                },
                Some(b'm') if line.starts_with(b"memory_region_ops_read cpu 0 ") => {
                    let input = input(line);
                    self.at = end + 1;
                    if let Some(input) = input {
                        return Event::Input(input);
                    }
                }
                Some(b' ') if let Some(mut delivery) = delivery(line) => {
                    // its state follows
                    let before = self.at;
                    self.at = end + 1;
                    if self.take_dump().is_none() {
                        self.at = before;
                        match self.fill(patience) {
                            Ok(()) => continue,
                            Err(event) => return event,
                        }
                    }
                    delivery.hardware = self.servicing.take().is_some();
                    return Event::Delivery(delivery);
                }
                Some(b'S') if line.starts_with(b"Servicing hardware INT=") => {
                    self.servicing = Line(line).after(b"INT=0x").map(|vector| vector as u8);
                    self.at = end + 1;
                }
                Some(b'S') if line.starts_with(b"Stopped execution of TB chain before") => {
                    self.at = end + 1;
                    return Event::Stopped;
                }
                Some(b'T') if line.starts_with(b"Trace ") => self.at = end + 1,
                Some(b'T') if line.starts_with(b"Triple fault") => {
                    self.at = end + 1;
                    return Event::TripleFault;
                }
                Some(b'h') if line.starts_with(b"handle_qmp_command ") => {
                    let is_marker = contains(line, MARKER.as_bytes());
                    self.at = end + 1;
                    if is_marker {
                        return Event::Marker;
                    }
                }
                Some(b'c') if line.starts_with(b"check_exception ") => self.at = end + 1,
                _ => {
                    if end > start {
                        self.unknown = String::from_utf8_lossy(line).into_owned();
                    }
                    self.at = end + 1;
                }
            }
        }
    }

    /// The whole line at the reading position, without its end.
    fn find_line(&self) -> Option<(usize, usize)> {
        let rest = self.buffer.get(self.at..)?;
        let len = rest.iter().position(|&byte| byte == b'\n')?;
        Some((self.at, self.at + len))
    }

    /// Waits for more text.
    fn fill(&mut self, patience: Duration) -> Result<(), Event> {
        match self.chunks.recv_timeout(patience) {
            Ok(chunk) => {
                if self.at == self.buffer.len() {
                    self.buffer = chunk;
                } else {
                    self.buffer.drain(..self.at);
                    self.buffer.extend_from_slice(&chunk);
                }
                self.at = 0;
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Err(Event::Silence),
            Err(RecvTimeoutError::Disconnected) => Err(Event::End),
        }
    }

    /// Reads a state that begins at the reading position, if all of it is there.
    fn take_dump(&mut self) -> Option<()> {
        let start = self.at;
        let rest = &self.buffer[start..];
        // most of the text is that of the last state
        let end = start + Dump::text_len(rest)?;
        let text = &self.buffer[start..end];
        self.repeated = text == self.last;
        if !self.repeated {
            self.dump.read(text, &self.last);
            self.last.clear();
            self.last.extend_from_slice(text);
        }
        self.at = end;
        Some(())
    }
}

fn contains(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|window| window == what)
}

/// `memory_region_ops_read cpu 0 mr 0x.. addr 0x3fd value 0x60 size 1 name 'serial'`.
fn input(line: &[u8]) -> Option<Input> {
    let line = Line(line);
    Some(Input {
        at: line.after(b" addr 0x")?,
        value: line.after(b" value 0x")?,
        bytes: line.after(b" size ")? as u32,
    })
}

/// `     0: v=20 e=0000 i=0 cpl=0 IP=0008:00100472 pc=00100472 ..`.
fn delivery(line: &[u8]) -> Option<Delivery> {
    let start = line.iter().position(|&byte| byte != b' ')?;
    let digits = line[start..].iter().position(|&byte| byte == b':')?;
    number(&line[start..start + digits], 10)?;
    let line = Line(line);
    Some(Delivery {
        vector: line.after(b" v=")? as u8,
        code: line.after(b" e=")? as u16,
        software: line.after(b" i=")? != 0,
        hardware: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const STATE: &str = "\
EAX=2badb002 EBX=00009500 ECX=00103a2f EDX=00000511
ESI=00000001 EDI=00001000 EBP=00000002 ESP=00006f08
EIP=00103a2f EFL=00000006 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
CS =0008 00000000 ffffffff 00cf9a00 DPL=0 CS32 [-R-]
SS =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
DS =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
FS =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
GS =0013 00000400 0000ffff 0000f300 DPL=3 DS   [-WA]
LDT=0000 00000000 0000ffff 00008200 DPL=0 LDT
TR =0028 00001000 00000067 00008b00 DPL=0 TSS32-busy
GDT=     000cb2b8 00000027
IDT=     00000000 000003ff
CR0=00000011 CR2=00000005 CR3=00001000 CR4=00000010
DR0=00000000 DR1=00000001 DR2=00000000 DR3=00000000 
DR6=ffff0ff0 DR7=00000400
CCS=00000004 CCD=00950000 CCO=EFLAGS
EFER=0000000000000800
";

    fn stream(text: &str) -> Stream {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        Stream::new(reader)
    }

    const WAIT: Duration = Duration::from_secs(5);

    #[test]
    fn a_state_is_read_field_by_field() {
        let mut stream = stream(STATE);
        assert_eq!(stream.next(WAIT), Event::Block);
        let dump = &stream.dump;
        assert_eq!(dump.regs, [0x2bad_b002, 0x10_3a2f, 0x511, 0x9500, 0x6f08, 2, 1, 0x1000]);
        assert_eq!((dump.eip, dump.eflags, dump.cpl, dump.a20), (0x10_3a2f, 6, 0, true));
        let gs = dump.segs[5];
        assert_eq!((gs.selector, gs.base, gs.limit, gs.attributes), (0x13, 0x400, 0xffff, 0xf3));
        assert_eq!((dump.segs[1].selector, dump.segs[1].attributes), (8, 0xc09a));
        assert_eq!(
            (dump.tr.selector, dump.tr.base, dump.tr.limit, dump.tr.attributes),
            (0x28, 0x1000, 0x67, 0x8b)
        );
        assert_eq!((dump.gdt, dump.idt), ((0xc_b2b8, 0x27), (0, 0x3ff)));
        assert_eq!(dump.cr, [0x11, 0, 5, 0x1000, 0x10]);
        assert_eq!((dump.dr[1], dump.dr[6], dump.dr[7], dump.efer), (1, 0xffff_0ff0, 0x400, 0x800));
        assert_eq!(stream.next(WAIT), Event::End);
    }

    #[test]
    fn events_come_in_the_order_of_the_log() {
        let int =
            "     3: v=0e e=0002 i=0 cpl=0 IP=0008:00100016 pc=00100016 SP=0010:001944cc CR2=40001000\n";
        let text = format!(
            "{STATE}memory_region_ops_read cpu 0 mr 0x5581 addr 0x3fd value 0x60 size 1 name 'serial'\n\
             memory_region_ops_read cpu -1 mr 0x5581 addr 0x3fd value 0x60 size 1 name 'dma'\n\
             {STATE}{int}{STATE}Servicing hardware INT=0x20\n     4: v=20 e=0000 i=0 cpl=0\n{STATE}what is this\n\
             handle_qmp_command mon 0x7f req: {{\"execute\": \"human-monitor-command\", \"arguments\": \
             {{\"command-line\": \"info registers\"}}}}\n"
        );
        let mut stream = stream(&text);
        assert_eq!(stream.next(WAIT), Event::Block);
        assert_eq!(stream.next(WAIT), Event::Input(Input { at: 0x3fd, value: 0x60, bytes: 1 }));
        assert_eq!(stream.next(WAIT), Event::Block);
        assert!(stream.repeated);
        let fault = Delivery { vector: 14, code: 2, software: false, hardware: false };
        assert_eq!(stream.next(WAIT), Event::Delivery(fault));
        let interrupt = Delivery { vector: 0x20, code: 0, software: false, hardware: true };
        assert_eq!(stream.next(WAIT), Event::Delivery(interrupt));
        assert_eq!(stream.next(WAIT), Event::Marker);
        assert_eq!(stream.unknown, "what is this");
        assert_eq!(stream.next(WAIT), Event::End);
    }

    #[test]
    fn only_what_changed_is_read_again_and_nothing_is_missed() {
        let other = STATE
            .replace("EDX=00000511", "EDX=00000512")
            .replace("GS =0013", "GS =001b")
            .replace("CR2=00000005", "CR2=00000006")
            .replace("CCO=EFLAGS", "CCO=ADDL");
        let mut stream = stream(&format!("{STATE}{other}"));
        stream.next(WAIT);
        let mut expected = stream.dump.clone();
        stream.next(WAIT);
        expected.regs[2] = 0x512;
        expected.segs[5].selector = 0x1b;
        expected.cr[2] = 6;
        assert!(!stream.repeated);
        assert_eq!(stream.dump, expected);
    }
}
