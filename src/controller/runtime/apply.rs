//! The writes of a step that are the same for both kinds: the status or a checkpoint, the action of a remediation, the
//! events; in this order.

use std::cmp::Ordering;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, ResourceExt as _};

use super::calls::CallKind;
use super::contest;
use super::kept::NotKept;
use super::kind::{Kind, ObjectEntry as _, Plan, ReconcileError, Step};
use super::retry::log_failure;
use super::shared::Runtime;
use super::trim::trim;
use crate::api::Key;
use crate::cluster::events::{Event, REPUBLISH_WINDOW};
use crate::controller::log;
use crate::controller::remediation::{self, FollowUp, Performed, Remediable as _};
use crate::remediation::attempt::StepResult;
use crate::schedule::checkpoints::Checkpointed as _;

/// The pause between two writes of one status that change words alone.
const WORDS_INTERVAL: Duration = Duration::from_secs(60);

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
    hold_back_in_contest(kind, step, plan, remedy);
    if step.state.is_held_back {
        return Ok(None);
    }
    hold_back(runtime, step, plan, remedy);
    let writes_status = plan.status.is_some();
    let mut result = match plan.status.take() {
        Some(status) => write_status(kind, step, plan, status, remedy).await,
        None if is_checkpoint_due => write_checkpoint(kind, step, &plan.current).await,
        None => return Ok(None),
    };
    match &mut result {
        Ok(written) => {
            runtime.call_succeeded(&step.entry, CallKind::Status);
            trim(written.meta_mut());
            kind.note_written(step, written);
            step.state.keep_written(written);
        }
        Err(error) => {
            let outcome_unknown = error.outcome_unknown();
            if outcome_unknown {
                step.state.contest.note_own(None);
            }
            if outcome_unknown && writes_status {
                step.state.keep_events_of_lost_write(&plan.events);
            }
            runtime.remediator.after_failed_write(step.object, remedy, outcome_unknown);
        }
    }
    result.map(Some)
}

/// Takes everything out of the plan while another program writes this status, unless this process has heard of the object
/// since: then the stored status is the older one. Says so in an event.
fn hold_back_in_contest<K: Kind>(kind: &K, step: &mut Step<'_, K>, plan: &mut Plan<K::Status>, remedy: &StepResult) {
    let runtime = kind.runtime();
    let knowledge = kind.compare_knowledge(step);
    let held_until = step.state.contest.held_until(knowledge == Ordering::Less, runtime.jitter);
    let is_contest = held_until.is_some_and(|until| until > step.now.moment);
    step.state.is_held_back = is_contest && knowledge != Ordering::Greater;
    if step.state.is_held_back {
        (plan.status, plan.due_at) = (None, None);
        plan.events.clear();
        if remedy.reserved.is_some() {
            runtime.remediator.after_failed_write(step.object, remedy, false);
        }
        runtime.states.hold(step.entry.number(), CallKind::Contest, held_until.unwrap_or(step.now.moment));
    }
    if is_contest {
        let event = contest::event(step.now.wall);
        if runtime.is_first_contest(step.entry.number(), &event.occurrence) {
            let Key { namespace, name } = step.entry.key();
            tracing::error!(kind = K::Object::KIND, %namespace, %name, "{}", event.note);
            plan.events.push(event);
        }
    }
}

