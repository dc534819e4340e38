//! Everything at once: two hundred connectors beat and backends answer while the operator is killed and frozen, its requests
//! fail, webhooks and a quota refuse its writes, its wall clock is stepped, the definitions go back a version, and etcd is
//! restored. Each second it is asked whether what must never be is so: a connector that beats and is Offline, a backend that
//! answers and is Down, a restart too many, a token that is refused or replaced, writes without end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::kills::wanted;
use crate::remedies::{gateway, tunnel};
use crate::support::audit::Request;
use crate::support::backends::probed;
use crate::support::cluster::Cluster;
use crate::support::faults::{ANY, Fault, Faults};
use crate::support::fleet::Fleet;
use crate::support::http::get;
use crate::support::proxy::Way;
use crate::support::wall_clock::{WallClock, is_ahead};
use crate::support::world::SOON;
use crate::support::{Beater, Connector, Misbehave, Operator, World, eventually, quick, seconds, text};
use crate::upgrade::{is_rolled_out, stands_still};

/// Number of connectors that beat throughout.
const FLEET: usize = 200;
/// Number of backends that answer throughout.
const BACKENDS: usize = 5;
/// How far the wall clock is stepped: further than any age that the operator compares.
const STEP: SignedDuration = SignedDuration::from_hours(30);
/// Most writes of one object within one disturbance and the time to recover from it. A loop makes hundreds.
const MOST_WRITES: usize = 60;

/// What is done to the operator and to its API server.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Killed,
    Frozen,
    CutOff,
    Faulty,
    WebhookRefuses,
    QuotaIsFull,
    ClockAhead,
    ClockBehind,
    OlderDefinitions,
    EtcdRestored,
}

impl Disturbance {
    const ALL: [Self; 10] = [
        Self::Killed,
        Self::Faulty,
        Self::QuotaIsFull,
        Self::ClockAhead,
        Self::CutOff,
        Self::WebhookRefuses,
        Self::Frozen,
        Self::ClockBehind,
        Self::OlderDefinitions,
        Self::EtcdRestored,
    ];
}

/// The number of writes to each object, by resource and name.
type Writes = BTreeMap<(String, String), usize>;

struct Storm {
    cluster: Arc<Cluster>,
    world: World,
    faults: Faults,
    operator: Operator,
    clock: WallClock,
    /// Requests for a restart so far.
    requests: usize,
    kills: usize,
    /// How long each disturbance lasts.
    lasts: Duration,
}

/// What beats and answers throughout.
struct Senders {
    fleet: Fleet,
    gateway: Beater,
    /// The names of the Secrets, and their tokens.
    tokens: BTreeMap<String, String>,
    _far_side: Misbehave,
}

/// The directory of etcd's data, and where its copy is kept.
fn etcd(cluster: &Cluster) -> (PathBuf, PathBuf) {
    let dir = cluster.kubeconfig().with_file_name("data");
    (dir.join("etcd"), dir.join("etcd-saved"))
}

/// Copies a directory, in place of what is there.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp is started");
    assert!(done.success(), "copying {} to {}", from.display(), to.display());
}

impl Storm {
    async fn begin(lasts: Duration, kills: usize) -> Self {
        let cluster = Cluster::private("mix");
        let world = World::on(cluster.clone(), "mix").await;
        world.may_lead_by((0..kills).map(|kill| format!("vigie-{kill}"))).await;
        let faults = Faults::before(&world).await;
        let flags = [&super::UNBRAKED[..], &["--allow-network", "127.0.0.0/8"]].concat();
        let mut operator = world.operator_through(&faults, &flags).await;
        let clock = WallClock::of(&world);
        operator.add_environment(clock.environment());
        operator.restart().await;
        operator.hearing().await;
        Self { cluster, world, faults, operator, clock, requests: 0, kills: 0, lasts }
    }

