//! The writes of a step that are the same for both kinds: the status or a checkpoint, the action of a remediation, the
//! events; in this order.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, ResourceExt as _};

use super::kind::{Kind, ObjectEntry as _, Plan, ReconcileError, Step};
use super::trim::trim;
use crate::cluster::events::{Event, REPUBLISH_WINDOW};
use crate::cluster::{CallError, WriteError};
use crate::controller::log;
use crate::controller::remediation::{self, FollowUp, Remediable as _};
use crate::remediation::attempt::StepResult;
use crate::schedule::checkpoints::Checkpointed as _;

/// Writes the status of the plan, or a checkpoint where that is due; returns the object as written, `None` when nothing
/// was to be written.
///
/// # Errors
/// The write failed. If the API server may have applied it, its events are kept for the next try.
pub async fn write<K: Kind>(
    kind: &K,
    step: &mut Step<'_, K>,
    plan: &mut Plan<K::Status>,
    remedy: &StepResult,
) -> Result<Option<K::Object>, ReconcileError> {
    let runtime = kind.runtime();
    let is_checkpoint_due = runtime.states.take_checkpoint(step.entry.number(), step.permit.epoch());
    let writes_status = plan.status.is_some();
    let mut result = match plan.status.take() {
        Some(status) => write_status(kind, step, plan, status, remedy).await,
        None if is_checkpoint_due => write_checkpoint(kind, step, &plan.current).await,
        None => return Ok(None),
    };
    match &mut result {
        Ok(written) => {
            trim(written.meta_mut());
            kind.note_written(step, written);
            step.state.keep_written(written);
        }
        Err(error) => {
            if matches!(error, ReconcileError::Status(WriteError::Call(CallError::Conflict))) {
                step.state.forget_written();
            }
            let outcome_unknown = error.outcome_unknown();
            if outcome_unknown && writes_status {
                step.state.keep_events_of_lost_write(&plan.events);
            }
            runtime.remediator.after_failed_write(step.object, remedy, outcome_unknown);
        }
    }
    result.map(Some)
}

async fn write_status<K: Kind>(
    kind: &K,
    step: &mut Step<'_, K>,
    plan: &Plan<K::Status>,
    status: K::Status,
    remedy: &StepResult,
) -> Result<K::Object, ReconcileError> {
    let runtime = kind.runtime();
    let reason = remediation::write_reason(step.object, remedy, plan.due_at.is_some());
    let object = K::with_status(step.object, status);
    let permit = runtime.renew_permit(&step.permit)?;
    let written = runtime.writer.replace(reason, &permit, &runtime.api(&object), &object).await?;
    if let Some(due_at) = plan.due_at {
        // The event of this transition is in the plan.
        step.state.published = true;
        let now = runtime.clock.read();
        let since = kind.could_notice_since(&step.entry, now).map_or(due_at, |since| due_at.max(since));
        let lag = Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
        runtime.metrics.observe_transition_lag(lag);
        if let Some(latest) = K::transitions(&written).first() {
            log::transition(log::LogSubject { kind: K::Object::KIND, key: step.entry.key() }, latest);
        }
    }
    runtime.remediator.after_write(step.object, remedy);
    Ok(written)
}

async fn write_checkpoint<K: Kind>(
    kind: &K,
    step: &Step<'_, K>,
    current: &K::Status,
) -> Result<K::Object, ReconcileError> {
    let runtime = kind.runtime();
    let (api, name) = (runtime.api(step.object), step.object.name_any());
    let version = step.object.resource_version().unwrap_or_default();
    let patch = K::checkpoint_patch(current);
    let permit = runtime.renew_permit(&step.permit)?;
    let _in_flight = runtime.checkpoints.begin();
    Ok(runtime.writer.checkpoint(&permit, &api, &name, &version, patch).await?)
}

/// Performs the action of the remediation on `object`. The stored status names the action, so no other replica performs it.
pub async fn act<K: Kind>(kind: &K, step: &Step<'_, K>, object: &K::Object, remedy: &StepResult) -> FollowUp {
    let runtime = kind.runtime();
    match (&remedy.remedy, runtime.renew_permit(&step.permit)) {
        (Some(act), Ok(permit)) => runtime.remediator.perform(&permit, object, act).await,
        // Another replica leads by now: it continues from what is written.
        (Some(_), Err(_)) | (None, _) => FollowUp::Scheduled,
    }
}

/// Publishes the events of the plan and those that could not be published before. After a restart of the operator the
/// event of the newest transition is published again: the replica that wrote the transition may have been killed before
/// it could publish it. Last of all writes: a failed event must not hold back another write.
///
/// # Errors
/// An event was not published; it is kept for the next try, with all that follow.
pub async fn publish<K: Kind>(
    kind: &K,
    step: &mut Step<'_, K>,
    object: &K::Object,
    mut events: Vec<Event>,
) -> Result<(), ReconcileError> {
    events.extend(step.state.take_unpublished());
    if !std::mem::replace(&mut step.state.published, true)
        && let Some(latest) = K::transitions(object).first()
        && step.now.wall.duration_since(latest.time.0) < REPUBLISH_WINDOW
    {
        events.extend(K::state_event(object));
    }
    if events.is_empty() {
        return Ok(());
    }
    let regarding = ObjectReference { resource_version: None, ..object.object_ref(&()) };
    let _permit = kind.runtime().call_permit().await;
    let mut events = events.into_iter();
    while let Some(event) = events.next() {
        if let Err(error) = kind.runtime().reporter.publish(&regarding, &event).await {
            step.state.keep_unpublished(std::iter::once(event).chain(events));
            return Err(ReconcileError::Event(error));
        }
    }
    Ok(())
}
