//! The promises of vigie about backends, black box, with pods that really run: the built binary, and a cluster of
//! profile `real` that all tests share, in a namespace each. Run by `scripts/e2e-real`; see ../cluster/README.md.

// A test says what went wrong by panicking.
#![allow(clippy::unwrap_used)]

// The harness is the suite's; what it knows of heartbeats is of no use here.
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
