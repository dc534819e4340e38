//! The custom resources, and the closed sets of words that they share.

pub mod agent;
mod agent_target;
pub mod backend;
pub mod cause;
pub mod conditions;
pub mod connector;
pub mod crd;
pub mod names;
pub mod reason;
pub mod remediation;
pub mod shared;
pub mod words;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};

pub use agent::*;
pub use agent_target::Target;
pub use backend::*;
pub use cause::*;
pub use conditions::*;
pub use connector::*;
pub use names::*;
pub use reason::*;
pub use remediation::*;
pub use shared::*;
pub use words::*;
