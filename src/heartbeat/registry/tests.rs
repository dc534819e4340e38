//! Who is heard, who is refused, and what another process wrote meanwhile.

use serde_json::{Value, json};

use super::*;
use crate::health::liveness::Presence;
use crate::heartbeat::payload::parse;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(super) struct Town {
    pub(super) registry: Registry,
    notices: mpsc::UnboundedReceiver<Notice>,
}

pub(super) fn coordinator(role: Role) -> Town {
    let (registry, notices) = Registry::new(Clock::default(), &[7; 32]);
    let now = registry.clock().now();
    registry.listening.update(now, |inputs| (inputs.role, inputs.synced, inputs.port_open) = (role, true, true));
    Town { registry, notices }
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
    pub(super) fn upsert(&self, connector: &Connector) -> Upserted {
        self.registry.upsert(connector, self.registry.clock().read())
    }

    fn beat(&self, id: &str, token: &str) -> Reply {
        self.say(json!({ "connector_id": id, "token": token }))
    }

    pub(super) fn say(&self, body: Value) -> Reply {
        let body = body.to_string();
        self.registry.receive(&parse(body.as_bytes(), None).unwrap(), FROM)
    }

    pub(super) fn entry(&self, name: &str) -> Arc<Entry> {
        self.registry.get(&Key { namespace: "edge".into(), name: name.into() }).unwrap()
    }

    fn presence(&self, name: &str) -> Presence {
        self.entry(name)
            .snapshot(self.registry.listening.listening(self.registry.clock().now()), self.registry.clock().now())
            .verdict
            .presence
    }

    pub(super) fn changes(&mut self) -> usize {
        self.noticed().len()
    }

    /// The changes since this was asked last.
    pub(super) fn noticed(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).map(|notice| notice.change).collect()
    }
}

fn is_heard(reply: &Reply) -> bool {
    matches!(reply, Reply::Accepted { .. })
}

#[test]
fn a_right_token_is_heard_and_a_wrong_one_moves_nothing() {
    let mut coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    assert!(matches!(coordinator.beat("edge/paris", "wrong"), Reply::Rejected { known: true }));
    assert!(matches!(coordinator.beat("edge/rome", "right"), Reply::Rejected { known: false }));
    assert_eq!(
        (coordinator.presence("paris"), coordinator.registry.last_heartbeat_at(), coordinator.changes()),
        (Presence::NeverSeen, None, 0)
    );
    assert!(is_heard(&coordinator.beat("edge/paris", "right")));
    let heard = coordinator.entry("paris").unwritten().contact;
    assert!(coordinator.presence("paris") == Presence::Online && heard.is_some() && coordinator.changes() > 0);
    coordinator.beat("edge/paris", "wrong");
    assert_eq!((coordinator.entry("paris").unwritten().contact, coordinator.changes()), (heard, 0));
}

#[test]
fn a_dry_run_is_no_contact() {
    let mut coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    assert!(is_heard(&coordinator.say(json!({ "connector_id": "edge/paris", "token": "right", "dry_run": true }))));
    assert_eq!(
        (coordinator.presence("paris"), coordinator.registry.last_heartbeat_at(), coordinator.changes()),
        (Presence::NeverSeen, None, 0)
    );
}

#[test]
fn before_its_hashes_are_loaded_a_connector_is_asked_to_wait_and_not_refused() {
    let coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), json!({})));
    assert!(matches!(coordinator.beat("edge/paris", "any"), Reply::NotLoaded { .. }));
    coordinator.upsert(&connector("paris", DAY, 2, json!({}), json!({ "token": { "generation": 0 } })));
    assert!(
        matches!(coordinator.beat("edge/paris", "any"), Reply::Rejected { known: true }),
        "loaded, and there is none"
    );
}

