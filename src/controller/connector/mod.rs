//! Connectors.

pub mod assess;
pub mod decide;
pub mod token;
