//! vigie keeps Connectors and MonitoredBackends honest and running.
//!
//! `docs/architecture.md` has the modules and what each may use; a test reads its table and holds the code to it.

#![cfg_attr(test, recursion_limit = "256")]

pub mod admin;
pub mod api;
#[cfg(test)]
mod architecture_tests;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod controller;
pub mod diagnosis;
pub mod health;
pub mod heartbeat;
pub mod leader;
pub mod metrics;
mod outbound;
pub mod probe;
pub mod remedy;
pub mod schedule;
