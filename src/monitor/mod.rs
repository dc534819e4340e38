//! Probes MonitoredBackends: schedules the rounds, resolves targets, and judges the results. The counterpart of
//! `heartbeat` for backends.

pub mod context;
pub mod credentials;
mod investigate;
pub mod registry;
pub mod request;
mod round;
pub mod scheduler;
pub mod self_check;
pub mod target;
mod workload;
