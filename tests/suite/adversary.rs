//! One tenant, one stolen token and two strangers attack an operator at once. Meanwhile the connectors and backends of
//! another namespace keep their true states, every beat of theirs is heard, and the operator stays below the memory limit of
//! the chart. `VIGIE_SIEGE_SECONDS` and `VIGIE_SIEGE_CONNECTIONS` make it longer and larger; `VIGIE_SIEGE_OPERATOR` is a
//! program that is started in place of the operator, such as a script that enters a cgroup first.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::attacks::{Flood, HalfOpen, Liar, Lie};
use crate::support::audit::Request;
use crate::support::backends::probed;
use crate::support::cluster::Cluster;
use crate::support::history::History;
use crate::support::http::beat_request;
use crate::support::pages::Pages;
use crate::support::world::SOON;
use crate::support::{Beater, Connector, Operator, World, never, quick, seconds, text};

/// `resources.limits.memory` of the chart, in KiB.
const MEMORY_LIMIT_KIB: u64 = 512 * 1024;

/// Connectors of the attacked namespace.
const EDGES: usize = 20;

/// Slow backends of the tenant: more than the operator probes at once.
const SLOW: usize = 300;

fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The attacked namespace.
struct Victim {
    world: World,
    operator: Operator,
    beaters: Vec<(Connector, Beater)>,
    connectors: History,
    backends: History,
    pages: Pages,
}

impl Victim {
    async fn settled(cluster: std::sync::Arc<Cluster>) -> Self {
        let world = World::on(cluster, "victim").await;
        world.exchange_rights_for_those_of_the_cluster().await;
        let mut operator =
            world.operator_of_all_namespaces(&["--allow-network", "127.0.0.0/8", "--admin-auth", "kubernetes"]).await;
        if let Some(other) = std::env::var_os("VIGIE_SIEGE_OPERATOR") {
            operator.change_binary(Some(other.into()));
            operator.restart().await;
            operator.hearing().await;
        }
        let mut beaters = Vec::new();
        for number in 0..EDGES {
            let edge = world.connector(&format!("edge-{number}"), quick()).await;
            let beater = Beater::start(&[operator.beats()], &edge, seconds(5), Value::Null);
            beaters.push((edge, beater));
        }
        let pages = Pages::open(["alive", "failing"].map(str::to_owned).into()).await;
        for name in ["alive", "failing"] {
            world.backend(name, probed(&pages.url(name), json!({"metrics": {}}))).await;
            world.backend_is(SOON, name, "Up", "").await;
        }
        for (edge, _) in &beaters {
            world.state(SOON, &edge.name, "Online").await;
        }
        let (connectors, backends) = (world.history(), History::of(world.backends()));
        Self { world, operator, beaters, connectors, backends, pages }
    }

    /// The largest resident size of the operator so far, in KiB.
    fn peak_memory(&self) -> u64 {
        let file = format!("/proc/{}/status", self.operator.pid());
        let status = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("the operator is gone: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a process has a peak");
        line.trim().trim_end_matches(" kB").parse().expect("it is a number of kB")
    }

    /// What must hold at every moment.
    fn lie(&self) -> Option<String> {
        let memory = self.peak_memory();
        if memory >= MEMORY_LIMIT_KIB {
            return Some(format!("the operator used {memory} KiB"));
        }
        for (edge, beater) in &self.beaters {
            let states = self.connectors.of_connector(&edge.name);
            if states.iter().any(|state| state != "Online") {
                return Some(format!("{} was seen as {states:?}", edge.name));
            }
            if let Some(lost) = beater.beats().into_iter().find(|beaten| beaten.is_lost()) {
                return Some(format!("a beat of {} was lost: {lost:?}", edge.name));
            }
        }
        let states = self.backends.of_connector("alive");
        states.iter().any(|state| state != "Up").then(|| format!("the healthy backend was seen as {states:?}"))
    }

    /// The times of the answers to all beats so far, in order.
    fn latencies(&self) -> Vec<Duration> {
        let beats = self.beaters.iter().flat_map(|(_, beater)| beater.beats());
        let mut all: Vec<Duration> = beats.map(|beat| beat.answered.duration_since(beat.sent).unsigned_abs()).collect();
        all.sort_unstable();
        all
    }
}

