//! Remedies: whether a restart may be tried, and what becomes of it (docs/remediation.md).
//!
//! `policy` denies or allows, `board` counts the fleet, `course` leads an attempt from its reservation to its outcome: all
//! three are pure. `restart` reads workloads and restarts them, and decides nothing.

pub mod attempt;
pub mod fleet;
pub mod history;
pub mod input;
pub mod policy;
mod text;
pub mod workload;

pub use input::*;
