//! The Connector: a gateway that sends heartbeats.

mod checks;
mod spec;
mod status;

pub use checks::*;
pub use spec::*;
pub use status::*;
