//! Probes MonitoredBackends: what to dial, when, what it means. The counterpart of `heartbeat` for backends.

pub mod context;
pub mod investigate;
pub mod registry;
pub mod request;
pub mod scheduler;
pub mod self_check;
pub mod target;
mod workload;