/// Takes a write out of the plan that must wait, and puts one into it that must come first.
fn hold_back<K: Kind>(runtime: &Runtime<K>, step: &mut Step<'_, K>, plan: &mut Plan<K::Status>, remedy: &StepResult) {
    // A new state is written in any case.
    if plan.due_at.is_some() {
        return;
    }
    let is_lossy = step.state.not_kept.is_some();
    if is_lossy && !is_news::<K>(step, plan) && !runtime.may_call(&step.entry, CallKind::Verification) {
        // What the API server dropped would be written again, and its events published again, at each reconcile.
        plan.status = None;
        plan.events.clear();
        if remedy.reserved.is_some() {
            runtime.remediator.after_failed_write(step.object, remedy, false);
        }
        return;
    }
    let is_words = plan.is_words_only && !is_lossy;
    if is_words && !runtime.may_call(&step.entry, CallKind::Words) {
        plan.status = None;
    }
    // Before the first act of an epoch, and while something was lost, a write shows whether the API server keeps it.
    let must_verify = is_lossy || remedy.remedy.is_some() && !step.state.is_verified;
    if must_verify && plan.status.is_none() {
        plan.status = Some(plan.current.clone());
    }
    if let (Some(status), Some(not_kept)) = (&mut plan.status, &step.state.not_kept) {
        restore::<K>(status, not_kept);
    }
    if is_words && plan.status.is_some() {
        runtime.states.hold(step.entry.number(), CallKind::Words, runtime.clock.now() + WORDS_INTERVAL);
    }
}

/// Whether the plan changes a part of the status that the API server keeps, and that a token or a restart follows from.
fn is_news<K: Kind>(step: &Step<'_, K>, plan: &Plan<K::Status>) -> bool {
    let (Some(not_kept), Some(status)) = (&step.state.not_kept, &plan.status) else { return false };
    let json = |status: &K::Status| serde_json::to_value(status).unwrap_or_default();
    not_kept.is_news(&json(&plan.current), &json(status))
}

/// Puts what the API server dropped into a status that was decided without it.
fn restore<K: Kind>(status: &mut K::Status, not_kept: &NotKept) {
    let Ok(mut json) = serde_json::to_value(&*status) else { return };
    not_kept.restore(&mut json);
    if let Ok(restored) = serde_json::from_value(json) {
        *status = restored;
    }
}

async fn write_status<K: Kind>(
    kind: &K,
    step: &mut Step<'_, K>,
    plan: &mut Plan<K::Status>,
    status: K::Status,
    remedy: &StepResult,
) -> Result<K::Object, ReconcileError> {
    let runtime = kind.runtime();
    let reason = remediation::write_reason(step.object, remedy, plan.due_at.is_some());
    let object = K::with_status(step.object, status);
    let permit = runtime.renew_permit(&step.permit)?;
    runtime.states.spend_write(step.entry.number(), runtime.clock.now());
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
    let is_kept = is_kept(kind, step, &object, &written);
    let lost = step.state.not_kept.as_ref().filter(|_| !is_kept);
    if lost.is_some_and(|lost| lost.has_events()) {
        // Events of what was lost would be published with each try.
        plan.events.retain(|event| event.reason.parse::<K::State>().is_ok());
    }
    if lost.is_some_and(|lost| lost.has_remediation()) {
        runtime.remediator.after_failed_write(step.object, remedy, false);
    } else {
        runtime.remediator.after_write(step.object, remedy);
    }
    Ok(written)
}

/// Compares the answer with what was sent. Notes the difference, and says once what is wrong.
fn is_kept<K: Kind>(kind: &K, step: &mut Step<'_, K>, sent: &K::Object, written: &K::Object) -> bool {
    let runtime = kind.runtime();
    let json = |object: &K::Object| serde_json::to_value(object).unwrap_or_default();
    let sent = json(sent);
    let Some(not_kept) = NotKept::between(&sent, &json(written)) else {
        let before = step.state.not_kept.take();
        step.state.not_kept = before.clone().and_then(|before| before.after_kept(&sent)).map(Box::new);
        step.state.is_verified = !step.state.not_kept.as_ref().is_some_and(|lost| lost.has_remediation());
        if before.is_some() && step.state.not_kept.is_none() {
            tracing::info!(kind = K::Object::KIND, key = %step.entry.key(), "the API server keeps the status again");
            runtime.call_succeeded(&step.entry, CallKind::Verification);
            runtime.states.succeeded(step.entry.number(), CallKind::Secret);
        }
        return true;
    };
    runtime.call_failed(&step.entry, CallKind::Verification, None);
    if runtime.is_first_loss(&not_kept) {
        let Key { namespace, name } = step.entry.key();
        tracing::error!(kind = K::Object::KIND, %namespace, %name, "{}", not_kept.message());
    }
    step.state.is_verified = !not_kept.has_remediation();
    step.state.not_kept = Some(Box::new(not_kept));
    false
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
    let _in_flight = runtime.checkpoints.begin(&step.entry.key().namespace);
    runtime.states.spend_write(step.entry.number(), runtime.clock.now());
    Ok(runtime.writer.checkpoint(&permit, &api, &name, &version, patch).await?)
}

