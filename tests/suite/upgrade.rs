//! This operator under the definitions of earlier versions: the API server then drops fields of the status that the operator
//! remembers by. It acts once all the same, and it says that the definitions are older.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::remedies::{gateway, tunnel};
use crate::support::audit::Request;
use crate::support::backends::probed;
use crate::support::cluster::Cluster;
use crate::support::http::get;
use crate::support::world::SOON;
use crate::support::{Beater, Misbehave, Operator, World, eventually, quick, seconds, text};

/// How long each version is watched after its requests. The known loops wrote several times a second.
const WATCHED: Duration = seconds(20);
/// Most writes to one object and its Secret in that time: a few of each transition, and none of a loop.
const MOST_WRITES: usize = 30;
/// Most writes of one token Secret: its creation, a rotation, a revocation, and a repair.
const MOST_TOKENS: usize = 4;

/// The definitions of earlier versions, oldest first (tests/upgrade/definitions).
fn earlier() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade/crds");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the folder can be read").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    files
}

/// A Deployment whose status says that it is rolled out. A control plane without controllers does not say it
/// by itself.
pub(crate) async fn stands_still(world: &World, name: &str) {
    let labels = json!({"app": name});
    let deployment: Deployment = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
        "replicas": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}},
    }}))
    .unwrap();
    world.api().create(&PostParams::default(), &deployment).await.expect("a Deployment is made");
    is_rolled_out(world, name).await;
}

