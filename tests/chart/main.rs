//! The chart, rendered by both versions of Helm: the objects for each set of values, and the refused values. `served`
//! asks a real API server whether it would accept the objects (scripts/chart).

// A test reports a failure by a panic.
#![allow(clippy::unwrap_used)]

mod cases;
mod helm;
mod monitoring;
mod refusals;
mod rendering;
mod rights;
mod served;
