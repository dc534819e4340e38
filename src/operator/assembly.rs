//! Makes all parts of the operator and starts them in order; `shutdown` stops them in reverse order.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::Uri;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::Api;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::args::{AdminAuth, RunArgs};
use super::backends::{BackendSubsystem, own_ports};
use super::connectors::{brakes, known_connectors, of_connectors, publish_site_events, remediator};
use super::listening_coordinator::{ListeningCoordinator, messages};
use super::shared::{Pod, SharedParts, register_stores};
use super::shutdown::{Running, Successors, Tasks};
use super::task_group::TaskGroup;
use super::watchdog;
use crate::admin::{Admin, Authenticator};
use crate::cluster::events::Reporter;
use crate::cluster::{Clients, StatusWriter, connect, endpoints};
use crate::controller::connector::deadlines::{Command, DeadlineScheduler, Sinks};
use crate::controller::connector::leases;
use crate::controller::connector::reconcile::Context;
use crate::controller::connector::view::FleetView;
use crate::controller::fleet::CombinedFleet;
use crate::controller::runtime::wake::{ReconcileTrigger, Scope};
use crate::controller::runtime::watch::Tap;
use crate::controller::runtime::{self, checkpoints, run};
use crate::controller::unreadable::Unreadable;
use crate::heartbeat::canary;
use crate::heartbeat::entry::Entry;
use crate::heartbeat::registry::{Notice, Registry};
use crate::heartbeat::routes::{self, Options};
use crate::http::server::{Limits, serve};
use crate::http::tls::TlsFiles;
use crate::leader::{Elector, ElectorConfig, PodLabel, identity};
use crate::leadership::{LeaderLabel, Leadership};
use crate::metrics::{Metrics, register_fleet};
use crate::schedule::checkpoints::WriteBudget;
use crate::time::Clock;
use crate::view::Fleet;

/// The parts that are made before any task is started.
pub(super) struct Assembly {
    args: RunArgs,
    clients: Clients,
    pod: Option<Pod>,
    lease_namespace: String,
    registry: Arc<Registry>,
    notices: mpsc::UnboundedReceiver<Notice>,
    tls: Option<Arc<TlsFiles>>,
    clock: Clock,
}

impl Assembly {
    pub(super) async fn prepare(args: &RunArgs) -> anyhow::Result<Self> {
        let clock = Clock::default();
        let tls = match (&args.heartbeat.tls_cert_file, &args.heartbeat.tls_key_file) {
            (Some(cert), Some(key)) => {
                Some(Arc::new(TlsFiles::load(cert, key).context("the heartbeat port's certificate")?))
            }
            _ => None,
        };
        let clients = connect(&args.connection).await?;
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let pod = env("POD_NAMESPACE").zip(env("POD_NAME")).map(|(namespace, name)| Pod { namespace, name });
        let lease_namespace = args
            .lease
            .lease_namespace
            .clone()
            .or_else(|| pod.as_ref().map(|pod| pod.namespace.clone()))
            .unwrap_or_else(|| clients.default_namespace.clone());
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).context("asking the kernel for random bytes")?;
        let (registry, notices) = Registry::new(clock, &secret);
        Ok(Self {
            args: args.clone(),
            clients,
            pod,
            lease_namespace,
            registry: Arc::new(registry),
            notices,
            tls,
            clock,
        })
    }

    /// Starts every task. The heartbeat port keeps at most `connections` at once.
    pub(super) fn start(self, beats: TcpListener, connections: usize, admin: TcpListener) -> anyhow::Result<Running> {
        let Self { args, clients, pod, lease_namespace, registry, notices, tls, clock } = self;
        let [failed, restored] = std::array::from_fn(|_| CancellationToken::new());
        let tasks = Tasks::new(&failed);
        let work = &tasks.work;
        let mut exported = prometheus_client::registry::Registry::default();
        let metrics = Arc::new(Metrics::register(&mut exported));
        let me = identity(pod.as_ref().map(|pod| pod.name.as_str()));
        let election = ElectorConfig::new(lease_namespace.clone(), args.lease.lease_name.clone(), me.clone());
        let (elector, leadership) = Elector::new(clients.no_retry.clone(), election, clock, restored.clone());
        let remediator = Arc::new(remediator(&args, &clients, clock, &metrics, &leadership, pod.as_ref()));
        let watchdog = watchdog::start(clock, &metrics, &tasks.rest);
        let runtime = Arc::new(runtime::Shared {
            client: clients.no_retry.clone(),
            writer: StatusWriter::new(clock, metrics.clone()),
            reporter: Reporter { client: clients.no_retry.clone(), instance: me },
            leadership: leadership.clone(),
            clock,
            metrics: metrics.clone(),
            watchdog,
            remediator: remediator.clone(),
            unreadable: Unreadable::new(clients.no_retry.clone(), leadership.clone(), clock),
        });
        let own_pod = pod.as_ref().map(|pod| pod.with_service(&args));
        let shared = SharedParts { args: &args, clients: &clients, runtime, own_pod };
        let own_ports = own_ports(&[beats.local_addr()?, admin.local_addr()?]);
        let subsystem = BackendSubsystem::new(&shared, own_ports, &registry);
        work.spawn(brakes(&shared, &lease_namespace).run(work.stop.clone()));
        let (trigger, scopes) = ReconcileTrigger::new(&args.namespace);
        let (commands, commands_received) = mpsc::unbounded_channel();
        let context = Arc::new(of_connectors(&shared, &registry, subsystem.prober(), trigger, commands.clone()));
        let known = Arc::new(known_connectors(&context, args.reachability.public_url.is_some()));
        let (connectors, backends, label) = (known.clone(), subsystem.known.clone(), LeaderLabel::default());
        let fleet: Arc<dyn Fleet> = Arc::new(CombinedFleet { connectors, backends, remediator, label: label.clone() });
        register_fleet(&mut exported, fleet.clone(), args.object_metrics);
        let coordinator = ListeningCoordinator::new(registry.clone(), commands);
        let parts =
            Parts { args: &args, clients: &clients, context: &context, coordinator: &coordinator, known: &known };
        parts.controllers(scopes, work);
        parts.checkpoints(&shared, subsystem.known.context.clone(), &lease_namespace, work);
        let spoken = subsystem.agent_spoke();
        subsystem.start(|| messages(coordinator.reconcile_all.subscribe()), work);
        parts.scheduler(notices, commands_received, spoken, work);
        let successors = parts.reachability(pod.as_ref(), &tasks.rest)?;
        tasks.election.spawn(elector.run(tasks.election.stop.clone(), coordinator.froze.clone()));
        parts.election(leadership, pod.as_ref(), label, &tasks.rest);
        parts.heartbeat_port(HeartbeatPort { listener: beats, connections, tls, metrics }, &tasks.heartbeat_port);
        parts.admin_port(admin, fleet, exported, &tasks.rest);
        Ok(Running { tasks, failed, restored, successors, context, known })
    }
}

