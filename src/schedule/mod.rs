//! When to look again: deadlines, generic over what they are for, and whether we were there to keep them.

mod deadlines;
mod places;
mod pulse;
mod spread;

pub use deadlines::Deadlines;
pub use places::{Place, Places};
pub use pulse::{Pulse, TICK};
pub use spread::{place_of, turn_after};
