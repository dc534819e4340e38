//! The course of an attempt: reserved, acted upon, verified, recorded. Pure; one step for each look.
//!
//! Which phase an attempt is in stands in the status of its object; whether it was acted upon stands in the cluster. So
//! whoever leads after a kill at any moment goes on from what is there, and nothing is done twice.

use jiff::{SignedDuration, Timestamp};

use super::history::{healthy_since, is_reset};
use super::input::{Denied, Health, Lookup, PolicyInput, Target, Workload};
use super::policy::allow;
use crate::api::{
    Attempt, AttemptOutcome, AttemptPhase, ConditionValue, Denial, DenialRecord, Ledger, MAX_MESSAGE, REQUESTED,
    Reason, RemediationSpec, RemediationStatus, Time, Truth, clip,
};
pub use events::retold;
use in_progress::InProgress;

/// How soon something that is under way is looked at again: a restart of a small workload takes less than a second, and
/// nobody wants to wait for us.
const SOON: SignedDuration = SignedDuration::from_secs(1);
/// How soon a denial is looked at again that does not say itself when it may end.
const LATER: SignedDuration = SignedDuration::from_secs(30);
/// On top of a workload's own progress deadline (remediation.md, verifyWithinSeconds).
const AFTER_DEADLINE: SignedDuration = SignedDuration::from_secs(60);

/// What is known of an attempt besides the status and the cluster; lost with the process, and then found out again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// The API server's final no to this attempt.
    pub refused: Option<String>,
    /// The agent was given the action.
    pub handed_out: bool,
    /// The agent has answered: whether it restarted, and its words.
    pub acknowledged: Option<(bool, String)>,
}

/// What is to be done once the status is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The workload is told to restart.
    Restart {
        /// The attempt.
        id: String,
        /// When it was decided.
        started: Timestamp,
        /// The workload that it was decided for.
        uid: String,
        /// Its generation then.
        generation: i64,
    },
    /// One pod is evicted.
    Evict {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// The agent is given the action with its next beat.
    Offer {
        /// The attempt.
        id: String,
        /// When it expires.
        not_after: Timestamp,
    },
}

/// Something to tell about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// The reason, from the closed list of api.md.
    pub reason: &'static str,
    /// Somebody may have to act.
    pub is_warning: bool,
    /// What happened.
    pub note: String,
    /// When.
    pub at: Timestamp,
    /// The same occurrence is the same event.
    pub occurrence: String,
}

/// What one look leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct StepResult {
    /// What the status is to say.
    pub status: RemediationStatus,
    /// The condition `Remediating`.
    pub said: ConditionValue,
    /// What to tell, after the status is written.
    pub told: Vec<EventDraft>,
    /// What to do, after the status is written.
    pub act: Option<Remedy>,
    /// How an attempt ended with this look.
    pub ended: Option<AttemptOutcome>,
    /// An attempt begins with this look: its id.
    pub begun: Option<String>,
    /// Why a wanted remedy is not taken.
    pub denied: Option<Denial>,
    /// When to look again.
    pub again: Option<Timestamp>,
}

impl StepResult {
    fn of(status: RemediationStatus, truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        let said = ConditionValue::new(truth, reason, clip(message, MAX_MESSAGE));
        Self { status, said, told: Vec::new(), act: None, ended: None, begun: None, denied: None, again: None }
    }

    fn under_way(status: RemediationStatus, message: impl Into<String>, again: Timestamp) -> Self {
        let course = Self::of(status, Truth::True, Reason::RestartInProgress, message);
        Self { again: Some(again), ..course }
    }
}

/// What to do about the object now. `fresh_id` is the id of an attempt that would begin.
pub fn step(situation: &PolicyInput<'_>, word: &Signals, fresh_id: &str) -> StepResult {
    match &situation.status.current {
        None => begin(situation, fresh_id),
        Some(attempt) => {
            let going = InProgress { situation, attempt, word };
            match attempt.phase {
                AttemptPhase::Reserved => going.reserved(),
                AttemptPhase::Restarting => going.restarting(),
                AttemptPhase::Verifying => going.verifying(),
            }
        }
    }
}

fn begin(situation: &PolicyInput<'_>, fresh_id: &str) -> StepResult {
    let PolicyInput { spec, verdict, request, now, .. } = *situation;
    let mut status = situation.status.clone();
    let mut again = None;
    if let (Some(spec), Some(_)) = (spec, &status.ledger) {
        if is_reset(spec, &verdict.spells, now) {
            (status.ledger, status.next_attempt_time) = (None, None);
        } else {
            let reset = SignedDuration::from_secs(spec.reset_after_seconds.into());
            again = healthy_since(&verdict.spells).and_then(|since| since.checked_add(reset).ok());
        }
    }
    let is_wanted = request.is_some() || spec.is_some() && verdict.health() == Health::Unhealthy;
    if !is_wanted {
        let message = match spec {
            None => "remediation is not asked for",
            Some(_) => "no remedy is wanted",
        };
        return StepResult { again, ..StepResult::of(status, Truth::False, Reason::Idle, message) };
    }
    let decided = PolicyInput { status: &status, ..*situation };
    match allow(&decided) {
        Ok(target) => reserve(&decided, target, fresh_id),
        Err(denied) => deny(status, denied, now),
    }
}

