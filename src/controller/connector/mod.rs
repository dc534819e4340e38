//! Connectors: from what is heard to what is written.

pub mod ailing;
mod apply;
pub mod assess;
mod behind;
pub mod decide;
pub mod desk;
pub mod drive;
#[cfg(test)]
mod fake;
pub mod keeper;
pub mod leases;
mod look;
pub mod reconcile;
pub mod secrets;
pub mod sites;
pub mod token;
pub mod view;
pub mod watch;

/// Asks for every token of a Connector to be ended at once; its value is the time of asking, RFC 3339.
pub const REVOKE_REQUESTED: &str = "vigie.dev/revoke-requested";