#[test]
fn a_stale_event_does_not_bring_a_revoked_token_back() {
    let coordinator = coordinator(Role::Leader);
    let old = connector("paris", DAY, 5, json!({}), tokens(&[("old", 1, None)]));
    coordinator.upsert(&old);
    assert!(is_heard(&coordinator.beat("edge/paris", "old")));
    let revoked = connector("paris", DAY, 9, json!({}), tokens(&[("old", 1, Some(DAY)), ("new", 2, None)]));
    coordinator.registry.wrote(&coordinator.entry("paris"), &revoked, None, coordinator.registry.clock().read());
    for stale in [old, connector("paris", DAY, 6, json!({ "site": "north" }), tokens(&[("old", 1, None)]))] {
        coordinator.upsert(&stale);
        assert!(matches!(coordinator.beat("edge/paris", "old"), Reply::Rejected { .. }), "{:?}", stale.spec.site);
        assert!(is_heard(&coordinator.beat("edge/paris", "new")));
    }
}

#[test]
fn a_retired_token_is_noted_at_most_once_a_minute() {
    let mut coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), tokens(&[("old", 1, Some(DAY)), ("new", 2, None)])));
    for _ in 0..5 {
        assert!(matches!(coordinator.beat("edge/paris", "old"), Reply::Rejected { known: true }));
    }
    assert_eq!((coordinator.changes(), coordinator.presence("paris")), (1, Presence::NeverSeen));
}

#[test]
fn of_two_with_one_id_the_older_holds_it_and_its_heir_takes_over() {
    let coordinator = coordinator(Role::Leader);
    let with =
        |name, created, token| connector(name, created, 1, json!({ "connectorID": "gw" }), tokens(&[(token, 1, None)]));
    coordinator.upsert(&with("young", "2026-03-01T00:00:00Z", "young"));
    coordinator.upsert(&with("middle", "2026-02-01T00:00:00Z", "middle"));
    assert!(coordinator.registry.claim_refusal(&coordinator.entry("young")).is_some());
    let upserted = coordinator.upsert(&with("old", DAY, "old"));
    assert_eq!(
        upserted.affected,
        [coordinator.entry("middle").identity.key.clone()],
        "the displaced holder is reported"
    );
    assert!(
        is_heard(&coordinator.beat("gw", "old")) && matches!(coordinator.beat("gw", "middle"), Reply::Rejected { .. })
    );
    let heir = coordinator.registry.remove(&coordinator.entry("old"));
    assert_eq!(heir, [coordinator.entry("middle").identity.key.clone()]);
    assert!(
        is_heard(&coordinator.beat("gw", "middle")) && matches!(coordinator.beat("gw", "old"), Reply::Rejected { .. })
    );
    coordinator.registry.remove(&coordinator.entry("middle"));
    assert!(is_heard(&coordinator.beat("gw", "young")));
    coordinator.registry.remove(&coordinator.entry("young"));
    assert!(
        coordinator.registry.is_empty() && matches!(coordinator.beat("gw", "young"), Reply::Rejected { known: false })
    );
}

/// A Connector in another namespace.
fn of_tenant(namespace: &str, name: &str, created: &str, spec: Value, status: Value) -> Connector {
    let mut object = connector(name, created, 1, spec, status);
    (object.metadata.namespace, object.metadata.uid) =
        (Some(namespace.to_owned()), Some(format!("{namespace}/{name}")));
    object
}

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.into(), name: name.into() }
}