    /// Starts all that beats and answers.
    async fn senders(&self) -> Senders {
        let edges = self.connectors().await;
        stands_still(&self.world, "paris").await;
        let paris = self.world.connector("paris", gateway("paris", json!({}))).await;
        let far_side = Misbehave::start();
        for number in 0..BACKENDS {
            self.world.backend(&format!("web-{number}"), probed(&far_side.url("/health"), json!({}))).await;
        }
        let to = self.operator.beats();
        let fleet = Fleet::start(to, &edges, seconds(4), 8);
        let gateway = Beater::start(&[to], &paris, seconds(2), tunnel("Pass"));
        let secret = |edge: &Connector| (format!("{}-connector-token", edge.name), edge.token.clone());
        let tokens = edges.iter().chain([&paris]).map(secret).collect();
        Senders { fleet, gateway, tokens, _far_side: far_side }
    }

    /// The token Secrets.
    async fn secrets(&self) -> Result<Vec<Secret>, String> {
        let (secrets, all) = (self.world.api::<Secret>(), ListParams::default());
        let secrets = tokio::time::timeout(seconds(5), secrets.list(&all)).await;
        let secrets = secrets.map_err(|_| "no answer".to_owned())?;
        let mut secrets = secrets.map_err(|error| error.to_string())?.items;
        secrets.retain(|secret| secret.type_.as_deref() == Some("vigie.dev/connector-token"));
        Ok(secrets)
    }

    /// The connectors, with their tokens.
    async fn connectors(&self) -> Vec<Connector> {
        let names: Vec<_> = (0..FLEET).map(|number| format!("edge-{number}")).collect();
        let made = stream::iter(&names).map(|name| self.world.create(name, quick())).buffer_unordered(16);
        made.for_each(async |_| {}).await;
        let secrets = eventually(seconds(300), "every connector has its token", async || {
            let secrets = self.secrets().await?;
            if secrets.len() >= FLEET { Ok(secrets) } else { Err(format!("{} of {FLEET}", secrets.len())) }
        })
        .await;
        let known = |secret: &Secret| Connector {
            name: secret.metadata.name.as_deref().unwrap_or_default().trim_end_matches("-connector-token").to_owned(),
            id: key(secret, "connector_id"),
            token: key(secret, "token"),
        };
        secrets.iter().map(known).collect()
    }

    /// Asks for a restart of the gateway, if the API server can be reached.
    async fn ask_for_a_restart(&mut self) {
        self.requests += 1;
        let now = jiff::Timestamp::now().to_string();
        self.world.patch("paris", json!({"metadata": {"annotations": {"vigie.dev/restart-requested": now}}})).await;
    }

    /// Kills the operator. A killed process leads no more; with a Lease of another name the next need not wait for its end.
    async fn kill(&mut self) {
        self.operator.kill();
        self.operator.change_flag("--lease-name", &format!("vigie-{}", self.kills));
        self.kills += 1;
        self.operator.restart().await;
    }

    /// Steps the wall clock of the operator.
    async fn step_clock(&self, ahead: SignedDuration) {
        self.clock.set_ahead(ahead);
        eventually(SOON, "the operator reads the clock that was set", async || is_ahead(self.operator.admin(), ahead))
            .await;
    }

    async fn disturb(&mut self, by: Disturbance) {
        match by {
            Disturbance::Killed => self.kill().await,
            Disturbance::ClockAhead => self.step_clock(STEP).await,
            // As after a loss of power: the process starts before the clock is right.
            Disturbance::ClockBehind => {
                self.step_clock(-STEP).await;
                self.kill().await;
            }
            Disturbance::Frozen => {
                self.operator.signal("STOP");
                tokio::time::sleep(self.lasts).await;
                self.operator.signal("CONT");
            }
            Disturbance::CutOff => self.operator.proxy.set(Way::Blackhole),
            Disturbance::Faulty => {
                let faults = [Fault::Refused(500, "InternalError"), Fault::Lost, Fault::Refused(409, "Conflict")];
                for write in super::WRITES {
                    faults.iter().for_each(|fault| self.faults.plan(ANY, write, *fault));
                }
            }
            Disturbance::WebhookRefuses => self.apply("webhook.yaml", &webhook()),
            Disturbance::QuotaIsFull => self.apply("quota.yaml", &quota()),
            Disturbance::OlderDefinitions => {
                let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade/crds/04-f05bc90d6.yaml");
                self.cluster.definitions(&older);
            }
            Disturbance::EtcdRestored => {
                // The restored cluster has not seen a restart that happened after the copy: the request stands again.
                self.requests += 1;
                let (data, saved) = etcd(&self.cluster);
                self.cluster.command(&["stop-component", "apiserver", "etcd"]).ok();
                copy(&data, &saved);
                self.cluster.command(&["start-component", "etcd", "apiserver"]).ok();
            }
        }
    }

