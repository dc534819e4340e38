//! The part of the operator that looks after backends, put together.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube::Client;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::assembly::Group;
use super::connectors::enroll;
use crate::api::MonitoredBackend;
use crate::cli::args::RunArgs;
use crate::clock::Clock;
use crate::cluster::networks::{self, Networks};
use crate::cluster::{Clients, StatusWriter};
use crate::controller::backend::context::{Context, Given, Poke};
use crate::controller::backend::drive;
use crate::controller::backend::rounds;
use crate::controller::backend::sight::OwnCheck;
use crate::controller::backend::view::Known;
use crate::controller::backend::watch::Tap;
use crate::controller::checkpoints::{Budget, Checkpoints};
use crate::controller::events::Reporter;
use crate::controller::remedies::Remedies;
use crate::controller::wakes::{Scope, Wakes};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::probe::Policy;

/// What the other kind and this one share.
pub(super) struct Shared<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) clients: &'a Clients,
    pub(super) leadership: &'a watch::Receiver<Leadership>,
    pub(super) writer: &'a StatusWriter,
    pub(super) reporter: &'a Reporter,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) remedies: &'a Arc<Remedies>,
    pub(super) budget: &'a Arc<Budget>,
    pub(super) clock: Clock,
}

/// Everything for backends, made and not started.
pub(super) struct Quarter {
    pub(super) known: Arc<Known>,
    context: Arc<Context>,
    scopes: Vec<Scope<MonitoredBackend>>,
    poked: mpsc::UnboundedReceiver<Poke>,
    policy: Policy,
    own: OwnCheck,
    client: Client,
}

impl Quarter {
    pub(super) fn new(shared: &Shared<'_>, own_ports: Vec<u16>) -> Self {
        let Shared { args, clients, leadership, writer, reporter, metrics, remedies, budget, clock } = *shared;
        let probing = &args.probing;
        let policy = Policy {
            allow: probing.allow_network.clone(),
            deny: probing.deny_network.clone(),
            cluster: probing.cluster_network.clone(),
            own_ports,
            own_addresses: std::env::var("POD_IP").ok().and_then(|ip| ip.parse::<IpAddr>().ok()).into_iter().collect(),
            ..Policy::default()
        };
        let (wakes, scopes) = Wakes::new(&args.namespace);
        let period = std::time::Duration::from_secs(args.checkpoint_seconds.into());
        let (context, poked) = Context::new(Given {
            client: clients.lease.clone(),
            clock,
            leadership: leadership.clone(),
            metrics: metrics.clone(),
            writer: writer.clone(),
            reporter: reporter.clone(),
            remedies: remedies.clone(),
            checkpoints: Arc::new(Checkpoints::new(period, budget.clone())),
            wakes,
            policy: policy.clone(),
            places: usize::try_from(probing.probe_concurrency).unwrap_or(usize::MAX),
            prometheus_url: probing.prometheus_url.clone(),
        });
        let known = Arc::new(Known { context: context.clone(), stores: RwLock::default() });
        let host = clients.server_host.clone();
        let name = host.filter(|host| host.parse::<IpAddr>().is_err());
        let own = OwnCheck { client: clients.lease.clone(), name };
        Self { known, context, scopes, poked, policy, own, client: clients.main.clone() }
    }

    /// Starts it all; `all` gives what has every object reconciled.
    pub(super) fn start<S>(self, all: impl Fn() -> S, work: &Group)
    where
        S: futures::Stream<Item = ()> + Send + 'static,
    {
        let Self { known, context, scopes, poked, policy, own, client } = self;
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
        enroll(&context.remedies.roll, &stores);
        *known.stores.write() = stores;
        work.spawn(drive::checkpoints(context.clone(), work.stop.clone()));
        let (stop, probed) = (work.stop.clone(), context.clone());
        // No probe before the first look at what may not be dialled has been tried.
        let (ready, mut is_ready) = watch::channel(false);
        work.spawn(async move {
            if stop.run_until_cancelled(is_ready.wait_for(|ready| *ready)).await.is_some() {
                rounds::run(probed, poked, stop).await;
            }
        });
        let (prober, stop) = (context.prober.clone(), work.stop.clone());
        work.spawn(async move {
            let tell = move |found: Networks| {
                let mut next = policy.clone();
                next.cluster.extend(found.ranges);
                prober.set_policy(next);
                let _ = ready.send(true);
            };
            networks::follow(client, tell, stop).await;
        });
        work.spawn(rounds::check_ourselves(context, own, work.stop.clone()));
    }
}

/// The ports that we listen on ourselves.
pub(super) fn own_ports(of: &[SocketAddr]) -> Vec<u16> {
    of.iter().map(SocketAddr::port).collect()
}
