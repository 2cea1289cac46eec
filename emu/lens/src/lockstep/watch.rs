//! What is noted of our side as it runs: the last instructions, and what was delivered.

use pagewalk_x86::cpu::State;
use pagewalk_x86::observe::{At, Cause, Observer};

/// How many instructions are remembered.
pub const REMEMBERED: usize = 16;

/// An instruction as it was run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ran {
    /// Where.
    pub at: At,
    /// Its bytes.
    pub bytes: [u8; 15],
    /// How many of them there are.
    pub len: u8,
    /// 32-bit code.
    pub is_32bit: bool,
}

impl Ran {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// Whether it begins with REP or REPNE, among its first prefixes.
    pub fn is_repeated(&self) -> bool {
        self.bytes().iter().take(4).any(|byte| matches!(byte, 0xf2 | 0xf3))
    }

    /// As iced-x86 decodes it.
    pub fn instruction(&self) -> iced_x86::Instruction {
        let bitness = if self.is_32bit { 32 } else { 16 };
        iced_x86::Decoder::with_ip(bitness, self.bytes(), self.at.eip as u64, iced_x86::DecoderOptions::NONE)
            .decode()
    }
}

/// The observer of our side.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    ran: [Ran; REMEMBERED],
    count: u64,
    /// Deliveries that nobody has asked for yet, in their order.
    pub deliveries: Vec<Cause>,
}

impl Watch {
    /// How many instructions were shown.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The instruction that ran last, or tried to.
    pub fn last(&self) -> &Ran {
        &self.ran[(self.count.wrapping_sub(1) % REMEMBERED as u64) as usize]
    }

    /// The instructions that ran last, oldest first.
    pub fn remembered(&self) -> impl Iterator<Item = &Ran> {
        let from = self.count.saturating_sub(REMEMBERED as u64);
        (from..self.count).map(|n| &self.ran[n as usize % REMEMBERED])
    }
}

impl Observer for Watch {
    const ACTIVE: bool = true;

    fn instruction(&mut self, at: &At, bytes: &[u8], is_32bit: bool) {
        let slot = &mut self.ran[self.count as usize % REMEMBERED];
        slot.at = *at;
        let len = bytes.len().min(15);
        slot.bytes[..len].copy_from_slice(&bytes[..len]);
        slot.len = len as u8;
        slot.is_32bit = is_32bit;
        self.count += 1;
    }

    fn delivery(&mut self, _at: &At, cause: Cause, _state: &State) {
        self.deliveries.push(cause);
    }
}
