//! Diagnosis: from a bad state to its cause and advice. Pure: the same evidence gives the same text. Only `gather`,
//! which collects the evidence, does I/O.

#[cfg(test)]
pub(crate) mod alternatives_tests;
pub mod connector;
pub mod evidence;
pub mod extract;
pub mod gather;
pub mod rules;
