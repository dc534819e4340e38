//! The agent: it runs on the host of a connector or of a backend, looks, sends heartbeats, and restarts what its
//! configuration allows.
//!
//! It is two processes of one binary. The agent talks to the operator and has no privilege; the helper reads the host and
//! restarts units, and has no network.

pub mod actions;
pub mod assess;
pub mod beats;
pub mod config;
pub mod facts;
pub mod file;
pub mod helper;
pub mod install;
pub mod layout;
pub mod local_probe;
pub mod look;
mod notify;
pub mod pause;
mod uptime;
