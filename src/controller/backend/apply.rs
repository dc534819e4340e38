//! Writes what was decided about a MonitoredBackend: the status, the action of a remediation, the events; in this order.

use super::agents;
use super::context::Context;
use crate::api::{AttemptPhase, BackendState, MonitoredBackend, MonitoredBackendStatus, REQUESTED, RemediationMode};
use crate::controller::remediation::{self, NextStep, next_step};
use crate::controller::runtime::apply::{act, may_act, publish, write};
use crate::controller::runtime::kind::ReconcileError;
use crate::controller::runtime::{Plan, Step};
use crate::heartbeat::actions::{Action, Offer};
use crate::remediation::attempt::{Remedy, StepResult};

impl Context {
    pub(super) async fn apply(
        &self,
        step: &mut Step<'_, Self>,
        mut plan: Plan<MonitoredBackendStatus>,
        remedy: StepResult,
    ) -> Result<NextStep, ReconcileError> {
        plan.events.extend(remediation::events(&remedy.events));
        let written = write(self, step, &mut plan, &remedy).await?;
        let object = written.as_ref().unwrap_or(step.object);
        if remedy.status.current.as_ref().is_some_and(|current| current.phase == AttemptPhase::Verifying) {
            step.entry.ask_prometheus_again(step.now.moment);
        }
        self.offer(step, object, &remedy);
        // Before anything that may fail: the status names the action, and no other replica performs it.
        let acted = act(self, step, object, &remedy).await;
        publish(self, step, object, plan.events).await;
        Ok(next_step(&remedy, acted, step.now.wall))
    }

    /// Offers the action of the remediation to the agent, or withdraws the offer, now that it is written.
    fn offer(&self, step: &mut Step<'_, Self>, backend: &MonitoredBackend, remedy: &StepResult) {
        let named = agents::connector_key(backend);
        if let Some(before) = step.state.notes.offered_to.take().filter(|before| Some(before) != named.as_ref()) {
            agents::withdraw_from(&self.registry, &before, &step.entry.key.name);
        }
        let Some(connector) = named.and_then(|key| Some((self.registry.get(&key)?, key))) else { return };
        let (entry, key) = connector;
        let is_requested = remedy.status.current.as_ref().is_some_and(|current| current.cause == REQUESTED);
        let action = match &remedy.remedy {
            Some(Remedy::Offer { id, not_after }) if may_act(step) => {
                let seen = step.live.agent.as_ref().and_then(|agent| agent.evidence.view.as_ref()?.unit.as_deref());
                let named = backend.spec.agent_ref.as_ref().and_then(|agent| agent.unit.as_deref());
                Some(Action::new(id, named.or(seen), *not_after, is_requested, self.clock.read()))
            }
            _ => None,
        };
        // The state is the written one: an action follows from it as soon as the policy allows it.
        let is_down = backend.status.as_ref().is_some_and(|status| status.state == Some(BackendState::Down));
        let mode = backend.spec.remediation.as_ref().map(|remediation| remediation.mode);
        let is_expected = is_down && mode == Some(RemediationMode::Restart);
        self.registry.offer(&entry, Some(&step.entry.key.name), Offer { action, is_expected });
        step.state.notes.offered_to = Some(key);
    }
}
