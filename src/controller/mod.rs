//! Observe, decide, apply: what is known becomes what is written.

pub mod backend;
pub mod connector;
pub mod events;
