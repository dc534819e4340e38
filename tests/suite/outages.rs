//! An outage of the operator or of the API server turns no live connector Offline.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::beats::{path, said};
use crate::support::beats::Beaten;
use crate::support::cluster::Cluster;
use crate::support::proxy::Way;
use crate::support::world::SOON;
use crate::support::{Beater, World, eventually, never, quick, seconds, text, time};

/// Fails if a connector was ever reported Offline: by its state, by its transitions or by an event.
async fn was_never_offline(world: &World, history: &crate::support::history::History, name: &str) {
    let states = history.of_connector(name);
    assert!(!states.iter().any(|state| state == "Offline"), "{name} was seen as {states:?}");
    let seen = world.get(name).await;
    assert!(!path(&seen).iter().any(|state| state == "Offline"), "{:#}", seen["status"]);
    assert_eq!(world.events(name, "Offline").await.len(), 0, "events of {name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again_the_operator_knows_what_it_knew() {
    let world = World::new("restart").await;
    let history = world.history();
    let mut operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let dead = world.connector("dead-1", quick()).await;
    dead.beat(operator.beats());
    let beater = Beater::start(&[operator.beats()], &edge, seconds(1), Value::Null);
    let gone = world.state(seconds(180), "dead-1", "Offline").await;
    for _ in 0..2 {
        operator.restart().await;
        operator.hearing().await;
        let from = Timestamp::now();
        eventually(SOON, "beats are heard again", async || {
            beater.last_heard().filter(|beat| beat.sent > from).ok_or_else(|| format!("{:?}", beater.beats().last()))
        })
        .await;
    }
    world.state(SOON, "edge-1", "Online").await;
    was_never_offline(&world, &history, "edge-1").await;
    assert!(beater.beats().iter().all(|beat| beat.status() != Some(401)), "its token is unchanged");
    let still = world.get("dead-1").await;
    assert_eq!(still["status"]["stateSince"], gone["status"]["stateSince"], "a written Offline stays");
    assert_eq!(text(&still, "/status/state"), "Offline");
    world.event(SOON, "dead-1", "Offline").await;
    assert_eq!(world.events("dead-1", "Offline").await.len(), 1, "published once, also across restarts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_long_absence_of_ours_nobody_is_offline_before_we_have_listened() {
    let world = World::new("absence").await;
    let history = world.history();
    let mut operator = world.operator(&[]).await;
    let alive = world.connector("alive", quick()).await;
    let dead = world.connector("dead", quick()).await;
    alive.beat(operator.beats());
    dead.beat(operator.beats());
    world.state(SOON, "alive", "Online").await;
    let contact = time(&world.state(SOON, "dead", "Online").await, "/status/lastHeartbeatTime");
    operator.kill();
    // Longer than the limit: the test covers the absence itself.
    eventually(seconds(60), "the limit passes while no operator listens", async || {
        let gone = Timestamp::now().duration_since(contact);
        if gone > SignedDuration::from_secs(40) { Ok(()) } else { Err(format!("{gone:?}")) }
    })
    .await;
    let before = Timestamp::now();
    operator.restart().await;
    operator.hearing().await;

    let unknown = world.state(SOON, "dead", "Unknown").await;
    assert_eq!(said(&unknown, "Online"), "Unknown/ObserverRestarted");
    assert_eq!(said(&unknown, "Ready"), "Unknown/ObserverRestarted");
    assert_eq!(text(&unknown, "/status/diagnosis/cause"), "ObserverRestarted");
    world.state(SOON, "alive", "Unknown").await;
    let _beater = Beater::start(&[operator.beats()], &alive, seconds(2), Value::Null);
    world.state(SOON, "alive", "Online").await;

    let gone = world.state(seconds(180), "dead", "Offline").await;
    let since = time(&gone, "/status/stateSince");
    assert!(since >= before + seconds(30), "{since}: silence counts from the beginning of listening, {before}");
    assert_eq!(time(&gone, "/status/lastHeartbeatTime"), contact);
    let listening = operator.scrape().sum("vigie_listening_since_timestamp_seconds", &[]);
    let expected = listening + 30.0;
    let dated = since.as_microsecond() as f64 / 1e6;
    // A freeze between Offline and this scrape moves the beginning of listening.
    assert!((dated - expected).abs() < 0.5 || operator.froze(), "{since} is not {expected}");
    was_never_offline(&world, &history, "alive").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_for_longer_than_the_limit_and_thawed_it_accuses_nobody() {
    let world = World::new("frozen").await;
    let history = world.history();
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let quiet = world.connector("quiet-1", quick()).await;
    quiet.beat(operator.beats());
    let beater = Beater::start(&[operator.beats()], &edge, seconds(2), Value::Null);
    world.state(SOON, "edge-1", "Online").await;
    world.state(SOON, "quiet-1", "Online").await;
    operator.signal("STOP");
    let frozen = Timestamp::now();
    never(seconds(40), "a frozen operator writes", async || {
        let edge = world.get("edge-1").await;
        (text(&edge, "/status/state") == "Offline").then(|| format!("{:#}", edge["status"]))
    })
    .await;
    let thawed = Timestamp::now();
    operator.signal("CONT");
    eventually(SOON, "beats are heard again", async || {
        beater.last_heard().filter(|beat| beat.answered > thawed).ok_or_else(|| format!("{:?}", beater.beats().last()))
    })
    .await;
    world.state(SOON, "edge-1", "Online").await;
    // The one that did fall silent: the frozen operator could not have heard it before the thaw.
    let gone = world.state(seconds(180), "quiet-1", "Offline").await;
    let since = time(&gone, "/status/stateSince");
    assert!(since >= thawed + seconds(30) - SignedDuration::from_secs(1), "{since}, frozen {frozen}, thawed {thawed}");
    was_never_offline(&world, &history, "edge-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_stopped_for_a_minute_turns_nobody_offline() {
    let cluster = Cluster::private("stopped");
    let world = World::on(cluster.clone(), "stopped").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let beater = Beater::start(&[operator.beats()], &edge, seconds(2), Value::Null);
    world.state(SOON, "edge-1", "Online").await;
    cluster.command(&["stop-component", "apiserver"]).ok();
    let stopped = Timestamp::now();
    never(seconds(60), "a beat was not heard", async || {
        let deaf = beater.beats().into_iter().find(Beaten::is_lost);
        deaf.map(|beat| format!("{beat:?}"))
    })
    .await;
    cluster.command(&["start-component", "apiserver"]).ok();
    let seen = world
        .sees(seconds(180), "edge-1", "a last contact after the outage is written", |seen| {
            time(seen, "/status/lastHeartbeatTime") > stopped + seconds(60)
        })
        .await;
    assert!(path(&seen) == ["Pending", "Online"] || operator.froze(), "it had no other state: {seen:#}");
    assert_eq!(text(&seen, "/status/state"), "Online");
    assert_eq!(world.events("edge-1", "Offline").await.len(), 0);
    assert!(!beater.stop().iter().any(Beaten::is_lost));
}

/// How the connection to the API server is lost, and for how many minutes.
async fn the_api_server_is_gone(name: &str, way: Way, minutes: u64) {
    const ALIVE: usize = 3;
    let world = World::new(name).await;
    let history = world.history();
    let operator = world.operator(&[]).await;
    let mut beaters = Vec::new();
    for number in 0..ALIVE {
        let edge = world.connector(&format!("alive-{number}"), quick()).await;
        beaters.push(Beater::start(&[operator.beats()], &edge, seconds(2), Value::Null));
        world.state(SOON, &edge.name, "Online").await;
    }
    let dying = world.connector("dying", quick()).await;
    let dying_beater = Beater::start(&[operator.beats()], &dying, seconds(2), Value::Null);
    world.state(SOON, "dying", "Online").await;

    operator.proxy.set(way);
    let lost = Timestamp::now();
    let last = dying_beater.stop().pop().unwrap();
    let view = operator.says(seconds(180), "dying", "Offline").await;
    assert!(last.is_at(time(&view, "/lastHeartbeatTime")), "{last:?} {view}");
    operator.has_dated(time(&view, "/stateSince"), time(&view, "/lastHeartbeatTime") + seconds(30));
    assert_eq!(view["written"], false, "{view}");
    let scrape = operator.scrape();
    assert_eq!(scrape.state_of("dying").as_deref(), Some("Offline"));
    assert_eq!(scrape.sum("vigie_status_write_pending", &[]), 1.0);
    never(seconds(minutes * 60 - 45), "a beat was not heard, or one that beats is not Online", async || {
        let deaf = beaters.iter().flat_map(Beater::beats).find(Beaten::is_lost);
        let wrong = (0..ALIVE).map(|n| operator.view(&format!("alive-{n}")).unwrap_or_default());
        // An operator that was frozen meanwhile accepts no beat before it has read its Lease, and reports none Offline
        // for it.
        let is_wrong = |state: &str| if operator.froze() { state == "Offline" } else { state != "Online" };
        let wrong = wrong.into_iter().find(|view| is_wrong(text(view, "/state")));
        deaf.map(|beat| format!("{beat:?}")).or(wrong.map(|view| view.to_string()))
    })
    .await;
    assert_ne!(text(&world.get("dying").await, "/status/state"), "Offline", "the connection is really lost");
    assert_eq!(http_status(&operator, "/livez"), 200, "livez never depends on the API server");

    operator.proxy.set(Way::Open);
    let gone = world.state(seconds(180), "dying", "Offline").await;
    assert!(last.is_at(time(&gone, "/status/lastHeartbeatTime")));
    operator.has_dated(time(&gone, "/status/stateSince"), time(&gone, "/status/lastHeartbeatTime") + seconds(30));
    eventually(SOON, "nothing is left to write", async || {
        let pending = operator.scrape().sum("vigie_status_write_pending", &[]);
        if pending == 0.0 { Ok(()) } else { Err(format!("{pending}")) }
    })
    .await;
    world.event(SOON, "dying", "Offline").await;
    for number in 0..ALIVE {
        let name = format!("alive-{number}");
        world
            .sees(seconds(90), &name, "a last contact after the outage is written", |seen| {
                time(seen, "/status/lastHeartbeatTime") > lost + seconds(minutes * 60 - 15)
            })
            .await;
        was_never_offline(&world, &history, &name).await;
        assert_eq!(history.of_connector(&name).last().map(String::as_str), Some("Online"));
    }
    assert!(!beaters.into_iter().flat_map(Beater::stop).any(|beat| beat.is_lost()), "every beat is 200");
    let told = path(&world.get("dying").await);
    assert_eq!(told.iter().filter(|to| *to == "Offline").count(), 1, "{told:?}");
    assert_eq!(world.events("dying", "Offline").await.len(), 1, "once");
}

fn http_status(operator: &crate::support::Operator, path: &str) -> u16 {
    crate::support::http::get(operator.admin(), path).unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_minutes_without_the_api_server_lose_nothing_and_invent_nothing() {
    the_api_server_is_gone("fiveminutes", Way::Cut, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_answers_nothing_is_like_one_that_is_gone() {
    the_api_server_is_gone("blackhole", Way::Blackhole, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_write_it_tells_the_truth_elsewhere_and_writes_it_when_it_may() {
    let world = World::new("rbac").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let last = edge.beat(operator.beats());
    let online = world.state(SOON, "edge-1", "Online").await;
    world.revoke("vigie-status").await;
    let view = operator.says(seconds(180), "edge-1", "Offline").await;
    let scrape = operator.scrape();
    assert_eq!(scrape.state_of("edge-1").as_deref(), Some("Offline"));
    assert_eq!(scrape.sum("vigie_status_write_pending", &[]), 1.0);
    assert_eq!(view["written"], false, "{view}");
    let stored = world.get("edge-1").await;
    assert_eq!(text(&stored, "/status/state"), "Online", "RBAC is really gone");
    world.grant("vigie-status").await;
    let gone = world.state(seconds(120), "edge-1", "Offline").await;
    let contact = time(&gone, "/status/lastHeartbeatTime");
    assert!(last.is_at(contact));
    assert_eq!(contact, time(&online, "/status/lastHeartbeatTime"));
    // The transition is dated at its deadline nevertheless.
    operator.has_dated(time(&gone, "/status/stateSince"), contact + seconds(30));
    eventually(SOON, "nothing is left to write", async || {
        let pending = operator.scrape().sum("vigie_status_write_pending", &[]);
        if pending == 0.0 { Ok(()) } else { Err(format!("{pending}")) }
    })
    .await;
    world.event(SOON, "edge-1", "Offline").await;
}