/// The heartbeat port, before it is served.
struct HeartbeatPort {
    listener: TcpListener,
    /// The most connections at once.
    connections: usize,
    tls: Option<Arc<TlsFiles>>,
    metrics: Arc<Metrics>,
}

/// The values that the parts are started with.
struct Parts<'a> {
    args: &'a RunArgs,
    clients: &'a Clients,
    context: &'a Arc<Context>,
    coordinator: &'a ListeningCoordinator,
    known: &'a Arc<FleetView>,
}

impl Parts<'_> {
    /// Starts one controller for each watched namespace, or one for all namespaces.
    fn controllers(&self, scopes: Vec<Scope>, work: &TaskGroup) {
        let mut stores = Vec::new();
        let unfilled = Arc::new(AtomicUsize::new(scopes.len()));
        for (scope, woken) in scopes {
            let tap = Tap {
                kind: self.context.clone(),
                scope: scope.as_deref().map(Into::into),
                filled: self.coordinator.filled(unfilled.clone()),
            };
            let all = messages(self.coordinator.reconcile_all.subscribe());
            let (store, driven) =
                run::controller(&self.clients.watching, scope.as_deref(), tap, woken, all, work.stop.clone());
            stores.push(store);
            work.spawn(driven);
            let leases = match &scope {
                Some(namespace) => Api::namespaced(self.clients.watching.clone(), namespace),
                None => Api::all(self.clients.watching.clone()),
            };
            let coordinator = self.coordinator.clone();
            let moved = move || coordinator.listening_moved();
            work.spawn(leases::run(leases, self.context.registry.clone(), moved, work.stop.clone()));
        }
        register_stores(&self.context.remediator.census, &stores);
        *self.known.stores.write() = stores;
    }

    fn scheduler(
        &self,
        notices: mpsc::UnboundedReceiver<Notice>,
        commands_received: mpsc::UnboundedReceiver<Command>,
        backends: Box<dyn Fn(&Entry) + Send>,
        work: &TaskGroup,
    ) {
        let (site_events, received) = mpsc::unbounded_channel();
        let (trigger, coordinator) = (self.context.trigger.clone(), self.coordinator.clone());
        let sinks = Sinks {
            wake: Box::new(move |entry: &Entry| trigger.wake(&entry.identity.key)),
            backends,
            events: site_events,
            is_awake: Box::new(move || !coordinator.exclude_freeze()),
        };
        let scheduler = DeadlineScheduler::new(self.context.registry.clone(), self.context.sites.clone(), sinks);
        work.spawn(scheduler.run(notices, commands_received, work.stop.clone()));
        work.spawn(publish_site_events(self.context.clone(), received, work.stop.clone()));
    }

    fn checkpoints(
        &self,
        shared: &SharedParts<'_>,
        backends: Arc<crate::controller::backend::context::Context>,
        lease_namespace: &str,
        work: &TaskGroup,
    ) {
        let lease = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(lease_namespace.to_owned()),
            name: Some(self.args.lease.lease_name.clone()),
            ..ObjectReference::default()
        };
        let budget = WriteBudget::new(self.args.writes.status_writes_per_second);
        let connectors = self.context.clone();
        work.spawn(checkpoints::run(connectors, backends, shared.runtime.clone(), budget, lease, work.stop.clone()));
    }

    /// Starts the checks whether connectors can reach this replica: through the public URL, and as an endpoint of the
    /// Service. Returns the endpoints that take over after this replica.
    fn reachability(&self, pod: Option<&Pod>, rest: &TaskGroup) -> anyhow::Result<Option<Successors>> {
        if let Some(url) = &self.args.reachability.public_url {
            let target: Uri = format!("{url}/api/connector/heartbeat").parse().context("--public-url")?;
            let coordinator = self.coordinator.clone();
            rest.spawn(canary::run(
                self.context.registry.clone(),
                target,
                move || coordinator.listening_moved(),
                rest.stop.clone(),
            ));
        }
        match (&self.args.reachability.heartbeat_service, pod) {
            (Some(service), Some(pod)) => {
                let coordinator = self.coordinator.clone();
                // This replica counts as no endpoint until the watch has delivered it.
                coordinator
                    .registry
                    .listening
                    .update(coordinator.registry.clock().now(), |inputs| inputs.behind_service = Some(false));
                let on_change = move |behind| {
                    let now = coordinator.registry.clock().now();
                    if coordinator.registry.listening.update(now, |inputs| inputs.behind_service = Some(behind)) {
                        coordinator.listening_moved();
                    }
                };
                let api = Api::namespaced(self.clients.watching.clone(), &pod.namespace);
                let successors = Successors { api: api.clone(), service: service.clone(), pod: pod.name.clone() };
                let (service, pod, stop) = (service.clone(), pod.name.clone(), rest.stop.clone());
                rest.spawn(async move { endpoints::follow(api, &service, |name| name == pod, on_change, stop).await });
                Ok(Some(successors))
            }
            (Some(_), None) => {
                anyhow::bail!("--heartbeat-service needs to know our own pod: set POD_NAME and POD_NAMESPACE")
            }
            (None, _) => Ok(None),
        }
    }

    fn election(
        &self,
        leadership: watch::Receiver<Leadership>,
        pod: Option<&Pod>,
        label: LeaderLabel,
        rest: &TaskGroup,
    ) {
        rest.spawn(self.coordinator.clone().follow_election(leadership.clone(), rest.stop.clone()));
        rest.spawn(self.coordinator.clone().run_pulse(rest.stop.clone()));
        if let Some(pod) = pod {
            let label = PodLabel::new(self.clients.no_retry.clone(), &pod.namespace, &pod.name, label);
            rest.spawn(label.run(leadership, rest.stop.clone()));
        }
    }

    fn heartbeat_port(&self, port: HeartbeatPort, tasks: &TaskGroup) {
        let HeartbeatPort { listener, connections, tls, metrics } = port;
        let trusted_proxies = self.args.heartbeat.trusted_proxy.clone();
        let limits =
            Limits { max_connections: connections, trusted_proxies: trusted_proxies.clone(), ..Limits::default() };
        let options = Options { trusted_proxies, counters: metrics, clock: self.context.clock };
        let router = routes::router(self.context.registry.clone(), options);
        tasks.spawn(serve(listener, router, tls, limits, tasks.stop.clone()));
        let now = self.context.clock.now();
        if self.context.registry.listening.update(now, |inputs| inputs.port_open = true) {
            self.coordinator.listening_moved();
        }
    }

    fn admin_port(
        &self,
        listener: TcpListener,
        fleet: Arc<dyn Fleet>,
        exported: prometheus_client::registry::Registry,
        rest: &TaskGroup,
    ) {
        let auth = match self.args.ports.admin_auth {
            AdminAuth::Off => None,
            AdminAuth::Kubernetes => {
                let audiences = self.args.ports.admin_auth_audience.clone();
                Some(Authenticator::new(self.clients.no_retry.clone(), audiences))
            }
        };
        let router = crate::admin::router(Admin { fleet, registry: Arc::new(exported), auth });
        // There are few clients, and each response may contain the whole fleet.
        // The longest time that a client that reads slowly, or not at all, keeps a response in memory. It is longer than
        // the interval between two scrapes.
        let idle_timeout = Duration::from_secs(90);
        let limits = Limits { max_connections: 256, idle_timeout, ..Limits::default() };
        rest.spawn(serve(listener, router, None, limits, rest.stop.clone()));
    }
}
