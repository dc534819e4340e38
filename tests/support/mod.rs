//! The harness: a real cluster, the built binary, real HTTP. Each test has a [`World`] of its own.

pub(crate) mod admission;
pub(crate) mod attacks;
pub(crate) mod audit;
pub(crate) mod backends;
pub(crate) mod beats;
pub(crate) mod cluster;
pub(crate) mod faults;
pub(crate) mod fleet;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod misbehave;
pub(crate) mod operator;
pub(crate) mod pages;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod rights;
pub(crate) mod wait;
pub(crate) mod wall_clock;
pub(crate) mod workloads;
pub(crate) mod world;

pub(crate) use beats::{Beater, Connector};
pub(crate) use misbehave::Misbehave;
pub(crate) use operator::Operator;
pub(crate) use wait::{eventually, never};
pub(crate) use world::World;

/// Seconds as a [`std::time::Duration`].
pub(crate) const fn seconds(n: u64) -> std::time::Duration {
    std::time::Duration::from_secs(n)
}

/// The smallest limits that the API admits: interval 5, late 15, offline 30.
pub(crate) fn quick() -> serde_json::Value {
    serde_json::json!({"heartbeat": {"intervalSeconds": 5, "lateAfterSeconds": 15, "offlineAfterSeconds": 30}})
}

/// The text at `pointer`, or an empty one.
pub(crate) fn text<'a>(value: &'a serde_json::Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default()
}

/// The time at `pointer`.
pub(crate) fn time(value: &serde_json::Value, pointer: &str) -> jiff::Timestamp {
    let text = text(value, pointer);
    text.parse().unwrap_or_else(|error| panic!("{pointer} holds {text:?}, which is no time ({error}) in {value:#}"))
}
