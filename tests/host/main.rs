//! The promises of `vigie agent`, as a black box on machines of the tests' own: a real systemd, Docker, WireGuard and
//! netfilter. Run as root by `scripts/host`.

// A test reports a failure by a panic.
#![allow(clippy::unwrap_used)]

// The harness is the suite's; the tests here use a part of it.
#[allow(dead_code, unused_imports)]
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code)]
mod machine;

mod agent_machine;
mod checks;
mod end_to_end;
mod exactly_once;
mod helper;
mod incidents;
mod install;
mod machines;
mod records;
mod scene;
mod stand_in;
mod verbs;
