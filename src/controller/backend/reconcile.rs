//! One reconcile step of a MonitoredBackend: observe, assess, decide, apply.

use std::sync::Arc;

use serde_json::{Value, json};

use super::agents::{self, AgentSignals, Notes};
use super::context::Context;
use super::decide::{decide, hold_verdict_for, state_event};
use super::remediation_input::{remediation_input, verdict};
use crate::api::{BackendState, Key, MonitoredBackend, MonitoredBackendStatus, Transition};
use crate::cluster::events::Event;
use crate::controller::remediation::NextStep;
use crate::controller::runtime::kept::add_stalled;
use crate::controller::runtime::kind::ReconcileError;
use crate::controller::runtime::{Kind, ObjectEntry, Runtime, Step};
use crate::monitor::entry::{Backend, Snapshot};
use crate::time::Now;

impl ObjectEntry for Backend {
    fn key(&self) -> &Key {
        &self.key
    }

    fn has_uid(&self, uid: &str) -> bool {
        *self.uid == *uid
    }
}

impl Kind for Context {
    type Object = MonitoredBackend;
    type Entry = Backend;
    type Snapshot = Snapshot;
    type State = BackendState;
    type Status = MonitoredBackendStatus;
    type Notes = Notes;

    const RECONCILES_AT_ONCE: u16 = 64;
    const UNKNOWN: &'static str = BackendState::Unknown.as_str();
    const CHECKPOINTED: &'static str = "last probes";
    const STALE_AFTER: &'static str = "10 probe intervals";

    fn runtime(&self) -> &Runtime<Self> {
        &self.runtime
    }

    fn entry(&self, key: &Key) -> Option<Arc<Backend>> {
        self.monitor.backends.get(key)
    }

    fn entries(&self) -> Vec<Arc<Backend>> {
        self.monitor.backends.all()
    }

    fn is_current(&self, entry: &Backend) -> bool {
        self.monitor.backends.has(entry)
    }

    fn upsert(&self, object: &MonitoredBackend) -> Option<Arc<Backend>> {
        let upserted = self.monitor.upsert(object);
        if upserted.is_new {
            self.checkpoints.add(upserted.backend);
        }
        upserted.removed
    }

    fn remove(&self, entry: &Arc<Backend>) {
        agents::withdraw(&self.registry, &entry.object());
        self.monitor.remove(entry);
    }

    fn snapshot(&self, entry: &Arc<Backend>, _now: Now) -> Snapshot {
        self.monitor.snapshot(entry)
    }

    async fn step(&self, step: &mut Step<'_, Self>) -> Result<NextStep, ReconcileError> {
        let observed = self.observe(step);
        let input = observed.input(step);
        if let Some(wait) = hold_verdict_for(&input, observed.suspected) {
            return Ok(NextStep::Wait(Some(wait)));
        }
        let mut assessment = input.assess();
        let verdict = verdict(&input, &assessment);
        let signals = AgentSignals::read(&self.registry, step.object);
        let remedy = self.remediator.step(&step.permit, remediation_input(&input, &verdict, &signals)).await;
        let generation = step.object.metadata.generation;
        add_stalled(step.state.not_kept.as_deref(), &mut assessment.conditions, generation);
        let plan = decide(&input, assessment, &remedy);
        self.apply(step, plan, remedy).await
    }

    fn with_status(object: &MonitoredBackend, status: MonitoredBackendStatus) -> MonitoredBackend {
        MonitoredBackend { status: Some(status), ..object.clone() }
    }

    fn transitions(object: &MonitoredBackend) -> &[Transition] {
        object.status.as_ref().map(|status| status.transitions.as_slice()).unwrap_or_default()
    }

    fn state_event(object: &MonitoredBackend) -> Option<Event> {
        state_event(object, object.status.as_ref()?)
    }

    fn checkpoint_patch(current: &MonitoredBackendStatus) -> Value {
        json!({
            "lastProbeTime": current.last_probe_time,
            "lastHealthyTime": current.last_healthy_time,
            "latencyMilliseconds": current.latency_milliseconds,
            "vantages": current.vantages,
            "agent": current.agent,
            "diagnosis": current.diagnosis,
            "conditions": current.conditions,
        })
    }

    fn note_written(&self, step: &Step<'_, Self>, _written: &MonitoredBackend) {
        step.entry.note_written(step.live.probed_at, self.clock.now());
    }
}

#[cfg(test)]
mod tests;
