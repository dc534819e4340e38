//! The custom resources and the words that they share.

pub mod words;

pub use words::*;
