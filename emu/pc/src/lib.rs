//! The PC board around the processor: memory, chips, virtual time, boot.
