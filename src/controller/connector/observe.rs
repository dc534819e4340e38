//! Reads the facts for a step of a Connector: its token Secret, its pods, the mass silence of its site.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::assess::{Facts, Input};
use super::reconcile::Context;
use super::token::TokenPlan;
use super::token_step::TokenStep;
use crate::api::{Connector, Key};
use crate::controller::runtime::Step;
use crate::heartbeat::entry::Snapshot;
use crate::time::Now;

/// The facts that a step read, next to the snapshot of the entry.
pub(super) struct Observed {
    /// The token Secret and the plan for it; `None` while the Secret is not due.
    pub(super) token: Option<TokenStep>,
    /// The wait until the pods are due again.
    pub(super) pods_due_after: Option<Duration>,
    mass_silence: Option<Arc<str>>,
    duplicate: Option<Key>,
}

impl Context {
    pub(super) async fn observe(&self, step: &mut Step<'_, Self>) -> Observed {
        let token = self.observe_token_if_due(step).await;
        let pods_due_after = self.diagnose_pods_if_due(step).await;
        Observed {
            token,
            pods_due_after,
            mass_silence: self.sites.mass_silence(&step.entry.identity.domain),
            duplicate: self.registry.holder_instead_of(&step.entry),
        }
    }
}

impl Observed {
    pub(super) fn token_plan(&self) -> Option<&TokenPlan> {
        self.token.as_ref().map(|token| &token.plan)
    }

    /// The input of the assessment.
    pub(super) fn input<'a>(&'a self, step: &'a Step<'_, Context>) -> Input<'a> {
        let facts = Facts { mass_silence: self.mass_silence.as_deref(), duplicate: self.duplicate.clone() };
        Input::new(step.object, &step.live, facts, self.token_plan(), step.now)
    }
}

/// When a retired token was used last, by the account of this process or by the stored status.
pub(super) fn retired_use(connector: &Connector, live: &Snapshot, now: Now) -> Option<Timestamp> {
    let stored =
        connector.status.as_ref().and_then(|status| status.token.as_ref()?.last_rejected_time.as_ref()).map(|at| at.0);
    live.retired_use.map(|at| now.stamp(at)).max(stored)
}
