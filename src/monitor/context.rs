//! The monitor: everything that probes and investigations use.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{mpsc, watch};

use super::agent::{self, AgentReader};
use super::entry::{Backend, Snapshot};
use super::registry::{Backends, Upserted};
use super::self_check::SelfCheck;
use crate::api::{Key, MonitoredBackend};
use crate::cluster::events::Reporter;
use crate::diagnosis::gather::ServerCache;
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::probe::{Policy, Prober};
use crate::schedule::{ConcurrencyLimiter, FairShare, Watchdog, turn_after};
use crate::time::{Clock, Moment};

/// The number of objects that are read at once for investigations, and as many for the resolution of targets; over HTTP/1.1
/// each opens a connection. One namespace uses at most half of them.
pub const READS_AT_ONCE: usize = 16;

/// The settings of the probes.
pub struct ProbeSettings {
    /// The addresses that may be dialled.
    pub policy: Policy,
    /// The number of probes at once, at least 2.
    pub probe_concurrency: usize,
    /// The Prometheus for specs that name none.
    pub prometheus_url: Option<String>,
    /// Namespace and name of the operator's own pod, in a cluster.
    pub pod: Option<(String, String)>,
}

/// The parts of the operator that the monitor uses.
pub struct Parts {
    /// A client that sends each request once.
    pub client: Client,
    /// The wall clock and the monotonic clock.
    pub clock: Clock,
    /// The state of the election.
    pub leadership: watch::Receiver<Leadership>,
    /// The metrics of the operator.
    pub metrics: Arc<Metrics>,
    /// Publishes events.
    pub reporter: Reporter,
    /// Notices a task that keeps its thread.
    pub watchdog: Watchdog,
    /// Requests the reconcile of a backend.
    pub wake: Box<dyn Fn(&Key) + Send + Sync>,
    /// Reads the agent on the host of a backend.
    pub agents: Box<AgentReader>,
}

/// Probes and investigates backends.
pub struct Monitor {
    /// All backends.
    pub backends: Arc<Backends>,
    /// Dials the targets.
    pub prober: Arc<Prober>,
    /// Whether the results of probes can be trusted.
    pub self_check: SelfCheck,
    pub(super) parts: Parts,
    /// Limits the probes at once.
    pub(super) permits: ConcurrencyLimiter,
    /// The Prometheus for specs that name none.
    pub(super) prometheus_url: Option<String>,
    /// Namespace and name of the operator's own pod, in a cluster: investigations check whether NetworkPolicies admit it.
    pub(super) pod: Option<(String, String)>,
    /// The last answers of the Prometheus servers.
    pub(super) servers: Arc<ServerCache>,
    /// Limits the investigations at once.
    pub(super) investigations: FairShare,
    /// Limits the resolutions of targets at once. Separate from `investigations`: an investigation may hang, and must not
    /// delay probes.
    pub(super) lookups: FairShare,
    commands: mpsc::UnboundedSender<Command>,
}

/// A command for the probe scheduler.
#[derive(Debug)]
pub enum Command {
    /// The backend is new, or its spec changed.
    Upsert(Arc<Backend>),
    /// The agent on its host said something that a probe has to confirm or to deny: the next round begins now.
    Hurry(Arc<Backend>),
    /// The backend is gone.
    Remove(Arc<Backend>),
}

impl Monitor {
    /// A monitor without backends, and the receiving end of the commands for the probe scheduler.
    pub fn new(parts: Parts, settings: ProbeSettings) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, received) = mpsc::unbounded_channel();
        let monitor = Self {
            backends: Arc::default(),
            prober: Arc::new(Prober::new(settings.policy)),
            self_check: SelfCheck::new(parts.clock),
            parts,
            permits: ConcurrencyLimiter::new(settings.probe_concurrency),
            prometheus_url: settings.prometheus_url,
            pod: settings.pod,
            servers: Arc::default(),
            investigations: FairShare::new(READS_AT_ONCE),
            lookups: FairShare::new(READS_AT_ONCE),
            commands,
        };
        (Arc::new(monitor), received)
    }

    /// Creates or updates the entry of an object that was applied, and schedules its probes. Removes the entry of a deleted
    /// object of the same name.
    pub fn upsert(&self, object: &MonitoredBackend) -> Upserted {
        let now = self.parts.clock.read();
        let upserted = self.backends.upsert(object, now);
        if !self.parts.leadership.borrow().accepts_heartbeats() {
            // Another replica probes: its word is newer than anything that this one saw while it led.
            upserted.backend.resume(object, now);
        }
        if let Some(predecessor) = &upserted.removed {
            self.remove(predecessor);
        }
        if upserted.changed {
            // The scheduler is gone only while the process ends.
            let _ = self.commands.send(Command::Upsert(upserted.backend.clone()));
        }
        upserted
    }

    /// Removes a deleted backend and ends its probes.
    pub fn remove(&self, backend: &Arc<Backend>) {
        self.backends.remove(backend);
        self.self_check.remove(backend);
        // The scheduler is gone only while the process ends.
        let _ = self.commands.send(Command::Remove(backend.clone()));
    }

    /// Reads the agent on the host of a backend, which said something new.
    pub fn read_agent(&self, backend: &Arc<Backend>) {
        if self.parts.leadership.borrow().accepts_heartbeats() {
            agent::read(self, backend);
        }
    }

    /// Begins the next round of a backend now.
    pub(super) fn hurry(&self, backend: &Arc<Backend>) {
        // The scheduler is gone only while the process ends.
        let _ = self.commands.send(Command::Hurry(backend.clone()));
    }

    /// A copy of an entry at this moment, with the reason why the operator cannot judge it, if so.
    pub fn snapshot(&self, backend: &Backend) -> Snapshot {
        backend.snapshot(self.self_check.blind_for(backend), self.leads_since())
    }

    /// Since when this replica has led: a stored verdict is not out of date before this replica had a turn to renew it.
    pub(super) fn leads_since(&self) -> Moment {
        self.parts.leadership.borrow().acquired_at.unwrap_or_default()
    }

    /// The next regular turn of `backend`.
    pub(super) fn next_turn(&self, backend: &Backend) -> Moment {
        let now = self.parts.clock.read();
        now.place(turn_after(now.wall, backend.object().spec.probe.interval(), backend.phase))
    }

    /// Requests the reconcile of one backend.
    pub(super) fn wake(&self, backend: &Backend) {
        (self.parts.wake)(&backend.key);
    }

    /// Requests the reconcile of every backend.
    pub(super) fn wake_all(&self) {
        for backend in self.backends.all() {
            self.wake(&backend);
        }
    }
}