    async fn relieve(&mut self, from: Disturbance) {
        match from {
            Disturbance::Killed | Disturbance::Frozen => {}
            Disturbance::ClockAhead | Disturbance::ClockBehind => self.step_clock(SignedDuration::ZERO).await,
            Disturbance::CutOff => self.operator.proxy.set(Way::Open),
            Disturbance::Faulty => self.faults.forget_plans(),
            Disturbance::WebhookRefuses => {
                let hook = ["delete", "validatingwebhookconfiguration", "dead.example.com"];
                self.cluster.kubectl(&hook).ok();
            }
            Disturbance::QuotaIsFull => {
                self.world.kubectl(&["delete", "resourcequota", "full"]).ok();
            }
            Disturbance::OlderDefinitions => {
                self.cluster.definitions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crds"));
            }
            Disturbance::EtcdRestored => {
                let (data, saved) = etcd(&self.cluster);
                self.cluster.command(&["stop-component", "apiserver", "etcd"]).ok();
                copy(&saved, &data);
                self.cluster.command(&["start-component", "etcd", "apiserver"]).ok();
            }
        }
    }

    fn apply(&self, name: &str, object: &Value) {
        let file = self.world.file(name, &object.to_string());
        self.world.kubectl(&["apply", "-f", file.to_str().expect("its name is text")]).ok();
    }

    /// Asks each second, for this long.
    async fn hold(&self, senders: &Senders, before: &Writes, what: &str) {
        let began = Instant::now();
        while began.elapsed() < self.lasts {
            self.all_is_well(senders, before, what).await;
            tokio::time::sleep(seconds(1)).await;
        }
    }

    async fn all_is_well(&self, senders: &Senders, before: &Writes, what: &str) {
        self.nothing_alive_is_dead(what).await;
        let restarts = self.world.touches().into_iter().filter(Request::is_success).count();
        assert!(restarts <= self.requests, "{what}: {} requests, and {restarts} restarts", self.requests);
        assert_eq!(senders.fleet.unauthorized(), 0, "{what}: tokens that were good are refused");
        let refused = senders.gateway.beats().into_iter().find(|beat| beat.status() == Some(401));
        assert!(refused.is_none(), "{what}: a token that was good is refused: {refused:?}");
        for secret in self.secrets().await.into_iter().flatten() {
            let name = secret.metadata.name.clone().unwrap_or_default();
            assert_eq!(senders.tokens.get(&name), Some(&key(&secret, "token")), "{what}: {name} has another token");
        }
        for (object, count) in self.writes() {
            let more = count - before.get(&object).copied().unwrap_or_default();
            assert!(more <= MOST_WRITES, "{what}: {more} writes of {object:?}");
        }
    }

    /// In the cluster, as far as it answers, and in the operator's own view.
    async fn nothing_alive_is_dead(&self, what: &str) {
        let asked = [(self.world.connectors(), "Offline"), (self.world.backends(), "Down")];
        for (all, dead) in asked {
            let listed = tokio::time::timeout(seconds(5), all.list(&ListParams::default())).await;
            for one in listed.ok().and_then(Result::ok).into_iter().flat_map(|list| list.items) {
                let state = text(&one.data, "/status/state");
                assert_ne!(state, dead, "{what}: {:?} is alive: {:#}", one.metadata.name, one.data);
            }
        }
        for (path, dead) in [("connectors", "Offline"), ("backends", "Down")] {
            let Ok(answer) = get(self.operator.admin(), &format!("/api/v1/{path}")) else { return };
            if answer.status == 200 {
                let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
                let found = items.into_iter().find(|one| text(one, "/state") == dead);
                assert!(found.is_none(), "{what}: it is alive: {found:?}");
            }
        }
    }

