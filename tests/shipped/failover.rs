//! Two replicas in pods, and failures of the leader: connectors are heard again soon, none is falsely reported Offline,
//! and one pod at a time writes.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::Role;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::node::{Cut, Frozen, process_of};
use crate::release::{NAME, Release, STARTED, make, world};
use crate::senders::{Pulse, heard, kinds};
use crate::support::fleet::Fleet;
use crate::support::history::History;
use crate::support::metrics::Scrape;
use crate::support::process::signal;
use crate::support::workloads::{last_attempt, outcome, remediating};
use crate::support::world::SOON;
use crate::support::{Connector, World, eventually, http, never, quick, seconds, text, time};

/// Number of connectors that are healthy throughout.
const ALIVE: usize = 20;
/// `spec.heartbeat.offlineAfterSeconds` of [`quick`].
const OFFLINE_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// From the accident to the first beat that is heard (docs/design/liveness.md, "Leader"), plus the delay of a loaded machine.
const HEARD_AGAIN: SignedDuration = SignedDuration::from_secs(20 + 10);
/// Additional values of the chart: the test reads metrics without a token.
const VALUES: [&str; 2] = ["adminAuth=off", "networkPolicy.enabled=false"];

/// A release, healthy connectors, and one that dies.
struct Scene<'a> {
    release: Release<'a>,
    to: SocketAddr,
    senders: Fleet,
    alive: Vec<String>,
    history: History,
    /// Beats until the accident.
    dying: Pulse,
    /// Beats throughout, and measures how long no beat was heard.
    pulse: Pulse,
    /// A gateway that was Offline and is being restarted when the accident happens.
    gateway: Connector,
}

impl<'a> Scene<'a> {
    async fn set(world: &'a World) -> Self {
        let release = Release::install(world, &VALUES).await;
        let to = release.beats().await;
        let history = world.history();
        let mut edges = Vec::new();
        for number in 0..ALIVE {
            edges.push(world.connector(&format!("alive-{number:02}"), quick()).await);
        }
        let alive: Vec<String> = edges.iter().map(|edge| edge.name.clone()).collect();
        let senders = Fleet::reconnecting(to, &edges, seconds(5), ALIVE);
        let pulse = Pulse::start(to, &world.connector("pulse", quick()).await);
        let dying = Pulse::start(to, &world.connector("dying", quick()).await);
        let gateway = gateway(world, to).await;
        for name in alive.iter().map(String::as_str).chain(["pulse", "dying"]) {
            world.state(SOON, name, "Online").await;
        }
        let going = |found: &Value| remediating(found) == ("True", "RestartInProgress");
        world.sees(seconds(120), "gateway", "its restart is under way", going).await;
        Self { release, to, senders, alive, history, dying, pulse, gateway }
    }

