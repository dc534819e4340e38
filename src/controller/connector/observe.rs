//! Reads the facts for a step of a Connector: its token Secret, its workload and pods, the mass silence of its site.

use std::sync::Arc;

use super::assess::{Facts, Input};
use super::pods_step::PodsObservation;
use super::reconcile::Context;
use super::token::TokenPlan;
use super::token_step::TokenObservation;
use super::workload_step::WorkloadPresence;
use crate::controller::runtime::Step;
use crate::heartbeat::registry::ClaimRefusal;
use crate::time::Moment;

/// The facts that a step read, next to the snapshot of the entry.
pub(super) struct Observed {
    /// The token Secret; `None` while it is not due.
    pub(super) token: Option<TokenObservation>,
    /// The pods of a silent connector.
    pub(super) pods: PodsObservation,
    workload: WorkloadPresence,
    mass_silence: Option<Arc<str>>,
    claim: Option<ClaimRefusal>,
}

impl Context {
    pub(super) async fn observe(&self, step: &mut Step<'_, Self>) -> Observed {
        let token = self.observe_token_if_due(step).await;
        let workload = self.look_up_workload_if_due(step).await;
        let pods = self.diagnose_pods_if_due(step).await;
        Observed {
            token,
            pods,
            workload,
            mass_silence: self.sites.mass_silence(&step.entry.identity.domain),
            claim: self.registry.claim_refusal(&step.entry),
        }
    }
}

impl Observed {
    /// When the id that this connector waits for becomes free, unless its own namespace takes it again.
    pub(super) fn claim_due_at(&self) -> Option<Moment> {
        match self.claim {
            Some(ClaimRefusal::Resting(until)) => Some(until),
            _ => None,
        }
    }

    /// The input of the assessment.
    pub(super) fn input<'a>(&'a self, step: &'a Step<'_, Context>, token: Option<&TokenPlan>) -> Input<'a> {
        let facts = Facts {
            mass_silence: self.mass_silence.as_deref(),
            claim: self.claim.clone(),
            workload: self.workload.clone(),
            pods: self.pods.replacement(),
        };
        Input::new(step.object, &step.live, facts, token, step.now)
    }
}
