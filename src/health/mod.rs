//! Pure judgement: what state something is in, given what we know and the time. No I/O, no clock.

pub mod availability;
pub mod checks;
pub mod liveness;
pub mod mass_silence;
pub mod visibility;