/// The objects by which a tenant with rights in one namespace attacks.
struct Attack {
    tenant: World,
    silent: Liar,
    _liars: Vec<Liar>,
    forbidden: Liar,
}

impl Attack {
    async fn prepared(cluster: std::sync::Arc<Cluster>) -> Self {
        let tenant = World::on(cluster, "tenant").await;
        let silent = Liar::start(Lie::Silence).await;
        let (long, headers) = (Liar::start(Lie::LongText).await, Liar::start(Lie::EndlessHeaders).await);
        let (targets, forbidden) = (Liar::start(Lie::EndlessTargets).await, Liar::outside_loopback(Lie::Silence).await);
        for number in 0..SLOW {
            let url = format!("http://{}/{number}", silent.address);
            let probe = json!({"http": {}, "intervalSeconds": 60, "timeoutSeconds": 60, "failureThreshold": 1});
            tenant.backend(&format!("slow-{number}"), json!({"target": {"url": url}, "probe": probe})).await;
        }
        for number in 0..4 {
            let url = format!("http://{}/", long.address);
            let http = json!({"bodyMatches": "[ab]*a[ab]{1000}c"});
            let spec = json!({"target": {"url": url}, "probe": {"http": http, "intervalSeconds": 5}});
            tenant.try_backend(&format!("expression-{number}"), spec).await;
            let spec = probed(&format!("http://{}/", headers.address), json!({"metrics": {}}));
            tenant.backend(&format!("headers-{number}"), spec).await;
            let mut spec = probed(&format!("http://{}/", headers.address), json!({"metrics": {}}));
            spec["prometheus"] = json!({"url": format!("http://{}", targets.address)});
            tenant.backend(&format!("lied-to-{number}"), spec).await;
        }
        tenant.forge_endpoints(&forbidden);
        tenant
            .backend("forged", json!({"target": {"service": {"name": "forged", "port": 80}}, "probe": {"http": {}}}))
            .await;
        Self { tenant, silent, _liars: vec![long, headers, targets], forbidden }
    }
}

impl World {
    /// Creates a MonitoredBackend that the API server may refuse.
    async fn try_backend(&self, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend",
            "metadata": {"name": name, "namespace": self.ns}, "spec": spec,
        });
        let file = self.file(&format!("{name}.json"), &object.to_string());
        let ran = self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
        assert!(ran.code == 0 || ran.stderr.contains("Invalid value"), "{ran:?}");
    }

    /// A Service with a selector, and an EndpointSlice of the tenant's own that names an address outside the pods.
    fn forge_endpoints(&self, to: &Liar) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "forged", "namespace": self.ns},
            "spec": {"selector": {"app": "forged"}, "clusterIP": "None", "ports": [{"port": 80}]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "forged-1", "namespace": self.ns, "labels": {
                "kubernetes.io/service-name": "forged",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            }},
            "ports": [{"port": to.address.port(), "name": "", "protocol": "TCP"}],
            "endpoints": [{"addresses": [to.address.ip().to_string()], "conditions": {"ready": true}}],
        });
        for (name, object) in [("service", service), ("slice", slice)] {
            let file = self.file(&format!("{name}.json"), &object.to_string());
            self.kubectl(&["apply", "-f", file.to_str().unwrap()]).ok();
        }
    }
}

/// The beats of a holder of one stolen token, each with another host name, check and sequence.
fn stolen(edge: &Connector) -> impl Fn(u64) -> Vec<u8> + Send + Sync + use<> {
    let edge = edge.clone();
    move |number| {
        let status = if number.is_multiple_of(2) { "Pass" } else { "Fail" };
        let more = json!({
            "hostname": format!("host-{}", number % 7), "version": format!("1.{}", number % 3),
            "boot_id": format!("{:032x}", number % 2), "sequence": u64::MAX - number % 5,
            "checks": [{"type": "Process", "status": status, "message": format!("pid {number}")}],
        });
        beat_request(&edge.body(&more), "Connection: close\r\n")
    }
}

