//! The kind MonitoredBackend.

pub mod request;
