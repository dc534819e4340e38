//! vigie as it is shipped: the image in pods, installed by Helm, behind its Services, on a cluster of profile `real`.
//! Run by `scripts/e2e-real` after the tests with real pods; see ../cluster/README.md.

// A test reports a failure by a panic.
#![allow(clippy::unwrap_used)]

// The harness is the suite's; its parts for other operators are unused here.
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
