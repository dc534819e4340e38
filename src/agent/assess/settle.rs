//! A verdict changes when two looks in a row agree on the new one: rules are replaced and routes are set again in the
//! middle of a look.

use super::finding::Finding;
use crate::api::CheckOutcome;

/// The verdict that is told, and the one that waits for its second look.
#[derive(Debug, Default)]
pub(super) struct Settled {
    told: Option<Finding>,
    waiting: Option<CheckOutcome>,
}

impl Settled {
    /// The verdict to tell after a look with this finding.
    pub(super) fn settle(&mut self, finding: Finding) -> Finding {
        let confirmed = self.waiting.replace(finding.outcome) == Some(finding.outcome);
        match &self.told {
            Some(told) if told.outcome != finding.outcome && !confirmed => told.clone(),
            _ => {
                self.told = Some(finding.clone());
                finding
            }
        }
    }

    /// Tells a verdict that needs no second look.
    pub(super) fn tell(&mut self, finding: Finding) -> Finding {
        (self.told, self.waiting) = (Some(finding.clone()), None);
        finding
    }
}
