//! The parts of the operator that look after connectors, and what both kinds share.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::Store;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::args::RunArgs;
use super::assembly::Pod;
use super::backends::Shared;
use crate::api::Connector;
use crate::cluster::Clients;
use crate::cluster::events::namespace_reference;
use crate::controller::breaker::BreakerStore;
use crate::controller::connector::deadlines::{Command, SiteEvent};
use crate::controller::connector::reconcile::Context;
use crate::controller::connector::view::FleetView;
use crate::controller::remediation::{Brakes, Census, Remediable, Remedies};
use crate::controller::runtime::Runtime;
use crate::controller::runtime::wake::{Guarded, ReconcileTrigger};
use crate::heartbeat::registry::Registry;
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::probe::Prober;
use crate::remediation::workload::Me;
use crate::schedule::checkpoints::Checkpoints;
use crate::time::Clock;

/// The context of the reconciles of Connectors.
pub(super) fn of_connectors(
    shared: &Shared<'_>,
    registry: &Arc<Registry>,
    prober: Arc<Prober>,
    trigger: ReconcileTrigger<Connector>,
    commands: mpsc::UnboundedSender<Command>,
) -> Context {
    let period = Duration::from_secs(shared.args.writes.checkpoint_seconds.into());
    Context {
        runtime: Runtime::new(shared.runtime.clone(), Arc::new(Checkpoints::new(period)), trigger),
        registry: registry.clone(),
        sites: Arc::default(),
        prober,
        public_url: shared.args.reachability.public_url.clone(),
        commands,
    }
}

/// The fleet of connectors as this process sees it, with no store yet.
pub(super) fn known_connectors(context: &Context, has_canary: bool) -> FleetView {
    FleetView {
        registry: context.registry.clone(),
        stores: RwLock::default(),
        sites: context.sites.clone(),
        checkpoints: context.checkpoints.clone(),
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
) -> Remedies {
    let me = pod.map(|pod| Me { namespace: pod.namespace.clone(), pod: pod.name.clone() });
    let limits = args.remediation.limits();
    // One scope for each namespace, or one for all; for each kind.
    let scopes = 2 * args.namespace.len().max(1);
    let census = Census::new(limits, scopes, leadership.clone(), clock);
    Remedies::new(clients.no_retry.clone(), clock, metrics.clone(), (limits, census), me)
}

/// Who watches over the brakes of the fleet.
pub(super) fn brakes(shared: &Shared<'_>, namespace: &str) -> Brakes {
    let runtime = &shared.runtime;
    let breaker_store = BreakerStore {
        client: runtime.client.clone(),
        namespace: namespace.to_owned(),
        reporter: runtime.reporter.clone(),
        leadership: runtime.leadership.clone(),
        clock: runtime.clock,
    };
    Brakes { remedies: runtime.remedies.clone(), breaker_store }
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
                census.stored(object);
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
        let regarding = namespace_reference(&*namespace);
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