fn wrong_beat(id: &str) -> impl Fn(u64) -> Vec<u8> + Send + Sync + use<> {
    let id = id.to_owned();
    move |number| {
        let body = json!({"connector_id": id, "token": format!("vgt_{number:043}")});
        beat_request(body.to_string().as_bytes(), "Connection: close\r\n")
    }
}

fn wrong_reader(number: u64) -> Vec<u8> {
    format!("GET /metrics HTTP/1.1\r\nHost: vigie\r\nAuthorization: Bearer wrong-{number}\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// The most writes of one kind to one object, with its name.
fn most_of(requests: &[Request], resource: &str) -> (usize, String) {
    let mut by_name: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for request in requests.iter().filter(|request| request.resource == resource && request.verb != "get") {
        *by_name.entry(&request.name).or_default() += 1;
    }
    let most = by_name.into_iter().max_by_key(|(_, count)| *count);
    most.map_or((0, String::new()), |(name, count)| (count, name.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_tenant_or_a_stranger_does_blinds_or_stops_others() {
    let length = seconds(from_environment("VIGIE_SIEGE_SECONDS", 60) as u64);
    let connections = from_environment("VIGIE_SIEGE_CONNECTIONS", 2000);
    let cluster = Cluster::private("siege");
    let victim = Victim::settled(cluster.clone()).await;
    let (beats, admin) = (victim.operator.beats(), victim.operator.admin());
    let calm = victim.latencies();

    let attack = Attack::prepared(cluster).await;
    let owned = attack.tenant.connector("owned", quick()).await;
    let began = Timestamp::now();
    let half_open = [HalfOpen::start(beats, connections, 12 * 1024), HalfOpen::start(admin, 300, 12 * 1024)];
    let floods = [
        Flood::start(beats, 2, stolen(&owned)),
        Flood::start(beats, 2, wrong_beat(&victim.beaters[0].0.id)),
        Flood::start(admin, 2, wrong_reader),
    ];
    victim.pages.hang(["failing".to_owned()].into());
    never(length, "an attack changes what others see", async || victim.lie()).await;

    // What is true of the others is said in the middle of the attack: a backend that hangs, a connector that is silent.
    let failed = victim.world.sees_backend(SOON, "failing", "Down", |seen| text(seen, "/status/state") == "Down").await;
    let since: Timestamp = text(&failed, "/status/stateSince").parse().unwrap();
    assert!(since < began + length, "the failing backend is Down since {since}; the attack began at {began}");
    assert!(attack.silent.connections() > 0, "the slow backends are probed");
    assert_eq!(attack.forbidden.connections(), 0, "an address of a forged EndpointSlice was dialled");
    let requests = victim.world.requests();
    let minutes = Timestamp::now().duration_since(began).as_secs_f64() / 60.0;
    let reviews = requests.iter().filter(|request| request.resource == "tokenreviews").count();
    for resource in ["connectors/status", "monitoredbackends/status", "events"] {
        let (count, name) = most_of(&requests, resource);
        println!("{resource}: at most {count} writes for one object ({name}) in {minutes:.1} minutes");
        assert!(resource == "events" || count as f64 <= 30.0 * (minutes + 1.0), "{resource} of {name}: {count} writes");
    }
    let sent: Vec<u64> = floods.iter().map(Flood::sent).collect();
    println!("{reviews} TokenReviews for {} wrong tokens of readers; {sent:?} requests in floods", sent[2]);
    assert!((reviews as f64) < 120.0 * (minutes + 1.0), "{reviews} TokenReviews");
    let siege = victim.latencies();
    for (name, all) in [("calm", &calm), ("attacked", &siege)] {
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
        println!("{name}: {} beats, p50 {:?}, p99 {:?}", all.len(), at(0.5), at(0.99));
    }
    println!("peak of memory: {} KiB", victim.peak_memory());
    let log = victim.operator.log();
    println!("{}", log.lines().find(|line| line.contains("listening version")).unwrap_or_default());
    drop((floods, half_open));
    assert_eq!(victim.lie(), None);
}