fn deny(mut status: RemediationStatus, denied: Denied, now: Timestamp) -> StepResult {
    let Denied { reason, message, again } = denied;
    let message = clip(message, MAX_MESSAGE);
    let known = status.last_denial.as_ref().filter(|known| known.reason == reason);
    let is_new = known.is_none();
    let time = known.map_or(Time(whole_seconds(now)), |known| known.time.clone());
    status.last_denial = Some(DenialRecord { reason, message: message.clone(), time });
    let mut told = Vec::new();
    if let (Denial::GaveUp, Some(ledger), true) = (reason, &status.ledger, is_new) {
        let occurrence = format!("GaveUp/{}/{}", ledger.start_time.0, ledger.attempts);
        told.push(EventDraft { reason: "GaveUp", is_warning: true, note: message.clone(), at: now, occurrence });
    }
    let course = StepResult::of(status, Truth::False, reason.into(), message);
    StepResult { told, denied: Some(reason), again: Some(again.unwrap_or_else(|| after(now, LATER))), ..course }
}

fn reserve(situation: &PolicyInput<'_>, target: Target, id: &str) -> StepResult {
    let PolicyInput { spec, verdict, request, now, workload, .. } = *situation;
    let mut status = situation.status.clone();
    let workload = found(workload);
    let start_time = Time(whole_seconds(now));
    let cause = match (request, &verdict.diagnosis) {
        (Some(_), _) => REQUESTED.to_owned(),
        (None, Some(found)) => found.cause.as_str().to_owned(),
        (None, None) => crate::api::Cause::Unexplained.as_str().to_owned(),
    };
    match request {
        Some(request) => status.observed_restart_request = Some(request.text.clone()),
        None => {
            let ledger = status.ledger.get_or_insert(Ledger { attempts: 0, start_time: start_time.clone() });
            ledger.attempts = ledger.attempts.saturating_add(1);
        }
    }
    let (pod_name, pod_uid) = match &target {
        Target::Pod { name, uid } => (Some(name.clone()), Some(uid.clone())),
        Target::Rollout | Target::Agent => (None, None),
    };
    let of_workload = workload.filter(|_| target != Target::Agent);
    let message = format!("{} is decided, for {cause}", in_words(&target, of_workload));
    status.next_attempt_time = None;
    status.current = Some(Attempt {
        id: id.to_owned(),
        cause,
        start_time,
        workload_uid: of_workload.map(|workload| workload.uid.clone()),
        workload_generation: of_workload.map(|workload| workload.generation),
        pod_name,
        pod_uid,
        phase: AttemptPhase::Reserved,
        restarted_time: None,
        not_after: Time(whole_seconds(after(now, limit(spec, of_workload, situation)))),
    });
    let course = StepResult::under_way(status, message, now);
    StepResult { begun: Some(id.to_owned()), ..course }
}

/// How long an attempt may take: as the spec says, at least the workload's progress deadline and a minute, and two
/// scrape intervals more where Prometheus must have scraped.
fn limit(spec: Option<&RemediationSpec>, workload: Option<&Workload>, situation: &PolicyInput<'_>) -> SignedDuration {
    let asked = SignedDuration::from_secs(spec.map_or(600, |spec| spec.verify_within_seconds).into());
    let deadline = workload.and_then(|workload| workload.progress_deadline);
    let least = deadline.map_or(SignedDuration::ZERO, |seconds| {
        SignedDuration::from_secs(seconds.into()).saturating_add(AFTER_DEADLINE)
    });
    let scrapes = situation.verdict.scrape.as_ref().map_or(SignedDuration::ZERO, |scrape| scrape.interval * 2);
    asked.max(least).saturating_add(scrapes)
}

fn in_words(target: &Target, workload: Option<&Workload>) -> String {
    let called = workload.map_or("its workload", |workload| &workload.called);
    match target {
        Target::Rollout => format!("a rollout restart of {called}"),
        Target::Pod { name, .. } => format!("the eviction of Pod {name} of {called}"),
        Target::Agent => "a restart of its unit by its agent".to_owned(),
    }
}

fn found(sight: &Lookup) -> Option<&Workload> {
    match sight {
        Lookup::Found(workload) => Some(workload),
        Lookup::NotLooked | Lookup::Absent | Lookup::Forbidden(_) | Lookup::Failed(_) => None,
    }
}

fn after(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}

/// As a `Time` will be read back.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

mod events;
mod in_progress;
#[cfg(test)]
mod tests;
