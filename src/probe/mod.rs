//! One probe, made as a new client makes it, phase by phase, so that a failure shows how far it got.
//!
//! Knows nothing of Kubernetes: a [`Request`] says what to probe, an [`Outcome`] what was learned.

pub mod actuator;
mod background;
mod connect;
#[cfg(test)]
mod fake;
mod grpc;
mod http;
mod limits;
mod literal;
pub mod outcome;
pub mod page;
mod pattern;
pub mod policy;
mod prober;
pub mod request;
pub mod resolve;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod trace;

pub use limits::Limits;
pub use outcome::{Failure, Outcome, Page, ProbeObservations, Spent, shown};
pub use pattern::Pattern;
pub use policy::Policy;
pub use prober::{Prober, source_address};
pub use request::{BodyReader, HttpOptions, Method, MetricsOptions, Request, Scheme, Target, TlsOptions};
pub use resolve::{Resolve, SystemResolver, Unresolved};
