//! Silence leads to Offline without a request; a beat ends it; the last contact is exact.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::beats::Beaten;
use crate::support::http::{Session, beat_request};
use crate::support::process::run;
use crate::support::world::SOON;
use crate::support::{Beater, World, eventually, never, quick, seconds, text, time};

/// How far the operator's wall clock may differ from the test's before the operator realigns it.
pub(crate) const GRAIN: SignedDuration = SignedDuration::from_millis(25);

/// A condition of a Connector.
pub(crate) fn condition<'a>(connector: &'a Value, type_: &str) -> &'a Value {
    let all = connector.pointer("/status/conditions").and_then(Value::as_array);
    let found = all.into_iter().flatten().find(|condition| condition["type"] == type_);
    found.unwrap_or_else(|| panic!("no condition {type_} in {connector:#}"))
}

/// Status and reason of a condition, as `True/Ready`.
pub(crate) fn said(connector: &Value, type_: &str) -> String {
    let condition = condition(connector, type_);
    format!("{}/{}", text(condition, "/status"), text(condition, "/reason"))
}

/// The target states of a Connector's transitions, in the order in which they happened.
pub(crate) fn path(connector: &Value) -> Vec<String> {
    let all = connector.pointer("/status/transitions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all: Vec<_> = all.iter().map(|one| (time(one, "/time"), text(one, "/to").to_owned())).collect();
    // docs/design/api.md does not define which end of the list is the newest; the times of the transitions do.
    if all.first().map(|one| one.0) > all.last().map(|one| one.0) {
        all.reverse();
    }
    all.into_iter().map(|one| one.1).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founding_request_is_answered_word_for_word() {
    let world = World::new("founding").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    assert_eq!(edge.id, format!("{}/edge-1", world.ns));
    let data = format!(r#"{{"connector_id": "{}", "token": "{}"}}"#, edge.id, edge.token);
    let url = format!("http://{}/api/connector/heartbeat", operator.beats());
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "-X", "POST", &url, "-H", "Content-Type: application/json", "-d", &data, "-w", "\n%{http_code}"]);
    let before = Timestamp::now();
    let answer = run(&mut curl).ok();
    let after = Timestamp::now();
    assert_eq!(answer, "{\"status\":\"ok\",\"state\":\"Online\",\"next_heartbeat_seconds\":30,\"actions\":[]}\n200");

    let seen = world.state(SOON, "edge-1", "Online").await;
    let contact = time(&seen, "/status/lastHeartbeatTime");
    assert!(before - GRAIN <= contact && contact <= after + GRAIN, "{before} {contact} {after}");
    assert_eq!(said(&seen, "Ready"), "True/Ready");
    assert_eq!(said(&seen, "Accepted"), "True/Accepted");
    assert_eq!(said(&seen, "Provisioned"), "True/Provisioned");
    assert_eq!(said(&seen, "Online"), "True/HeartbeatReceived");
    assert_eq!(said(&seen, "Healthy"), "Unknown/NotReported");
    assert_eq!(said(&seen, "Remediating"), "False/Idle");
    assert_eq!(seen.pointer("/status/diagnosis"), None);
    assert_eq!(seen.pointer("/status/observedGeneration"), seen.pointer("/metadata/generation"));
    let limits = json!({"intervalSeconds": 30, "lateAfterSeconds": 90, "offlineAfterSeconds": 300});
    assert_eq!(seen["status"]["heartbeat"], limits);
    world.kubectl(&["wait", "--for=condition=Ready", "connector/edge-1", "--timeout=60s"]).ok();
    let table = world.kubectl(&["get", "connectors"]).ok();
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["edge-1", "Online", "True"], "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_turns_into_offline_by_itself_and_is_dated_at_its_deadline() {
    let world = World::new("silence").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    // Each in a site of its own: in one site their silence would be a mass silence.
    let mut others = Vec::new();
    for number in 2..=5 {
        let spec = json!({"site": format!("s{number}"), "heartbeat": quick()["heartbeat"]});
        others.push(world.connector(&format!("edge-{number}"), spec).await);
    }
    // A network that falls silent without a reset: the connection stays open, and no data arrives.
    let mut open = Session::open(operator.beats()).unwrap();
    let before = Timestamp::now();
    open.send(&beat_request(&edge.body(&Value::Null), "")).unwrap();
    assert_eq!(open.receive().unwrap().status, 200);
    let after = Timestamp::now();
    for other in &others {
        // The deadlines are spread, so that one stall of the machine does not delay all of them.
        tokio::time::sleep(seconds(2)).await;
        other.beat(operator.beats());
    }

    let late = world.state(seconds(180), "edge-1", "Late").await;
    assert_eq!(said(&late, "Online"), "True/HeartbeatLate");
    assert_eq!(said(&late, "Ready"), "True/Ready");
    let contact = time(&late, "/status/lastHeartbeatTime");
    assert!(before - GRAIN <= contact && contact <= after + GRAIN, "{before} {contact} {after}");
    operator.has_dated(time(&late, "/status/stateSince"), contact + seconds(15));

    let gone = world.state(seconds(180), "edge-1", "Offline").await;
    let deadline = time(&gone, "/status/stateSince");
    operator.has_dated(deadline, contact + seconds(30));
    assert_eq!(time(&gone, "/status/lastHeartbeatTime"), contact, "the last contact is unchanged");
    assert_eq!(said(&gone, "Online"), "False/HeartbeatExpired");
    assert_eq!(said(&gone, "Ready"), "False/HeartbeatExpired");
    assert_eq!(said(&gone, "Healthy"), "Unknown/Stale");
    for type_ in ["Online", "Ready"] {
        let turned = time(condition(&gone, type_), "/lastTransitionTime");
        assert_eq!(turned.as_second(), deadline.as_second(), "{type_} turned at the deadline");
    }
    assert_eq!(text(&gone, "/status/diagnosis/cause"), "HeartbeatExpired");
    assert!(text(&gone, "/status/diagnosis/message").contains("30 s"), "{gone:#}");
    assert!(text(&gone, "/status/diagnosis/advice").contains(&edge.id), "{gone:#}");
    assert_eq!(path(&gone).last().map(String::as_str), Some("Offline"));

    lags(&world, &["edge-1", "edge-2", "edge-3", "edge-4", "edge-5"]).await;

    let event = world.event(SOON, "edge-1", "Offline").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(event.note.as_deref().unwrap_or_default().contains("HeartbeatExpired"), "{event:?}");
    assert_eq!(world.events("edge-1", "Late").await.len(), 0, "Late publishes no event");
    world.kubectl(&["wait", "--for=condition=Online=false", "connector/edge-1", "--timeout=60s"]).ok();

    let back = edge.beat(operator.beats());
    let online = world.state(SOON, "edge-1", "Online").await;
    assert!(back.is_at(time(&online, "/status/lastHeartbeatTime")), "{back:?} {online:#}");
    assert!(back.is_at(time(&online, "/status/stateSince")), "{back:?} {online:#}");
    assert_eq!(said(&online, "Ready"), "True/Ready");
    assert_eq!(path(&online).iter().rev().take(3).collect::<Vec<_>>(), ["Online", "Offline", "Late"]);
    eventually(SOON, "an event says that it is back, and how long it was gone", async || {
        let notes: Vec<_> = world.events("edge-1", "Online").await.into_iter().filter_map(|event| event.note).collect();
        if notes.len() == 2 && notes.iter().any(|note| note.contains("Offline")) {
            Ok(())
        } else {
            Err(format!("{notes:?}"))
        }
    })
    .await;
    assert_eq!(world.events("edge-1", "Offline").await.len(), 1, "one event for each occurrence");
}

/// Fails if none of these was written Offline within a second of its deadline. One on time is enough: it proves that
/// the deadline woke the operator and not a poll; the machine's load may delay the others.
async fn lags(world: &World, names: &[&str]) {
    let mut lags = Vec::new();
    for name in names {
        let gone = world.state(seconds(180), name, "Offline").await;
        let deadline = time(&gone, "/status/stateSince");
        // The audit log has the API server's time of the write.
        let lag = eventually(SOON, "the write is in the audit log", async || {
            let told = world.requests().into_iter().filter(|r| r.resource == "connectors/status" && r.name == *name);
            let told = told.filter(|r| r.is_success() && r.received >= deadline).map(|r| r.received).next();
            told.map(|told| told.duration_since(deadline)).ok_or_else(|| "it is not".to_owned())
        });
        lags.push(lag.await);
    }
    assert!(
        lags.iter().any(|lag| *lag < SignedDuration::from_secs(1)),
        "written so long after their deadlines: {lags:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_killed_is_offline_and_its_last_contact_is_its_last_beat() {
    let world = World::new("killed").await;
    let operator = world.operator(&["--checkpoint-seconds", "10"]).await;
    let edge = world.connector("edge-1", quick()).await;
    let beater = Beater::start(&[operator.beats()], &edge, seconds(1), Value::Null);
    world.state(SOON, "edge-1", "Online").await;
    never(seconds(30), "it beats, and is not Online", async || {
        let seen = world.get("edge-1").await;
        (text(&seen, "/status/state") != "Online").then(|| format!("{:#}", seen["status"]))
    })
    .await;
    let last = beater.stop().into_iter().rev().find(|beat| beat.status() == Some(200)).unwrap();
    let gone = world.state(seconds(90), "edge-1", "Offline").await;
    let contact = time(&gone, "/status/lastHeartbeatTime");
    assert!(last.is_at(contact), "{contact} is not the last beat, {last:?}");
    operator.has_dated(time(&gone, "/status/stateSince"), contact + seconds(30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_contact_is_true_to_the_checkpoint_in_kubectl_and_to_the_beat_in_vigie_get() {
    let world = World::new("contact").await;
    let operator = world.operator(&["--checkpoint-seconds", "5"]).await;
    let edge = world.connector("edge-1", quick()).await;
    let beater = Beater::start(&[operator.beats()], &edge, seconds(1), Value::Null);
    world.state(SOON, "edge-1", "Online").await;
    // 5 s of checkpoint, 1 s between beats, and the delay of a loaded machine; the default would be a minute.
    let allowed = SignedDuration::from_secs(5 + 1 + 14);
    never(seconds(35), "the stored last contact is too old", async || {
        let seen = world.get("edge-1").await;
        let age = Timestamp::now().duration_since(time(&seen, "/status/lastHeartbeatTime"));
        (age > allowed || age < -GRAIN).then(|| format!("{age:?}"))
    })
    .await;
    drop(beater);
    let exact = edge.beat(operator.beats());
    let args = ["get", "edge-1", "-n", &world.ns, "-o", "json", "--operator", &operator.url()];
    let said: Value = serde_json::from_str(&world.vigie(&args).ok()).unwrap();
    let view = said.pointer("/items/0").or_else(|| said.get(0)).unwrap_or(&said);
    assert!(exact.is_at(time(view, "/lastHeartbeatTime")), "{exact:?}, and vigie get says {view}");
    let view = operator.view("edge-1").unwrap();
    assert!(exact.is_at(time(&view, "/lastHeartbeatTime")), "{exact:?}, and the API says {view}");
    let metric = operator.scrape().sum("vigie_connector_last_heartbeat_timestamp_seconds", &["name=\"edge-1\""]);
    let contact = time(&view, "/lastHeartbeatTime").as_microsecond() as f64 / 1e6;
    assert!((metric - contact).abs() < 0.001, "{metric} and {contact}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_was_never_heard_is_pending_and_provisioned_and_never_offline() {
    let world = World::new("pending").await;
    let fresh = world.create("edge-1", quick()).await;
    let fresh = serde_json::to_value(fresh).unwrap();
    assert_eq!(fresh["status"]["observedGeneration"], json!(-1), "not current before the first reconcile (kstatus)");
    let _operator = world.operator(&[]).await;
    world.kubectl(&["wait", "--for=condition=Provisioned", "connector/edge-1", "--timeout=60s"]).ok();
    let seen = world.state(SOON, "edge-1", "Pending").await;
    assert_eq!(said(&seen, "Online"), "Unknown/NeverSeen");
    assert_eq!(said(&seen, "Ready"), "Unknown/NeverSeen");
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "NeverSeen");
    assert!(text(&seen, "/status/diagnosis/advice").contains("edge-1-connector-token"), "{seen:#}");
    never(seconds(35), "it was never heard, and is something else than Pending", async || {
        let seen = world.get("edge-1").await;
        (text(&seen, "/status/state") != "Pending").then(|| format!("{:#}", seen["status"]))
    })
    .await;
    assert_eq!(world.events("edge-1", "Offline").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beat_at_the_last_moment_has_exactly_one_outcome() {
    const SENDERS: usize = 20;
    let world = World::new("lastmoment").await;
    let operator = world.operator(&[]).await;
    let mut edges = Vec::new();
    for number in 0..SENDERS {
        edges.push(
            world
                .connector(
                    &format!("edge-{number}"),
                    json!({"site": format!("s{number}"), "heartbeat": quick()["heartbeat"]}),
                )
                .await,
        );
    }
    let too_late = world.connector("too-late", json!({"site": "late", "heartbeat": quick()["heartbeat"]})).await;
    too_late.beat(operator.beats());
    let firsts: Vec<_> = edges.iter().map(|edge| edge.beat(operator.beats())).collect();
    let to = operator.beats();
    let senders: Vec<_> = edges
        .iter()
        .zip(&firsts)
        .enumerate()
        .map(|(number, (edge, first))| {
            // From 100 ms before the deadline to 100 ms after it.
            let around = 10 * number as i64 - 100;
            let at = first.answered + seconds(30) + SignedDuration::from_millis(around);
            let edge = edge.clone();
            std::thread::spawn(move || {
                let wait = at.duration_since(Timestamp::now());
                std::thread::sleep(Duration::try_from(wait).unwrap_or_default());
                edge.beat(to)
            })
        })
        .collect();
    let join = || senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    let second_beats: Vec<Beaten> = tokio::task::spawn_blocking(join).await.unwrap();
    // A beat is sent after Offline was noticed and written.
    world.state(seconds(180), &too_late.name, "Offline").await;
    let back = too_late.beat(operator.beats());
    let online = world.state(SOON, &too_late.name, "Online").await;
    assert_eq!(path(&online).iter().filter(|to| *to == "Offline").count(), 1, "{online:#}");
    assert!(back.is_at(time(&online, "/status/stateSince")), "{online:#}");
    // A beat in time changes only the checkpoint; the operator's own API is exact at once.
    for (edge, second) in edges.iter().zip(&second_beats) {
        let view = operator.view(&edge.name).unwrap();
        assert!(second.is_at(time(&view, "/lastHeartbeatTime")), "{view}");
    }
    // Checking all of them may take longer than the limit, so they keep beating.
    let _on: Vec<_> =
        edges.iter().map(|edge| Beater::start(&[operator.beats()], edge, seconds(5), Value::Null)).collect();
    for ((edge, first), second) in edges.iter().zip(&firsts).zip(second_beats) {
        // A beat that was accepted before the expiry was noticed has only that outcome.
        let surely_in_time = second.answered < first.sent + seconds(30);
        world.state(SOON, &edge.name, "Online").await;
        // Read the events first and the status second: an event is published after its status is written.
        let events = world.events(&edge.name, "Offline").await.len();
        let states = path(&world.get(&edge.name).await);
        let went = states.iter().filter(|to| *to == "Offline").count();
        assert!(went <= 1, "{states:?}");
        assert!(!surely_in_time || went == 0, "{} was heard in time: {states:?}", edge.name);
        assert!(events <= went, "{} has {events} Offline events and {went} transitions", edge.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_deadline_applies_at_once_in_both_directions() {
    let world = World::new("deadline").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    edge.beat(operator.beats());
    let gone = world.state(seconds(180), "edge-1", "Offline").await;
    let contact = time(&gone, "/status/lastHeartbeatTime");

    world.patch("edge-1", json!({"spec": {"heartbeat": {"lateAfterSeconds": 300, "offlineAfterSeconds": 600}}})).await;
    let online = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(time(&online, "/status/lastHeartbeatTime"), contact, "no beat was heard meanwhile");

    world.patch("edge-1", quick_patch()).await;
    let again = world.state(SOON, "edge-1", "Offline").await;
    assert!(
        time(&again, "/status/stateSince") >= time(&online, "/status/stateSince"),
        "not earlier than the previous transition"
    );
    assert_eq!(time(&again, "/status/lastHeartbeatTime"), contact);
}

fn quick_patch() -> Value {
    json!({"spec": quick()})
}
