//! The way to the API server: the clients, the limit on every call, and the one writer of status.

mod backoff;
pub mod behind;
mod call;
mod connect;
#[cfg(test)]
pub(crate) mod fake;
pub mod networks;
pub mod ourselves;
mod permission;
pub mod revisions;
mod write;

pub use backoff::WatchBackoff;
pub use call::{CALL_TIMEOUT, CallError, within};
pub use connect::{Clients, ConnectError, connect};
pub use permission::Permission;
pub use write::{FIELD_MANAGER, StatusWriter, WriteError, WriteMetrics, WriteReason};
