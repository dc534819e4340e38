//! A budget of checkpoints that is too small for the fleet is told, about our Lease.

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

use crate::support::beats::Beaten;
use crate::support::fleet::Fleet;
use crate::support::{World, eventually, never, quick, seconds};

/// A write a second keeps this many at most 40 s old: more than `lateAfterSeconds`, which is 15.
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
    let staleness = operator.scrape().sum("vigie_checkpoint_staleness_seconds", &[]);
    assert!(staleness > 15.0, "{staleness}");
    never(seconds(5), "it is told again", async || {
        let events = told().await;
        (events.len() != 1).then(|| format!("{events:?}"))
    })
    .await;
    let offline = operator.scrape().sum("vigie_connectors", &["state=\"Offline\""]);
    assert_eq!(offline, 0.0, "old checkpoints accuse nobody");
    let lost = beating.stop().into_iter().find(Beaten::is_lost);
    assert!(lost.is_none(), "{lost:?}");
}
