//! Deadlines and mass silence, on a clock that tests move.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;
use crate::api::Connector;
use crate::heartbeat::credentials::Digest;
use crate::heartbeat::entry::Key;
use crate::heartbeat::payload::parse;
use crate::heartbeat::routes::{HeartbeatSink as _, Reply};
use crate::leadership::Role;
use crate::schedule::TICK;
use crate::time::Clock;

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Rig {
    registry: Arc<Registry>,
    sites: Arc<Sites>,
    commands: mpsc::UnboundedSender<Command>,
    woken: Arc<Mutex<Vec<(String, u64)>>>,
    news: mpsc::UnboundedReceiver<SiteEvent>,
    asleep: Arc<AtomicBool>,
    begun: Instant,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    /// A leader that listens, and its keeper at work.
    fn start() -> Self {
        let (registry, told) = Registry::new(Clock::default(), &[7; 32]);
        let (registry, sites, begun) = (Arc::new(registry), Arc::new(Sites::default()), Instant::now());
        let now = registry.clock().now();
        registry
            .listening
            .update(now, |inputs| (inputs.role, inputs.synced, inputs.port_open) = (Role::Leader, true, true));
        let (commands, poked) = mpsc::unbounded_channel();
        let (news_to, news) = mpsc::unbounded_channel();
        let (woken, asleep, stop) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let sinks = Sinks {
            wake: Box::new({
                let woken = woken.clone();
                move |entry: &Entry| woken.lock().push((entry.identity.key.name.to_string(), begun.elapsed().as_secs()))
            }),
            backends: Box::new(|_| {}),
            events: news_to,
            is_awake: Box::new({
                let (registry, commands) = (registry.clone(), commands.clone());
                move || is_awake(&registry, &commands)
            }),
        };
        tokio::spawn({
            let (asleep, registry, commands, stop) = (asleep.clone(), registry.clone(), commands.clone(), stop.clone());
            async move {
                while stop.run_until_cancelled(sleep(TICK)).await.is_some() {
                    if !asleep.load(Ordering::Relaxed) {
                        is_awake(&registry, &commands);
                    }
                }
            }
        });
        let scheduler = DeadlineScheduler::new(registry.clone(), sites.clone(), sinks);
        tokio::spawn(scheduler.run(told, poked, stop.clone()));
        Self { registry, sites, commands, woken, news, asleep, begun, stop }
    }

    async fn upsert(&self, name: &str, spec: Value, mut status: Value) -> Arc<Entry> {
        status["token"] =
            json!({ "generation": 1, "hashes": [{ "generation": 1, "sha256": Digest::of(name).to_hex() }] });
        let meta = json!({ "name": name, "namespace": "edge", "uid": name, "resourceVersion": "1" });
        let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": spec, "status": status });
        let connector: Connector = serde_json::from_value(object).unwrap();
        self.registry.upsert(&connector, self.registry.clock().read());
        let entry = self.entry(name);
        self.poke(Command::Upsert(entry.clone())).await;
        entry
    }

    /// Several that beat, in one site.
    async fn beating(&self, names: &[&str]) {
        for name in names {
            self.upsert(name, json!({}), json!({})).await;
            self.beat(name).await;
        }
        self.woken.lock().clear();
    }

    fn entry(&self, name: &str) -> Arc<Entry> {
        self.registry.get(&Key { namespace: "edge".into(), name: name.into() }).unwrap()
    }

    async fn poke(&self, poke: Command) {
        self.commands.send(poke).unwrap();
        self.rest().await;
    }

    async fn beat(&self, name: &str) {
        self.report(name, json!([])).await;
    }

    async fn report(&self, name: &str, checks: Value) {
        let body = json!({ "connector_id": format!("edge/{name}"), "token": name, "checks": checks }).to_string();
        let reply = self.registry.receive(&parse(body.as_bytes(), None).unwrap(), FROM);
        assert!(matches!(reply, Reply::Accepted { .. }));
        self.rest().await;
    }

    /// Lets the keeper do what it can do now.
    async fn rest(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    async fn until(&self, second: u64) {
        tokio::time::sleep_until(self.begun + Duration::from_secs(second)).await;
        // Timers have a resolution of a millisecond.
        sleep(Duration::from_millis(5)).await;
        self.rest().await;
    }

    fn presence(&self, name: &str) -> Presence {
        let entry = self.entry(name);
        let now = self.registry.clock().now();
        entry.snapshot(self.registry.listening.listening_to(&entry, now), now).verdict.presence
    }

    fn woken(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.woken.lock())
    }
}

/// One tick of the pulse, with the reaction of the process to a freeze: the Lease is read and still ours.
fn is_awake(registry: &Registry, commands: &mpsc::UnboundedSender<Command>) -> bool {
    let now = registry.clock().now();
    let awake = registry.listening.tick(now).is_none();
    if !awake {
        registry.listening.update(now, |inputs| inputs.role = Role::Leader);
        let _ = commands.send(Command::ListeningMoved);
    }
    awake
}

