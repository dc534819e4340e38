//! Writes what was decided about a MonitoredBackend: the status, the action of a remediation, the events; in this order.

use super::context::Context;
use crate::api::{AttemptPhase, MonitoredBackendStatus};
use crate::controller::remediation::{self, NextStep, next_step};
use crate::controller::runtime::apply::{act, publish, write};
use crate::controller::runtime::kind::ReconcileError;
use crate::controller::runtime::{Plan, Step};
use crate::remediation::attempt::StepResult;

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
        // Before anything that may fail: the status names the action, and no other replica performs it.
        let acted = act(self, step, object, &remedy).await;
        publish(self, step, object, plan.events).await;
        Ok(next_step(&remedy, acted, step.now.wall))
    }
}
