//! All connectors of a site are silent at once: still Offline, with our own network as the suspected cause.

use serde_json::{Value, json};

use crate::beats::{path, said};
use crate::support::world::SOON;
use crate::support::{Beater, World, never, quick, seconds, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_falls_silent_together_is_mass_silence_and_one_event() {
    const SILENT: usize = 4;
    let world = World::new("mass").await;
    let operator = world.operator(&[]).await;
    let limits = quick()["heartbeat"].clone();
    let mut site = Vec::new();
    for number in 0..SILENT {
        site.push(world.connector(&format!("edge-{number}"), json!({"site": "lyon", "heartbeat": limits})).await);
    }
    let elsewhere = world.connector("other", json!({"site": "paris", "heartbeat": limits})).await;
    let alone = world.connector("alone", json!({"site": "rome", "heartbeat": limits})).await;
    let _beater = Beater::start(&[operator.beats()], &elsewhere, seconds(2), Value::Null);
    let beat_all = || {
        for edge in &site {
            edge.beat(operator.beats());
        }
        alone.beat(operator.beats());
    };
    beat_all();
    for edge in &site {
        world.state(SOON, &edge.name, "Online").await;
    }
    // The event is published before the first one turns Offline.
    let event = world.event(seconds(60), &world.ns, "MassSilence").await;
    assert_eq!(
        event.metadata.namespace.as_deref(),
        Some(world.ns.as_str()),
        "the event is in the Namespace that it is about"
    );
    assert_eq!(event.regarding.as_ref().and_then(|about| about.kind.as_deref()), Some("Namespace"));
    assert!(event.note.as_deref().unwrap_or_default().contains("lyon"), "{event:?}");
    for edge in &site {
        let gone = world.state(seconds(180), &edge.name, "Offline").await;
        assert_eq!(said(&gone, "Online"), "False/MassSilence");
        assert_eq!(text(&gone, "/status/diagnosis/cause"), "MassSilence");
    }
    let gone = world.state(SOON, "alone", "Offline").await;
    assert_eq!(said(&gone, "Online"), "False/HeartbeatExpired", "one of one is an ordinary failure");
    assert_eq!(text(&world.get("other").await, "/status/state"), "Online");

    // All but one resume at once: checking them may take longer than their limit.
    beat_all();
    let beaters: Vec<_> =
        site[1..].iter().map(|edge| Beater::start(&[operator.beats()], edge, seconds(2), Value::Null)).collect();
    for edge in &site {
        let back =
            world.sees(SOON, &edge.name, "Online again", |seen| path(seen).last().is_some_and(|to| to == "Online"));
        assert_eq!(back.await.pointer("/status/diagnosis"), None);
    }
    // The mass silence is over: a single connector that falls silent afterwards is an ordinary failure.
    let gone = world.state(seconds(180), "edge-0", "Offline").await;
    assert_eq!(said(&gone, "Online"), "False/HeartbeatExpired");
    drop(beaters);
    never(seconds(2), "it was published more than once", async || {
        let events = world.events(&world.ns, "MassSilence").await.len();
        // Silence that did not count for a moment starts a new mass silence.
        (events != 1 && !operator.froze()).then(|| format!("{events}"))
    })
    .await;
}
