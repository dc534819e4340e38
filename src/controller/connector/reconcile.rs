//! One reconcile step of a Connector: observe, assess, decide, apply.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::Store;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::deadlines::Command;
use super::decide::{decide, state_event};
use super::remediation_input::{remediation_input, verdict};
use super::sites::Sites;
use super::token_step::{Notes, plan_token};
use crate::api::{Connector, ConnectorState, ConnectorStatus, Key, Transition};
use crate::cluster::events::Event;
use crate::controller::remediation::NextStep;
use crate::controller::runtime::kept::add_stalled;
use crate::controller::runtime::kind::ReconcileError;
use crate::controller::runtime::wake::Guarded;
use crate::controller::runtime::{Kind, ObjectEntry, Runtime, Step};
use crate::heartbeat::entry::{Entry, Snapshot};
use crate::heartbeat::registry::Registry;
use crate::probe::Prober;
use crate::time::{Moment, Now};

/// The stores of the objects, one for each scope.
pub type Stores = Vec<Store<Guarded<Connector>>>;

/// The context of the reconciles of Connectors.
pub struct Context {
    /// The parts that both kinds have.
    pub runtime: Runtime<Self>,
    /// The last contacts.
    pub registry: Arc<Registry>,
    /// The sites with mass silence.
    pub sites: Arc<Sites>,
    /// Dials the pods of a silent connector.
    pub prober: Arc<Prober>,
    /// The URL by which connectors reach the operator.
    pub public_url: Option<String>,
    /// The commands for the deadline scheduler.
    pub commands: mpsc::UnboundedSender<Command>,
}

impl Deref for Context {
    type Target = Runtime<Self>;

    fn deref(&self) -> &Runtime<Self> {
        &self.runtime
    }
}

impl ObjectEntry for Entry {
    fn key(&self) -> &Key {
        &self.identity.key
    }

    fn has_uid(&self, uid: &str) -> bool {
        self.identity.has_uid(uid)
    }
}

impl Kind for Context {
    type Object = Connector;
    type Entry = Entry;
    type Snapshot = Snapshot;
    type State = ConnectorState;
    type Status = ConnectorStatus;
    type Notes = Notes;

    // Each reconcile holds a few copies of its object while it waits for its turn to write, so a fleet that is created at
    // once must not have all of its reconciles running; and there must be room for a transition beside many reconciles
    // that wait for a Secret or a checkpoint.
    const RECONCILES_AT_ONCE: u16 = 256;
    const UNKNOWN: &'static str = ConnectorState::Unknown.as_str();
    const CHECKPOINTED: &'static str = "last contacts";
    const STALE_AFTER: &'static str = "lateAfterSeconds";

    fn runtime(&self) -> &Runtime<Self> {
        &self.runtime
    }

    fn entry(&self, key: &Key) -> Option<Arc<Entry>> {
        self.registry.get(key)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.registry.all()
    }

    fn is_current(&self, entry: &Entry) -> bool {
        self.registry.has(entry)
    }

    fn upsert(&self, connector: &Connector) -> Option<Arc<Entry>> {
        let upserted = self.registry.upsert(connector, self.clock.read());
        if let Some(predecessor) = &upserted.removed {
            let _ = self.commands.send(Command::Remove(predecessor.clone()));
        }
        for affected in &upserted.affected {
            self.trigger.wake(affected);
        }
        let entry = upserted.fresh.clone().or_else(|| self.registry.get(&Key::of(&connector.metadata)));
        if let Some(fresh) = upserted.fresh {
            self.checkpoints.add(fresh);
        }
        if let (true, Some(entry)) = (upserted.changed, entry) {
            let _ = self.commands.send(Command::Upsert(entry));
        }
        upserted.removed
    }

    fn remove(&self, entry: &Arc<Entry>) {
        for affected in self.registry.remove(entry) {
            self.trigger.wake(&affected);
        }
        let _ = self.commands.send(Command::Remove(entry.clone()));
    }

    fn snapshot(&self, entry: &Arc<Entry>, now: Now) -> Snapshot {
        entry.snapshot(self.registry.listening.listening_to(entry, now.moment), now.moment)
    }

    async fn step(&self, step: &mut Step<'_, Self>) -> Result<NextStep, ReconcileError> {
        let observed = self.observe(step).await;
        let token = observed.token.as_ref().map(|observed| plan_token(step, observed));
        let token_plan = token.as_ref().map(|token| &token.plan);
        let input = observed.input(step, token_plan);
        let mut assessment = input.assess();
        let verdict = verdict(&input, &assessment);
        let remedy = self.remediator.step(&step.permit, remediation_input(&input, &verdict)).await;
        let generation = step.object.metadata.generation;
        add_stalled(step.state.not_kept.as_deref(), &mut assessment.conditions, generation);
        let plan = decide(&input, assessment, &remedy, token_plan);
        self.apply(step, observed, token, plan, remedy).await
    }

    fn with_status(connector: &Connector, status: ConnectorStatus) -> Connector {
        Connector { status: Some(status), ..connector.clone() }
    }

    fn transitions(connector: &Connector) -> &[Transition] {
        connector.status.as_ref().map(|status| status.transitions.as_slice()).unwrap_or_default()
    }

    fn state_event(connector: &Connector) -> Option<Event> {
        state_event(connector, connector.status.as_ref()?)
    }

    fn checkpoint_patch(current: &ConnectorStatus) -> Value {
        json!({
            "lastHeartbeatTime": current.last_heartbeat_time,
            "lastHealthyTime": current.last_healthy_time,
            "agent": current.agent,
            "checks": current.checks,
        })
    }

    fn note_written(&self, step: &Step<'_, Self>, written: &Connector) {
        self.registry.wrote(&step.entry, written, step.live.last_contact, self.clock.read());
    }

    fn compare_knowledge(&self, step: &Step<'_, Self>) -> Ordering {
        let stored = step.object.status.as_ref().and_then(ConnectorStatus::last_contact);
        let stored = stored.map(|at| step.now.place(at));
        let heard = step.live.last_contact;
        // A stored time is rounded.
        let is_later = |one: Option<Moment>, other: Option<Moment>| {
            one.is_some_and(|one| other.is_none_or(|other| one.since(other) > Duration::from_secs(1)))
        };
        match (is_later(heard, stored), is_later(stored, heard)) {
            (true, _) => Ordering::Greater,
            (_, true) => Ordering::Less,
            _ => Ordering::Equal,
        }
    }

    fn could_notice_since(&self, entry: &Entry, now: Now) -> Option<Timestamp> {
        self.registry.listening.listening_to(entry, now.moment).since.map(|since| now.stamp(since))
    }
}

#[cfg(test)]
mod tests;
