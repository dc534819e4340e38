//! Clocks and points in time. Decisions take a [`Moment`], a [`Now`] or a timestamp as an argument; only `clock` reads.

mod clock;
mod moment;

pub use clock::{Clock, Now};
pub use moment::Moment;
