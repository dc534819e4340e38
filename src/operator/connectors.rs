//! The parts of the operator for Connectors, and the remediation of both kinds.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::args::RunArgs;
use super::shared::{Pod, SharedParts};
use crate::cluster::events::namespace_reference;
use crate::cluster::{Clients, Retry};
use crate::controller::connector::deadlines::{Command, SiteEvent};
use crate::controller::connector::reconcile::Context;
use crate::controller::connector::view::FleetView;
use crate::controller::remediation::breaker::BreakerStore;
use crate::controller::remediation::{Brakes, Census, Remediator};
use crate::controller::runtime::Runtime;
use crate::controller::runtime::wake::ReconcileTrigger;
use crate::heartbeat::registry::Registry;
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::probe::Prober;
use crate::remediation::workload::OwnPod;
use crate::schedule::checkpoints::Checkpoints;
use crate::time::Clock;

/// The context of the reconciles of Connectors.
pub(super) fn of_connectors(
    shared: &SharedParts<'_>,
    registry: &Arc<Registry>,
    prober: Arc<Prober>,
    trigger: ReconcileTrigger,
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

/// The live view of the connectors, without stores.
pub(super) fn known_connectors(context: &Context, has_canary: bool) -> FleetView {
    FleetView {
        registry: context.registry.clone(),
        stores: RwLock::default(),
        sites: context.sites.clone(),
        checkpoints: context.checkpoints.clone(),
        has_canary,
    }
}

/// The remediation of both kinds, with an empty census.
pub(super) fn remediator(
    args: &RunArgs,
    clients: &Clients,
    clock: Clock,
    metrics: &Arc<Metrics>,
    leadership: &watch::Receiver<Leadership>,
    pod: Option<&Pod>,
) -> Remediator {
    let me = pod.map(|pod| OwnPod { namespace: pod.namespace.clone(), pod: pod.name.clone() });
    let limits = args.remediation.limits();
    // One scope for each namespace, or one for all; for each kind.
    let scopes = 2 * args.namespace.len().max(1);
    let census = Census::new(limits, scopes, leadership.clone(), clock);
    Remediator::new(clients.no_retry.clone(), clock, metrics.clone(), limits, census, me)
}

/// The task that updates the brakes and the breaker of the fleet.
pub(super) fn brakes(shared: &SharedParts<'_>, namespace: &str) -> Brakes {
    let runtime = &shared.runtime;
    let breaker_store = BreakerStore {
        client: shared.clients.watching.clone(),
        namespace: namespace.to_owned(),
        reporter: runtime.reporter.clone(),
        leadership: runtime.leadership.clone(),
        clock: runtime.clock,
    };
    Brakes { remediator: runtime.remediator.clone(), breaker_store }
}

/// Publishes the events of sites, each about the Namespace of its site.
pub(super) async fn publish_site_events(
    context: Arc<Context>,
    mut events: mpsc::UnboundedReceiver<SiteEvent>,
    stop: CancellationToken,
) {
    while let Some(Some(SiteEvent { namespace, event })) = stop.run_until_cancelled(events.recv()).await {
        let regarding = namespace_reference(&*namespace);
        let mut retry = Retry::default();
        // Only a leader publishes. After a failover the next leader finds the event itself.
        while context.leadership.borrow().permit(context.clock.now()).is_some() {
            let Err(error) = context.reporter.publish(&regarding, &event).await else { break };
            tracing::debug!(%error, "the event of a site was not published; trying again");
            if stop.run_until_cancelled(tokio::time::sleep(retry.failed(&error, context.clock.now()))).await.is_none() {
                return;
            }
        }
    }
}
