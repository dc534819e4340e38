//! Why a backend is not well, and what to do about it: the ordered list of rules.

use crate::api::{Cause, Diagnosis, MAX_ALTERNATIVES};
use crate::diagnosis::evidence::Evidence;

mod finding;
mod pods;
mod seen;
mod words;

pub use finding::Finding;

/// A small pure function: the finding, when everything that it needs was seen.
pub type Rule = fn(&Evidence) -> Option<Finding>;

/// The order is the specification: the first that matches is the diagnosis, the others are its alternatives.
pub const RULES: &[(Cause, Rule)] = &[
    // Pods that do not run at all explain everything behind them.
    (Cause::NodeLost, pods::node_lost),
    (Cause::Unschedulable, pods::unschedulable),
    (Cause::ImagePullFailed, pods::image_pull_failed),
    (Cause::ConfigMissing, pods::config_missing),
    (Cause::ContainerCannotStart, pods::container_cannot_start),
    (Cause::InitContainerFailing, pods::init_container_failing),
];

/// All findings, in the order of the rules; none when nothing is wrong.
pub fn findings(evidence: &Evidence) -> Vec<Finding> {
    RULES.iter().filter_map(|(_, rule)| rule(evidence)).map(Finding::bounded).collect()
}

/// The diagnosis, or `None` when nothing is wrong.
pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let mut findings = findings(evidence).into_iter();
    let first = findings.next()?;
    let alternatives = findings.take(MAX_ALTERNATIVES).map(|other| other.as_alternative()).collect();
    Some(first.into_diagnosis(alternatives))
}
