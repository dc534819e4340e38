//! When to look again: deadlines, generic over what they are for, and whether we were there to keep them.

mod deadlines;
mod pulse;

pub use deadlines::Deadlines;
pub use pulse::{Pulse, TICK};
