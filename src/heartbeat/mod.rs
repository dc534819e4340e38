//! heartbeat

mod answers;
mod client;
mod json;
pub mod message;
mod patience;
pub mod refusals;
pub mod routes;
pub mod server;
pub mod tls;
