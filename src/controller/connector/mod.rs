//! Connectors: from what is heard to what is written.

mod apply;
pub mod assess;
pub mod deadlines;
pub mod decide;
pub mod drive;
#[cfg(test)]
mod fake;
pub mod leases;
mod pods_step;
pub mod reconcile;
pub mod remediation_input;
pub mod secrets;
pub mod sites;
pub mod state;
pub mod token;
mod token_step;
pub mod view;
pub mod watch;

/// Asks for every token of a Connector to be ended at once; its value is the time of asking, RFC 3339.
pub const REVOKE_REQUESTED: &str = "vigie.dev/revoke-requested";
