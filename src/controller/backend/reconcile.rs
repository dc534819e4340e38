//! One reconcile of a backend: observe, decide, apply, when next.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use thiserror::Error;

use super::assess::Input;
use super::decide::{Plan, decide, state_event};
use super::remediation_input::verdict;
use crate::api::{AttemptPhase, BackendState, Key, MonitoredBackend, MonitoredBackendStatus};
use crate::cluster::{CallError, WriteError, WriteReason};
use crate::controller::events::{Event, RETELL};
use crate::controller::remediation::{FollowUp, NextStep, Remediable as _, RemediationInput};
use crate::controller::{log, remediation};
use crate::leadership::Permit;
use crate::monitor::context::Context;
use crate::monitor::registry::{Backend, Snapshot};
use crate::remediation::attempt::StepResult;
use crate::time::Now;

/// Why a backend could not be dealt with now. It is tried again.
#[derive(Debug, Error)]
pub enum Failed {
    /// Its status was not written.
    #[error("its status was not written: {0}")]
    Status(#[from] WriteError),
    /// It cannot be read, and does not say so yet.
    #[error("it does not say that it cannot be read: {0}")]
    Unreadable(#[from] CallError),
    /// An event was not told.
    #[error("an event was not told: {0}")]
    Event(CallError),
}

impl Context {
    /// Deals with one backend. Level-based: it does not matter what woke it.
    ///
    /// # Errors
    /// What kept it from being dealt with; the caller tries again.
    pub async fn reconcile(&self, seen: &MonitoredBackend) -> Result<Action, Failed> {
        let known = self.backends.get(&Key::of(&seen.metadata));
        let Some(entry) = known.filter(|known| Some(&known.uid) == seen.metadata.uid.as_ref()) else {
            return Ok(Action::await_change());
        };
        // A remedy takes a few steps, each with the object as the one before wrote it.
        for _ in 0..6 {
            match self.step(&entry, seen).await? {
                NextStep::Again => {}
                NextStep::After(wait) => return Ok(wait.map_or_else(Action::await_change, Action::requeue)),
            }
        }
        Ok(Action::requeue(Duration::from_secs(1)))
    }

    /// One look; gives when the next one is due.
    async fn step(&self, entry: &Arc<Backend>, seen: &MonitoredBackend) -> Result<NextStep, Failed> {
        let now = self.clock.read();
        let Some(permit) = self.leadership.borrow().permit(now.moment) else { return Ok(NextStep::After(None)) };
        let younger = self.note(entry.number, permit.epoch(), |notes| younger(&mut notes.latest, seen));
        let backend = younger.as_ref().unwrap_or(seen);
        let live = entry.snapshot(self.self_check.blind_for(entry));
        if let Some(wait) = self.waits(entry, backend, &live) {
            return Ok(NextStep::After(Some(wait)));
        }
        let case = Input { backend, live: &live, remedy: None, now };
        let verdict = verdict(&case, &case.assess());
        let course = self.remedies.step(&permit, RemediationInput::about(backend, &verdict)).await;
        let current = course.status.current.as_ref();
        if current.is_some_and(|current| current.phase == AttemptPhase::Verifying) {
            entry.ask_prometheus_again(now.moment);
        }
        let plan = decide(&Input { remedy: Some(&course), ..case });
        self.apply(&permit, entry, backend, &live, plan, course, now).await
    }

    /// A verdict in the dark waits until we know that we see; what is known already stands.
    fn waits(&self, entry: &Backend, backend: &MonitoredBackend, live: &Snapshot) -> Option<Duration> {
        let state = backend.status.as_ref().and_then(|status| status.state);
        if state == Some(BackendState::Down) || live.blind.is_some() || live.refused.is_some() {
            return None;
        }
        self.self_check.holds_verdict(entry, live.record.availability())
    }

    #[expect(clippy::too_many_arguments, reason = "the last step takes what all steps before it made")]
    async fn apply(
        &self,
        permit: &Permit,
        entry: &Arc<Backend>,
        backend: &MonitoredBackend,
        live: &Snapshot,
        plan: Plan,
        course: StepResult,
        now: Now,
    ) -> Result<NextStep, Failed> {
        let Plan { status, current, mut events, due_at } = plan;
        events.extend(remediation::events(&course.events));
        let checkpoint = self.note(entry.number, permit.epoch(), |notes| std::mem::take(&mut notes.checkpoint));
        let mut written = None;
        if let Some(status) = status {
            let reason = remediation::write_reason(backend, &course, due_at.is_some());
            let object = MonitoredBackend { status: Some(status), ..backend.clone() };
            let done = self.write(reason, permit, entry, object, live, due_at).await;
            written = Some(done.inspect_err(|failed| {
                let is_doubtful = matches!(failed, Failed::Status(error) if error.outcome_unknown());
                self.remedies.after_failed_write(backend, &course, is_doubtful);
            })?);
            self.remedies.after_write(backend, &course);
        } else if checkpoint {
            let done = self.checkpoint(permit, entry, backend, &current, live).await;
            written = Some(done.inspect_err(|_| self.remedies.after_failed_write(backend, &course, false))?);
        }
        let backend = written.as_ref().unwrap_or(backend);
        // Before anything that may fail: it is written down, and nobody else does it.
        let acted = match &course.remedy {
            Some(act) => self.remedies.perform(permit, backend, act).await,
            None => FollowUp::Scheduled,
        };
        let (untold, first) = self.note(entry.number, permit.epoch(), |notes| {
            notes.failures = 0;
            (std::mem::take(&mut notes.untold), !std::mem::replace(&mut notes.retold, true))
        });
        events.extend(untold);
        if let (true, Some(status)) = (first && due_at.is_none(), &backend.status) {
            events.extend(retold(backend, status, now.wall));
        }
        self.tell(permit, entry, backend, events).await?;
        Ok(remediation::next_step(&course, acted, now.wall))
    }

    async fn write(
        &self,
        reason: WriteReason,
        permit: &Permit,
        entry: &Arc<Backend>,
        object: MonitoredBackend,
        live: &Snapshot,
        due_at: Option<Timestamp>,
    ) -> Result<MonitoredBackend, Failed> {
        let written = self.writer.replace(reason, permit, &self.api(&object), &object).await?;
        self.wrote(permit, entry, &written, live);
        if let Some(due_at) = due_at {
            let lag = Duration::try_from(self.clock.read().wall.duration_since(due_at)).unwrap_or_default();
            self.metrics.observe_transition_lag(lag);
            if let Some(latest) = written.status.as_ref().and_then(|status| status.transitions.first()) {
                log::transition(log::Whose { kind: MonitoredBackend::KIND, key: &entry.key }, latest);
            }
        }
        Ok(written)
    }

    async fn checkpoint(
        &self,
        permit: &Permit,
        entry: &Arc<Backend>,
        backend: &MonitoredBackend,
        current: &MonitoredBackendStatus,
        live: &Snapshot,
    ) -> Result<MonitoredBackend, Failed> {
        let patch = json!({
            "lastProbeTime": current.last_probe_time,
            "lastHealthyTime": current.last_healthy_time,
            "latencyMilliseconds": current.latency_milliseconds,
            "vantages": current.vantages,
            "diagnosis": current.diagnosis,
            "conditions": current.conditions,
        });
        let version = backend.resource_version().unwrap_or_default();
        let written = self.writer.checkpoint(permit, &self.api(backend), &backend.name_any(), &version, patch).await?;
        self.wrote(permit, entry, &written, live);
        Ok(written)
    }

    fn wrote(&self, permit: &Permit, entry: &Backend, written: &MonitoredBackend, live: &Snapshot) {
        entry.note_written(live.probed_at, self.clock.now());
        self.note(entry.number, permit.epoch(), |notes| notes.latest = Some(Box::new(written.clone())));
    }

    async fn tell(
        &self,
        permit: &Permit,
        entry: &Arc<Backend>,
        backend: &MonitoredBackend,
        events: Vec<Event>,
    ) -> Result<(), Failed> {
        let regarding = ObjectReference { resource_version: None, ..backend.object_ref(&()) };
        let mut events = events.into_iter();
        while let Some(event) = events.next() {
            if let Err(error) = self.reporter.tell(&regarding, &event).await {
                self.note(entry.number, permit.epoch(), |notes| {
                    notes.untold.extend(std::iter::once(event).chain(events));
                });
                return Err(Failed::Event(error));
            }
        }
        Ok(())
    }

    fn api(&self, backend: &MonitoredBackend) -> Api<MonitoredBackend> {
        Api::namespaced(self.client.clone(), &backend.namespace().unwrap_or_default())
    }
}

/// What we wrote ourselves, when that is younger than `seen`.
fn younger(latest: &mut Option<Box<MonitoredBackend>>, seen: &MonitoredBackend) -> Option<MonitoredBackend> {
    let version = |of: &MonitoredBackend| of.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    if latest.as_deref().and_then(version) <= version(seen) {
        *latest = None;
    }
    latest.as_deref().cloned()
}

/// After a restart of ours the newest transition is told again: whoever wrote it may have been killed before it could
/// tell.
fn retold(backend: &MonitoredBackend, status: &MonitoredBackendStatus, now: Timestamp) -> Option<Event> {
    let latest = status.transitions.first()?;
    if now.duration_since(latest.time.0) >= RETELL { None } else { state_event(backend, status) }
}
