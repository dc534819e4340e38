//! Observe, decide, apply: what is known of each object becomes its status and its events.

pub mod backend;
pub mod connector;
pub mod fleet;
pub mod log;
pub mod paused;
pub mod remediation;
pub mod runtime;
#[cfg(test)]
mod test_clock;
pub mod transitions;
pub mod unreadable;

// Kept under its former path until all callers name `cluster::events`.
pub use crate::cluster::events;
