//! The part of the operator that looks after backends, put together.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube::Client;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

use super::connectors::upsert;
use super::group::Group;
use crate::api::MonitoredBackend;
use crate::cli::args::RunArgs;
use crate::cluster::address_ranges::AddressRanges;
use crate::cluster::own_addresses::OwnAddresses;
use crate::cluster::{Clients, StatusWriter, address_ranges, own_addresses};
use crate::controller::backend::drive;
use crate::controller::backend::view::FleetView;
use crate::controller::backend::watch::Tap;
use crate::controller::events::Reporter;
use crate::controller::remediation::Remediator;
use crate::controller::runtime::wake::{ReconcileTrigger, Scope};
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::monitor::context::{Command, Context, Parts};
use crate::monitor::scheduler;
use crate::monitor::self_check::{self, ConnectivityCheck};
use crate::probe::{Policy, Prober};
use crate::schedule::checkpoints::{Checkpoints, WriteBudget};
use crate::time::Clock;

/// What the other kind and this one share.
pub(super) struct Shared<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) clients: &'a Clients,
    pub(super) leadership: &'a watch::Receiver<Leadership>,
    pub(super) writer: &'a StatusWriter,
    pub(super) reporter: &'a Reporter,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) remedies: &'a Arc<Remediator>,
    pub(super) budget: &'a Arc<WriteBudget>,
    pub(super) clock: Clock,
    /// Our pod, in a cluster.
    pub(super) ourselves: Option<OwnAddresses>,
}

/// Everything for backends, made and not started.
pub(super) struct BackendSubsystem {
    pub(super) known: Arc<FleetView>,
    context: Arc<Context>,
    scopes: Vec<Scope<MonitoredBackend>>,
    poked: mpsc::UnboundedReceiver<Command>,
    policy: Policy,
    own: ConnectivityCheck,
    client: Client,
    ourselves: Option<OwnAddresses>,
}

impl BackendSubsystem {
    pub(super) fn new(shared: &Shared<'_>, own_ports: Vec<u16>) -> Self {
        let Shared { args, clients, leadership, writer, reporter, metrics, remedies, budget, clock, ref ourselves } =
            *shared;
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
        let period = std::time::Duration::from_secs(args.checkpoint_seconds.into());
        let (context, poked) = Context::new(Parts {
            client: clients.no_retry.clone(),
            clock,
            leadership: leadership.clone(),
            metrics: metrics.clone(),
            writer: writer.clone(),
            reporter: reporter.clone(),
            remedies: remedies.clone(),
            checkpoints: Arc::new(Checkpoints::new(period, budget.clone())),
            trigger,
            policy: policy.clone(),
            places: usize::try_from(probing.probe_concurrency).unwrap_or(usize::MAX),
            prometheus_url: probing.prometheus_url.clone(),
            pod: ourselves.as_ref().map(|ours| (ours.namespace.clone(), ours.pod.clone())),
        });
        let known = Arc::new(FleetView { context: context.clone(), stores: RwLock::default() });
        let host = clients.server_host.clone();
        let name = host.filter(|host| host.parse::<IpAddr>().is_err());
        let own = ConnectivityCheck { client: clients.no_retry.clone(), name };
        let ourselves = ourselves.clone();
        Self { known, context, scopes, poked, policy, own, client: clients.retrying.clone(), ourselves }
    }

    /// Starts it all; `all` gives what has every object reconciled.
    pub(super) fn start<S>(self, all: impl Fn() -> S, work: &Group)
    where
        S: futures::Stream<Item = ()> + Send + 'static,
    {
        let Self { known, context, scopes, poked, policy, own, client, ourselves } = self;
        let mut stores = Vec::new();
        for (scope, woken) in scopes {
            let filled = {
                let context = context.clone();
                move || tracing::info!(backends = context.backends.len(), "synced")
            };
            let tap =
                Tap { context: context.clone(), scope: scope.as_deref().map(Into::into), filled: Arc::new(filled) };
            let (store, driven) = drive::controller(&client, scope.as_deref(), tap, woken, all(), work.stop.clone());
            stores.push(store);
            work.spawn(driven);
        }
        upsert(&context.remedies.census, &stores);
        *known.stores.write() = stores;
        work.spawn(drive::checkpoints(context.clone(), work.stop.clone()));
        let limits = Limits::new(policy, ourselves.is_none(), context.prober.clone());
        let (stop, probed, mut is_ready) = (work.stop.clone(), context.clone(), limits.ready.subscribe());
        // No probe before the first look at what may not be dialled has been tried.
        work.spawn(async move {
            if stop.run_until_cancelled(is_ready.wait_for(|ready| *ready)).await.is_some() {
                scheduler::run(probed, poked, stop).await;
            }
        });
        if let Some(ourselves) = ourselves {
            let (limits, client, stop) = (limits.clone(), client.clone(), work.stop.clone());
            let tell = move |found| limits.learn(|known| known.own = Some(found));
            work.spawn(own_addresses::follow(client, ourselves, tell, stop));
        }
        let tell = move |found| limits.learn(|known| known.networks = Some(found));
        work.spawn(address_ranges::follow(client, tell, work.stop.clone()));
        work.spawn(self_check::run(context, own, work.stop.clone()));
    }
}

/// What probes may dial, as it becomes known from two sides.
struct Limits {
    /// What the flags say.
    policy: Policy,
    known: Mutex<Learned>,
    prober: Arc<Prober>,
    /// Whether both sides were heard.
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct Learned {
    networks: Option<AddressRanges>,
    own: Option<BTreeSet<SocketAddr>>,
}

impl Limits {
    /// Outside a cluster there is nothing of ours in it to be known.
    fn new(policy: Policy, is_outside: bool, prober: Arc<Prober>) -> Arc<Self> {
        let known = Learned { networks: None, own: is_outside.then(BTreeSet::new) };
        Arc::new(Self { policy, known: Mutex::new(known), prober, ready: watch::Sender::new(false) })
    }

    fn learn(&self, news: impl FnOnce(&mut Learned)) {
        let mut known = self.known.lock();
        news(&mut known);
        let mut next = self.policy.clone();
        next.cluster.extend(known.networks.iter().flat_map(|found| &found.ranges));
        next.own_sockets.extend(known.own.iter().flatten());
        self.prober.set_policy(next);
        self.ready.send_replace(known.networks.is_some() && known.own.is_some());
    }
}

/// The ports that we listen on ourselves.
pub(super) fn own_ports(of: &[SocketAddr]) -> Vec<u16> {
    of.iter().map(SocketAddr::port).collect()
}