#[test]
fn an_id_that_begins_with_another_namespace_is_not_taken_and_one_that_was_served_gives_way() {
    let coordinator = coordinator(Role::Leader);
    let refusal = |key: &Key| coordinator.registry.claim_refusal(&coordinator.registry.get(key).unwrap());
    let (thief, old_user) = (key("mallory", "thief"), key("mallory", "old-user"));
    let id = |of: &str| json!({ "connectorID": of });
    coordinator.upsert(&of_tenant("mallory", "thief", DAY, id("edge/paris"), json!({})));
    assert_eq!(refusal(&thief), Some(ClaimRefusal::NotOwn));
    // Served under an earlier version: deployed connectors keep the id that they have.
    coordinator.upsert(&of_tenant("mallory", "old-user", DAY, id("edge/lyon"), tokens(&[("theirs", 1, None)])));
    assert_eq!(refusal(&old_user), None);
    assert!(is_heard(&coordinator.beat("edge/lyon", "theirs")));
    // The namespace's own objects come first, although they are younger.
    coordinator.upsert(&connector("paris", "2026-03-01T00:00:00Z", 1, json!({}), tokens(&[("right", 1, None)])));
    coordinator.upsert(&connector("lyon", "2026-03-01T00:00:00Z", 1, json!({}), tokens(&[("right", 1, None)])));
    assert_eq!((refusal(&key("edge", "paris")), refusal(&key("edge", "lyon"))), (None, None));
    assert!(is_heard(&coordinator.beat("edge/paris", "right")) && is_heard(&coordinator.beat("edge/lyon", "right")));
    assert_eq!(refusal(&old_user), Some(ClaimRefusal::HeldBy(key("edge", "lyon"))));
    coordinator.registry.remove(&coordinator.entry("paris"));
    assert_eq!(refusal(&thief), Some(ClaimRefusal::NotOwn), "also when it is free");
    assert!(matches!(coordinator.beat("edge/paris", "x"), Reply::Rejected { known: false }));
}

#[test]
fn the_id_of_a_deleted_holder_rests_for_its_own_namespace() {
    let mut index = Index::default();
    let at = |seconds: i64| Moment::from_micros(seconds * 1_000_000);
    let mut number = 0;
    let mut entry = |namespace: &str, name: &str| {
        number += 1;
        let object = of_tenant(namespace, name, DAY, json!({ "connectorID": "gw" }), json!({}));
        Arc::new(Entry::new(number, from_status::identity(&object), from_status::timing(&object)))
    };
    let (holder, waits) = (entry("edge", "paris"), entry("mallory", "waits"));
    index.insert(&holder, at(0));
    index.insert(&waits, at(0));
    assert_eq!(index.refusal(&waits), Some(ClaimRefusal::HeldBy(key("edge", "paris"))));
    assert_eq!(index.remove(&holder, at(10)), [key("mallory", "waits")], "it learns that the id rests");
    assert_eq!(index.refusal(&waits), Some(ClaimRefusal::Resting(at(610))));
    // Another tenant that comes now waits, too; the own namespace has it at once.
    let late = entry("mallory", "late");
    index.insert(&late, at(20));
    index.settle(&Arc::from("gw"), at(609));
    assert!(index.holder("gw").is_none());
    let again = entry("edge", "paris");
    index.insert(&again, at(30));
    assert_eq!(index.refusal(&again), None);
    index.remove(&again, at(100));
    index.settle(&Arc::from("gw"), at(699));
    assert_eq!(index.refusal(&waits), Some(ClaimRefusal::Resting(at(700))));
    index.settle(&Arc::from("gw"), at(700));
    assert_eq!(index.holder("gw").map(|holder| holder.identity.key.clone()), Some(key("mallory", "late")));
}

#[test]
fn one_that_was_deleted_and_created_again_is_somebody_else() {
    let coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    coordinator.beat("edge/paris", "right");
    let mut again = connector("paris", "2026-05-01T00:00:00Z", 8, json!({}), tokens(&[("other", 1, None)]));
    again.metadata.uid = Some("another".to_owned());
    let upserted = coordinator.upsert(&again);
    assert!(upserted.removed.is_some() && upserted.fresh.is_some());
    assert_eq!(coordinator.presence("paris"), Presence::NeverSeen);
    assert!(matches!(coordinator.beat("edge/paris", "right"), Reply::Rejected { .. }));
}

#[test]
fn another_site_is_another_entry_and_the_same_connector() {
    let coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    coordinator.beat("edge/paris", "right");
    let contact = coordinator.entry("paris").unwritten().contact;
    let moved =
        coordinator.upsert(&connector("paris", DAY, 2, json!({ "site": "north" }), tokens(&[("right", 1, None)])));
    assert!(moved.removed.is_some() && moved.fresh.is_some());
    assert_eq!(
        (coordinator.presence("paris"), coordinator.entry("paris").unwritten().contact),
        (Presence::Online, contact)
    );
}

