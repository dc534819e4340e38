//! The promises of vigie, black box: the built binary, a real API server, real HTTP. One binary for all of it, for each
//! is a link of its own; the tests run side by side and share one cluster, in a namespace each.

// A test says what went wrong by panicking.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod beats;
mod ingest;
mod leader;
mod outages;
mod tokens;
