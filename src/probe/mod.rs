//! One probe: dialled as a new client would, phase by phase, so that a failure says how far it got.
//!
//! Nothing in here knows Kubernetes. What is asked is a [`Request`], what is known afterwards an [`Outcome`].

pub mod outcome;
pub mod request;

pub use outcome::{Failure, Outcome, Page, Seen, Spent};
pub use request::{HttpOptions, Method, MetricsOptions, Request, Scheme, Target, TlsOptions};
