//! From the state of the host to the outcomes of checks and the reports about backends: pure, in the half without privilege.
//! `ControlPlane` and `ClockSkew` are judged elsewhere, from the agent's own attempts.

use super::config::Config;
use super::facts::Facts;
use crate::api::{BackendReport, CheckOutcome, CheckType};
use crate::time::Moment;

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// Which check.
    pub type_: CheckType,
    /// Its outcome.
    pub status: CheckOutcome,
    /// The observation, with the advice where there is one, in at most 256 characters.
    pub message: String,
}

/// The outcomes of one round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// One entry for each check of the configuration that is judged from facts.
    pub checks: Vec<CheckResult>,
    /// One entry for each backend of the configuration.
    pub backends: Vec<BackendReport>,
}

/// The memory between rounds: a check other than `Process` changes its outcome after two looks in a row.
#[derive(Clone, Debug, Default)]
pub struct Assessment {}

impl Assessment {
    /// Judges the facts of one look.
    pub fn update(&mut self, _config: &Config, _facts: &Facts, _now: Moment) -> Report {
        Report::default()
    }
}
