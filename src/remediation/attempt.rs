//! One attempt to restart: reserved, performed, verified, recorded. Pure; one call of [`step`] for each reconcile.
//!
//! The phase of an attempt is in the status of its object. Whether the restart was performed is read from the cluster.
//! After a crash at any moment the next leader therefore continues from there, and nothing is done twice.

use jiff::{SignedDuration, Timestamp};

use super::history::{healthy_since, is_reset};
use super::input::{Denied, ObjectHealth, PolicyInput, Target, Workload};
use super::policy::allow;
use crate::api::{
    Attempt, AttemptPhase, Cause, Denial, DenialRecord, Ledger, MAX_MESSAGE, REQUESTED, Reason, RemediationSpec,
    RemediationStatus, Time, Truth, clip,
};
pub use events::events_to_repeat;
use in_progress::InProgress;
pub use result::{EventDraft, Remedy, Signals, StepResult};
use result::{after, describe, whole_seconds};

/// Time until a denial without a known end is checked again.
const DENIAL_INTERVAL: SignedDuration = SignedDuration::from_secs(30);
/// Added to a workload's own progress deadline (docs/design/remediation.md, verifyWithinSeconds).
const DEADLINE_MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// Decides what to do about the object now. `new_id` is the id of an attempt that this step may reserve.
pub fn step(input: &PolicyInput<'_>, signals: &Signals, new_id: &str) -> StepResult {
    match &input.status.current {
        None => begin(input, new_id),
        Some(attempt) => InProgress { input, attempt, signals }.step(),
    }
}

fn begin(input: &PolicyInput<'_>, new_id: &str) -> StepResult {
    let PolicyInput { spec, verdict, request, now, .. } = *input;
    let mut status = input.status.clone();
    let mut check_again_at = None;
    if let (Some(spec), Some(_)) = (spec, &status.ledger) {
        if is_reset(spec, &verdict.intervals, now) {
            (status.ledger, status.next_attempt_time) = (None, None);
        } else {
            let reset = SignedDuration::from_secs(spec.reset_after_seconds.into());
            check_again_at = healthy_since(&verdict.intervals).and_then(|since| since.checked_add(reset).ok());
        }
    }
    let is_wanted = request.is_some() || spec.is_some() && verdict.health() == ObjectHealth::Unhealthy;
    if !is_wanted {
        let message = match spec {
            None => "remediation is not asked for",
            Some(_) => "no remedy is wanted",
        };
        return StepResult { check_again_at, ..StepResult::new(status, Truth::False, Reason::Idle, message) };
    }
    let with_ledger = PolicyInput { status: &status, ..*input };
    match allow(&with_ledger) {
        Ok(target) => reserve(&with_ledger, &target, new_id),
        Err(denied) => deny(status, denied, now),
    }
}

fn deny(mut status: RemediationStatus, denied: Denied, now: Timestamp) -> StepResult {
    let Denied { reason, message, check_again_at } = denied;
    let message = clip(message, MAX_MESSAGE);
    let known = status.last_denial.as_ref().filter(|known| known.reason == reason);
    let is_new = known.is_none();
    let time = known.map_or(Time(whole_seconds(now)), |known| known.time.clone());
    status.last_denial = Some(DenialRecord { reason, message: message.clone(), time });
    let mut events = Vec::new();
    if let (Denial::GaveUp, Some(ledger), true) = (reason, &status.ledger, is_new) {
        let occurrence = format!("GaveUp/{}/{}", ledger.start_time.0, ledger.attempts);
        events.push(EventDraft { reason: "GaveUp", is_warning: true, note: message.clone(), at: now, occurrence });
    }
    let result = StepResult::new(status, Truth::False, reason.into(), message);
    let check_again_at = Some(check_again_at.unwrap_or_else(|| after(now, DENIAL_INTERVAL)));
    StepResult { events, denial: Some(reason), check_again_at, ..result }
}

fn reserve(input: &PolicyInput<'_>, target: &Target, id: &str) -> StepResult {
    let PolicyInput { verdict, request, now, workload, .. } = *input;
    let mut status = input.status.clone();
    let start_time = Time(whole_seconds(now));
    let cause = match (request, &verdict.diagnosis) {
        (Some(_), _) => REQUESTED.to_owned(),
        (None, Some(diagnosis)) => diagnosis.cause.as_str().to_owned(),
        (None, None) => Cause::Unexplained.as_str().to_owned(),
    };
    match request {
        Some(request) => status.observed_restart_request = Some(request.annotation.clone()),
        None => {
            let ledger = status.ledger.get_or_insert(Ledger { attempts: 0, start_time: start_time.clone() });
            ledger.attempts = ledger.attempts.saturating_add(1);
        }
    }
    let (pod_name, pod_uid) = match target {
        Target::Pod { name, uid } => (Some(name.clone()), Some(uid.clone())),
        Target::Rollout | Target::Agent => (None, None),
    };
    let workload = workload.found().filter(|_| *target != Target::Agent);
    let message = format!("{} is decided, for {cause}", describe(target, workload));
    status.next_attempt_time = None;
    status.current = Some(Attempt {
        id: id.to_owned(),
        cause,
        start_time,
        workload_uid: workload.map(|workload| workload.uid.clone()),
        workload_generation: workload.map(|workload| workload.generation),
        pod_name,
        pod_uid,
        phase: AttemptPhase::Reserved,
        restarted_time: None,
        not_after: Time(whole_seconds(after(now, time_limit(input, workload)))),
    });
    let result = StepResult::in_progress(status, message, now);
    StepResult { reserved: Some(id.to_owned()), ..result }
}

/// Time limit of an attempt: `verifyWithinSeconds`, at least the workload's progress deadline plus a minute, and two
/// scrape intervals more where Prometheus must have scraped.
fn time_limit(input: &PolicyInput<'_>, workload: Option<&Workload>) -> SignedDuration {
    let verify_within = |spec: &RemediationSpec| spec.verify_within_seconds;
    let configured = SignedDuration::from_secs(input.spec.map_or(600, verify_within).into());
    let deadline = workload.and_then(|workload| workload.progress_deadline);
    let least = deadline.map_or(SignedDuration::ZERO, |seconds| {
        SignedDuration::from_secs(seconds.into()).saturating_add(DEADLINE_MARGIN)
    });
    let scrapes = input.verdict.scrape.as_ref().map_or(SignedDuration::ZERO, |scrape| scrape.interval * 2);
    configured.max(least).saturating_add(scrapes)
}

mod events;
mod in_progress;
mod result;
#[cfg(test)]
mod tests;
