//! The promises of vigie about backends, as a black box with real pods: the built binary, and a cluster of profile
//! `real` that all tests share, in a namespace each. Run by `scripts/e2e-real`; see ../cluster/README.md.

// A test reports a failure by a panic.
#![allow(clippy::unwrap_used)]

// The harness is the suite's; its parts for heartbeats are unused here.
#[allow(dead_code, unused_imports)]
#[path = "../support/mod.rs"]
mod support;

mod app;
mod cluster_faults;
mod discovery;
mod misbehave;
mod person;
mod place;
mod prometheus;
mod remedies;
mod replicas;
mod scraper;
mod spring;
