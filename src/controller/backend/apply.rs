//! Writes what was decided about a MonitoredBackend: the status, the action of a remediation, the events; in this order.

use super::context::Context;
use crate::api::MonitoredBackendStatus;
use crate::controller::remediation::{self, NextStep, next_step};
use crate::controller::runtime::apply::{act, publish, write};
use crate::controller::runtime::kind::ReconcileError;
use crate::controller::runtime::{Plan, Step};
use crate::remediation::attempt::StepResult;

pub(super) async fn apply(
    context: &Context,
    step: &mut Step<'_, Context>,
    mut plan: Plan<MonitoredBackendStatus>,
    remedy: StepResult,
) -> Result<NextStep, ReconcileError> {
    plan.events.extend(remediation::events(&remedy.events));
    let written = write(context, step, &mut plan, &remedy).await?;
    let object = written.as_ref().unwrap_or(step.object);
    // Before anything that may fail: the action is written down, and no other replica does it.
    let acted = act(context, step, object, &remedy).await;
    publish(context, step, object, plan.events).await?;
    Ok(next_step(&remedy, acted, step.now.wall))
}
