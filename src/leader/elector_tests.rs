//! The elector against a fake API server, with short times.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cluster::fake::{Fake, Mode};
use crate::time::Clock;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/vigie";

struct Running {
    seen: watch::Receiver<Leadership>,
    stop: CancellationToken,
    froze: Arc<Notify>,
    restored: CancellationToken,
    task: JoinHandle<()>,
}

/// An elector that renews every 10 ms, and is overdue after `deadline`.
fn start(fake: &Fake, identity: &str, deadline: Duration) -> Running {
    let config = ElectorConfig {
        term: Duration::from_secs(12),
        renew_deadline: deadline,
        retry: Duration::from_millis(10),
        ..ElectorConfig::new("ns".to_owned(), "vigie".to_owned(), identity.to_owned())
    };
    let restored = CancellationToken::new();
    let (elector, seen) = Elector::new(fake.client(), config, Clock::default(), restored.clone());
    let (stop, froze) = (CancellationToken::new(), Arc::new(Notify::new()));
    let task = tokio::spawn(elector.run(stop.clone(), Arc::clone(&froze)));
    Running { seen, stop, froze, restored, task }
}

/// Long enough that a loaded machine does not miss it.
const PATIENT: Duration = Duration::from_secs(8);

/// So short that an outage is felt at once.
const BRISK: Duration = Duration::from_millis(60);

impl Running {
    async fn until(&mut self, what: &str, is: impl Fn(&Leadership) -> bool) -> Leadership {
        let seen = tokio::time::timeout(Duration::from_secs(10), self.seen.wait_for(|seen| is(seen)));
        seen.await.unwrap_or_else(|_| panic!("never {what}")).expect("it runs").clone()
    }

    async fn until_it_is(&mut self, role: Role) -> Leadership {
        self.until(&format!("{role:?}"), |seen| seen.role == role).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn lease(fake: &Fake) -> Value {
    fake.object(PATH).expect("there is a lease")["spec"].clone()
}

fn others(fake: &Fake) -> Value {
    let mut lease = fake.object(PATH).unwrap_or_else(|| json!({ "metadata": { "name": "vigie" } }));
    lease["spec"]["holderIdentity"] = "other".into();
    lease["spec"]["renewTime"] = "2026-11-01T10:00:00.000000Z".into();
    lease
}

#[tokio::test]
async fn the_first_one_makes_the_lease_and_leads_and_gives_it_back() {
    let fake = Fake::new();
    let mut running = start(&fake, "me", PATIENT);
    let seen = running.until_it_is(Role::Leader).await;
    assert_eq!((seen.epoch, seen.holder.as_deref()), (1, Some("me")));
    let spec = lease(&fake);
    assert_eq!(
        (&spec["holderIdentity"], &spec["leaseDurationSeconds"], &spec["leaseTransitions"]),
        (&json!("me"), &json!(12), &json!(0))
    );
    let time = spec["renewTime"].as_str().unwrap();
    assert_eq!(time.len(), "2026-11-01T10:00:00.000000Z".len(), "{time} has microseconds");

    let follower = running.seen.clone();
    running.end().await;
    assert_eq!((follower.borrow().role, &follower.borrow().holder), (Role::Follower, &None));
    assert_eq!(lease(&fake)["holderIdentity"], json!(""));
    let sent = fake.take_log();
    assert!(sent.iter().all(|asked| asked.starts_with("GET") || asked.ends_with("fieldManager=vigie")), "{sent:?}");
}

#[tokio::test]
async fn renewals_go_on_without_reads_and_move_the_permit() {
    let fake = Fake::new();
    let mut running = start(&fake, "me", PATIENT);
    let first = running.until_it_is(Role::Leader).await;
    fake.take_log();
    running.seen.borrow_and_update();
    while running.seen.borrow().write_until == first.write_until {
        tokio::task::yield_now().await;
    }
    assert!(!running.seen.has_changed().unwrap(), "a renewal notifies nobody");
    assert!(fake.take_log().iter().all(|asked| asked.starts_with("PUT")));
    running.end().await;
}

#[tokio::test]
async fn a_second_one_follows_and_leads_once_the_lease_is_given_back() {
    let fake = Fake::new();
    let mut first = start(&fake, "first", PATIENT);
    first.until_it_is(Role::Leader).await;
    let taken_at = lease(&fake)["acquireTime"].clone();
    let mut second = start(&fake, "second", PATIENT);
    let seen = second.until("knows the holder", |seen| seen.holder.is_some()).await;
    assert_eq!((seen.role, seen.epoch, seen.holder.as_deref()), (Role::Follower, 0, Some("first")));
    first.end().await;
    assert_eq!(second.until_it_is(Role::Leader).await.epoch, 1);
    let spec = lease(&fake);
    assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("second"), &json!(1)));
    assert_ne!(spec["acquireTime"], taken_at);
    second.end().await;
}

#[tokio::test]
async fn an_outage_makes_it_uncertain_and_its_end_a_leader_of_the_same_epoch() {
    for mode in [Mode::Hangs, Mode::Refuses(503, "ServiceUnavailable"), Mode::Refuses(403, "Forbidden")] {
        let fake = Fake::new();
        let mut running = start(&fake, "me", BRISK);
        let before = running.until_it_is(Role::Leader).await;
        fake.set_mode(mode);
        let uncertain = running.until_it_is(Role::Uncertain).await;
        assert!(uncertain.accepts_heartbeats(), "{mode:?}");
        fake.set_mode(Mode::Up);
        let after = running.until_it_is(Role::Leader).await;
        assert_eq!((after.epoch, after.acquired_at), (1, before.acquired_at), "{mode:?}");
        running.end().await;
    }
}

