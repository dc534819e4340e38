//! A connector that beats by renewing a Lease.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::beats::{GRAIN, said};
use crate::support::http::post_beat;
use crate::support::proxy::Way;
use crate::support::world::SOON;
use crate::support::{World, never, seconds, text, time};

async fn renew(world: &World, name: &str, at: Timestamp) {
    let patch = json!({"spec": {"renewTime": MicroTime(at)}});
    world.api::<Lease>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_we_see_is_a_beat_at_the_moment_at_which_we_see_it() {
    let world = World::new("lease").await;
    let operator = world.operator(&[]).await;
    let limits = json!({"source": "Lease", "leaseName": "gw", "intervalSeconds": 5, "lateAfterSeconds": 15, "offlineAfterSeconds": 30});
    world.create("edge-1", json!({"heartbeat": limits})).await;
    let pending = world.state(SOON, "edge-1", "Pending").await;
    assert_eq!(said(&pending, "Provisioned"), "True/Provisioned");
    assert_eq!(pending.pointer("/status/token"), None, "it has no token");

    let lease = json!({"metadata": {"name": "gw"}, "spec": {"holderIdentity": "gw-1", "renewTime": MicroTime(Timestamp::now())}});
    let lease: Lease = serde_json::from_value(lease).unwrap();
    world.api::<Lease>().create(&PostParams::default(), &lease).await.unwrap();
    never(seconds(5), "the first sight of a Lease is no beat", async || {
        let view = operator.view("edge-1").unwrap();
        (text(&view, "/state") != "Pending").then(|| view.to_string())
    })
    .await;

    // The holder's clock is ignored: it is two hours behind.
    let before = Timestamp::now();
    renew(&world, "gw", before - seconds(7200)).await;
    let online = world.state(SOON, "edge-1", "Online").await;
    let contact = time(&online, "/status/lastHeartbeatTime");
    assert!(contact >= before - GRAIN && contact <= Timestamp::now(), "{before} {contact}");
    assert_eq!(said(&online, "Ready"), "True/Ready");

    for token in ["", "x", "vgt_0123456789012345678901234567890123456789012"] {
        let body = json!({"connector_id": format!("{}/edge-1", world.ns), "token": token}).to_string();
        let answer = post_beat(operator.beats(), body.as_bytes()).unwrap();
        assert_eq!(answer.status, if token.is_empty() { 400 } else { 401 }, "{answer:?}");
    }
    assert!(world.api::<Secret>().get_opt("edge-1-connector-token").await.unwrap().is_none());

    let gone = world.state(seconds(180), "edge-1", "Offline").await;
    operator.has_dated(time(&gone, "/status/stateSince"), contact + seconds(30));
    assert!(text(&gone, "/status/diagnosis/advice").contains("gw"), "{gone:#}");
    renew(&world, "gw", Timestamp::now()).await;
    world.state(SOON, "edge-1", "Online").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_that_we_could_not_see_are_not_missed() {
    let world = World::new("leaseoutage").await;
    let history = world.history();
    let operator = world.operator(&[]).await;
    let limits = json!({"source": "Lease", "leaseName": "gw", "intervalSeconds": 5, "lateAfterSeconds": 15, "offlineAfterSeconds": 30});
    world.create("edge-1", json!({"heartbeat": limits})).await;
    world.state(SOON, "edge-1", "Pending").await;
    let lease = json!({"metadata": {"name": "gw"}, "spec": {"holderIdentity": "gw-1", "renewTime": MicroTime(Timestamp::now())}});
    let lease: Lease = serde_json::from_value(lease).unwrap();
    world.api::<Lease>().create(&PostParams::default(), &lease).await.unwrap();
    let renewing = async || {
        renew(&world, "gw", Timestamp::now()).await;
        let view = operator.view("edge-1").unwrap();
        (text(&view, "/state") == "Offline").then(|| view.to_string())
    };
    crate::support::eventually(SOON, "it is Online", async || match renewing().await {
        Some(offline) => Err(offline),
        None if text(&world.get("edge-1").await, "/status/state") == "Online" => Ok(()),
        None => Err("not yet".to_owned()),
    })
    .await;
    operator.proxy.set(Way::Cut);
    never(
        seconds(45),
        "it renews its Lease all the time, and is called Offline because the operator cannot see it",
        renewing,
    )
    .await;
    operator.proxy.set(Way::Open);
    never(seconds(20), "it renews its Lease all the time, and is called Offline after the outage", renewing).await;
    world.state(SOON, "edge-1", "Online").await;
    let states = history.of_connector("edge-1");
    assert!(!states.iter().any(|state| state == "Offline"), "{states:?}");
    assert_eq!(world.events("edge-1", "Offline").await.len(), 0);
}
