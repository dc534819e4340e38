//! Probes MonitoredBackends: schedules the rounds, resolves targets, and judges the results. The counterpart of
//! `heartbeat` for backends.

pub mod agent;
pub mod aging;
pub mod connectivity;
pub mod context;
pub mod credentials;
pub mod entry;
pub mod findings;
mod investigate;
pub mod live;
pub mod registry;
pub mod request;
mod resolve_error;
mod round;
pub mod scheduler;
pub mod self_check;
pub mod target;
mod workload;
