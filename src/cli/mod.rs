//! cli

pub mod crd;
