//! One step of an attempt that is under way.

use super::events::{outcome_of, started};
use super::{Remedy, SOON, Signals, StepResult, after, found, in_words, whole_seconds};
use crate::api::{
    Attempt, AttemptOutcome, AttemptPhase, Denial, MAX_HISTORY, MAX_MESSAGE, MicroTime, PastAttempt, REQUESTED, Reason,
    RemediationStatus, Time, Truth, clip,
};
use crate::remediation::history::backoff;
use crate::remediation::input::{Denied, Health, Lookup, PolicyInput, Rollout, Scrape, Target, Workload};
use crate::remediation::policy::still_allowed;
use jiff::Timestamp;

/// An attempt under way.
pub(super) struct InProgress<'a> {
    pub(super) situation: &'a PolicyInput<'a>,
    pub(super) attempt: &'a Attempt,
    pub(super) word: &'a Signals,
}

impl InProgress<'_> {
    fn target(&self) -> Target {
        match (&self.attempt.pod_name, &self.attempt.pod_uid, &self.attempt.workload_uid) {
            (Some(name), Some(uid), _) => Target::Pod { name: name.clone(), uid: uid.clone() },
            (_, _, Some(_)) => Target::Rollout,
            (_, _, None) => Target::Agent,
        }
    }

    fn now(&self) -> Timestamp {
        self.situation.now
    }

    fn is_over(&self) -> bool {
        self.now() >= self.attempt.not_after.0
    }

    fn is_requested(&self) -> bool {
        self.attempt.cause == REQUESTED
    }

    fn in_words(&self) -> String {
        in_words(&self.target(), found(self.situation.workload))
    }

    /// Whether the workload that it was decided for is still there.
    fn is_same(&self, workload: &Workload) -> bool {
        self.attempt.workload_uid.as_ref() == Some(&workload.uid)
    }

    /// Whether it was acted upon, by what the cluster or the agent says.
    fn is_applied(&self) -> bool {
        let workload = found(self.situation.workload).filter(|workload| self.is_same(workload));
        match (self.target(), workload) {
            (Target::Agent, _) => self.word.handed_out || self.word.acknowledged.is_some(),
            (Target::Rollout, Some(workload)) => workload.template.attempts.contains(&self.attempt.id),
            (Target::Pod { uid, .. }, Some(workload)) => {
                !workload.pods.iter().any(|pod| pod.uid == uid && !pod.is_going)
            }
            (Target::Rollout | Target::Pod { .. }, None) => false,
        }
    }

    pub(super) fn reserved(&self) -> StepResult {
        if self.is_applied() {
            return self.applied();
        }
        let in_words = self.in_words();
        if let Some(why) = &self.word.refused {
            return self.end(AttemptOutcome::Refused, false, format!("{in_words} was refused: {why}"));
        }
        if self.is_over() {
            return self.end(AttemptOutcome::Abandoned, false, format!("{in_words} was not begun in time"));
        }
        if !self.is_requested() && self.situation.verdict.health() == Health::Healthy {
            let message = format!("{in_words} was not begun: it is healthy again by itself");
            return self.end(AttemptOutcome::Abandoned, false, message);
        }
        if let Some(ended) = self.superseded() {
            return ended;
        }
        if let Err(Denied { reason, message, .. }) = still_allowed(self.situation) {
            if matches!(reason, Denial::WorkloadNotFound | Denial::WorkloadPaused | Denial::ScaledToZero) {
                let message = format!("{in_words} was not begun: {message}");
                return self.end(AttemptOutcome::Superseded, false, message);
            }
            return self.end(
                AttemptOutcome::Recalled,
                false,
                format!("{in_words} was called back ({reason}): {message}"),
            );
        }
        let act = match (self.target(), self.situation.workload) {
            (Target::Agent, _) => {
                Some(Remedy::Offer { id: self.attempt.id.clone(), not_after: self.attempt.not_after.0 })
            }
            (Target::Pod { name, uid }, Lookup::Found(_)) => Some(Remedy::Evict { name, uid }),
            (Target::Rollout, Lookup::Found(workload)) => Some(Remedy::Restart {
                id: self.attempt.id.clone(),
                started: self.attempt.start_time.0,
                uid: workload.uid.clone(),
                generation: workload.generation,
            }),
            // What cannot be seen now is not touched now.
            (Target::Pod { .. } | Target::Rollout, _) => None,
        };
        let course =
            StepResult::under_way(self.situation.status.clone(), format!("{in_words} begins"), after(self.now(), SOON));
        StepResult { act, ..course }
    }

    /// The workload is not any more what the attempt was decided for.
    fn superseded(&self) -> Option<StepResult> {
        let is_pod = matches!(self.target(), Target::Pod { .. });
        let why = match self.situation.workload {
            _ if self.target() == Target::Agent => return None,
            Lookup::Absent => "it does not exist any more".to_owned(),
            Lookup::Forbidden(why) => {
                return Some(self.end(AttemptOutcome::Refused, false, format!("{}: {why}", self.in_words())));
            }
            Lookup::Found(workload) if !self.is_same(workload) => "it was deleted and created again".to_owned(),
            Lookup::Found(workload) if workload.is_going => "it is being deleted".to_owned(),
            Lookup::Found(workload) if !is_pod && Some(workload.generation) != self.attempt.workload_generation => {
                "somebody else changed it meanwhile".to_owned()
            }
            Lookup::NotLooked | Lookup::Failed(_) | Lookup::Found(_) => return None,
        };
        Some(self.end(AttemptOutcome::Superseded, false, format!("{} was not begun: {why}", self.in_words())))
    }

    fn applied(&self) -> StepResult {
        let message = format!("{} is under way, for {}", self.in_words(), self.attempt.cause);
        let mut status = self.situation.status.clone();
        if let Some(current) = &mut status.current {
            current.phase = AttemptPhase::Restarting;
        }
        let told = started(self.attempt, &message);
        StepResult { told: vec![told], ..StepResult::under_way(status, message, self.now()) }
    }

    pub(super) fn restarting(&self) -> StepResult {
        match self.target() {
            Target::Agent => self.agent_restarting(),
            Target::Rollout | Target::Pod { .. } => self.rolling(),
        }
    }

    fn agent_restarting(&self) -> StepResult {
        match &self.word.acknowledged {
            Some((true, _)) => self.restarted(),
            Some((false, why)) => {
                let why = if why.is_empty() { "it gives no reason" } else { why };
                self.end(AttemptOutcome::Refused, false, format!("the agent could not restart its unit: {why}"))
            }
            None if self.is_over() => {
                self.end(AttemptOutcome::TimedOut, false, "the agent did not answer the request in time".to_owned())
            }
            None => {
                // A leader that comes after us has handed out nothing: the same id, until it is acknowledged.
                let offer = Remedy::Offer { id: self.attempt.id.clone(), not_after: self.attempt.not_after.0 };
                let message = "its agent was asked to restart its unit";
                let again = after(self.now(), SOON).min(self.attempt.not_after.0);
                StepResult { act: Some(offer), ..StepResult::under_way(self.situation.status.clone(), message, again) }
            }
        }
    }

    fn rolling(&self) -> StepResult {
        let workload = match self.situation.workload {
            Lookup::Absent => {
                return self.end(
                    AttemptOutcome::Superseded,
                    true,
                    "its workload was deleted during the restart".into(),
                );
            }
            Lookup::Found(workload) if !self.is_same(workload) => {
                let message = format!("{} was deleted and created again during the restart", workload.called);
                return self.end(AttemptOutcome::Superseded, true, message);
            }
            Lookup::Found(workload) => workload,
            Lookup::NotLooked | Lookup::Forbidden(_) | Lookup::Failed(_) if self.is_over() => {
                return self.end(
                    AttemptOutcome::TimedOut,
                    true,
                    "how far the restart is could not be seen in time".into(),
                );
            }
            Lookup::NotLooked => return self.waits("the restart is under way"),
            Lookup::Forbidden(why) | Lookup::Failed(why) => {
                return self.waits(&format!("how far the restart is cannot be seen: {why}"));
            }
        };
        if let Some(course) = self.foreign(workload) {
            return course;
        }
        match &workload.rollout {
            Rollout::Complete => self.restarted(),
            Rollout::Failed(why) => self.end(
                AttemptOutcome::RolloutFailed,
                true,
                format!("the rollout of {} failed: {why}", workload.called),
            ),
            Rollout::Unavailable(figures) | Rollout::InProgress(figures) if self.is_over() => {
                let message = format!("the rollout of {} is not finished in time: {figures}", workload.called);
                self.end(AttemptOutcome::TimedOut, true, message)
            }
            Rollout::Unavailable(_) | Rollout::InProgress(_) => {
                self.waits(&format!("{} is under way, for {}", self.in_words(), self.attempt.cause))
            }
        }
    }

    /// The template is not ours any more, or nobody can say yet.
    fn foreign(&self, workload: &Workload) -> Option<StepResult> {
        let (called, template) = (&workload.called, &workload.template);
        let is_ours = template.attempt.as_ref() == Some(&self.attempt.id) || template.is_stripped;
        if self.target() != Target::Rollout || is_ours {
            return None;
        }
        // Whose it is shows once its controller has seen it: one that was stripped of our annotation is ours still.
        let is_unseen = template.attempt.is_none() && template.since.is_none() && template.unread.is_none();
        if is_unseen && !self.is_over() {
            return Some(self.waits(&format!("{called} has a template that its controller has not seen yet")));
        }
        let message = format!("somebody else rolled {called} out during the restart");
        Some(self.end(AttemptOutcome::Superseded, true, message))
    }

    fn waits(&self, message: &str) -> StepResult {
        let again = after(self.now(), SOON).min(self.attempt.not_after.0);
        StepResult::under_way(self.situation.status.clone(), message, again)
    }

    fn restarted(&self) -> StepResult {
        let mut status = self.situation.status.clone();
        if let Some(current) = &mut status.current {
            current.phase = AttemptPhase::Verifying;
            current.restarted_time = Some(MicroTime(self.now()));
        }
        StepResult::under_way(status, VERIFYING, after(self.now(), SOON))
    }

    pub(super) fn verifying(&self) -> StepResult {
        let since = self.attempt.restarted_time.as_ref().map_or(self.attempt.start_time.0, |at| at.0);
        let verdict = self.situation.verdict;
        let is_healthy = verdict.health() == Health::Healthy && verdict.healthy_at.is_some_and(|at| at >= since);
        let is_over = self.is_over();
        if !is_healthy {
            if is_over {
                let why = verdict.diagnosis.as_ref().map_or_else(
                    || "it is not known to be healthy".to_owned(),
                    |found| format!("it is still unhealthy ({})", found.cause),
                );
                return self.end(AttemptOutcome::NotCured, true, format!("restarted, and {why}"));
            }
            return self.waits(VERIFYING);
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
            Some(scrape) if is_over && scrape.passed.is_none() => {
                let message = "restarted, and healthy; Prometheus could not be asked whether it scrapes it again";
                self.end(AttemptOutcome::Succeeded, true, message.to_owned())
            }
            Some(_) if is_over => {
                let message = "restarted, and our probe passes; Prometheus has not scraped it since".to_owned();
                self.end(AttemptOutcome::NotCured, true, message)
            }
            Some(_) => self.waits("restarted, and our probe passes; Prometheus' next scrape is awaited"),
        }
    }

    fn end(&self, outcome: AttemptOutcome, restarted: bool, message: String) -> StepResult {
        let PolicyInput { object, spec, .. } = *self.situation;
        let now = self.now();
        let message = clip(message, MAX_MESSAGE);
        let mut status = self.situation.status.clone();
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
        let told = vec![outcome_of(&past)];
        status.history.insert(0, past);
        status.history.truncate(MAX_HISTORY);
        let course = StepResult::of(status, Truth::False, Reason::Idle, format!("{outcome}: {message}"));
        StepResult { told, ended: Some(outcome), again: Some(now), ..course }
    }
}

const VERIFYING: &str = "restarted; a healthy verdict is awaited";

/// What a brake called back before it was acted upon costs nothing.
fn refund(status: &mut RemediationStatus) {
    let Some(ledger) = &mut status.ledger else { return };
    ledger.attempts -= 1;
    if ledger.attempts <= 0 {
        status.ledger = None;
    }
}
