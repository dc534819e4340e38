//! The door by which beats enter: HTTP routes, credentials, the registry of last contacts.

pub mod actions;
mod answers;
pub mod behind;
pub mod canary;
mod client;
mod compact;
pub mod credentials;
pub mod entry;
mod facts;
#[cfg(test)]
mod fake;
pub mod instances;
mod json;
pub mod listening;
mod maps;
pub mod message;
mod patience;
pub mod places;
pub mod refusals;
pub mod registry;
pub mod routes;
pub mod server;
pub mod stored;
pub mod tls;
