//! Pure judgement: what state something is in, given what we know and the time. No I/O, no clock.

pub mod availability;
pub mod blindness;
pub mod checks;
pub mod fleet;
pub mod liveness;
mod moment;

pub use moment::Moment;
