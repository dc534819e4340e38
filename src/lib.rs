//! vigie keeps Connectors and MonitoredBackends honest and running.
//!
//! The rooms of the house and what each may use are described in `docs/architecture.md`; a test holds the code to it.

#![cfg_attr(test, recursion_limit = "256")]

pub mod admin;
pub mod api;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod controller;
pub mod diagnosis;
pub mod health;
pub mod heartbeat;
#[cfg(test)]
mod house_tests;
pub mod leader;
pub mod metrics;
mod outbound;
pub mod probe;
pub mod remedy;
pub mod schedule;