    /// Fails unless every promise held; `since` is the time of the accident. Prints the measurements.
    async fn went_well(self, what: &str, since: Timestamp) {
        let Self { release, to, senders, alive, history, dying, pulse, gateway } = self;
        let world = release.world;
        let died = dying.stop();
        let deaf = eventually(SOON, "beats are heard again", async || {
            pulse.deaf_for(since).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        println!("{what}: no beat was heard for {:.1} s", deaf.as_secs_f64());
        assert!(deaf <= HEARD_AGAIN, "{what}: no beat was heard for {deaf:?}");
        let leader = release.leader().await;
        let listening = listening_since(&leader).await;

        // The new leader continues the attempt in progress, and the restart is done once.
        heard(&gateway, to).await;
        let over = world.sees(seconds(150), "gateway", "an outcome", |found| !outcome(found).is_empty()).await;
        assert_eq!(text(last_attempt(&over), "/outcome"), "Succeeded", "{over:#}");
        assert_eq!(over["status"]["remediation"]["restarts"], json!(1), "{over:#}");
        assert_eq!(world.attempts_of("gateway").await, [text(last_attempt(&over), "/id")]);
        let touches = release.requests();
        let touches: Vec<_> = touches
            .iter()
            .filter(|one| one.resource == "deployments" && one.verb == "patch" && one.is_success())
            .collect();
        assert_eq!(touches.len(), 1, "one decision is one restart: {touches:?}");

        let dead = world.state(seconds(120), "dying", "Offline").await;
        // A leader that the machine stalled listens since the end of the stall.
        let listening = listening.max(listening_since(&release.leader().await).await);
        let (turned, contact) = (time(&dead, "/status/stateSince"), time(&dead, "/status/lastHeartbeatTime"));
        // Dated at its deadline, which counts from the time at which the new leader could hear: not before, and no
        // later.
        assert!(turned >= contact + OFFLINE_AFTER, "{dead:#}");
        assert!(
            turned <= listening.max(contact) + OFFLINE_AFTER + SignedDuration::from_secs(1),
            "{listening} {dead:#}"
        );
        // Its own limit passed before the new leader could hear it: until its silence counts, it is Unknown.
        let states = history.of_connector("dying");
        if listening > contact + SignedDuration::from_secs(5) {
            assert!(states.ends_with(&["Unknown".to_owned(), "Offline".to_owned()]), "{states:?}");
        }
        // Beats since the last checkpoint are lost with a killed process: the stored contact may be older, never
        // younger.
        assert!(died.is_some_and(|last| contact <= last + SignedDuration::from_secs(1)), "{died:?} {dead:#}");

        for name in alive.iter().map(String::as_str).chain(["pulse"]) {
            let states = history.of_connector(name);
            assert!(!states.iter().any(|state| state == "Offline"), "{name} was seen as {states:?}");
            assert_eq!(world.events(name, "Offline").await.len(), 0, "{name}");
            world.state(SOON, name, "Online").await;
        }
        let lost = senders.stop();
        println!("{what}: beats that were not heard: {:?}; the dead one was seen as {:?}", kinds(&lost), states);
        release.had_one_writer_at_a_time();
    }
}

/// A connector whose Deployment's pods are simulated, and which is silent after its first beat: restarted when it is
/// Offline.
async fn gateway(world: &World, to: SocketAddr) -> Connector {
    let labels = json!({"app": "gateway"});
    let deployment: Deployment = serde_json::from_value(json!({"metadata": {"name": "gateway"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "nodeSelector": {"vigie.dev/simulated": "true"}, "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": "example.com/app:1"}],
        }},
    }}))
    .unwrap();
    world.api().create(&PostParams::default(), &deployment).await.expect("a Deployment is made");
    world.rolled_out("gateway").await;
    let mut spec = quick();
    spec["workloadRef"] = json!({"kind": "Deployment", "name": "gateway"});
    spec["site"] = json!("gateway");
    spec["remediation"] = json!({
        "mode": "Restart", "unhealthyForSeconds": 0, "backoffSeconds": 1, "verifyWithinSeconds": 600,
    });
    let gateway = world.connector("gateway", spec).await;
    heard(&gateway, to).await;
    gateway
}

/// The time from which this pod counts silence, by its metrics.
async fn listening_since(pod: &Pod) -> Timestamp {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).expect("it has an address");
    let admin: SocketAddr = format!("{address}:9090").parse().unwrap();
    eventually(SOON, "the leader reports the start of its listening", async || {
        let answer = http::get(admin, "/metrics").map_err(|error| error.to_string())?;
        let samples = Scrape(answer.body).samples("vigie_listening_since_timestamp_seconds");
        let (_, since) = samples.first().ok_or_else(|| "absent".to_owned())?;
        Timestamp::from_microsecond((since * 1e6) as i64).map_err(|error| error.to_string())
    })
    .await
}

/// The holder of the Lease.
async fn holder(world: &World) -> Option<String> {
    let lease = world.api::<Lease>().get(NAME).await.expect("the Lease is there");
    lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty())
}

