//! One step of an attempt in progress.

use jiff::Timestamp;

use super::events::{ended, started};
use super::result::{Remedy, STEP_INTERVAL, Signals, StepResult, after, describe, whole_seconds};
use crate::api::{
    Attempt, AttemptOutcome, AttemptPhase, Denial, MAX_HISTORY, MAX_MESSAGE, MicroTime, PastAttempt, REQUESTED, Reason,
    RemediationStatus, Time, Truth, clip,
};
use crate::remediation::history::backoff;
use crate::remediation::input::{Denied, ObjectHealth, PolicyInput, Rollout, Scrape, Target, Workload, WorkloadLookup};
use crate::remediation::policy::still_allowed;

/// An attempt in progress.
pub(super) struct InProgress<'a> {
    pub(super) input: &'a PolicyInput<'a>,
    pub(super) attempt: &'a Attempt,
    pub(super) signals: &'a Signals,
}

impl InProgress<'_> {
    pub(super) fn step(&self) -> StepResult {
        match self.attempt.phase {
            AttemptPhase::Reserved => self.reserved(),
            AttemptPhase::Restarting => self.restarting(),
            AttemptPhase::Verifying => self.verifying(),
        }
    }

    fn target(&self) -> Target {
        match (&self.attempt.pod_name, &self.attempt.pod_uid, &self.attempt.workload_uid) {
            (Some(name), Some(uid), _) => Target::Pod { name: name.clone(), uid: uid.clone() },
            (_, _, Some(_)) => Target::Rollout,
            (_, _, None) => Target::Agent,
        }
    }

    fn now(&self) -> Timestamp {
        self.input.now
    }

    fn is_expired(&self) -> bool {
        self.now() >= self.attempt.not_after.0
    }

    fn is_requested(&self) -> bool {
        self.attempt.cause == REQUESTED
    }

    fn describe(&self) -> String {
        describe(&self.target(), self.input.workload.found())
    }

    /// Whether `workload` is the one that the attempt was decided for.
    fn is_same_workload(&self, workload: &Workload) -> bool {
        self.attempt.workload_uid.as_ref() == Some(&workload.uid)
    }

    /// Whether the restart was performed, by what the cluster or the agent reports.
    fn is_applied(&self) -> bool {
        let workload = self.input.workload.found().filter(|workload| self.is_same_workload(workload));
        match (self.target(), workload) {
            (Target::Agent, _) => self.signals.handed_out || self.signals.acknowledged.is_some(),
            (Target::Rollout, Some(workload)) => workload.template.attempts.contains(&self.attempt.id),
            (Target::Pod { uid, .. }, Some(workload)) => {
                !workload.pods.iter().any(|pod| pod.uid == uid && !pod.is_terminating)
            }
            (Target::Rollout | Target::Pod { .. }, None) => false,
        }
    }

    fn reserved(&self) -> StepResult {
        if self.is_applied() {
            return self.start_restarting();
        }
        let description = self.describe();
        if let Some(why) = &self.signals.refused {
            return self.end(AttemptOutcome::Refused, false, format!("{description} was refused: {why}"));
        }
        if self.is_expired() {
            let why = self.signals.failed_try.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            return self.end(AttemptOutcome::Abandoned, false, format!("{description} was not begun in time{why}"));
        }
        if !self.is_requested() && self.input.verdict.health() == ObjectHealth::Healthy {
            let message = format!("{description} was not begun: it is healthy again by itself");
            return self.end(AttemptOutcome::Abandoned, false, message);
        }
        if let Some(ended) = self.superseded() {
            return ended;
        }
        if let Err(Denied { reason, message, .. }) = still_allowed(self.input) {
            if matches!(reason, Denial::WorkloadNotFound | Denial::WorkloadPaused | Denial::ScaledToZero) {
                let message = format!("{description} was not begun: {message}");
                return self.end(AttemptOutcome::Superseded, false, message);
            }
            return self.end(
                AttemptOutcome::Recalled,
                false,
                format!("{description} was called back ({reason}): {message}"),
            );
        }
        let message = self.begins(&description);
        let result = StepResult::in_progress(self.input.status.clone(), message, after(self.now(), STEP_INTERVAL));
        StepResult { remedy: self.remedy(), ..result }
    }

    /// The remedy of this attempt; `None` while the workload cannot be read: it is not touched then.
    fn remedy(&self) -> Option<Remedy> {
        match (self.target(), self.input.workload) {
            (Target::Agent, _) => {
                Some(Remedy::Offer { id: self.attempt.id.clone(), not_after: self.attempt.not_after.0 })
            }
            (Target::Pod { name, uid }, WorkloadLookup::Found(_)) => Some(Remedy::Evict { name, uid }),
            (Target::Rollout, WorkloadLookup::Found(workload)) => Some(Remedy::Restart {
                id: self.attempt.id.clone(),
                started: self.attempt.start_time.0,
                uid: workload.uid.clone(),
                generation: workload.generation,
            }),
            (Target::Pod { .. } | Target::Rollout, _) => None,
        }
    }

    /// The sentence of the condition while the restart is to be performed.
    fn begins(&self, description: &str) -> String {
        match &self.signals.failed_try {
            Some(why) => format!("{description} was tried, and was not done: {why}; it is tried again"),
            None => format!("{description} begins"),
        }
    }

    /// Ends the attempt when the workload differs from the one that it was decided for.
    fn superseded(&self) -> Option<StepResult> {
        let is_pod = matches!(self.target(), Target::Pod { .. });
        let why = match self.input.workload {
            _ if self.target() == Target::Agent => return None,
            WorkloadLookup::Absent => "it does not exist any more".to_owned(),
            WorkloadLookup::Forbidden(why) => {
                return Some(self.end(AttemptOutcome::Refused, false, format!("{}: {why}", self.describe())));
            }
            WorkloadLookup::Found(workload) if !self.is_same_workload(workload) => {
                "it was deleted and created again".to_owned()
            }
            WorkloadLookup::Found(workload) if workload.is_terminating => "it is being deleted".to_owned(),
            WorkloadLookup::Found(workload)
                if !is_pod && Some(workload.generation) != self.attempt.workload_generation =>
            {
                "somebody else changed it meanwhile".to_owned()
            }
            WorkloadLookup::NotLooked | WorkloadLookup::Failed(_) | WorkloadLookup::Found(_) => return None,
        };
        Some(self.end(AttemptOutcome::Superseded, false, format!("{} was not begun: {why}", self.describe())))
    }

    fn start_restarting(&self) -> StepResult {
        let message = format!("{} is under way, for {}", self.describe(), self.attempt.cause);
        let mut status = self.input.status.clone();
        if let Some(current) = &mut status.current {
            current.phase = AttemptPhase::Restarting;
        }
        let event = started(self.attempt, &message);
        StepResult { events: vec![event], ..StepResult::in_progress(status, message, self.now()) }
    }

    fn restarting(&self) -> StepResult {
        match self.target() {
            Target::Agent => self.agent_restarting(),
            Target::Rollout | Target::Pod { .. } => self.rolling(),
        }
    }

    fn agent_restarting(&self) -> StepResult {
        match &self.signals.acknowledged {
            Some((true, _)) => self.start_verifying(),
            Some((false, why)) => {
                let why = if why.is_empty() { "it gives no reason" } else { why };
                self.end(AttemptOutcome::Refused, false, format!("the agent could not restart its unit: {why}"))
            }
            None if self.is_expired() => {
                self.end(AttemptOutcome::TimedOut, false, "the agent did not answer the request in time".to_owned())
            }
            None => {
                // A new leader has handed out nothing yet. The same id is offered until the agent acknowledges it.
                let offer = Remedy::Offer { id: self.attempt.id.clone(), not_after: self.attempt.not_after.0 };
                let message = "its agent was asked to restart its unit";
                let check_again_at = after(self.now(), STEP_INTERVAL).min(self.attempt.not_after.0);
                StepResult {
                    remedy: Some(offer),
                    ..StepResult::in_progress(self.input.status.clone(), message, check_again_at)
                }
            }
        }
    }

    fn rolling(&self) -> StepResult {
        let workload = match self.input.workload {
            WorkloadLookup::Absent => {
                return self.end(
                    AttemptOutcome::Superseded,
                    true,
                    "its workload was deleted during the restart".into(),
                );
            }
            WorkloadLookup::Found(workload) if !self.is_same_workload(workload) => {
                let message = format!("{} was deleted and created again during the restart", workload.display_name);
                return self.end(AttemptOutcome::Superseded, true, message);
            }
            WorkloadLookup::Found(workload) => workload,
            WorkloadLookup::NotLooked | WorkloadLookup::Forbidden(_) | WorkloadLookup::Failed(_)
                if self.is_expired() =>
            {
                return self.end(
                    AttemptOutcome::TimedOut,
                    true,
                    "how far the restart is could not be seen in time".into(),
                );
            }
            WorkloadLookup::NotLooked => return self.wait("the restart is under way"),
            WorkloadLookup::Forbidden(why) | WorkloadLookup::Failed(why) => {
                return self.wait(&format!("how far the restart is cannot be seen: {why}"));
            }
        };
        if let Some(result) = self.rolled_out_by_others(workload) {
            return result;
        }
        match &workload.rollout {
            Rollout::Complete => self.start_verifying(),
            Rollout::Failed(why) => self.end(
                AttemptOutcome::RolloutFailed,
                true,
                format!("the rollout of {} failed: {why}", workload.display_name),
            ),
            Rollout::Unavailable(figures) | Rollout::InProgress(figures) if self.is_expired() => {
                let message = format!("the rollout of {} is not finished in time: {figures}", workload.display_name);
                self.end(AttemptOutcome::TimedOut, true, message)
            }
            Rollout::Unavailable(_) | Rollout::InProgress(_) => {
                self.wait(&format!("{} is under way, for {}", self.describe(), self.attempt.cause))
            }
        }
    }

    /// Ends the attempt when another party rolled the workload out, or waits while that cannot be told yet.
    fn rolled_out_by_others(&self, workload: &Workload) -> Option<StepResult> {
        let (display_name, template) = (&workload.display_name, &workload.template);
        let is_ours = template.attempt.as_ref() == Some(&self.attempt.id) || template.is_stripped;
        if self.target() != Target::Rollout || is_ours {
            return None;
        }
        // Before the workload's controller has observed the template, one that only lost the attempt's annotation
        // (`is_stripped`) cannot be told from another party's.
        let is_unobserved =
            template.attempt.is_none() && template.since.is_none() && template.revisions_unread.is_none();
        if is_unobserved && !self.is_expired() {
            return Some(self.wait(&format!("{display_name} has a template that its controller has not seen yet")));
        }
        let message = format!("somebody else rolled {display_name} out during the restart");
        Some(self.end(AttemptOutcome::Superseded, true, message))
    }

    fn wait(&self, message: &str) -> StepResult {
        let check_again_at = after(self.now(), STEP_INTERVAL).min(self.attempt.not_after.0);
        StepResult::in_progress(self.input.status.clone(), message, check_again_at)
    }

    fn start_verifying(&self) -> StepResult {
        let mut status = self.input.status.clone();
        if let Some(current) = &mut status.current {
            current.phase = AttemptPhase::Verifying;
            current.restarted_time = Some(MicroTime(self.now()));
        }
        StepResult::in_progress(status, VERIFYING, after(self.now(), STEP_INTERVAL))
    }

    fn verifying(&self) -> StepResult {
        let since = self.attempt.restarted_time.as_ref().map_or(self.attempt.start_time.0, |at| at.0);
        let verdict = self.input.verdict;
        let is_healthy = verdict.health() == ObjectHealth::Healthy && verdict.healthy_at.is_some_and(|at| at >= since);
        let is_expired = self.is_expired();
        if !is_healthy {
            if is_expired {
                let why = verdict.diagnosis.as_ref().map_or_else(
                    || "it is not known to be healthy".to_owned(),
                    |found| format!("it is still unhealthy ({})", found.cause),
                );
                return self.end(AttemptOutcome::NotCured, true, format!("restarted, and {why}"));
            }
            return self.wait(VERIFYING);
        }
        let scrape = verdict.scrape.as_ref();
        let is_scraped = |scrape: &Scrape| scrape.passed == Some(true) && scrape.at.is_some_and(|at| at >= since);
        let took = self.now().duration_since(self.attempt.start_time.0).as_secs();
        match scrape {
            None => {
                self.end(AttemptOutcome::Succeeded, true, format!("restarted, and healthy {took} s after the decision"))
            }
            Some(scrape) if is_scraped(scrape) => {
                let message = format!("restarted, healthy and scraped by Prometheus {took} s after the decision");
                self.end(AttemptOutcome::Succeeded, true, message)
            }
            Some(scrape) if is_expired && scrape.passed.is_none() => {
                let message = "restarted, and healthy; Prometheus could not be asked whether it scrapes it again";
                self.end(AttemptOutcome::Succeeded, true, message.to_owned())
            }
            Some(_) if is_expired => {
                let message = "restarted, and our probe passes; Prometheus has not scraped it since".to_owned();
                self.end(AttemptOutcome::NotCured, true, message)
            }
            Some(_) => self.wait("restarted, and our probe passes; Prometheus' next scrape is awaited"),
        }
    }

    fn end(&self, outcome: AttemptOutcome, restarted: bool, message: String) -> StepResult {
        let PolicyInput { object, spec, .. } = *self.input;
        let now = self.now();
        let message = clip(message, MAX_MESSAGE);
        let mut status = self.input.status.clone();
        status.current = None;
        status.restarts = status.restarts.saturating_add(i64::from(restarted));
        if !self.is_requested() {
            if outcome == AttemptOutcome::Recalled {
                refund(&mut status);
            } else {
                let used = status.ledger.as_ref().map_or(1, |ledger| ledger.attempts);
                status.next_attempt_time =
                    spec.map(|spec| Time(whole_seconds(after(now, backoff(spec, used, object)))));
            }
        }
        let past = PastAttempt {
            id: self.attempt.id.clone(),
            cause: self.attempt.cause.clone(),
            outcome,
            restarted,
            cured: outcome == AttemptOutcome::Succeeded,
            start_time: self.attempt.start_time.clone(),
            end_time: Time(whole_seconds(now)),
            message: message.clone(),
        };
        let events = vec![ended(&past)];
        status.history.insert(0, past);
        status.history.truncate(MAX_HISTORY);
        let result = StepResult::new(status, Truth::False, Reason::Idle, format!("{outcome}: {message}"));
        StepResult { events, ended: Some(outcome), check_again_at: Some(now), ..result }
    }
}

const VERIFYING: &str = "restarted; a healthy verdict is awaited";

/// An attempt that a brake called back before it was performed uses no attempt of the ledger.
fn refund(status: &mut RemediationStatus) {
    let Some(ledger) = &mut status.ledger else { return };
    ledger.attempts -= 1;
    if ledger.attempts <= 0 {
        status.ledger = None;
    }
}