/// Plays the controller: each generation is rolled out at once.
pub(crate) async fn is_rolled_out(world: &World, name: &str) {
    let deployments: Api<Deployment> = world.api();
    let found = deployments.get(name).await.expect("the Deployment is read");
    let status = json!({"status": {
        "observedGeneration": found.metadata.generation,
        "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    }});
    deployments
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("its status is written");
}

/// Whether the operator says that the definitions are older than itself: in its log, or in a condition.
async fn names_the_definitions(world: &World, operator: &Operator, backends: bool) -> Result<(), String> {
    let mut said = operator.log();
    for object in world.connectors().list(&Default::default()).await.map_err(|error| error.to_string())? {
        said.push_str(&serde_json::to_string(&object).unwrap());
    }
    if backends {
        said.push_str(&world.get_backend("web").await.to_string());
    }
    let is_said = said.contains("older than this operator") || said.contains("apply the CRDs");
    if is_said { Ok(()) } else { Err("it says nothing of definitions".to_owned()) }
}

/// One version of the definitions, and the operator that runs under them.
struct Trial {
    world: World,
    operator: Operator,
    /// Whether the version has MonitoredBackends.
    has_backends: bool,
    /// The connectors that beat, throughout.
    beating: Vec<(&'static str, Beater)>,
}

impl Trial {
    async fn begin(cluster: &Arc<Cluster>, name: &str, definitions: &Path) -> Self {
        cluster.replace_definitions(definitions);
        let world = World::on(cluster.clone(), name).await;
        let has_backends = cluster.kubectl(&["get", "crd", "monitoredbackends.vigie.dev"]).code == 0;
        let flags = ["--brake-min", "1000", "--breaker-min", "1000", "--allow-network", "127.0.0.0/8"];
        let operator = world.operator(&flags).await;
        Self { world, operator, has_backends, beating: Vec::new() }
    }

    /// Writes by the operator to each object: those of the status, of the token Secret, and events about it.
    fn writes(&self) -> BTreeMap<(String, String), usize> {
        let is_write = |request: &Request| ["create", "update", "patch"].contains(&&*request.verb);
        let is_counted =
            |request: &Request| is_write(request) && !["leases", "tokenreviews"].contains(&&*request.resource);
        let mut counted = BTreeMap::new();
        for request in self.world.requests().into_iter().filter(is_counted) {
            // The name of an event is its own.
            let name = if request.resource == "events" { String::new() } else { request.name };
            *counted.entry((request.resource, name)).or_default() += 1;
        }
        counted
    }

    /// Restarts that were sent, whether or not the status remembers them.
    fn restarts(&self) -> Vec<Request> {
        self.world.touches().into_iter().filter(Request::is_success).collect()
    }

    /// Connectors beat, a person asks for a restart, a rotation and a revocation, a backend is probed; then all of it is
    /// watched.
    async fn run(&mut self, what: &str) {
        let Self { world, operator, has_backends, beating } = self;
        let to = [operator.beats()];
        let far_side = Misbehave::start();
        if *has_backends {
            world.backend("web", probed(&far_side.url("/health"), json!({}))).await;
        }
        let edge = world.connector("edge", quick()).await;
        let spare = world.connector("spare", quick()).await;
        stands_still(world, "paris").await;
        let paris = world.connector("paris", gateway("paris", json!({}))).await;
        beating.push(("edge", Beater::start(&to, &edge, seconds(2), Value::Null)));
        beating.push(("paris", Beater::start(&to, &paris, seconds(2), tunnel("Pass"))));
        for name in ["edge", "paris"] {
            world.state(SOON, name, "Online").await;
        }
        if *has_backends {
            world.backend_is(SOON, "web", "Up", "").await;
        }
        let now = jiff::Timestamp::now().to_string();
        world.patch("paris", json!({"metadata": {"annotations": {"vigie.dev/restart-requested": now}}})).await;
        world.vigie(&["token", "rotate", "edge", "-n", &world.ns]).ok();
        world.vigie(&["token", "revoke", "spare", "--yes", "-n", &world.ns]).ok();
        assert_eq!(edge.status(to[0]), 200, "{what}: in its grace the old token is good");
        self.watch(what).await;
        let Self { world, operator, .. } = self;
        eventually(SOON, &format!("{what}: a revoked token is refused"), async || {
            let status = spare.status(to[0]);
            if status == 401 || status == 429 { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        let fresh = world.installed("spare").await;
        assert_eq!(fresh.status(to[0]), 200, "{what}: the token in the Secret is good");
        let ready = get(operator.admin(), "/readyz").expect("the admin port answers");
        assert_eq!(ready.status, 200, "{what}: {ready:?}");
    }

    /// Nothing is repeated for the time that a version is watched.
    async fn watch(&self, what: &str) {
        let before = self.writes();
        let began = std::time::Instant::now();
        while began.elapsed() < WATCHED {
            is_rolled_out(&self.world, "paris").await;
            let restarts = self.restarts();
            assert!(restarts.len() <= 1, "{what}: one request, and the restarts {restarts:#?}");
            for (object, count) in self.writes() {
                let more = count - before.get(&object).copied().unwrap_or_default();
                let most = if object.0 == "secrets" { MOST_TOKENS } else { MOST_WRITES };
                assert!(more <= most, "{what}: {more} writes of {object:?} within {:?}", began.elapsed());
            }
            tokio::time::sleep(seconds(1)).await;
        }
        for (name, _) in &self.beating {
            let seen = self.world.get(name).await;
            assert_ne!(text(&seen, "/status/state"), "Offline", "{what}: {name} beats: {seen:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_definitions_of_every_earlier_version_nothing_is_repeated() {
    let cluster = Cluster::private("upgrade");
    for (number, definitions) in earlier().iter().enumerate() {
        let what = definitions.file_stem().unwrap().to_string_lossy().into_owned();
        println!("under {what}");
        let mut trial = Trial::begin(&cluster, &format!("upgrade-{number}"), definitions).await;
        trial.run(&what).await;
        // The first three had no MonitoredBackends; the first four did not remember a request for a restart.
        let text = std::fs::read_to_string(definitions).unwrap();
        if !trial.has_backends || !text.contains("observedRestartRequest") {
            eventually(SOON, &format!("{what}: it is said"), async || {
                names_the_definitions(&trial.world, &trial.operator, trial.has_backends).await
            })
            .await;
        }
    }
}

/// `make upgrade` names the operator of an earlier commit; else it is today's, and the test is the control of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_under_todays_definitions_repeats_nothing_and_hands_over() {
    let cluster = Cluster::private("handover");
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut trial = Trial::begin(&cluster, "handover", &crds).await;
    if let Some(earlier) = std::env::var_os("VIGIE_EARLIER_OPERATOR") {
        println!("the operator is {}", earlier.display());
        trial.operator.change_binary(Some(earlier.into()));
        trial.operator.restart().await;
        trial.operator.hearing().await;
    }
    trial.run("before").await;
    let before = trial.world.installed("edge").await;
    let restarts = trial.restarts().len();
    assert_eq!(restarts, 1, "a request is one restart");
    trial.operator.change_binary(None);
    trial.operator.restart().await;
    trial.operator.hearing().await;
    let to = trial.operator.beats();
    assert_eq!(before.status(to), 200, "the token that was delivered is good");
    trial.world.state(SOON, "edge", "Online").await;
    trial.watch("after").await;
    assert_eq!(trial.world.installed("edge").await.token, before.token, "the successor makes no new token");
    assert_eq!(trial.restarts().len(), restarts, "the successor repeats no restart");
}

/// The committed definitions, without a field of the status of a Connector: an operator that remembers by it forgets.
fn without(pointer: &str, at: &World) -> PathBuf {
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut items = Vec::new();
    for kind in ["connectors", "monitoredbackends"] {
        let text = std::fs::read_to_string(crds.join(format!("{kind}.vigie.dev.yaml"))).unwrap();
        let mut one: Value = serde_saphyr::from_str(&text).unwrap();
        let (within, field) = pointer.rsplit_once('/').unwrap();
        let within = within.split('/').filter(|part| !part.is_empty());
        let whole: String = within.map(|part| format!("/{part}/properties")).collect();
        let status = format!("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties{whole}");
        if let Some(fields) = one.pointer_mut(&status).and_then(Value::as_object_mut) {
            fields.remove(field);
        }
        items.push(one);
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    at.file("definitions.yaml", &list.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_the_api_server_does_not_keep_is_not_acted_upon_again_and_again() {
    let cluster = Cluster::private("pruned");
    let scratch = World::on(cluster.clone(), "pruned").await;
    let fields = [
        "/remediation/observedRestartRequest",
        "/remediation/current",
        "/remediation",
        "/token/observedRevokeRequest",
        "/token/observedRotationGeneration",
        "/token/heldGeneration",
        "/token/hashes",
        "/token",
    ];
    for (number, field) in fields.into_iter().enumerate() {
        println!("without status{field}");
        let definitions = without(field, &scratch);
        cluster.replace_definitions(&definitions);
        let world = World::on(cluster.clone(), &format!("pruned-{number}")).await;
        let operator = world.operator(&["--brake-min", "1000", "--breaker-min", "1000"]).await;
        let trial = Trial { world, operator, has_backends: false, beating: Vec::new() };
        trial.is_not_repeated(field).await;
    }
}

impl Trial {
    /// A request for a restart, a rotation and a revocation, while a field of the status is dropped: each is executed at most once, and
    /// the operator says why it did not.
    async fn is_not_repeated(&self, field: &str) {
        let Self { world, operator, .. } = self;
        stands_still(world, "paris").await;
        world.create("paris", gateway("paris", json!({}))).await;
        // Without a place for the hash of its token it gets none, and cannot beat.
        let secret = || async {
            let found = world.api::<Secret>().get_opt("paris-connector-token").await;
            found.map_err(|error| error.to_string())
        };
        eventually(SOON, "it has its token, or the operator says why not", async || match secret().await? {
            Some(_) => Ok(()),
            None => names_the_definitions(world, operator, false).await,
        })
        .await;
        let mut beating = Vec::new();
        if secret().await.is_ok_and(|found| found.is_some()) {
            let paris = world.installed("paris").await;
            beating.push(Beater::start(&[operator.beats()], &paris, seconds(2), tunnel("Pass")));
        }
        let now = jiff::Timestamp::now().to_string();
        let asked = json!({"vigie.dev/restart-requested": now, "vigie.dev/revoke-requested": now});
        let rotated = json!({"token": {"rotationGeneration": 1}});
        world.patch("paris", json!({"metadata": {"annotations": asked}, "spec": rotated})).await;
        self.watch(field).await;
        eventually(SOON, &format!("{field}: it is said"), async || names_the_definitions(world, operator, false).await)
            .await;
    }
}
