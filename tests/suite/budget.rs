//! The checkpoint budget: a budget that is too small is reported, and a fleet that is too large delays no transition.

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::support::beats::Beaten;
use crate::support::faults::Faults;
use crate::support::fleet::Fleet;
use crate::support::world::SOON;
use crate::support::{Connector, Operator, World, eventually, never, quick, seconds};

/// One write a second keeps this many at most 40 s old: more than `lateAfterSeconds`, which is 15.
const FLEET: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_too_small_for_the_fleet_is_told_once_about_our_lease() {
    let world = World::new("budget").await;
    let operator = world.operator(&["--checkpoint-seconds", "1", "--status-writes-per-second", "1"]).await;
    let mut edges = Vec::new();
    for number in 0..FLEET {
        let spec = json!({"site": format!("s{number}"), "heartbeat": quick()["heartbeat"]});
        world.create(&format!("edge-{number}"), spec).await;
    }
    for number in 0..FLEET {
        edges.push(world.installed(&format!("edge-{number}")).await);
    }
    let beating = Fleet::start(operator.beats(), &edges, seconds(4), 1);
    let told = async || {
        let all = world.api::<Event>().list(&ListParams::default()).await.expect("events are listed").items;
        let ours = all.into_iter().filter(|event| event.reason.as_deref() == Some("CheckpointBudgetTooSmall"));
        ours.collect::<Vec<_>>()
    };
    let events = eventually(seconds(80), "CheckpointBudgetTooSmall", async || {
        let events = told().await;
        let staleness = operator.scrape().sum("vigie_checkpoint_staleness_seconds", &[]);
        if events.is_empty() { Err(format!("no event at a staleness of {staleness} s")) } else { Ok(events) }
    })
    .await;
    let about = events[0].regarding.clone().unwrap();
    assert_eq!((about.kind.as_deref(), about.name.as_deref()), (Some("Lease"), Some("vigie")));
    assert_eq!(about.namespace.as_deref(), Some(world.ns.as_str()));
    assert_eq!(events[0].type_.as_deref(), Some("Warning"));
    let note = events[0].note.clone().unwrap_or_default();
    assert!(note.contains("--status-writes-per-second") && note.contains("15 s"), "it names the budget to set: {note}");
    // The metric follows the oldest checkpoint that is due now; the one that the event is about is written by now, perhaps.
    eventually(SOON, "the metric shows it", async || {
        let staleness = operator.scrape().sum("vigie_checkpoint_staleness_seconds", &[]);
        if staleness > 15.0 { Ok(()) } else { Err(format!("{staleness}")) }
    })
    .await;
    never(seconds(5), "it is published again", async || {
        let events = told().await;
        (events.len() != 1).then(|| format!("{events:?}"))
    })
    .await;
    let offline = operator.scrape().sum("vigie_connectors", &["state=\"Offline\""]);
    assert_eq!(offline, 0.0, "old checkpoints lead to no Offline");
    let lost = beating.stop().into_iter().find(Beaten::is_lost);
    assert!(lost.is_none(), "{lost:?}");
}

/// More than the number of concurrent reconciles, so that those that wait for a slow API server could take every slot.
const MANY: usize = 320;
/// Of these, the ones that are heard for the first time meanwhile.
const LATECOMERS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_the_api_server_cannot_keep_up_with_hold_no_transition_back() {
    let world = World::new("slowcheckpoints").await;
    let token = "one-token-for-all-of-them-0123456789";
    let secret = json!({"metadata": {"name": "shared", "labels": {"vigie.dev/connector-credentials": "true"}}, "data": {"token": ByteString(token.into())}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    let faults = Faults::before(&world).await;
    let flags = ["--checkpoint-seconds", "5", "--status-writes-per-second", "1000", "--object-metrics", "off"];
    let operator = world.operator_through(&faults, &flags).await;
    let spec = json!({"token": {"existingSecretRef": {"name": "shared", "key": "token"}}});
    let names: Vec<_> = (0..MANY).map(|number| format!("edge-{number}")).collect();
    let make = futures::stream::iter(&names).map(|name| world.create(name, spec.clone())).buffer_unordered(16);
    make.for_each(async |_| {}).await;
    let edges: Vec<_> = names
        .iter()
        .map(|name| Connector { name: name.clone(), id: format!("{}/{name}", world.ns), token: token.to_owned() })
        .collect();
    let (latecomers, fleet) = edges.split_at(LATECOMERS);
    let beating = Fleet::start(operator.beats(), fleet, seconds(4), 2);
    eventually(seconds(300), "the fleet is Online", async || {
        let online = operator.scrape().sum("vigie_connectors", &["state=\"Online\""]);
        if online == (MANY - LATECOMERS) as f64 { Ok(()) } else { Err(format!("{online} Online")) }
    })
    .await;

    faults.slow_checkpoints(seconds(2));
    // Longer than a loaded machine takes for the first transitions of all of them.
    behind(&operator, 30.0).await;
    for late in latecomers {
        late.beat(operator.beats());
    }
    for late in latecomers {
        world.state(SOON, &late.name, "Online").await;
    }
    behind(&operator, 8.0).await;
    drop(beating);
}

/// Waits until checkpoints are this many seconds behind.
async fn behind(operator: &Operator, by: f64) {
    eventually(seconds(180), "checkpoints pile up", async || {
        let staleness = operator.scrape().sum("vigie_checkpoint_staleness_seconds", &[]);
        if staleness > by { Ok(()) } else { Err(format!("{staleness}")) }
    })
    .await;
}
