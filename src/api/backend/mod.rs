//! The MonitoredBackend: a service that is probed.

mod agent_view;
mod http;
mod probe;
mod spec;
mod status;
mod target;

pub use agent_view::*;
pub use http::*;
pub use probe::*;
pub use spec::*;
pub use status::*;
pub use target::*;
