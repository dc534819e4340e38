//! vigie as people get it: the image in pods, installed by Helm, behind its Services, on a cluster of profile `real`.
//! Run by `scripts/e2e-real` after the tests with pods that really run; see ../cluster/README.md.

// A test says what went wrong by panicking.
#![allow(clippy::unwrap_used)]

// The harness is the suite's; what it knows of other operators is of no use here.
#[allow(dead_code, unused_imports)]
#[path = "../support/mod.rs"]
mod support;

mod failover;
mod front;
mod install;
mod node;
mod release;
mod rolling;
mod senders;
