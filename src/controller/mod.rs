//! controller
/// Connectors.
pub mod connector;