#[tokio::test]
async fn it_follows_when_another_was_there_during_the_outage() {
    let fake = Fake::new();
    let mut running = start(&fake, "me", BRISK);
    running.until_it_is(Role::Leader).await;
    fake.set_mode(Mode::Hangs);
    running.until_it_is(Role::Uncertain).await;
    fake.put(PATH, others(&fake));
    fake.set_mode(Mode::Up);
    let seen = running.until_it_is(Role::Follower).await;
    assert_eq!((seen.holder.as_deref(), seen.acquired_at), (Some("other"), None));
    running.end().await;
    assert_eq!(lease(&fake)["holderIdentity"], json!("other"), "what is another's is not given back");
}

#[tokio::test]
async fn after_a_freeze_it_is_deaf_until_it_has_read_the_lease() {
    let fake = Fake::new();
    let mut running = start(&fake, "me", PATIENT);
    running.until_it_is(Role::Leader).await;
    fake.set_mode(Mode::Hangs);
    running.froze.notify_one();
    let seen = running.until_it_is(Role::Unconfirmed).await;
    assert!(!seen.accepts_heartbeats());
    // Hanging calls end only when the next freeze is reported.
    fake.set_mode(Mode::Up);
    running.froze.notify_one();
    let seen = running.until_it_is(Role::Leader).await;
    assert_eq!((seen.role, seen.epoch, seen.accepts_heartbeats()), (Role::Leader, 1, true));

    fake.put(PATH, others(&fake));
    running.froze.notify_one();
    let seen = running.until_it_is(Role::Follower).await;
    assert_eq!(seen.holder.as_deref(), Some("other"));
    running.end().await;
}

#[tokio::test]
async fn a_lease_deleted_under_it_is_made_anew_unless_another_was_faster() {
    let fake = Fake::new();
    let mut running = start(&fake, "me", PATIENT);
    running.until_it_is(Role::Leader).await;
    fake.put(PATH, Value::Null);
    while fake.object(PATH).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(lease(&fake)["holderIdentity"], json!("me"));
    let seen = running.seen.borrow().clone();
    assert_eq!((seen.role, seen.epoch), (Role::Leader, 1));

    fake.put(PATH, Value::Null);
    fake.put(PATH, others(&fake));
    let seen = running.until_it_is(Role::Follower).await;
    assert_eq!(seen.holder.as_deref(), Some("other"));
    running.end().await;
}

#[tokio::test]
async fn what_others_put_into_the_lease_stays() {
    let fake = Fake::new();
    let labelled = json!({
        "metadata": { "name": "vigie", "labels": { "team": "x" } },
        "spec": { "holderIdentity": "", "leaseTransitions": 7 }
    });
    fake.put(PATH, labelled);
    let mut running = start(&fake, "me", PATIENT);
    running.until_it_is(Role::Leader).await;
    running.end().await;
    let lease = fake.object(PATH).unwrap();
    assert_eq!((&lease["metadata"]["labels"]["team"], &lease["spec"]["leaseTransitions"]), (&json!("x"), &json!(8)));
}

#[tokio::test]
async fn who_may_not_touch_the_lease_follows_and_keeps_trying() {
    let fake = Fake::new();
    fake.set_mode(Mode::Refuses(403, "Forbidden"));
    let mut running = start(&fake, "me", PATIENT);
    while fake.take_log().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.seen.borrow().role, Role::Follower);
    fake.set_mode(Mode::Up);
    running.until_it_is(Role::Leader).await;
    running.end().await;
}

#[tokio::test]
async fn a_follower_leaves_without_touching_the_lease() {
    let fake = Fake::new();
    fake.put(PATH, others(&fake));
    let mut running = start(&fake, "me", PATIENT);
    running.until("knows the holder", |seen| seen.holder.is_some()).await;
    running.end().await;
    let sent = fake.take_log();
    assert!(sent.iter().all(|asked| asked.starts_with("GET")), "{sent:?}");
}

#[tokio::test]
async fn a_lease_that_goes_backwards_is_reported_by_the_leader_and_by_a_follower() {
    let fake = Fake::new();
    let mut leader = start(&fake, "me", PATIENT);
    leader.until_it_is(Role::Leader).await;
    let copy = fake.object(PATH).unwrap();
    let mut follower = start(&fake, "other", PATIENT);
    follower.until("following", |seen| seen.holder.as_deref() == Some("me")).await;
    // Other clients write, so that the copy is much older than the version that both have seen.
    for _ in 0..10_000 {
        fake.put("/api/v1/namespaces/ns/configmaps/other", json!({ "metadata": { "name": "other" } }));
    }
    let version = |object: Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let both_saw_it = async {
        while fake.object(PATH).map(version) < Some(10_000) {
            tokio::task::yield_now().await;
        }
        fake.take_log();
        // Only a follower reads a Lease that is renewed.
        while fake.take_log().iter().filter(|request| request.starts_with("GET")).count() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), both_saw_it).await.expect("one renews, and one reads");
    assert!(!leader.restored.is_cancelled() && !follower.restored.is_cancelled());
    fake.restore(PATH, copy);
    for contender in [&leader, &follower] {
        tokio::time::timeout(Duration::from_secs(10), contender.restored.cancelled()).await.expect("it noticed");
    }
    leader.end().await;
    follower.end().await;
}