    /// Writes by the operator to each object.
    fn writes(&self) -> Writes {
        let is_counted = |request: &Request| {
            ["create", "update", "patch"].contains(&&*request.verb)
                && !["leases", "events"].contains(&&*request.resource)
        };
        let mut counted = BTreeMap::new();
        for request in self.world.requests().into_iter().filter(is_counted) {
            *counted.entry((request.resource, request.name)).or_default() += 1;
        }
        counted
    }

    /// One disturbance, from its beginning to the recovery.
    async fn pass(&mut self, by: Disturbance, senders: &Senders) {
        println!("{by:?}");
        let before = self.writes();
        self.ask_for_a_restart().await;
        self.disturb(by).await;
        self.hold(senders, &before, &format!("{by:?}")).await;
        self.relieve(by).await;
        let what = format!("after {by:?}");
        eventually(2 * SOON, &format!("{what}: all are well, and nothing is left to write"), async || {
            is_rolled_out(&self.world, "paris").await;
            self.nothing_alive_is_dead(&what).await;
            let Ok(answer) = get(self.operator.admin(), "/metrics") else { return Err("no answer".to_owned()) };
            let scrape = crate::support::metrics::Scrape(answer.body);
            let online = scrape.sum("vigie_connectors", &["state=\"Online\""]);
            let up = scrape.sum("vigie_backends", &["state=\"Up\""]);
            let pending = scrape.sum("vigie_status_write_pending", &[]);
            let is_well = online == (FLEET + 1) as f64 && up == BACKENDS as f64 && pending == 0.0;
            if is_well { Ok(()) } else { Err(format!("{online} Online, {up} Up, {pending} pending")) }
        })
        .await;
        self.all_is_well(senders, &before, &what).await;
    }
}

fn key(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().expect("it has data")[key].0.clone()).expect("it is text")
}

/// A webhook without a server: every write of a status and of a Secret is refused.
fn webhook() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "dead.example.com"},
        "webhooks": [{
            "name": "dead.example.com", "clientConfig": {"url": "https://127.0.0.1:9/x"},
            "rules": [{
                "apiGroups": ["", "apps", "vigie.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                "resources": ["secrets", "deployments", "connectors/status", "monitoredbackends/status"],
            }],
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 2,
        }],
    })
}

/// A quota that leaves no place for another Secret or event.
fn quota() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
        "spec": {"hard": {"count/secrets": "1", "count/events.events.k8s.io": "1"}},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_every_disturbance_nobody_who_beats_is_offline_and_nothing_is_done_twice() {
    let rounds = wanted("VIGIE_MIX_ROUNDS", 1);
    let lasts = seconds(wanted("VIGIE_MIX_SECONDS", 6) as u64);
    // Two disturbances kill the operator.
    let mut storm = Storm::begin(lasts, 2 * rounds).await;
    let senders = storm.senders().await;
    for round in 0..rounds {
        println!("round {}", round + 1);
        for by in Disturbance::ALL {
            storm.pass(by, &senders).await;
        }
    }
    assert!(senders.fleet.heard() > FLEET as u64, "the fleet was heard");
    let refused = senders.fleet.stop().into_iter().find(|beat| beat.status() == Some(401));
    assert!(refused.is_none(), "a token that was good is refused: {refused:?}");
    for (name, token) in &senders.tokens {
        let now = storm.world.installed(name.trim_end_matches("-connector-token")).await;
        assert_eq!(now.token, *token, "{name}: no other token was asked for");
    }
}
