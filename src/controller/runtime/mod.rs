//! Runs the reconciles of one kind: the watch, the triggers, the retries.

pub mod wake;
pub mod watch_log;
