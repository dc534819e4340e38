//! Observe, decide, apply: what is known of each object becomes its status and its events.

pub mod backend;
pub mod breaker;
pub mod connector;
pub mod events;
pub mod fleet;
pub mod log;
pub mod paused;
pub mod remediation;
pub mod runtime;
#[cfg(test)]
mod test_clock;
pub mod transitions;
pub mod unreadable;
