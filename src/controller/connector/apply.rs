//! Writes what was decided about a Connector: the status, the action of a remediation, the token Secret, the events; in
//! this order.

use std::time::Duration;

use super::observe::Observed;
use super::reconcile::Context;
use super::silence::target;
use super::token::Write;
use super::token_step::{PlannedToken, TokenObservation};
use crate::api::{Connector, ConnectorState, ConnectorStatus, REQUESTED, RemediationMode};
use crate::controller::remediation::{self, NextStep, next_step};
use crate::controller::runtime::apply::{act, may_act, publish, write};
use crate::controller::runtime::calls::CallKind;
use crate::controller::runtime::kind::ReconcileError;
use crate::controller::runtime::retry::log_failure;
use crate::controller::runtime::{Plan, Step};
use crate::heartbeat::actions::{Action, Offer};
use crate::remediation::attempt::{Remedy, StepResult};

impl Context {
    pub(super) async fn apply(
        &self,
        step: &mut Step<'_, Self>,
        observed: Observed,
        token: Option<PlannedToken>,
        mut plan: Plan<ConnectorStatus>,
        remedy: StepResult,
    ) -> Result<NextStep, ReconcileError> {
        // Before the writes: one that fails does not repeat the diagnosis.
        observed.pods.store(step);
        let pods_due_after = observed.pods.due_after();
        let claim_due_after =
            observed.claim_due_at().map(|at| at.since(step.now.moment).max(Duration::from_millis(10)));
        let secret = token.as_ref().map_or(Write::Nothing, |token| token.plan.write);
        plan.events.extend(remediation::events(&remedy.events));
        let had_status = plan.status.is_some();
        let written = write(self, step, &mut plan, &remedy).await?;
        let is_withheld = had_status && written.is_none() && step.state.not_kept.is_some();
        let object = written.as_ref().unwrap_or(step.object);
        // Before anything that may fail: the status names the action, and no other replica performs it.
        self.offer(step, object, &remedy);
        let acted = act(self, step, object, &remedy).await;
        if let Some((observed, planned)) = observed.token.zip(token) {
            if is_withheld {
                self.put_off(step);
            } else {
                self.provision(step, object, observed, planned).await?;
            }
        }
        if plan.due_at.is_some() {
            // A deleted Secret is noticed at a reconcile (docs/design/api.md): after a change of the state it is read.
            step.state.notes.observe_at = None;
        }
        publish(self, step, object, plan.events).await;
        Ok(match next_step(&remedy, acted, step.now.wall) {
            NextStep::Wait(wait) if secret == Write::Nothing && plan.due_at.is_none() => NextStep::Wait(
                [wait, self.due_after(step), pods_due_after, claim_due_after].into_iter().flatten().min(),
            ),
            NextStep::Now | NextStep::Wait(_) => NextStep::Now,
        })
    }

    /// Reads the Secret again when the status may be written: its plan, and the hash of a new token, are not stored yet.
    fn put_off(&self, step: &mut Step<'_, Self>) {
        step.state.notes.observe_at = None;
        let (number, now) = (step.entry.number, self.clock.now());
        if let Some(wait) = self.states.wait(number, CallKind::Verification, now) {
            self.states.hold(number, CallKind::Secret, now + wait);
        }
    }

    /// Writes the token to its Secret, and notes when to read that again. A Secret that cannot be read or written has its
    /// own next try: it delays no transition.
    async fn provision(
        &self,
        step: &mut Step<'_, Self>,
        connector: &Connector,
        observed: TokenObservation,
        planned: PlannedToken,
    ) -> Result<(), ReconcileError> {
        if step.state.is_held_back {
            // Another operator writes this status, and delivers this token.
            return Ok(());
        }
        if step.state.not_kept.as_ref().is_some_and(|lost| lost.has_token()) {
            // The hash of this token, or the request that it answers, would be forgotten, and be followed by another.
            step.state.notes.observe_at = None;
            self.call_failed(&step.entry, CallKind::Secret, None);
            return Ok(());
        }
        let secret = planned.plan.write;
        let sooner = planned.plan.reread_after.and_then(|after| Duration::try_from(after).ok());
        let delivered = self.deliver(step, connector, &observed, &planned).await;
        let failed = delivered.err().or(observed.error.map(ReconcileError::Secret));
        match failed {
            // This replica lost its permit. The Secret stays due.
            Some(failed @ ReconcileError::Status(_)) => {
                step.state.notes.observe_at = None;
                Err(failed)
            }
            // The Secret stays due.
            Some(failed) => {
                step.state.notes.observe_at = None;
                log_failure::<Self>(&step.entry, CallKind::Secret, &failed, failed.retry_after(), self);
                Ok(())
            }
            None => {
                self.call_succeeded(&step.entry, CallKind::Secret);
                // A Secret that was just written is read once more, to confirm it.
                let sooner = if secret == Write::Nothing { sooner } else { Some(Duration::ZERO) };
                step.state.notes.note_observation(connector, step.now.moment, sooner);
                Ok(())
            }
        }
    }

    /// Offers the action of the remediation to the agent, or withdraws the offer, now that it is written.
    fn offer(&self, step: &Step<'_, Self>, connector: &Connector, remedy: &StepResult) {
        // The spec may have named an agent before, which still beats and would go on to expect a restart.
        if connector.spec.agent_ref.is_none() {
            self.registry.offer(&step.entry, None, Offer::default());
            return;
        }
        let is_requested = remedy.status.current.as_ref().is_some_and(|current| current.cause == REQUESTED);
        let action = match &remedy.remedy {
            Some(Remedy::Offer { id, not_after }) => {
                Some(Action::new(id, target(connector), *not_after, is_requested, self.clock.read()))
            }
            _ => None,
        };
        // The state is the written one: an action follows from it as soon as the policy allows it.
        let state = connector.status.as_ref().and_then(|status| status.state);
        let is_bad = matches!(state, Some(ConnectorState::Degraded | ConnectorState::Offline));
        let mode = connector.spec.remediation.as_ref().map(|remediation| remediation.mode);
        let is_expected = is_bad && connector.spec.workload_ref.is_none() && mode == Some(RemediationMode::Restart);
        self.registry.offer(&step.entry, None, Offer { action: action.filter(|_| may_act(step)), is_expected });
    }

    /// The wait until the Secret, the workload, or the end of a duplicate, is due.
    fn due_after(&self, step: &Step<'_, Self>) -> Option<Duration> {
        let duplicate_until = step.live.duplicate.map(|(_, until)| until);
        let workload_at = step.state.notes.workload.as_ref().map(|note| note.look_at);
        let due = [step.state.notes.observe_at, workload_at, duplicate_until].into_iter().flatten().min()?;
        Some(due.since(step.now.moment).max(Duration::from_millis(10)))
    }
}
