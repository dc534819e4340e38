//! Two replicas: one leads, the other is ready to take over, and never more than one writes.

use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;

use crate::beats::path;
use crate::support::audit::Request;
use crate::support::http::get;
use crate::support::world::SOON;
use crate::support::{Beater, Operator, World, eventually, never, quick, seconds, text, time};

/// A leader and a follower.
async fn pair(world: &World, flags: &[&str]) -> (Operator, Operator) {
    let leader = world.operator(flags).await;
    let follower = world.replica(flags).await;
    eventually(SOON, "the follower is ready", async || match get(follower.admin(), "/readyz") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    eventually(SOON, "one of them leads", async || {
        let said = [&leader, &follower].map(|operator| operator.scrape().sum("vigie_leader", &[]));
        if said == [1.0, 0.0] { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    (leader, follower)
}

async fn holder(world: &World) -> String {
    let lease = world.api::<Lease>().get("vigie").await.unwrap();
    lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

/// Every holder of the Lease from now on, starting with `now`; an empty name is a Lease without a holder.
async fn holders(world: &World, now: &str) -> Arc<Mutex<Vec<String>>> {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (kept, leases) = (seen.clone(), world.api::<Lease>());
    tokio::spawn(async move {
        let mut changes = watcher(leases, watcher::Config::default()).default_backoff().applied_objects().boxed();
        while let Some(change) = changes.next().await {
            let Ok(lease) = change else { continue };
            let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            let mut kept = kept.lock().unwrap();
            if kept.last() != Some(&holder) {
                kept.push(holder);
            }
        }
    });
    eventually(SOON, "the Lease is watched", async || {
        let seen = seen.lock().unwrap().clone();
        if seen == [now] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    seen
}

fn status_writes(requests: Vec<Request>) -> Vec<Request> {
    requests.into_iter().filter(|r| r.resource == "connectors/status" && r.verb != "get" && r.is_success()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_when_its_term_is_over_and_nobody_is_accused() {
    let world = World::new("failover").await;
    let history = world.history();
    let (mut leader, follower) = pair(&world, &[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let dead = world.connector("dead-1", quick()).await;
    dead.beat(leader.beats());
    let gone = world.state(seconds(180), "dead-1", "Offline").await;
    let beater = Beater::start(&[leader.beats(), follower.beats()], &edge, seconds(1), Value::Null);
    world.state(SOON, "edge-1", "Online").await;

    let answer = edge.try_beat(follower.beats(), &Value::Null);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
    assert_eq!(text(&answer.json(), "/error/code"), "not_leader");
    assert_eq!(get(follower.beats(), "/api/health").unwrap().status, 503);
    assert_eq!(get(leader.beats(), "/api/health").unwrap().status, 200);

    leader.kill();
    let killed = Timestamp::now();
    let first = eventually(seconds(40), "the follower hears beats", async || {
        let heard = beater.beats().into_iter().find(|beat| beat.sent > killed && beat.status() == Some(200));
        heard.ok_or_else(|| format!("{:?}", beater.beats().last()))
    })
    .await;
    let took = first.answered.duration_since(killed);
    // 20 s are promised, of which the term is 12; the rest is the delay of a loaded machine.
    assert!(took <= SignedDuration::from_secs(30), "the first 200 came {took:?} after the kill");
    assert_eq!(follower.scrape().sum("vigie_leader", &[]), 1.0);
    assert!(beater.beats().iter().all(|beat| beat.status() != Some(401)), "a right token is never refused");
    world
        .sees(seconds(90), "edge-1", "a contact of the new leader's is written", |seen| {
            text(seen, "/status/state") == "Online" && time(seen, "/status/lastHeartbeatTime") >= first.sent
        })
        .await;
    let states = history.of_connector("edge-1");
    assert!(!states.iter().any(|state| state == "Offline"), "{states:?}");
    assert_eq!(world.events("edge-1", "Offline").await.len(), 0);
    let still = world.get("dead-1").await;
    assert_eq!(still["status"]["stateSince"], gone["status"]["stateSince"], "a written Offline stays");
    world.event(SOON, "dead-1", "Offline").await;
    assert_eq!(world.events("dead-1", "Offline").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_stop_a_leader_writes_what_it_knows_and_gives_the_lease_back() {
    let world = World::new("sigterm").await;
    let (mut leader, follower) = pair(&world, &["--checkpoint-seconds", "3600"]).await;
    let edge = world.connector("edge-1", quick()).await;
    edge.beat(leader.beats());
    world.state(SOON, "edge-1", "Online").await;
    let last = edge.beat(leader.beats());
    let before = holder(&world).await;
    assert!(!before.is_empty());
    let holders = holders(&world, &before).await;
    leader.signal("TERM");
    let (code, took) = leader.ended(SOON).await;
    assert_eq!(code, Some(0), "{}", leader.log());
    assert!(took <= seconds(10), "it took {took:?}");
    let seen = world.get("edge-1").await;
    assert!(last.is_at(time(&seen, "/status/lastHeartbeatTime")), "{last:?} was not flushed: {:#}", seen["status"]);
    // The leader releases the Lease: the follower need not wait for the end of the term.
    let beater = Beater::start(&[leader.beats(), follower.beats()], &edge, seconds(1), Value::Null);
    eventually(SOON, "the follower hears beats", async || {
        beater.last_heard().ok_or_else(|| format!("{:?}", beater.beats().last()))
    })
    .await;
    let after = holder(&world).await;
    let expected = [before, String::new(), after];
    eventually(SOON, "given back, and taken", async || match holders.lock().unwrap().clone() {
        seen if seen == expected => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await;
    assert_eq!(path(&world.get("edge-1").await), ["Pending", "Online"], "it had no other state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_and_asked_to_stop_it_leaves_a_lease_that_nobody_holds() {
    let world = World::new("release").await;
    let mut operator = world.operator(&[]).await;
    assert_ne!(holder(&world).await, "");
    operator.signal("TERM");
    let (code, took) = operator.ended(SOON).await;
    assert_eq!(code, Some(0), "{}", operator.log());
    assert!(took <= seconds(10), "it took {took:?}");
    assert_eq!(holder(&world).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_past_its_term_writes_nothing_and_hears_nothing() {
    let world = World::new("frozenleader").await;
    let history = world.history();
    let (old, new) = pair(&world, &["--checkpoint-seconds", "1"]).await;
    let edge = world.connector("edge-1", quick()).await;
    let beater = Beater::start(&[new.beats()], &edge, seconds(1), Value::Null);
    edge.beat(old.beats());
    world.state(SOON, "edge-1", "Online").await;
    let first_holder = holder(&world).await;
    old.signal("STOP");
    eventually(seconds(60), "the other one takes over", async || {
        beater.last_heard().ok_or_else(|| format!("{:?}", beater.beats().last()))
    })
    .await;
    assert_ne!(holder(&world).await, first_holder);
    let writes = eventually(SOON, "the new leader writes", async || {
        let writes = status_writes(world.requests_of_second());
        if writes.is_empty() { Err("nothing".to_owned()) } else { Ok(writes) }
    })
    .await;
    let took_over = writes[0].received;
    old.signal("CONT");
    let thawed = Timestamp::now();
    never(seconds(15), "the one that was frozen hears a beat", async || {
        let answer = edge.try_beat(old.beats(), &Value::Null);
        (answer.status != 503).then(|| format!("{answer:?}"))
    })
    .await;
    let late: Vec<_> = status_writes(world.requests()).into_iter().filter(|write| write.received > took_over).collect();
    assert!(late.is_empty(), "it wrote after the other had taken over at {took_over}: {late:?}");
    assert!(
        status_writes(world.requests_of_second()).iter().any(|write| write.received > thawed),
        "the new leader keeps writing"
    );
    assert_eq!(old.scrape().sum("vigie_leader", &[]), 0.0);
    assert_eq!(new.scrape().sum("vigie_leader", &[]), 1.0);
    let states = history.of_connector("edge-1");
    assert!(!states.iter().any(|state| state == "Offline"), "{states:?}");
}
