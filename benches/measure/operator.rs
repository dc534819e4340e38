//! The operator without an API server: the registry, the deadlines, and the checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vigie::api::Connector;
use vigie::controller::connector::deadlines::{Command, DeadlineScheduler, Sinks};
use vigie::controller::connector::reconcile::Context;
use vigie::controller::runtime::state::ReconcileStates;
use vigie::heartbeat::entry::Entry;
use vigie::heartbeat::registry::Registry;
use vigie::leadership::Role;
use vigie::schedule::TICK;
use vigie::schedule::checkpoints::Checkpoints;
use vigie::time::{Clock, Moment, Now};

/// The leadership epoch of all notes.
const EPOCH: u64 = 1;

/// Called for each woken connector.
pub(crate) type OnWake = Box<dyn Fn(&Registry, &Entry) + Send>;

pub(crate) struct Operator {
    pub(crate) registry: Arc<Registry>,
    checkpoints: Checkpoints<Entry>,
    states: ReconcileStates<Context>,
    commands: mpsc::UnboundedSender<Command>,
    woken: Arc<AtomicUsize>,
}

impl Operator {
    /// A leader that has listened for an hour, so that deadlines run from each connector's last contact.
    pub(crate) fn start(on_wake: OnWake) -> Self {
        let clock = Clock::default();
        let (registry, changes) = Registry::new(clock, &[7; 32]);
        let registry = Arc::new(registry);
        registry.listening.update(Moment::default() - Duration::from_secs(3600), |inputs| {
            inputs.role = Role::Leader;
            inputs.synced = true;
            inputs.port_open = true;
        });
        let (commands, command_receiver) = mpsc::unbounded_channel();
        let (events, mut sites) = mpsc::unbounded_channel();
        let woken = Arc::new(AtomicUsize::new(0));
        let sinks = Sinks {
            wake: Box::new({
                let (registry, woken) = (registry.clone(), woken.clone());
                move |entry| {
                    woken.fetch_add(1, Ordering::Relaxed);
                    on_wake(&registry, entry);
                }
            }),
            backends: Box::new(|_| {}),
            events,
            is_awake: Box::new({
                let registry = registry.clone();
                move || is_awake(&registry)
            }),
        };
        let scheduler = DeadlineScheduler::new(registry.clone(), Arc::default(), sinks);
        tokio::spawn(scheduler.run(changes, command_receiver, CancellationToken::new()));
        tokio::spawn(async move { while sites.recv().await.is_some() {} });
        tokio::spawn(tick(registry.clone()));
        let checkpoints = Checkpoints::new(Duration::from_secs(60));
        Self { registry, checkpoints, states: ReconcileStates::default(), commands, woken }
    }

    /// Adds a connector to the registry.
    pub(crate) fn upsert(&self, connector: &Connector, now: Now) -> anyhow::Result<Arc<Entry>> {
        self.registry.upsert(connector, now).fresh.ok_or_else(|| anyhow::anyhow!("a connector was there already"))
    }

    /// From now on its deadline and its checkpoints are scheduled.
    pub(crate) fn keep(&self, entry: &Arc<Entry>) {
        self.checkpoints.add(entry.clone());
        // The deadline scheduler ends only with this process.
        let _ = self.commands.send(Command::Upsert(entry.clone()));
    }

    /// The controller's note after it has processed a connector.
    pub(crate) fn note(&self, entry: &Entry, connector: &Connector, now: Moment) {
        let mut state = self.states.take(entry.number);
        state.begin(EPOCH);
        state.notes.adopt(connector, now, 0.5);
        state.notes.note_observation(connector, now, None);
        state.published = true;
    }

    /// Returns when the deadline scheduler has processed all its messages.
    pub(crate) async fn settled(&self) {
        let before = self.woken.load(Ordering::Relaxed);
        let _ = self.commands.send(Command::ListeningMoved);
        // It then wakes every connector, and processes its messages in order.
        while self.woken.load(Ordering::Relaxed) < before + self.registry.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One tick of the pulse. There is no Lease here: after a freeze this process still leads.
fn is_awake(registry: &Registry) -> bool {
    let now = registry.clock().now();
    let awake = registry.listening.tick(now).is_none();
    if !awake {
        registry.listening.update(now, |inputs| inputs.role = Role::Leader);
    }
    awake
}

/// The tick of `vigie run`, several times a second.
async fn tick(registry: Arc<Registry>) {
    let mut tick = tokio::time::interval(TICK);
    let mut measured_at = registry.clock().now();
    loop {
        tick.tick().await;
        is_awake(&registry);
        let now = registry.clock().now();
        let last_heartbeat_at = registry.last_heartbeat_at();
        registry.listening.update(now, |inputs| inputs.last_heartbeat_at = last_heartbeat_at);
        if now.since(measured_at) >= TICK * 5 {
            registry.measure(now.since(measured_at));
            measured_at = now;
        }
    }
}
