//! The path to the operator breaks: the route, the label of the leader, the Service. No beat could be heard then, so no
//! connector becomes Offline.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::rbac::v1::Role;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::release::{NAME, Release, cluster, world};
use crate::senders::Pulse;
use crate::support::history::History;
use crate::support::metrics::Scrape;
use crate::support::operator::free_port;
use crate::support::proxy::{Proxy, Way};
use crate::support::rights::rule;
use crate::support::world::SOON;
use crate::support::{World, eventually, http, never, quick, seconds, text};

/// Connectors that beat every second, and all their states so far.
struct Fleet {
    names: Vec<String>,
    pulses: Vec<Pulse>,
    history: History,
}

impl Fleet {
    async fn online(world: &World, to: SocketAddr) -> Self {
        let history = world.history();
        let names: Vec<String> = (0..4).map(|number| format!("edge-{number}")).collect();
        let mut pulses = Vec::new();
        for name in &names {
            pulses.push(Pulse::start(to, &world.connector(name, quick()).await));
        }
        for name in &names {
            world.state(SOON, name, "Online").await;
        }
        Self { names, pulses, history }
    }

    /// The limit of all of them passes, and each is Unknown, because the operator could not be reached.
    async fn is_unknown(&self, world: &World) {
        for name in &self.names {
            let is_over = |state: &str| ["Unknown", "Offline"].contains(&state);
            let seen = world
                .sees(seconds(90), name, "Unknown, or wrongly Offline", |seen| is_over(text(seen, "/status/state")))
                .await;
            assert_eq!(text(&seen, "/status/state"), "Unknown", "{seen:#}");
            assert_eq!(text(&seen, "/status/diagnosis/cause"), "ObserverUnreachable", "{seen:#}");
        }
        never(seconds(8), "it is called Offline, and no replica could have heard it", async || {
            let offline =
                self.names.iter().find(|name| self.history.of_connector(name).iter().any(|one| one == "Offline"));
            offline.cloned()
        })
        .await;
    }

    /// All of them are heard again, and none was ever Offline.
    async fn come_online_again(self, world: &World) {
        for name in &self.names {
            world.state(seconds(90), name, "Online").await;
            let states = self.history.of_connector(name);
            assert!(!states.iter().any(|state| state == "Offline"), "{name} was seen as {states:?}");
            assert_eq!(world.events(name, "Offline").await.len(), 0, "{name}");
        }
        drop(self.pulses);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_route_accuses_nobody_and_is_told() {
    let world = world("front-route").await;
    let node: IpAddr = cluster().variable("CLUSTER_NODE_ADDRESS").parse().expect("the node has an address");
    let public = SocketAddr::from((node, free_port()));
    let url = format!("heartbeat.publicURL=http://{public}");
    let values = [&*url, "heartbeat.allowInsecure=true", "adminAuth=off", "networkPolicy.enabled=false"];
    let release = Release::install(&world, &values).await;
    let road = Proxy::from(public, release.beats().await).await;
    let fleet = Fleet::online(&world, public).await;
    reachable(&release, 1.0).await;

    road.set(Way::Cut);
    reachable(&release, 0.0).await;
    fleet.is_unknown(&world).await;
    road.set(Way::Open);
    reachable(&release, 1.0).await;
    fleet.come_online_again(&world).await;
}

/// A scrape of the leader.
async fn scrape(release: &Release<'_>) -> Result<Scrape, String> {
    let address = release.leader().await.status.and_then(|status| status.pod_ip).expect("it has an address");
    let admin: SocketAddr = format!("{address}:9090").parse().unwrap();
    http::get(admin, "/metrics").map(|answer| Scrape(answer.body)).map_err(|error| error.to_string())
}

/// Waits until the metrics show that the leader cannot be heard: the alert BeatPathBroken uses the same metric.
async fn is_deaf(release: &Release<'_>) {
    eventually(seconds(60), "the leader cannot be heard, and says so", async || {
        let said = scrape(release).await?;
        let (leads, since) = (said.sum("vigie_leader", &[]), said.samples("vigie_listening_since_timestamp_seconds"));
        if leads == 1.0 && since.is_empty() { Ok(()) } else { Err(format!("{leads} {since:?}")) }
    })
    .await;
}

/// Waits until the canary reports this value: the alert BeatPathBroken uses the same metric.
async fn reachable(release: &Release<'_>, wanted: f64) {
    eventually(seconds(60), &format!("vigie_reachable is {wanted}"), async || {
        let samples = scrape(release).await?.samples("vigie_reachable");
        if samples.iter().any(|(_, value)| *value == wanted) { Ok(()) } else { Err(format!("{samples:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_selects_nobody_accuses_nobody() {
    let world = world("front-service").await;
    let release = Release::install(&world, &["adminAuth=off", "networkPolicy.enabled=false"]).await;
    let fleet = Fleet::online(&world, release.beats().await).await;
    let services = world.api::<Service>();
    let name = format!("{NAME}-heartbeat");
    let select = async |role: &str| {
        let patch = Patch::Merge(json!({"spec": {"selector": {"vigie.dev/role": role}}}));
        services.patch(&name, &PatchParams::default(), &patch).await.expect("the Service is changed");
    };
    select("nobody").await;
    is_deaf(&release).await;
    fleet.is_unknown(&world).await;
    select("leader").await;
    fleet.come_online_again(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_that_is_lost_and_may_not_be_set_accuses_nobody() {
    let world = world("front-label").await;
    let release = Release::install(&world, &[]).await;
    let fleet = Fleet::online(&world, release.beats().await).await;
    let leader = release.leader().await.name_any();
    let of_it = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
    let roles = world.api::<Role>().list(&of_it).await.expect("Roles are listed").items;
    let labels = |role: &Role| {
        let mut rules = role.rules.iter().flatten();
        rules.any(|rule| {
            rule.resources.iter().flatten().any(|one| one == "pods") && rule.verbs.contains(&"patch".into())
        })
    };
    let role = roles.into_iter().find(labels).expect("a Role lets it label its pod");
    let mut without = role.clone();
    for rule in
        without.rules.iter_mut().flatten().filter(|rule| rule.resources.iter().flatten().any(|one| one == "pods"))
    {
        rule.verbs.retain(|verb| verb != "patch");
    }
    let taken =
        world.api::<Role>().replace(&role.name_any(), &Default::default(), &without).await.expect("it is taken");
    let patching = json!({"apiGroups": [""], "resources": ["pods"], "resourceNames": [leader], "verbs": ["patch"]});
    world.heeded_no_more(NAME, &rule(patching)).await;
    let off = Patch::Merge(json!({"metadata": {"labels": {"vigie.dev/role": null}}}));
    world.api::<Pod>().patch(&leader, &PatchParams::default(), &off).await.expect("the label is taken off");
    fleet.is_unknown(&world).await;

    let given = Role { metadata: taken.metadata, ..role };
    world.api::<Role>().replace(&given.name_any(), &Default::default(), &given).await.expect("it is given back");
    fleet.come_online_again(&world).await;
    assert_eq!(release.leader().await.name_any(), leader, "the leader did not change");
}
