//! When to look again: deadlines, generic over what they are for, and whether we were there to keep them.

pub mod checkpoints;
mod concurrency_limit;
mod deadlines;
mod pulse;
mod spread;

pub use concurrency_limit::{ConcurrencyLimiter, Permit};
pub use deadlines::Deadlines;
pub use pulse::{Pulse, TICK};
pub use spread::{place_of, turn_after};
