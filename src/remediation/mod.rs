//! Remedies: decides whether a restart may be tried, and follows it to its outcome (docs/design/remediation.md).
//!
//! `policy` denies or allows, `fleet` counts the fleet, `attempt` leads an attempt from its reservation to its outcome: all
//! three are pure. `workload` reads workloads and restarts them, and decides nothing.

pub mod attempt;
pub mod fleet;
pub mod history;
pub mod input;
pub mod policy;
mod text;
pub mod workload;

pub use input::*;
