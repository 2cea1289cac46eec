//! Exit statuses.

use pagewalk_x86::bus::Request;
use pagewalk_x86::fault::Stop;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub u8);

/// The guest switched off, or halted with nothing to wake it.
pub const DONE: Status = Status(0);
/// A snapshot that is damaged, of another format, or none.
pub const BAD_SNAPSHOT: Status = Status(122);
/// A limit of instructions or of time was reached.
pub const LIMIT: Status = Status(124);
/// A bad option, image or file.
pub const BAD_INPUT: Status = Status(125);
/// A Linux program that its kernel did not come to, or not to the end of.
pub const NO_PROGRAM: Status = Status(125);
/// Triple fault.
pub const TRIPLE_FAULT: Status = Status(126);
/// An instruction that is not implemented.
pub const UNIMPLEMENTED: Status = Status(127);
/// `pagewalk diff` found a difference.
pub const DIFFERENCE: Status = Status(1);
/// `pagewalk both`: the serial text differs.
pub const OTHER_TEXT: Status = Status(1);
/// `pagewalk both`: the text is the same, and they ended differently.
pub const OTHER_END: Status = Status(2);
/// `pagewalk both`: text and end are the same, and memory differs.
pub const OTHER_MEMORY: Status = Status(3);
/// Ctrl-C.
pub const INTERRUPTED: Status = Status(130);

impl Status {
    /// The status for the way a run ended.
    pub fn of(stop: &Stop) -> Status {
        match stop {
            Stop::Limit | Stop::Idle | Stop::Observer => LIMIT,
            Stop::Halted | Stop::Request(Request::PowerOff | Request::Reset) => DONE,
            Stop::Request(Request::Exit(value)) => Status((value << 1 | 1) as u8),
            Stop::Shutdown(_) => TRIPLE_FAULT,
            Stop::Unimplemented { .. } => UNIMPLEMENTED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debug_exit_port_gives_twice_the_value_plus_one() {
        assert_eq!(Status::of(&Stop::Request(Request::Exit(0))), Status(1));
        assert_eq!(Status::of(&Stop::Request(Request::Exit(0x31))), Status(0x63));
        assert_eq!(Status::of(&Stop::Request(Request::Exit(0x80))), Status(1));
        assert_eq!(Status::of(&Stop::Halted), DONE);
    }
}
