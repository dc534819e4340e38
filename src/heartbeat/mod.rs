//! heartbeat

mod answers;
mod client;
#[cfg(test)]
mod fake;
mod json;
pub mod message;
mod patience;
pub mod refusals;
pub mod routes;
pub mod server;
pub mod tls;
