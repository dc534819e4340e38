//! The custom resources and the words that they share.

pub mod backend;
pub mod cause;
pub mod conditions;
pub mod connector;
pub mod crd;
pub mod reason;
pub mod remediation;
pub mod shared;
pub mod words;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};

pub use backend::*;
pub use cause::*;
pub use conditions::*;
pub use connector::*;
pub use reason::*;
pub use remediation::*;
pub use shared::*;
pub use words::*;

/// Whether `text` can be the name of a Namespace (RFC 1123 label).
pub(crate) fn is_dns_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().last().is_some_and(plain);
    ends && text.len() <= 63 && text.bytes().all(|byte| plain(byte) || byte == b'-')
}
