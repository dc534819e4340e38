//! HTTP for both ports and for the clients: accepting and limiting connections, TLS, and one small client.

pub(crate) mod client;
pub mod client_network;
pub mod connection;
pub mod connection_limit;
pub(crate) mod proxy;
pub mod server;
pub mod tls;
