//! The privileged half: it reads the host, restarts the targets of its own configuration, and has no network.
//!
//! It answers on a unix socket: the agent's unit, and root.

pub mod client;
mod docker;
mod host;
mod peer;
pub mod protocol;
mod server;
mod systemd;
mod tail;

pub use server::{Options, run};
