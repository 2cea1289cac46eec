//! The few words of GDB's remote protocol that are needed to bring QEMU to an image's first instruction: breakpoints,
//! registers, memory, continue (GDB manual, "Remote Serial Protocol").

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Error;
use super::qmp::connect;

/// A connection to QEMU's GDB stub.
#[derive(Debug)]
pub struct Gdb {
    socket: UnixStream,
    input: BufReader<UnixStream>,
}

impl Gdb {
    /// Connects.
    pub fn connect(path: &Path, alive: impl FnMut() -> Result<(), Error>) -> Result<Gdb, Error> {
        let socket = connect(path, alive)?;
        let input = socket.try_clone().map_err(Error::io("share QEMU's GDB socket"))?;
        let mut gdb = Gdb { socket, input: BufReader::new(input) };
        // single registers are given only to a client that has read which there are
        gdb.ask("qSupported:xmlRegisters=i386")?;
        gdb.ask("qXfer:features:read:target.xml:0,ffb")?;
        gdb.ask("?")?;
        Ok(gdb)
    }

    /// Sends a packet.
    fn send(&mut self, text: &str) -> Result<(), Error> {
        let sum = text.bytes().fold(0u8, u8::wrapping_add);
        let packet = format!("${text}#{sum:02x}");
        self.socket.write_all(packet.as_bytes()).map_err(Error::io("send a packet to QEMU's GDB stub"))
    }

    /// The next packet from QEMU.
    fn receive(&mut self) -> Result<String, Error> {
        const DOING: &str = "hear from QEMU's GDB stub";
        let mut byte = || {
            let mut one = [0];
            self.input.read_exact(&mut one).map_err(Error::io(DOING)).map(|()| one[0])
        };
        while byte()? != b'$' {}
        let mut text = String::new();
        loop {
            match byte()? {
                b'#' => break,
                // run-length encoding is not used by QEMU
                other => text.push(other as char),
            }
        }
        byte()?;
        byte()?;
        self.socket.write_all(b"+").map_err(Error::io(DOING))?;
        Ok(text)
    }

    /// Sends a packet and returns the answer.
    pub fn ask(&mut self, text: &str) -> Result<String, Error> {
        self.send(text)?;
        self.receive()
    }

    /// Sends a packet whose answer must be `OK`.
    pub fn order(&mut self, text: &str) -> Result<(), Error> {
        match self.ask(text)? {
            answer if answer == "OK" => Ok(()),
            answer => Err(Error::Answer { command: text.to_string(), answer }),
        }
    }

    /// Runs to a linear address, by a hardware breakpoint: nothing is written there.
    pub fn run_to(&mut self, address: u32, limit: Duration) -> Result<(), Error> {
        self.order(&format!("Z1,{address:x},1"))?;
        self.socket.set_read_timeout(Some(limit)).map_err(Error::io("set a time limit"))?;
        let answer = self.ask("c");
        self.socket.set_read_timeout(None).map_err(Error::io("set a time limit"))?;
        let answer = answer.map_err(|_| Error::Silent(format!("run to {address:#010x}")))?;
        if !answer.starts_with(['T', 'S']) {
            return Err(Error::Answer { command: "c".into(), answer });
        }
        self.order(&format!("z1,{address:x},1"))
    }

    /// Runs one instruction.
    pub fn step(&mut self) -> Result<(), Error> {
        match self.ask("s")? {
            answer if answer.starts_with(['T', 'S']) => Ok(()),
            answer => Err(Error::Answer { command: "s".into(), answer }),
        }
    }

    /// The 32-bit register of this number: 0 to 7 are the general registers in the order of their encoding, 8 is EIP, 9
    /// EFLAGS, 10 to 15 are CS, SS, DS, ES, FS, GS.
    pub fn register(&mut self, number: u32) -> Result<u32, Error> {
        let command = format!("p{number:x}");
        let answer = self.ask(&command)?;
        let value = answer.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        value.map(u32::swap_bytes).ok_or(Error::Answer { command, answer })
    }

    /// Writes a register.
    pub fn set_register(&mut self, number: u32, value: u32) -> Result<(), Error> {
        self.order(&format!("P{number:x}={:08x}", value.swap_bytes()))
    }

    /// Writes memory at a linear address.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Error> {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.order(&format!("M{address:x},{:x}:{hex}", bytes.len()))
    }

    /// Reads memory at a linear address.
    pub fn read(&mut self, address: u32, len: usize) -> Result<Vec<u8>, Error> {
        let command = format!("m{address:x},{len:x}");
        let answer = self.ask(&command)?;
        let byte = |at: usize| u8::from_str_radix(answer.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..answer.len() / 2).map(|n| byte(n * 2)).collect();
        bytes.filter(|bytes| bytes.len() == len).ok_or(Error::Answer { command, answer })
    }
}
