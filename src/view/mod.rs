//! Plain data about the fleet at this instant: the admin port, the metrics and `vigie get` read it, the controllers fill it.

mod backend;
mod connector;
mod fleet;

pub use backend::{BackendView, MetricsEndpoint};
pub use connector::{CheckView, ConnectorView, RemedyView};
pub use fleet::{Fleet, OperatorFacts, Role};
