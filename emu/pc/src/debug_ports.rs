//! Ports that no PC has and emulators do: a console (E9h) and an exit (F4h).

use crate::device::{Outgoing, PortDevice, WideData};
use pagewalk_x86::bus::{Size, Ticks};
use serde::{Deserialize, Serialize};

/// The debug console: every byte written goes to the host. Reads as E9h, which tells a guest that it is there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DebugConsole {
    /// The bytes written.
    pub output: Outgoing,
}

impl PortDevice for DebugConsole {
    fn read8(&mut self, _offset: u16, _now: Ticks) -> u8 {
        0xe9
    }

    fn write8(&mut self, _offset: u16, value: u8, _now: Ticks) {
        self.output.push(value);
    }
}

/// The debug exit, four ports wide: a byte, word or dword written ends the run with that value. Reads as 0.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DebugExit {
    value: Option<u32>,
}

impl DebugExit {
    /// The value written; asking clears it.
    pub fn take(&mut self) -> Option<u32> {
        self.value.take()
    }
}

impl PortDevice for DebugExit {
    fn read8(&mut self, _offset: u16, _now: Ticks) -> u8 {
        0
    }

    fn write8(&mut self, _offset: u16, value: u8, _now: Ticks) {
        self.value = Some(u32::from(value));
    }
}

impl WideData for DebugExit {
    fn read_wide(&mut self, _size: Size, _now: Ticks) -> u32 {
        0
    }

    fn write_wide(&mut self, size: Size, value: u32, _now: Ticks) {
        self.value = Some(value & size.mask());
    }
}
