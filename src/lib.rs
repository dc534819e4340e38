//! vigie keeps Connectors and MonitoredBackends honest and running.
//!
//! `docs/architecture.md` describes the modules and which modules each may use; an architecture test enforces it.

#![cfg_attr(test, recursion_limit = "256")]

// By this name the fuzz targets use the library, here as in their own package.
#[cfg(test)]
extern crate self as vigie;

pub mod admin;
#[cfg(target_os = "linux")]
pub mod agent;
pub mod api;
#[cfg(test)]
mod architecture_tests;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod diagnosis;
#[cfg(test)]
mod fuzz_tests;
pub mod health;
pub mod heartbeat;
pub mod http;
pub mod leader;
pub mod leadership;
pub mod metrics;
pub mod monitor;
pub mod operator;
pub mod probe;
pub mod remediation;
pub mod schedule;
pub mod time;
pub mod view;
