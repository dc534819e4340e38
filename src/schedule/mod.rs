//! When to look again: deadlines, generic over what they are for.

mod deadlines;

pub use deadlines::Deadlines;
