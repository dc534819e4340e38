//! Checks the operator's own connectivity, and publishes when its probes cannot be trusted and when they can again.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::context::Monitor;
use super::self_check::VisibilityChange;
use crate::cluster::events::{Event, EventType, namespace_reference};

/// The period of the connectivity check while a backend is unreachable.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The time limit of each half of the connectivity check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

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
        let failure = if monitor.self_check.needs_check() { connectivity.failure().await } else { None };
        if monitor.self_check.record_check(failure) {
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
