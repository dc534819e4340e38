//! Judges the state of connectors and backends from plain data and the time. Pure: no I/O, no clock.

pub mod availability;
pub mod checks;
pub mod liveness;
pub mod mass_silence;
pub mod replicas;
pub mod visibility;
