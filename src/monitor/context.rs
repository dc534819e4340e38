//! What the work on backends is done with.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};

use super::registry::{Backend, Backends};
use super::self_check::SelfCheck;
use crate::api::MonitoredBackend;
use crate::cluster::StatusWriter;
use crate::cluster::events::{Event, Reporter};
use crate::controller::remediation::Remediator;
use crate::controller::runtime::wake::ReconcileTrigger;
use crate::controller::unreadable::Unreadable;
use crate::diagnosis::gather::ServerCache;
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::probe::{Policy, Prober};
use crate::schedule::ConcurrencyLimiter;
use crate::schedule::checkpoints::Checkpoints;
use crate::time::Clock;

/// How many objects are read at once to investigate, and as many to prepare; HTTP/1.1 takes a connection for each.
pub const LOOKS_AT_ONCE: usize = 8;

/// What the work on backends is given by whoever puts the operator together.
pub struct Parts {
    /// A client that sends each request once.
    pub client: kube::Client,
    /// The clocks.
    pub clock: Clock,
    /// Our part in the election.
    pub leadership: watch::Receiver<Leadership>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The one writer of status.
    pub writer: StatusWriter,
    /// Tells events.
    pub reporter: Reporter,
    /// Remedies, for both kinds.
    pub remedies: Arc<Remediator>,
    /// Whose last probe is written back, and when.
    pub checkpoints: Arc<Checkpoints<Backend>>,
    /// Wakes reconciles.
    pub trigger: ReconcileTrigger<MonitoredBackend>,
    /// What may be dialled.
    pub policy: Policy,
    /// How many probes may be under way, at least 2.
    pub places: usize,
    /// The Prometheus that is asked where the spec names none.
    pub prometheus_url: Option<String>,
    /// Namespace and name of our pod, in a cluster.
    pub pod: Option<(String, String)>,
}

/// What the work on backends is done with.
pub struct Context {
    /// All backends.
    pub backends: Arc<Backends>,
    /// The dialler.
    pub prober: Arc<Prober>,
    /// How many probes may be under way.
    pub places: ConcurrencyLimiter,
    /// Whether we see.
    pub self_check: SelfCheck,
    /// Our part in the election.
    pub leadership: watch::Receiver<Leadership>,
    /// The one writer of status.
    pub writer: StatusWriter,
    /// A client that sends each request once.
    pub client: kube::Client,
    /// Tells events.
    pub reporter: Reporter,
    /// Remedies, for both kinds.
    pub remedies: Arc<Remediator>,
    /// Objects whose status cannot be read.
    pub unreadable: Unreadable,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whose last probe is written back, and when.
    pub checkpoints: Arc<Checkpoints<Backend>>,
    /// Wakes reconciles.
    pub trigger: ReconcileTrigger<MonitoredBackend>,
    /// The Prometheus that is asked where the spec names none.
    pub prometheus_url: Option<String>,
    /// Namespace and name of our pod, in a cluster: NetworkPolicies are asked whether they admit it.
    pub pod: Option<(String, String)>,
    /// What the Prometheus servers said last.
    pub servers: Arc<ServerCache>,
    /// The clocks.
    pub clock: Clock,
    /// Places for looks at the cluster.
    pub looks: Arc<Semaphore>,
    /// Places for looking up what to dial: not those of the looks, which may hang, and then no probe would be on time.
    pub lookups: Arc<Semaphore>,
    /// What was written or could not be, by backend.
    pub notes: Mutex<HashMap<u64, Notes>>,
    /// Where news of backends go that are new, changed or gone.
    pub commands: mpsc::UnboundedSender<Command>,
}

/// News for whoever schedules the rounds.
#[derive(Debug)]
pub enum Command {
    /// It is new, or its spec changed.
    Look(Arc<Backend>),
    /// It is gone.
    Gone(Arc<Backend>),
    /// We began to lead, or the process did not run for a while: nothing that was due before is due.
    Anew,
}

/// What is remembered of the work on one backend between two reconciles.
#[derive(Debug, Default)]
pub struct Notes {
    /// The leadership epoch that the notes are from.
    epoch: u64,
    /// The object as we wrote it last, until the watch has brought it back.
    pub latest: Option<Box<MonitoredBackend>>,
    /// The newest transition has been told, by us or before us.
    pub retold: bool,
    /// A checkpoint is due.
    pub checkpoint: bool,
    /// Events that could not be told.
    pub untold: Vec<Event>,
    /// Failures in a row.
    pub failures: u32,
}

impl Context {
    /// With no backend yet; and the news for whoever schedules the rounds.
    pub fn new(given: Parts) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let Parts { client, clock, leadership, metrics, writer, reporter, remedies, checkpoints, trigger, .. } = given;
        let (commands, poked) = mpsc::unbounded_channel();
        let context = Self {
            backends: Arc::default(),
            prober: Arc::new(Prober::new(given.policy)),
            places: ConcurrencyLimiter::new(given.places),
            self_check: SelfCheck::new(clock),
            unreadable: Unreadable::new(client.clone(), leadership.clone(), clock),
            leadership,
            writer,
            client,
            reporter,
            remedies,
            metrics,
            checkpoints,
            trigger,
            prometheus_url: given.prometheus_url,
            pod: given.pod,
            servers: Arc::default(),
            clock,
            looks: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
            lookups: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
            notes: Mutex::default(),
            commands,
        };
        (Arc::new(context), poked)
    }

    /// Works on the notes. What a former epoch left there is cleared first: another may have led in between.
    pub fn note<T>(&self, number: u64, epoch: u64, work: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.notes.lock();
        let notes = notes.entry(number).or_default();
        if notes.epoch != epoch {
            *notes = Notes { epoch, ..Notes::default() };
        }
        work(notes)
    }

    /// A backend is gone.
    pub fn forget(&self, backend: &Arc<Backend>) {
        self.backends.remove(backend);
        self.self_check.remove(backend);
        self.remedies.remove::<MonitoredBackend>(&backend.key);
        self.notes.lock().remove(&backend.number);
        // The scheduler is gone only while the process ends.
        let _ = self.commands.send(Command::Gone(backend.clone()));
    }

    /// Wakes the reconcile of every backend.
    pub fn wake_all(&self) {
        for backend in self.backends.all() {
            self.trigger.wake(&backend.key);
        }
    }
}
