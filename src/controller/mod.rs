//! Reconciles objects: observe, assess, decide, apply.

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
