//! Decides whether the operator's own probes can be trusted, from the fleet's results and a check of its own
//! connectivity. While they cannot, backends that are unreachable are not judged (`ProbeBlind`).

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::context::Monitor;
use super::registry::Backend;
use crate::cluster::events::{Event, EventType, namespace_reference};
use crate::health::availability::Availability;
use crate::health::visibility::{Fleet, Visibility};
use crate::time::{Clock, Moment};

/// The period of the connectivity check while a backend is unreachable.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The time limit of each half of the connectivity check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest wait for a verdict that is held back.
const SHORTEST_HOLD: Duration = Duration::from_millis(100);

/// A check of the operator's own connectivity: the API server and DNS.
#[derive(Clone)]
pub struct ConnectivityCheck {
    /// A client of the API server.
    pub client: kube::Client,
    /// A name that must resolve: the API server's; `None` when its URL holds an address.
    pub name: Option<String>,
}

impl ConnectivityCheck {
    async fn failure(&self) -> Option<String> {
        let version = timeout(CHECK_TIMEOUT, self.client.apiserver_version());
        match version.await {
            Err(_) => return Some("the API server does not answer the operator".to_owned()),
            Ok(Err(error)) if !matches!(error, kube::Error::Api(_)) => {
                return Some("the API server cannot be reached by the operator".to_owned());
            }
            Ok(_) => {}
        }
        let name = self.name.clone()?;
        let lookup = tokio::task::spawn_blocking(move || (name.as_str(), 443).to_socket_addrs().map(drop));
        match timeout(CHECK_TIMEOUT, lookup).await {
            Ok(Ok(Ok(()))) => None,
            _ => Some("DNS does not answer the operator: the API server's own name does not resolve".to_owned()),
        }
    }
}

/// The state of the self check.
pub struct SelfCheck {
    clock: Clock,
    fleet: Mutex<Fleet>,
    /// The message of the last connectivity check that failed; `None` when it passed.
    connectivity_failure: Mutex<Option<String>>,
    /// Until when a verdict on an unreachable backend is held back.
    held_until: Mutex<Option<Moment>>,
    /// Why visibility is lost, while it is.
    lost: Mutex<Option<String>>,
}

/// A change of visibility.
#[derive(Debug, PartialEq, Eq)]
enum VisibilityChange {
    None,
    /// Visibility was lost, for this reason.
    Lost(String),
    Recovered,
}

impl SelfCheck {
    /// Starts with normal visibility.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            fleet: Mutex::default(),
            connectivity_failure: Mutex::default(),
            held_until: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    /// Records that a round of `backend`, started at `at`, ended. `unreachable`: it failed in resolve or connect and
    /// received no byte.
    pub fn record_round(&self, backend: &Backend, host: &Arc<str>, interval: Duration, unreachable: bool, at: Moment) {
        self.fleet.lock().record_probe(backend.number, host, interval, unreachable, at);
    }

    /// Removes a deleted backend.
    pub fn remove(&self, backend: &Backend) {
        self.fleet.lock().remove(backend.number);
    }

    /// Why `backend` cannot be judged, if so: it is unreachable while visibility is lost, or was at its last probe.
    pub fn blind_for(&self, backend: &Backend) -> Option<String> {
        let lost = self.lost.lock().clone();
        let fleet = self.fleet.lock();
        match lost {
            Some(why) => fleet.is_unreachable(backend.number).then_some(why),
            None => fleet
                .awaits_probe(backend.number)
                .then(|| "we could not see, and have not probed it since we see again".to_owned()),
        }
    }

    /// Whether visibility is lost.
    pub fn is_blind(&self) -> bool {
        self.lost.lock().is_some()
    }

    /// How long a verdict of Down on `backend` is to wait, until it is clear whether visibility is lost; `None` when the
    /// verdict can be published now.
    pub fn holds_verdict(&self, backend: &Backend, availability: Availability) -> Option<Duration> {
        let until = (*self.held_until.lock())?;
        let waits = availability == Availability::Down && self.fleet.lock().is_unreachable(backend.number);
        waits.then(|| until.since(self.clock.now()).max(SHORTEST_HOLD))
    }

    /// Updates visibility and the time until which verdicts are held back. Returns the change of visibility.
    fn update_visibility(&self) -> VisibilityChange {
        let now = self.clock.now();
        let failure = self.connectivity_failure.lock().clone();
        let visibility = self.fleet.lock().visibility(failure.as_deref(), now);
        *self.held_until.lock() = if let Visibility::Suspect(until) = &visibility { Some(*until) } else { None };
        let mut lost = self.lost.lock();
        match visibility {
            Visibility::Lost(why) if lost.is_none() => {
                *lost = Some(why.clone());
                VisibilityChange::Lost(why)
            }
            Visibility::Lost(_) => VisibilityChange::None,
            Visibility::Normal | Visibility::Suspect(_) if lost.take().is_some() => {
                self.fleet.lock().recovered(now);
                VisibilityChange::Recovered
            }
            Visibility::Normal | Visibility::Suspect(_) => VisibilityChange::None,
        }
    }

    /// Checks the connectivity if any backend is unreachable. Returns whether the result changed.
    async fn check(&self, connectivity: &ConnectivityCheck) -> bool {
        let is_needed = self.fleet.lock().has_unreachable();
        let failure = if is_needed { connectivity.failure().await } else { None };
        let mut known = self.connectivity_failure.lock();
        let changed = *known != failure;
        *known = failure;
        changed
    }
}

/// Updates visibility. A change wakes the reconcile of every backend and is published.
pub(super) async fn publish_visibility(monitor: &Monitor) {
    match monitor.self_check.update_visibility() {
        VisibilityChange::None => {}
        VisibilityChange::Recovered => {
            tracing::info!("visibility recovered: all backends are judged again");
            monitor.wake_all();
        }
        VisibilityChange::Lost(why) => {
            tracing::warn!(why, "visibility lost: unreachable backends are not judged");
            monitor.wake_all();
            publish_lost(monitor, &why).await;
        }
    }
}

/// Runs the connectivity check until `stop`.
pub async fn run(monitor: Arc<Monitor>, connectivity: ConnectivityCheck, stop: CancellationToken) {
    let mut tick = tokio::time::interval(CHECK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if monitor.self_check.check(&connectivity).await {
            publish_visibility(&monitor).await;
        }
    }
}

/// Publishes `ProbeBlind` about each Namespace with backends that cannot be judged.
async fn publish_lost(monitor: &Monitor, why: &str) {
    let at = monitor.parts.clock.read().wall;
    let blind = monitor.backends.all().into_iter().filter(|backend| monitor.self_check.blind_for(backend).is_some());
    let namespaces: BTreeSet<String> = blind.map(|backend| backend.key.namespace.to_string()).collect();
    for namespace in namespaces {
        let event = Event {
            kind: EventType::Warning,
            reason: "ProbeBlind",
            action: "Judge",
            note: format!("{why}: suspect the operator's own network before the backends; nothing is judged meanwhile"),
            at,
            occurrence: format!("ProbeBlind/{}", at.as_second()),
        };
        if monitor.parts.leadership.borrow().permit(monitor.parts.clock.now()).is_some()
            && let Err(error) = monitor.parts.reporter.publish(&namespace_reference(namespace), &event).await
        {
            tracing::warn!(%error, "the event ProbeBlind was not published");
        }
    }
}
