//! Access to the API server: clients, the time limit of every call, the one writer of status, and events.

pub mod address_ranges;
mod call;
mod connect;
pub mod endpoints;
pub mod events;
#[cfg(test)]
pub(crate) mod fake;
pub mod own_addresses;
mod permission;
mod person;
mod retry_wait;
pub mod revisions;
mod status_writer;
mod watch;
mod watch_backoff;
mod workloads;

/// The field selector of pods that may serve. Pods that have ended for good linger until something deletes them, and
/// hundreds of them would push the others out of a limited list.
pub const LIVING_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

pub use call::{CALL_TIMEOUT, CallError, describe, within};
pub use connect::{Clients, ConnectError, ConnectionArgs, PersonalClient, connect, connect_person};
pub use permission::Permission;
pub use person::ask;
pub use retry_wait::{LONGEST_WAIT, PROBE_INTERVAL, Retry, wait_after};
pub use status_writer::{FIELD_MANAGER, StatusWriter, WriteError, WriteMetrics, WriteReason};
pub use watch::watch;
use watch_backoff::WatchBackoff;
pub use workloads::{NamespacedObject, WorkloadObject};