#[test]
fn a_lease_is_heard_by_its_renewals_and_refuses_http() {
    let coordinator = coordinator(Role::Leader);
    let spec = json!({ "heartbeat": { "source": "Lease", "leaseName": "gw" } });
    coordinator.upsert(&connector("paris", DAY, 1, spec, tokens(&[("right", 1, None)])));
    assert!(coordinator.registry.uses_leases());
    assert!(coordinator.registry.uses_leases_in("edge") && !coordinator.registry.uses_leases_in("kube-node-lease"));
    assert!(matches!(coordinator.beat("edge/paris", "right"), Reply::Rejected { .. }));
    coordinator.registry.lease_renewed("edge", "another");
    assert_eq!(coordinator.presence("paris"), Presence::NeverSeen);
    coordinator.registry.lease_renewed("edge", "gw");
    assert_eq!(coordinator.presence("paris"), Presence::Online);
    assert_eq!(coordinator.registry.last_heartbeat_at(), None, "a renewal says nothing of the path to our port");
    coordinator.registry.remove(&coordinator.entry("paris"));
    assert!(!coordinator.registry.uses_leases());
}

#[test]
fn while_another_leads_its_word_on_checks_replaces_what_we_heard_before() {
    let coordinator = coordinator(Role::Leader);
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), tokens(&[("right", 1, None)])));
    coordinator.say(json!({ "connector_id": "edge/paris", "token": "right", "version": "1.0", "checks": [{ "type": "Process", "status": "Pass" }] }));
    let snapshot = || {
        let now = coordinator.registry.clock().now();
        coordinator.entry("paris").snapshot(coordinator.registry.listening.listening(now), now)
    };
    assert!(snapshot().checks.is_some() && snapshot().agent.is_some());
    let now = coordinator.registry.clock().now();
    coordinator.registry.listening.update(now, |inputs| inputs.role = Role::Follower);
    let written = json!({ "state": "Degraded", "lastHeartbeatTime": "2026-01-02T00:00:00.000000Z",
        "checks": [{ "type": "Process", "status": "Fail", "time": DAY }] });
    coordinator.upsert(&connector("paris", DAY, 2, json!({}), written));
    assert!(snapshot().checks.is_none() && snapshot().agent.is_none(), "what is stored is younger");
}

#[test]
fn what_a_predecessor_wrote_of_the_future_is_taken_as_now() {
    let coordinator = coordinator(Role::Leader);
    let status = json!({ "state": "Online", "lastHeartbeatTime": "2999-01-01T00:00:00.000000Z", "stateSince": "2999-01-01T00:00:00.000000Z" });
    coordinator.upsert(&connector("paris", DAY, 1, json!({}), status));
    let now = coordinator.registry.clock().now();
    let snapshot = coordinator.entry("paris").snapshot(coordinator.registry.listening.listening(now), now);
    assert!(snapshot.last_contact <= Some(now) && snapshot.verdict.since <= now);
    assert_eq!(snapshot.verdict.presence, Presence::Online);
}

#[test]
fn beats_are_taken_by_a_leader_and_by_one_who_cannot_reach_the_api_server() {
    for (role, hears) in
        [(Role::Leader, true), (Role::Uncertain, true), (Role::Unconfirmed, false), (Role::Follower, false)]
    {
        let coordinator = coordinator(role);
        assert_eq!(!matches!(coordinator.registry.acceptance(), Acceptance::No { .. }), hears, "{role:?}");
        let now = coordinator.registry.clock().now();
        coordinator.registry.listening.update(now, |inputs| inputs.synced = false);
        assert!(matches!(coordinator.registry.acceptance(), Acceptance::No { reason: "not_synced", .. }));
    }
}
