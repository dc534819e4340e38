//! The part of the operator for MonitoredBackends: its construction and its tasks.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube::Client;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

use super::shared::{SharedParts, register_stores};
use super::task_group::TaskGroup;
use crate::cluster::address_ranges::AddressRanges;
use crate::cluster::own_addresses::OwnAddresses;
use crate::cluster::{address_ranges, own_addresses};
use crate::controller::backend::agents;
use crate::controller::backend::context::Context;
use crate::controller::backend::view::FleetView;
use crate::controller::runtime::wake::{ReconcileTrigger, Scope};
use crate::controller::runtime::watch::Tap;
use crate::controller::runtime::{Runtime, run};
use crate::heartbeat::entry::Entry;
use crate::heartbeat::registry::Registry;
use crate::monitor::connectivity::{self, ConnectivityCheck};
use crate::monitor::context::{Command, ProbeSettings};
use crate::monitor::{aging, scheduler};
use crate::probe::{Policy, Prober};
use crate::schedule::checkpoints::Checkpoints;

/// The parts for MonitoredBackends, before their tasks are started.
pub(super) struct BackendSubsystem {
    pub(super) known: Arc<FleetView>,
    context: Arc<Context>,
    scopes: Vec<Scope>,
    commands: mpsc::UnboundedReceiver<Command>,
    policy: Policy,
    own: ConnectivityCheck,
    client: Client,
    own_pod: Option<OwnAddresses>,
}

impl BackendSubsystem {
    /// What dials the targets.
    pub(super) fn prober(&self) -> Arc<Prober> {
        Arc::clone(&self.known.context.monitor.prober)
    }

    /// Reads the agent of a Connector for each backend that it reported.
    pub(super) fn agent_spoke(&self) -> Box<dyn Fn(&Entry) + Send> {
        let monitor = self.known.context.monitor.clone();
        Box::new(move |entry| agents::spoke(&monitor, entry))
    }

    pub(super) fn new(shared: &SharedParts<'_>, own_ports: Vec<u16>, registry: &Arc<Registry>) -> Self {
        let SharedParts { args, clients, ref runtime, ref own_pod } = *shared;
        let probing = &args.probing;
        let policy = Policy {
            allow: probing.allow_network.clone(),
            deny: probing.deny_network.clone(),
            cluster: probing.cluster_network.clone(),
            own_ports,
            own_addresses: std::env::var("POD_IP").ok().and_then(|ip| ip.parse::<IpAddr>().ok()).into_iter().collect(),
            ..Policy::default()
        };
        let (trigger, scopes) = ReconcileTrigger::new(&args.namespace);
        let period = std::time::Duration::from_secs(args.writes.checkpoint_seconds.into());
        let settings = ProbeSettings {
            policy: policy.clone(),
            probe_concurrency: usize::try_from(probing.probe_concurrency).unwrap_or(usize::MAX),
            prometheus_url: probing.prometheus_url.clone(),
            pod: own_pod.as_ref().map(|ours| (ours.namespace.clone(), ours.pod.clone())),
        };
        let runtime = Runtime::new(runtime.clone(), Arc::new(Checkpoints::new(period)), trigger);
        let (context, commands) = Context::new(runtime, settings, registry.clone());
        let known = Arc::new(FleetView { context: context.clone(), stores: RwLock::default() });
        let host = clients.server_host.clone();
        let name = host.filter(|host| host.parse::<IpAddr>().is_err());
        let own = ConnectivityCheck { client: clients.no_retry.clone(), name };
        let own_pod = own_pod.clone();
        Self { known, context, scopes, commands, policy, own, client: clients.watching.clone(), own_pod }
    }

    /// Starts the tasks; `all` makes streams whose items request the reconcile of every object.
    pub(super) fn start<S>(self, all: impl Fn() -> S, work: &TaskGroup)
    where
        S: futures::Stream<Item = ()> + Send + 'static,
    {
        let Self { known, context, scopes, commands, policy, own, client, own_pod } = self;
        let mut stores = Vec::new();
        for (scope, woken) in scopes {
            let filled = {
                let context = context.clone();
                move || tracing::info!(backends = context.monitor.backends.len(), "synced")
            };
            let tap = Tap { kind: context.clone(), scope: scope.as_deref().map(Into::into), filled: Arc::new(filled) };
            let (store, driven) = run::controller(&client, scope.as_deref(), tap, woken, all(), work.stop.clone());
            stores.push(store);
            work.spawn(driven);
        }
        register_stores(&context.remediator.census, &stores);
        *known.stores.write() = stores;
        let updater = PolicyUpdater::new(policy, own_pod.is_none(), context.monitor.prober.clone());
        let (stop, monitor, mut is_ready) = (work.stop.clone(), context.monitor.clone(), updater.ready.subscribe());
        // Probes start after the first attempt to read the forbidden addresses.
        work.spawn(async move {
            if stop.run_until_cancelled(is_ready.wait_for(|ready| *ready)).await.is_some() {
                scheduler::run(monitor, commands, stop).await;
            }
        });
        if let Some(own_pod) = own_pod {
            let (updater, client, stop) = (updater.clone(), client.clone(), work.stop.clone());
            let report = move |found| updater.update(|known| known.own = Some(found));
            work.spawn(own_addresses::follow(client, own_pod, report, stop));
        }
        let report = move |found| updater.update(|known| known.networks = Some(found));
        work.spawn(address_ranges::follow(client, report, work.stop.clone()));
        work.spawn(connectivity::run(context.monitor.clone(), own, work.stop.clone()));
        work.spawn(aging::run(context.monitor.clone(), work.stop.clone()));
    }
}

/// The policy of probes, updated from two sources.
struct PolicyUpdater {
    /// The policy of the flags.
    policy: Policy,
    known: Mutex<ReportedAddresses>,
    prober: Arc<Prober>,
    /// Whether both sources have reported.
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct ReportedAddresses {
    networks: Option<AddressRanges>,
    own: Option<BTreeSet<SocketAddr>>,
}

impl PolicyUpdater {
    /// Outside a cluster the operator has no addresses of its own in it.
    fn new(policy: Policy, is_outside: bool, prober: Arc<Prober>) -> Arc<Self> {
        let known = ReportedAddresses { networks: None, own: is_outside.then(BTreeSet::new) };
        Arc::new(Self { policy, known: Mutex::new(known), prober, ready: watch::Sender::new(false) })
    }

    fn update(&self, news: impl FnOnce(&mut ReportedAddresses)) {
        let mut known = self.known.lock();
        news(&mut known);
        let mut next = self.policy.clone();
        next.cluster.extend(known.networks.iter().flat_map(|found| &found.ranges));
        next.own_sockets.extend(known.own.iter().flatten());
        self.prober.set_policy(next);
        self.ready.send_replace(known.networks.is_some() && known.own.is_some());
    }
}

/// The ports of the operator itself.
pub(super) fn own_ports(of: &[SocketAddr]) -> Vec<u16> {
    of.iter().map(SocketAddr::port).collect()
}
