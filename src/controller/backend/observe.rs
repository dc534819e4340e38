//! Reads the facts for a step of a MonitoredBackend. Its snapshot has all others: probes and investigations run outside of
//! the reconciles.

use std::time::Duration;

use super::assess::Input;
use super::context::Context;
use crate::controller::runtime::Step;

/// The facts that a step read, next to the snapshot of the entry.
pub(super) struct Observed {
    /// The wait while the self-check suspects the operator's own network of the failure.
    pub(super) suspected: Option<Duration>,
}

impl Context {
    pub(super) fn observe(&self, step: &Step<'_, Self>) -> Observed {
        let availability = step.live.record.availability();
        Observed { suspected: self.monitor.self_check.holds_verdict(&step.entry, availability) }
    }
}

impl Observed {
    /// The input of the assessment.
    pub(super) fn input<'a>(&self, step: &'a Step<'_, Context>) -> Input<'a> {
        Input { backend: step.object, live: &step.live, now: step.now }
    }
}
