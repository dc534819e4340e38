//! The promises of vigie, black box: the built binary, a real API server, real HTTP. One binary for all of it, for each
//! is a link of its own; the tests run side by side and share one cluster, in a namespace each.

// A test says what went wrong by panicking.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the tests with pods that really run share it")]
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod admission;
mod api;
mod backends;
mod beats;
mod budget;
mod chaos;
mod checks;
mod cli;
mod denials;
mod diagnose;
mod faults;
mod ingest;
mod instances;
mod leader;
mod lease_source;
mod mass_silence;
mod monitoring;
mod outages;
mod person;
mod probing;
mod quiet;
mod reach;
mod remedies;
mod restart;
mod rights;
mod storm;
mod tls;
mod tokens;
