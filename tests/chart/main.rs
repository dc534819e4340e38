//! The chart, rendered by both versions of Helm: what comes out for which values, and what is refused. `served` asks a
//! real API server whether it would take it (scripts/chart).

// A test says what went wrong by panicking.
#![allow(clippy::unwrap_used)]

mod cases;
mod helm;
mod monitoring;
mod refusals;
mod rendering;
mod rights;
mod served;
