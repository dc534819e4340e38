//! Receives heartbeats: the routes of the public port, credentials, and the registry of last contacts.

pub mod actions;
mod agent_backends;
mod agent_binary;
pub mod agent_config;
mod agent_report;
mod agent_side;
mod agent_state;
mod brought;
pub mod canary;
mod client_address;
mod compact;
mod contact;
pub mod credentials;
pub mod entry;
#[cfg(test)]
pub(crate) mod fake;
pub mod from_status;
mod index;
pub mod instances;
mod interner;
mod json;
pub mod listening;
pub mod payload;
pub mod pod_diagnosis;
pub mod rate_limit;
pub mod registry;
mod responses;
pub mod routes;
pub mod sink;
pub mod slow_hash;
mod snapshot;
mod stored_report;
mod tokens;