fn times(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    of.iter().map(|(name, second)| ((*name).to_owned(), *second)).collect()
}

#[tokio::test(start_paused = true)]
async fn silence_wakes_at_its_deadlines_and_never_in_between() {
    let rig = Rig::start();
    rig.beating(&["paris"]).await;
    rig.until(89).await;
    assert_eq!(rig.woken(), []);
    rig.until(7200).await;
    assert_eq!(rig.woken(), times(&[("paris", 90), ("paris", 300)]));
    assert_eq!(rig.presence("paris"), Presence::Offline);
}

#[tokio::test(start_paused = true)]
async fn beats_that_change_nothing_wake_nobody() {
    let rig = Rig::start();
    rig.beating(&["paris"]).await;
    for round in 1..=40 {
        rig.until(round * 30).await;
        rig.beat("paris").await;
    }
    assert_eq!(rig.woken(), []);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_too_many_reports_wakes_an_interval_later_without_another_beat() {
    let rig = Rig::start();
    rig.beating(&["paris"]).await;
    for check in 0..15 {
        rig.report("paris", json!([{ "type": format!("Check{check}"), "status": "Fail" }])).await;
    }
    // The report of `beating` was the first of the eight at once.
    assert_eq!(rig.woken(), times(&[("paris", 0); 7]));
    rig.until(89).await;
    assert_eq!(rig.woken(), times(&[("paris", 30)]), "the last one");
    let entry = rig.entry("paris");
    let now = rig.registry.clock().now();
    let live = entry.snapshot(rig.registry.listening.listening_to(&entry, now), now);
    assert_eq!(live.checks.unwrap()[0].type_, "Check14");
    rig.until(7200).await;
    assert_eq!(rig.woken(), times(&[("paris", 90), ("paris", 300)]), "its other deadlines are the same");
}

#[tokio::test(start_paused = true)]
async fn a_beat_at_the_last_moment_has_one_outcome() {
    let rig = Rig::start();
    rig.beating(&["paris"]).await;
    sleep(Duration::from_millis(299_990)).await;
    rig.rest().await;
    assert_eq!(rig.woken(), times(&[("paris", 90)]));
    rig.beat("paris").await;
    rig.until(389).await;
    assert_eq!((rig.woken(), rig.presence("paris")), (times(&[("paris", 299)]), Presence::Online));
    rig.until(600).await;
    assert_eq!(rig.woken(), times(&[("paris", 389), ("paris", 599)]), "and its deadlines follow the new contact");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_is_no_silence() {
    let rig = Rig::start();
    rig.beating(&["paris"]).await;
    rig.until(200).await;
    rig.woken();
    rig.asleep.store(true, Ordering::Relaxed);
    rig.until(301).await;
    rig.asleep.store(false, Ordering::Relaxed);
    assert_eq!(rig.presence("paris"), Presence::Unknown, "our silence is not theirs");
    rig.until(599).await;
    assert_eq!(rig.presence("paris"), Presence::Unknown);
    rig.until(601).await;
    assert_eq!(rig.presence("paris"), Presence::Offline, "after five minutes of listening");
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_leaves_no_deadline() {
    let rig = Rig::start();
    rig.beating(&["paris"]).await;
    let entry = rig.entry("paris");
    rig.registry.remove(&entry);
    rig.poke(Command::Remove(entry)).await;
    rig.until(7200).await;
    assert_eq!(rig.woken(), []);
}

#[tokio::test(start_paused = true)]
async fn a_changed_deadline_applies_at_once_in_both_directions() {
    let rig = Rig::start();
    rig.beating(&["paris"]).await;
    rig.until(200).await;
    rig.upsert("paris", json!({ "heartbeat": { "offlineAfterSeconds": 120 } }), json!({})).await;
    assert_eq!(rig.presence("paris"), Presence::Offline);
    rig.upsert("paris", json!({ "heartbeat": { "offlineAfterSeconds": 3600, "lateAfterSeconds": 1800 } }), json!({}))
        .await;
    assert_eq!(rig.presence("paris"), Presence::Online);
    rig.woken();
    rig.until(3700).await;
    assert_eq!(rig.woken(), times(&[("paris", 1800), ("paris", 3600)]));
}

#[tokio::test(start_paused = true)]
async fn mass_silence_is_told_once_and_before_anybody_is_offline() {
    let mut rig = Rig::start();
    rig.beating(&["a", "b", "c", "d"]).await;
    rig.until(89).await;
    rig.beat("d").await;
    rig.until(91).await;
    let event = rig.news.try_recv().unwrap();
    assert_eq!((&*event.namespace, event.event.reason), ("edge", "MassSilence"));
    assert!(event.event.note.starts_with("3 of 4 connectors of site edge/"), "{}", event.event.note);
    assert_eq!(rig.sites.mass_silence("edge/").as_deref(), Some("3 of 4"));
    assert!(rig.woken().iter().all(|(_, second)| *second == 90));
    rig.until(301).await;
    assert!(rig.news.try_recv().is_err(), "told once");
    assert_eq!(rig.presence("a"), Presence::Offline, "nobody was heard");
    for name in ["a", "b", "c"] {
        rig.beat(name).await;
    }
    assert_eq!(rig.sites.mass_silence("edge/"), None);
}

#[tokio::test(start_paused = true)]
async fn another_site_or_a_pair_is_no_mass_silence() {
    let mut rig = Rig::start();
    for (name, site) in [("a", "north"), ("b", "north"), ("c", "south"), ("d", "south")] {
        rig.upsert(name, json!({ "site": site }), json!({})).await;
        rig.beat(name).await;
    }
    rig.until(400).await;
    assert!(rig.news.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn members_that_are_deleted_end_a_mass_silence() {
    let mut rig = Rig::start();
    rig.beating(&["a", "b", "c"]).await;
    rig.until(91).await;
    assert!(rig.news.try_recv().is_ok());
    for name in ["a", "b", "c"] {
        let entry = rig.entry(name);
        rig.registry.remove(&entry);
        rig.poke(Command::Remove(entry)).await;
    }
    assert_eq!(rig.sites.mass_silence("edge/"), None);
}

fn mass_silent() -> Value {
    json!({ "state": "Offline", "lastHeartbeatTime": "2026-01-01T00:00:00.000000Z", "stateSince": "2026-01-01T00:05:00.000000Z",
        "conditions": [{ "type": "Online", "status": "False", "reason": "MassSilence", "message": "", "lastTransitionTime": "2026-01-01T00:05:00Z" }] })
}

#[tokio::test(start_paused = true)]
async fn a_takeover_resumes_the_mass_silence_that_was_written_and_tells_it_no_more() {
    let mut rig = Rig::start();
    for name in ["a", "b", "c"] {
        rig.upsert(name, json!({}), mass_silent()).await;
    }
    rig.poke(Command::TookOver).await;
    assert_eq!(rig.sites.mass_silence("edge/").as_deref(), Some("3 of 3"));
    assert!(rig.news.try_recv().is_err());
    for name in ["a", "b"] {
        rig.beat(name).await;
    }
    assert_eq!(rig.sites.mass_silence("edge/"), None, "its end is ours to see");
}

#[tokio::test(start_paused = true)]
async fn a_takeover_does_not_resume_what_we_have_seen_end() {
    let rig = Rig::start();
    for name in ["a", "b", "c"] {
        rig.upsert(name, json!({}), mass_silent()).await;
    }
    rig.poke(Command::TookOver).await;
    for name in ["a", "b", "c"] {
        rig.beat(name).await;
    }
    rig.poke(Command::TookOver).await;
    assert_eq!(rig.sites.mass_silence("edge/"), None);
}

#[tokio::test(start_paused = true)]
async fn a_takeover_turns_nobody_offline_before_we_listened_long_enough() {
    let rig = Rig::start();
    let written = json!({ "state": "Online", "lastHeartbeatTime": "2026-01-01T00:00:00.000000Z", "stateSince": "2025-12-01T00:00:00.000000Z" });
    rig.upsert("paris", json!({}), written).await;
    assert_eq!(rig.presence("paris"), Presence::Unknown);
    rig.until(299).await;
    assert_eq!(rig.presence("paris"), Presence::Unknown);
    rig.until(301).await;
    assert_eq!(rig.presence("paris"), Presence::Offline);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_api_server_turns_no_lease_offline() {
    let rig = Rig::start();
    let lease = json!({ "heartbeat": { "source": "Lease", "leaseName": "gw" } });
    rig.upsert("leased", lease, json!({})).await;
    rig.beating(&["beating"]).await;
    rig.registry.lease_renewed("edge", "gw");
    rig.rest().await;
    assert_eq!(rig.presence("leased"), Presence::Online);
    let role = |role| {
        let now = rig.registry.clock().now();
        if rig.registry.listening.update(now, |inputs| inputs.role = role) {
            let _ = rig.commands.send(Command::ListeningMoved);
        }
    };
    rig.until(60).await;
    role(Role::Uncertain);
    rig.until(400).await;
    assert_eq!(rig.presence("beating"), Presence::Offline, "its beats would have been heard");
    assert_eq!(rig.presence("leased"), Presence::Unknown, "its renewals come by way of the API server");
    role(Role::Leader);
    rig.until(500).await;
    assert_eq!(rig.presence("leased"), Presence::Unknown);
    rig.registry.lease_renewed("edge", "gw");
    rig.rest().await;
    assert_eq!(rig.presence("leased"), Presence::Online);
}
