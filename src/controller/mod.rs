//! Observe, decide, apply: what is known of each object becomes its status and its events.

pub mod backend;
pub mod breaker;
pub mod checkpoints;
pub mod connector;
pub mod events;
pub mod fleet;
pub mod log;
pub mod paused;
#[cfg(test)]
mod played;
pub mod remedies;
pub mod transitions;
pub mod trouble;
pub mod unreadable;
pub mod wakes;
