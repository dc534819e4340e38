//! Who is heard, who is refused, and what another process wrote meanwhile.

use serde_json::{Value, json};

use super::*;
use crate::health::liveness::Presence;
use crate::heartbeat::payload::parse;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(super) struct Town {
    pub(super) registry: Registry,
    told: mpsc::UnboundedReceiver<Told>,
}

pub(super) fn town(office: Office) -> Town {
    let (registry, told) = Registry::new(Clock::default(), &[7; 32]);
    let now = registry.clock().now();
    registry.ear.update(now, |inputs| (inputs.office, inputs.synced, inputs.port_open) = (office, true, true));
    Town { registry, told }
}

pub(super) fn connector(name: &str, created: &str, version: u32, spec: Value, status: Value) -> Connector {
    let meta = json!({ "name": name, "namespace": "edge", "uid": format!("uid of {name}"), "creationTimestamp": created,
        "generation": 1, "resourceVersion": version.to_string() });
    let kind = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector" });
    let mut object = json!({ "metadata": meta, "spec": spec, "status": status });
    object.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

pub(super) fn tokens(of: &[(&str, i64, Option<&str>)]) -> Value {
    let hash = |(token, generation, end): &(&str, i64, Option<&str>)| {
        let mut hash = json!({ "generation": generation, "sha256": Digest::of(token).to_hex() });
        if let Some(end) = end {
            hash["notAfter"] = json!(end);
        }
        hash
    };
    json!({ "token": { "generation": of.len(), "hashes": of.iter().map(hash).collect::<Vec<_>>() } })
}

pub(super) const DAY: &str = "2026-01-01T00:00:00Z";

impl Town {
    pub(super) fn enroll(&self, connector: &Connector) -> Enrolled {
        self.registry.enroll(connector, self.registry.clock().read())
    }

    fn beat(&self, id: &str, token: &str) -> Reply {
        self.say(json!({ "connector_id": id, "token": token }))
    }

    pub(super) fn say(&self, body: Value) -> Reply {
        let body = body.to_string();
        self.registry.hear(&parse(body.as_bytes(), None).unwrap(), FROM)
    }

    pub(super) fn entry(&self, name: &str) -> Arc<Entry> {
        self.registry.get(&Key { namespace: "edge".into(), name: name.into() }).unwrap()
    }

    fn presence(&self, name: &str) -> Presence {
        self.entry(name).snapshot(self.registry.ear.listening(), self.registry.clock().now()).verdict.presence
    }

    pub(super) fn changes(&mut self) -> usize {
        std::iter::from_fn(|| self.told.try_recv().ok()).count()
    }
}

fn is_heard(reply: &Reply) -> bool {
    matches!(reply, Reply::Heard { .. })
}

#[test]
fn a_right_token_is_heard_and_a_wrong_one_moves_nothing() {
    let mut town = town(Office::Leader);
    town.enroll(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    assert!(matches!(town.beat("edge/paris", "wrong"), Reply::Rejected { known: true }));
    assert!(matches!(town.beat("edge/rome", "right"), Reply::Rejected { known: false }));
    assert_eq!(
        (town.presence("paris"), town.registry.anyone_heard_at(), town.changes()),
        (Presence::NeverSeen, None, 0)
    );
    assert!(is_heard(&town.beat("edge/paris", "right")));
    let heard = town.entry("paris").unwritten().contact;
    assert!(town.presence("paris") == Presence::Online && heard.is_some() && town.changes() > 0);
    town.beat("edge/paris", "wrong");
    assert_eq!((town.entry("paris").unwritten().contact, town.changes()), (heard, 0));
}

#[test]
fn a_dry_run_is_no_contact() {
    let mut town = town(Office::Leader);
    town.enroll(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    assert!(is_heard(&town.say(json!({ "connector_id": "edge/paris", "token": "right", "dry_run": true }))));
    assert_eq!(
        (town.presence("paris"), town.registry.anyone_heard_at(), town.changes()),
        (Presence::NeverSeen, None, 0)
    );
}

#[test]
fn before_its_hashes_are_loaded_a_connector_is_asked_to_wait_and_not_refused() {
    let town = town(Office::Leader);
    town.enroll(&connector("paris", DAY, 1, json!({}), json!({})));
    assert!(matches!(town.beat("edge/paris", "any"), Reply::NotLoaded { .. }));
    town.enroll(&connector("paris", DAY, 2, json!({}), json!({ "token": { "generation": 0 } })));
    assert!(matches!(town.beat("edge/paris", "any"), Reply::Rejected { known: true }), "loaded, and there is none");
}

#[test]
fn a_stale_event_does_not_bring_a_revoked_token_back() {
    let town = town(Office::Leader);
    let old = connector("paris", DAY, 5, json!({}), tokens(&[("old", 1, None)]));
    town.enroll(&old);
    assert!(is_heard(&town.beat("edge/paris", "old")));
    let revoked = connector("paris", DAY, 9, json!({}), tokens(&[("old", 1, Some(DAY)), ("new", 2, None)]));
    town.registry.wrote(&town.entry("paris"), &revoked, None, town.registry.clock().read());
    for stale in [old, connector("paris", DAY, 6, json!({ "site": "north" }), tokens(&[("old", 1, None)]))] {
        town.enroll(&stale);
        assert!(matches!(town.beat("edge/paris", "old"), Reply::Rejected { .. }), "{:?}", stale.spec.site);
        assert!(is_heard(&town.beat("edge/paris", "new")));
    }
}

#[test]
fn a_retired_token_is_noted_at_most_once_a_minute() {
    let mut town = town(Office::Leader);
    town.enroll(&connector("paris", DAY, 1, json!({}), tokens(&[("old", 1, Some(DAY)), ("new", 2, None)])));
    for _ in 0..5 {
        assert!(matches!(town.beat("edge/paris", "old"), Reply::Rejected { known: true }));
    }
    assert_eq!((town.changes(), town.presence("paris")), (1, Presence::NeverSeen));
}

#[test]
fn of_two_with_one_id_the_older_holds_it_and_its_heir_takes_over() {
    let town = town(Office::Leader);
    let with =
        |name, created, token| connector(name, created, 1, json!({ "connectorID": "gw" }), tokens(&[(token, 1, None)]));
    town.enroll(&with("young", "2026-03-01T00:00:00Z", "young"));
    town.enroll(&with("middle", "2026-02-01T00:00:00Z", "middle"));
    assert!(town.registry.holder_instead_of(&town.entry("young")).is_some());
    let enrolled = town.enroll(&with("old", DAY, "old"));
    assert_eq!(enrolled.affected, [town.entry("middle").identity.key.clone()], "the displaced holder is told");
    assert!(is_heard(&town.beat("gw", "old")) && matches!(town.beat("gw", "middle"), Reply::Rejected { .. }));
    let heir = town.registry.dismiss(&town.entry("old"));
    assert_eq!(heir, [town.entry("middle").identity.key.clone()]);
    assert!(is_heard(&town.beat("gw", "middle")) && matches!(town.beat("gw", "old"), Reply::Rejected { .. }));
    town.registry.dismiss(&town.entry("middle"));
    assert!(is_heard(&town.beat("gw", "young")));
    town.registry.dismiss(&town.entry("young"));
    assert!(town.registry.is_empty() && matches!(town.beat("gw", "young"), Reply::Rejected { known: false }));
}

#[test]
fn one_that_was_deleted_and_created_again_is_somebody_else() {
    let town = town(Office::Leader);
    town.enroll(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    town.beat("edge/paris", "right");
    let mut again = connector("paris", "2026-05-01T00:00:00Z", 8, json!({}), tokens(&[("other", 1, None)]));
    again.metadata.uid = Some("another".to_owned());
    let enrolled = town.enroll(&again);
    assert!(enrolled.dismissed.is_some() && enrolled.fresh.is_some());
    assert_eq!(town.presence("paris"), Presence::NeverSeen);
    assert!(matches!(town.beat("edge/paris", "right"), Reply::Rejected { .. }));
}

#[test]
fn another_site_is_another_entry_and_the_same_connector() {
    let town = town(Office::Leader);
    town.enroll(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    town.beat("edge/paris", "right");
    let contact = town.entry("paris").unwritten().contact;
    let moved = town.enroll(&connector("paris", DAY, 2, json!({ "site": "north" }), tokens(&[("right", 1, None)])));
    assert!(moved.dismissed.is_some() && moved.fresh.is_some());
    assert_eq!((town.presence("paris"), town.entry("paris").unwritten().contact), (Presence::Online, contact));
}

#[test]
fn a_lease_is_heard_by_its_renewals_and_refuses_http() {
    let town = town(Office::Leader);
    let spec = json!({ "heartbeat": { "source": "Lease", "leaseName": "gw" } });
    town.enroll(&connector("paris", DAY, 1, spec, tokens(&[("right", 1, None)])));
    assert!(town.registry.uses_leases());
    assert!(matches!(town.beat("edge/paris", "right"), Reply::Rejected { .. }));
    town.registry.lease_renewed("edge", "another");
    assert_eq!(town.presence("paris"), Presence::NeverSeen);
    town.registry.lease_renewed("edge", "gw");
    assert_eq!(town.presence("paris"), Presence::Online);
    assert_eq!(town.registry.anyone_heard_at(), None, "a renewal says nothing of the path to our port");
    town.registry.dismiss(&town.entry("paris"));
    assert!(!town.registry.uses_leases());
}

#[test]
fn while_another_leads_its_word_on_checks_replaces_what_we_heard_before() {
    let town = town(Office::Leader);
    town.enroll(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    town.say(json!({ "connector_id": "edge/paris", "token": "right", "version": "1.0", "checks": [{ "type": "Process", "status": "Pass" }] }));
    let snapshot = || town.entry("paris").snapshot(town.registry.ear.listening(), town.registry.clock().now());
    assert!(snapshot().checks.is_some() && snapshot().agent.is_some());
    let now = town.registry.clock().now();
    town.registry.ear.update(now, |inputs| inputs.office = Office::Follower);
    let written = json!({ "state": "Degraded", "lastHeartbeatTime": "2026-01-02T00:00:00.000000Z",
        "checks": [{ "type": "Process", "status": "Fail", "time": DAY }] });
    town.enroll(&connector("paris", DAY, 2, json!({}), written));
    assert!(snapshot().checks.is_none() && snapshot().agent.is_none(), "what is stored is younger");
}

#[test]
fn what_a_predecessor_wrote_of_the_future_is_taken_as_now() {
    let town = town(Office::Leader);
    let status = json!({ "state": "Online", "lastHeartbeatTime": "2999-01-01T00:00:00.000000Z", "stateSince": "2999-01-01T00:00:00.000000Z" });
    town.enroll(&connector("paris", DAY, 1, json!({}), status));
    let now = town.registry.clock().now();
    let snapshot = town.entry("paris").snapshot(town.registry.ear.listening(), now);
    assert!(snapshot.last_contact <= Some(now) && snapshot.verdict.since <= now);
    assert_eq!(snapshot.verdict.presence, Presence::Online);
}

#[test]
fn beats_are_taken_by_a_leader_and_by_one_who_cannot_reach_the_api_server() {
    for (office, hears) in
        [(Office::Leader, true), (Office::Uncertain, true), (Office::Unconfirmed, false), (Office::Follower, false)]
    {
        let town = town(office);
        assert_eq!(!matches!(town.registry.hearing(), Hearing::No { .. }), hears, "{office:?}");
        let now = town.registry.clock().now();
        town.registry.ear.update(now, |inputs| inputs.synced = false);
        assert!(matches!(town.registry.hearing(), Hearing::No { reason: "not_synced", .. }));
    }
}
