//! The way to the API server: the clients, the limit on every call, and the one writer of status.

pub mod address_ranges;
mod backoff;
mod call;
mod connect;
pub mod endpoints;
#[cfg(test)]
pub(crate) mod fake;
pub mod own_addresses;
mod permission;
pub mod revisions;
mod status_writer;

pub use backoff::WatchBackoff;
pub use call::{CALL_TIMEOUT, CallError, describe, within};
pub use connect::{Clients, ConnectError, connect};
pub use permission::Permission;
pub use status_writer::{FIELD_MANAGER, StatusWriter, WriteError, WriteMetrics, WriteReason};
