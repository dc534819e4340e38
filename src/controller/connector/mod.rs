//! Connectors: from heartbeats to status, token Secrets and events.

mod apply;
pub mod assess;
pub mod deadlines;
pub mod decide;
#[cfg(test)]
pub(super) mod fake;
pub mod leases;
mod observe;
mod pods_step;
pub mod reconcile;
pub mod remediation_input;
pub mod secrets;
mod silence;
pub mod sites;
pub mod token;
pub mod token_step;
pub mod view;
pub mod workload_step;

/// Revokes every token of a Connector at once; its value is the time of the request, RFC 3339.
pub const REVOKE_REQUESTED: &str = "vigie.dev/revoke-requested";
