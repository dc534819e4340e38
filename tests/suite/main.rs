//! The promises of vigie, tested as a black box: the built binary, a real API server, real HTTP. All tests are one
//! binary, because each binary costs a link; the tests run in parallel and share one cluster, in a namespace each.

// A test reports a failure by a panic.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "tests/real, which has real pods, shares it")]
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod admission;
mod adversary;
mod agents;
mod api;
mod backend_agent;
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
mod restores;
mod rights;
mod storm;
mod tls;
mod token_delivery;
mod tokens;
mod upgrade;
mod writes;
