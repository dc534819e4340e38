//! The parts of the operator that look after connectors, and what both kinds share.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::reflector::Store;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::assembly::Pod;
use super::backends::Shared;
use crate::cli::args::RunArgs;
use crate::cluster::Clients;
use crate::controller::connector::deadlines::SiteEvent;
use crate::controller::connector::reconcile::{CALLS_IN_FLIGHT, Context};
use crate::controller::connector::sites::Sites;
use crate::controller::connector::view::FleetView;
use crate::controller::remediation::breaker::BreakerStore;
use crate::controller::remediation::{Brakes, Census, Remediable, Remediator};
use crate::controller::runtime::wake::Guarded;
use crate::controller::unreadable::Unreadable;
use crate::heartbeat::entry::Entry;
use crate::heartbeat::registry::Registry;
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::probe::Prober;
use crate::remediation::workload::OwnPod;
use crate::schedule::checkpoints::Checkpoints;
use crate::time::Clock;

/// What the work on connectors is done with.
pub(super) fn of_connectors(
    shared: &Shared<'_>,
    registry: &Arc<Registry>,
    sites: &Arc<Sites>,
    prober: Arc<Prober>,
) -> Context {
    let Shared { args, clients, leadership, writer, reporter, metrics, remedies, budget: _, clock, ourselves: _ } =
        *shared;
    Context {
        registry: registry.clone(),
        leadership: leadership.clone(),
        writer: writer.clone(),
        client: clients.no_retry.clone(),
        reporter: reporter.clone(),
        sites: sites.clone(),
        remedies: remedies.clone(),
        prober,
        desks: Default::default(),
        metrics: metrics.clone(),
        public_url: args.public_url.clone(),
        clock,
        unreadable: Unreadable::new(clients.no_retry.clone(), leadership.clone(), clock),
        calls: tokio::sync::Semaphore::new(CALLS_IN_FLIGHT),
    }
}

/// The fleet of connectors as this process sees it, with no store yet.
pub(super) fn known_connectors(
    context: &Context,
    checkpoints: &Arc<Checkpoints<Entry>>,
    has_canary: bool,
) -> FleetView {
    FleetView {
        registry: context.registry.clone(),
        stores: RwLock::default(),
        sites: context.sites.clone(),
        checkpoints: checkpoints.clone(),
        has_canary,
    }
}

/// Remedies for both kinds, with nobody known yet.
pub(super) fn remedies(
    args: &RunArgs,
    clients: &Clients,
    clock: Clock,
    metrics: &Arc<Metrics>,
    leadership: &watch::Receiver<Leadership>,
    pod: Option<&Pod>,
) -> Remediator {
    let me = pod.map(|pod| OwnPod { namespace: pod.namespace.clone(), pod: pod.name.clone() });
    let limits = args.remedies.limits();
    // One scope for each namespace, or one for all; for each kind.
    let scopes = 2 * args.namespace.len().max(1);
    let census = Census::new(limits, scopes, leadership.clone(), clock);
    Remediator::new(clients.no_retry.clone(), clock, metrics.clone(), (limits, census), me)
}

/// Who watches over the brakes of the fleet.
pub(super) fn brakes(shared: &Shared<'_>, namespace: &str) -> Brakes {
    let Shared { clients, leadership, reporter, remedies, clock, .. } = *shared;
    let breaker_store = BreakerStore {
        client: clients.no_retry.clone(),
        namespace: namespace.to_owned(),
        reporter: reporter.clone(),
        leadership: leadership.clone(),
        clock,
    };
    Brakes { remediator: remedies.clone(), breaker_store }
}

/// Has the roll of the fleet find what these stores hold.
pub(super) fn upsert<K>(census: &Census, stores: &[Store<Guarded<K>>])
where
    K: Remediable + Clone + Send + Sync + 'static,
{
    let stores = stores.to_vec();
    census.add_source(Box::new(move |census| {
        for object in stores.iter().flat_map(Store::state) {
            if let Ok(object) = &object.0 {
                census.upsert_stored(object);
            }
        }
    }));
}

/// Tells what concerns a whole site, about its Namespace.
pub(super) async fn tell_sites(
    context: Arc<Context>,
    mut news: mpsc::UnboundedReceiver<SiteEvent>,
    stop: CancellationToken,
) {
    while let Some(Some(SiteEvent { namespace, event })) = stop.run_until_cancelled(news.recv()).await {
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(namespace.to_string()),
            ..ObjectReference::default()
        };
        // Only a leader tells; a failover in between makes this the next leader's to find out.
        while context.leadership.borrow().permit(context.clock.now()).is_some() {
            let Err(error) = context.reporter.tell(&regarding, &event).await else { break };
            tracing::debug!(%error, "telling about a site; trying again");
            if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
                return;
            }
        }
    }
}