/// Whether the attempt in the status may be acted upon: the API server has shown in this epoch that it keeps it.
pub fn may_act<K: Kind>(step: &Step<'_, K>) -> bool {
    let is_held_back = step.state.is_held_back;
    !is_held_back && step.state.is_verified && !step.state.not_kept.as_ref().is_some_and(|lost| lost.has_remediation())
}

/// Performs the action of the remediation on `object`. The stored status names the action, so no other replica performs it.
pub async fn act<K: Kind>(kind: &K, step: &Step<'_, K>, object: &K::Object, remedy: &StepResult) -> FollowUp {
    let runtime = kind.runtime();
    let Some(act) = remedy.remedy.as_ref().filter(|_| may_act(step)) else { return FollowUp::Scheduled };
    let number = step.entry.number();
    if let Some(wait) = runtime.states.wait(number, CallKind::Restart, runtime.clock.now()) {
        return FollowUp::After(wait);
    }
    // Another replica leads by now: it continues from what is written.
    let Ok(permit) = runtime.renew_permit(&step.permit) else { return FollowUp::Scheduled };
    match runtime.remediator.perform(&permit, object, act).await {
        Performed::Failed => {
            runtime.call_failed(&step.entry, CallKind::Restart, None);
            runtime
                .states
                .wait(number, CallKind::Restart, runtime.clock.now())
                .map_or(FollowUp::Scheduled, FollowUp::After)
        }
        Performed::Answered => {
            runtime.call_succeeded(&step.entry, CallKind::Restart);
            FollowUp::Immediate
        }
        Performed::Nothing => FollowUp::Scheduled,
    }
}

/// Publishes the events of the plan and those that could not be published before. After a restart of the operator the
/// event of the newest transition is published again: the replica that wrote the transition may have been killed before
/// it could publish it. Last of all writes: a failed event must not hold back another write. An event that was not
/// published is kept for its next try, with all that follow.
pub async fn publish<K: Kind>(kind: &K, step: &mut Step<'_, K>, object: &K::Object, events: Vec<Event>) {
    let runtime = kind.runtime();
    let mut news = events;
    if !std::mem::replace(&mut step.state.published, true)
        && let Some(latest) = K::transitions(object).first()
        && step.now.wall.duration_since(latest.time.0) < REPUBLISH_WINDOW
    {
        news.extend(K::state_event(object));
    }
    news.retain(|event| {
        let is_of_a_state = event.reason.parse::<K::State>().is_ok();
        !is_of_a_state || step.state.may_publish(event.reason, step.now.moment)
    });
    // In the order in which they happened.
    let mut all = step.state.take_unpublished();
    all.extend(news);
    if all.is_empty() {
        return;
    }
    if !runtime.may_call(&step.entry, CallKind::Event) {
        return step.state.keep_unpublished(all);
    }
    let regarding = ObjectReference { resource_version: None, ..object.object_ref(&()) };
    let _permit = runtime.call_permit(&step.entry.key().namespace).await;
    let mut all = all.into_iter();
    while let Some(event) = all.next() {
        if let Err(error) = runtime.reporter.publish(&regarding, &event).await {
            step.state.keep_unpublished(std::iter::once(event).chain(all));
            return log_failure::<K>(&step.entry, CallKind::Event, &error, error.retry_after(), runtime);
        }
    }
    runtime.call_succeeded(&step.entry, CallKind::Event);
}
