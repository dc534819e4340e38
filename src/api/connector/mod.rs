//! The Connector: a gateway that sends heartbeats.

mod spec;
mod status;

pub use spec::*;
pub use status::*;