/// Waits until another pod holds the Lease.
async fn another_holds(world: &World, before: Option<&str>) {
    eventually(SOON, "another holds the Lease", async || match holder(world).await {
        Some(now) if Some(&*now) != before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_container_is_killed_is_followed() {
    let world = world("ha-kill").await;
    let scene = Scene::set(&world).await;
    let (leader, before) = (scene.release.leader().await, holder(&world).await);
    let killed = Timestamp::now();
    signal(process_of(&leader), "KILL");
    scene.dying.halt();
    another_holds(&world, before.as_deref()).await;
    scene.went_well("its container was killed", killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_node_has_lost_its_network_is_followed() {
    let world = world("ha-network").await;
    let scene = Scene::set(&world).await;
    let leader = scene.release.leader().await;
    let lost = Timestamp::now();
    let cut = Cut::of(&leader);
    scene.dying.halt();
    scene.release.leader_after(&leader.name_any()).await;
    drop(cut);
    scene.went_well("its network was lost", lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_past_its_term_is_followed_and_writes_nothing_when_it_wakes() {
    let world = world("ha-stop").await;
    let scene = Scene::set(&world).await;
    let leader = scene.release.leader().await;
    let stopped = Timestamp::now();
    let frozen = Frozen::of(&leader);
    scene.dying.halt();
    scene.release.leader_after(&leader.name_any()).await;
    drop(frozen);
    scene.went_well("it was stopped", stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_alone_may_not_renew_is_followed() {
    let world = world("ha-renew").await;
    let scene = Scene::set(&world).await;
    let leader = scene.release.leader().await;
    let name = format!("refuse-renewals-{}", world.ns);
    let refused = Timestamp::now();
    let pod = "has(request.userInfo.extra) && 'authentication.kubernetes.io/pod-name' in request.userInfo.extra && \
               request.userInfo.extra['authentication.kubernetes.io/pod-name'][0]";
    let _: ValidatingAdmissionPolicy = make(
        &world,
        json!({"metadata": {"name": name}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.ns}},
                "resourceRules": [{
                    "apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1"], "resources": ["leases"],
                    "operations": ["UPDATE"],
                }],
            },
            "validations": [{"expression": format!("!({pod} == '{}')", leader.name_any()), "message": "not this pod"}],
        }}),
    )
    .await;
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    let _: ValidatingAdmissionPolicyBinding = make(&world, binding).await;
    scene.dying.halt();
    scene.release.leader_after(&leader.name_any()).await;
    for_all::<ValidatingAdmissionPolicyBinding>(&world, &name).await;
    for_all::<ValidatingAdmissionPolicy>(&world, &name).await;
    // It leads until its term is over, and accepts beats until then.
    scene.went_well("it alone might not renew", refused).await;
}

/// Deletes an object without a namespace.
async fn for_all<K>(world: &World, name: &str)
where
    K: kube::Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    Api::<K>::all(world.client.clone()).delete(name, &DeleteParams::default()).await.expect("it is deleted");
}

/// The Role that lets the release write its Lease.
async fn lease_role(world: &World) -> Role {
    let of_it = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
    let roles = world.api::<Role>().list(&of_it).await.expect("Roles are listed").items;
    let renews = |role: &Role| {
        let mut rules = role.rules.iter().flatten();
        rules.any(|rule| {
            rule.resources.iter().flatten().any(|one| one == "leases") && rule.verbs.contains(&"update".into())
        })
    };
    roles.into_iter().find(renews).expect("a Role lets it renew the Lease")
}

/// The time without a renewal: longer than the term of 12 s.
const UNRENEWED: Duration = seconds(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_rbac_lets_nobody_renew_the_leader_hears_and_writes_nothing() {
    let world = world("ha-rbac").await;
    let scene = Scene::set(&world).await;
    let leader = scene.release.leader().await;
    let role = lease_role(&world).await;
    let without = Role {
        rules: role.rules.clone().map(|rules| {
            rules.into_iter().filter(|rule| !rule.resources.iter().flatten().any(|one| one == "leases")).collect()
        }),
        ..role.clone()
    };
    let refused = Timestamp::now();
    let taken = world
        .api::<Role>()
        .replace(&role.name_any(), &PostParams::default(), &without)
        .await
        .expect("the right is taken");
    scene.dying.halt();
    never(UNRENEWED, "beats are not heard", async || {
        scene.pulse.unheard_for(SignedDuration::from_secs(6), refused).map(|beat| format!("{beat:?}"))
    })
    .await;
    let given = Role { metadata: taken.metadata, ..role };
    let back = Timestamp::now();
    world.api::<Role>().replace(&given.name_any(), &PostParams::default(), &given).await.expect("the right is given");
    // The 8 s of its renew deadline, and a call that was on its way.
    let (from, to) = (refused + SignedDuration::from_secs(8 + 5), back);
    let written: Vec<_> = scene.release.requests();
    let written: Vec<_> = written
        .iter()
        .filter(|one| one.resource.ends_with("/status") && one.is_success() && one.received > from && one.received < to)
        .collect();
    assert_eq!(written.len(), 0, "nothing is written without the Lease: {written:?}");
    eventually(STARTED, "it leads again", async || {
        let leads = scene.release.leader().await.name_any();
        if leads == leader.name_any() { Ok(()) } else { Err(leads) }
    })
    .await;
    scene.went_well("no pod might renew", refused).await;
}
