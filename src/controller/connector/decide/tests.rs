//! Status and events of a connector, for every state and condition of docs/design/api.md.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::token::Write;
use super::*;
use crate::api::{
    Cause, CheckOutcome, Condition, ConditionType, ConditionValue, Confidence, MAX_TRANSITIONS, Reason,
    RemediationStatus, Truth, conditions,
};
use crate::controller::connector::fake::no_remedy;
use crate::controller::connector::remediation_input::verdict;
use crate::controller::test_clock::{START, moment, now};
use crate::health::liveness::{Gap, Presence, Timing, Verdict, reason};
use crate::heartbeat::entry::{AgentReport, AgentSaid, Snapshot};
use crate::heartbeat::payload::ReportedCheck;
use crate::heartbeat::pod_diagnosis::PodDiagnosis;
use crate::remediation::ObjectHealth;
use crate::remediation::attempt::StepResult;
use crate::time::Now;

pub(super) fn connector(spec: Value) -> Connector {
    let meta = json!({ "name": "paris", "namespace": "edge", "uid": "u1", "generation": 3, "resourceVersion": "7" });
    serde_json::from_value(
        json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": spec }),
    )
    .unwrap()
}

/// As the API server keeps it and gives it back.
pub(super) fn stored(connector: &Connector, status: &ConnectorStatus) -> Connector {
    let mut next = connector.clone();
    next.status = Some(status.clone());
    serde_json::from_value(serde_json::to_value(next).unwrap()).unwrap()
}

fn live(presence: Presence, since: i64) -> Snapshot {
    let timing = Timing {
        interval: std::time::Duration::from_secs(30),
        late: std::time::Duration::from_secs(90),
        offline: std::time::Duration::from_secs(300),
    };
    Snapshot {
        pods: PodDiagnosis::Unseen,
        timing,
        last_contact: (presence != Presence::NeverSeen).then(|| moment(since)),
        verdict: Verdict {
            presence,
            since: moment(since),
            reason: reason(presence, Gap::Restarted),
            next_check_at: None,
        },
        used_generation: 1,
        retired_use: None,
        duplicate: None,
        agent: None,
        checks: None,
        contacts: None,
        said: AgentSaid::default(),
        offered: None,
        restarted: Vec::new(),
        written: None,
    }
}

fn checked(mut live: Snapshot, checks: &[(&str, CheckOutcome)]) -> Snapshot {
    let report = |(type_, status): &(&str, CheckOutcome)| ReportedCheck {
        type_: (*type_).to_owned(),
        status: *status,
        message: Some("as seen".to_owned()),
    };
    live.checks = Some(checks.iter().map(report).collect());
    live.agent = Some(AgentReport { hostname: Some("gw-1".into()), ..AgentReport::default() });
    live
}

pub(super) fn case<'a>(connector: &'a Connector, live: &'a Snapshot, now: Now) -> Input<'a> {
    Input {
        connector,
        live,
        mass_silence: None,
        refused: None,
        provisioned: ConditionValue::new(
            Truth::True,
            Reason::Provisioned,
            "Secret paris-connector-token holds the token",
        ),
        delivering: false,
        retired_use: None,
        pods: &live.pods,
        now,
    }
}

/// The plan while neither a remediation nor a token is decided.
pub(super) fn decided(input: &Input<'_>) -> Plan<ConnectorStatus> {
    decided_with(input, None)
}

/// The plan while no remediation is decided.
fn decided_with(input: &Input<'_>, token: Option<&TokenPlan>) -> Plan<ConnectorStatus> {
    let assessment = input.assess();
    let stored = input.connector.status.as_ref().and_then(|status| status.remediation.as_ref());
    let remedy = no_remedy(stored, &assessment.conditions);
    decide(input, assessment, &remedy, token)
}

fn said(conditions: &[Condition], type_: ConditionType) -> (String, String) {
    conditions::get(conditions, type_).map(|found| (found.status.clone(), found.reason.clone())).unwrap_or_default()
}

/// A connector that goes through its life, one look after the other.
struct Life {
    connector: Connector,
    events: Vec<Event>,
}

impl Life {
    fn new(spec: Value) -> Self {
        Self { connector: connector(spec), events: Vec::new() }
    }

    fn look(&mut self, live: &Snapshot, second: i64) -> Plan<ConnectorStatus> {
        let plan = decided(&case(&self.connector, live, now(second)));
        if let Some(status) = &plan.status {
            self.connector = stored(&self.connector, status);
        }
        self.events.extend(plan.events.iter().cloned());
        plan
    }

    fn status(&self) -> &ConnectorStatus {
        self.connector.status.as_ref().unwrap()
    }

    fn told(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| event.reason).collect()
    }
}

#[test]
fn every_state_has_its_conditions_and_every_bad_one_a_cause_and_an_advice() {
    let pass = [("Process", CheckOutcome::Pass)];
    let fail = [("Process", CheckOutcome::Pass), ("NATRules", CheckOutcome::Fail)];
    let warn = [("ControlPlane", CheckOutcome::Fail)];
    let unreachable = Verdict { reason: Reason::ObserverUnreachable, ..live(Presence::Unknown, 0).verdict };
    #[rustfmt::skip]
    let table = [
        (live(Presence::NeverSeen, 0), "Pending", ("Unknown", "NeverSeen"), ("Unknown", "NeverSeen"), ("Unknown", "NotReported"), Some(Cause::NeverSeen)),
        (live(Presence::Online, 0), "Online", ("True", "HeartbeatReceived"), ("True", "Ready"), ("Unknown", "NotReported"), None),
        (checked(live(Presence::Online, 0), &pass), "Online", ("True", "HeartbeatReceived"), ("True", "Ready"), ("True", "ChecksPassed"), None),
        (checked(live(Presence::Online, 0), &warn), "Online", ("True", "HeartbeatReceived"), ("True", "Ready"), ("True", "Warnings"), Some(Cause::ControlPlaneUnreachable)),
        (checked(live(Presence::Online, 0), &fail), "Degraded", ("True", "HeartbeatReceived"), ("False", "NATRulesMissing"), ("False", "NATRulesMissing"), Some(Cause::NATRulesMissing)),
        (live(Presence::Late, 0), "Late", ("True", "HeartbeatLate"), ("True", "Ready"), ("Unknown", "NotReported"), Some(Cause::HeartbeatLate)),
        (checked(live(Presence::Late, 0), &fail), "Late", ("True", "HeartbeatLate"), ("False", "NATRulesMissing"), ("False", "NATRulesMissing"), Some(Cause::NATRulesMissing)),
        (checked(live(Presence::Offline, 0), &fail), "Offline", ("False", "HeartbeatExpired"), ("False", "HeartbeatExpired"), ("Unknown", "Stale"), Some(Cause::HeartbeatExpired)),
        (checked(live(Presence::Unknown, 0), &pass), "Unknown", ("Unknown", "ObserverRestarted"), ("Unknown", "ObserverRestarted"), ("Unknown", "Stale"), Some(Cause::ObserverRestarted)),
        (Snapshot { verdict: unreachable, ..live(Presence::Unknown, 0) }, "Unknown", ("Unknown", "ObserverUnreachable"), ("Unknown", "ObserverUnreachable"), ("Unknown", "Stale"), Some(Cause::ObserverUnreachable)),
    ];
    let mut states = BTreeSet::new();
    for (live, state, online, ready, healthy, cause) in table {
        let connector = connector(json!({}));
        let found = case(&connector, &live, now(1000)).assess();
        states.insert(found.state);
        let pair = |of: (&str, &str)| (of.0.to_owned(), of.1.to_owned());
        assert_eq!(found.state.as_str(), state);
        assert_eq!(said(&found.conditions, ConditionType::Online), pair(online), "{state}");
        assert_eq!(said(&found.conditions, ConditionType::Ready), pair(ready), "{state}");
        assert_eq!(said(&found.conditions, ConditionType::Healthy), pair(healthy), "{state}");
        assert_eq!(said(&found.conditions, ConditionType::Remediating), pair(("False", "Idle")));
        assert_eq!(found.diagnosis.as_ref().map(|found| found.cause), cause, "{state}");
        assert!(found.state == ConnectorState::Online || found.diagnosis.is_some());
        if let Some(found) = &found.diagnosis {
            assert!(!found.message.is_empty() && found.advice.starts_with(char::is_uppercase), "{found:?}");
        }
    }
    assert_eq!(states.len(), ConnectorState::ALL.len(), "every state is reachable");
}

#[test]
fn ready_names_the_first_that_fails_and_stalled_stands_only_while_accepted_is_false() {
    let connector = connector(json!({}));
    let failing = checked(live(Presence::Online, 0), &[("Process", CheckOutcome::Fail)]);
    let offline = live(Presence::Offline, 0);
    let refused = Some((Reason::DuplicateConnectorID, "it belongs to another".to_owned()));
    let conflict = ConditionValue::new(Truth::False, Reason::TokenSecretConflict, "in the way");
    let all = Input { refused, provisioned: conflict.clone(), ..case(&connector, &offline, now(900)) }.assess();
    assert_eq!(said(&all.conditions, ConditionType::Ready), ("False".into(), "DuplicateConnectorID".into()));
    assert_eq!(said(&all.conditions, ConditionType::Stalled), ("True".into(), "DuplicateConnectorID".into()));
    assert_eq!(said(&all.conditions, ConditionType::Accepted), ("False".into(), "DuplicateConnectorID".into()));
    assert_eq!(all.diagnosis.map(|found| found.cause), Some(Cause::DuplicateConnectorID));
    let unprovisioned = Input { provisioned: conflict, ..case(&connector, &failing, now(900)) }.assess();
    assert_eq!(said(&unprovisioned.conditions, ConditionType::Ready), ("False".into(), "TokenSecretConflict".into()));
    assert_eq!(said(&unprovisioned.conditions, ConditionType::Stalled), Default::default());
    let found = unprovisioned.diagnosis.unwrap();
    assert_eq!(found.cause, Cause::ProcessDown, "what it reports, and the remedy for it, comes first");
    assert!(found.alternatives.iter().any(|other| other.cause == Cause::TokenSecretConflict), "{found:?}");
    let silent = Input { mass_silence: Some("4 of 5"), ..case(&connector, &offline, now(900)) }.assess();
    assert_eq!(said(&silent.conditions, ConditionType::Ready), ("False".into(), "MassSilence".into()));
    assert_eq!(silent.diagnosis.map(|found| found.cause), Some(Cause::MassSilence));
    assert_eq!(silent.state, ConnectorState::Offline, "nobody was heard");
}

#[test]
fn stalled_goes_with_its_cause() {
    let mut life = Life::new(json!({}));
    let refused = Some((Reason::SecretNotFound, "there is no Secret mine".to_owned()));
    let online = live(Presence::Online, 0);
    let plan = decided(&Input { refused, ..case(&life.connector, &online, now(10)) });
    life.connector = stored(&life.connector, &plan.status.unwrap());
    assert!(conditions::get(&life.status().conditions, ConditionType::Stalled).is_some());
    life.look(&online, 20);
    assert!(conditions::get(&life.status().conditions, ConditionType::Stalled).is_none());
}

#[test]
fn what_is_done_about_it_is_written_and_stands_until_somebody_decides_again() {
    let connector = connector(
        json!({ "workloadRef": { "kind": "Deployment", "name": "gw" }, "remediation": { "mode": "Restart" } }),
    );
    let offline = live(Presence::Offline, 0);
    let course = StepResult {
        status: RemediationStatus { restarts: 7, ..RemediationStatus::default() },
        condition: ConditionValue::new(Truth::False, Reason::CoolingDown, "until noon"),
        events: Vec::new(),
        remedy: None,
        ended: None,
        reserved: None,
        denial: None,
        check_again_at: None,
    };
    let plan = {
        let input = case(&connector, &offline, now(900));
        decide(&input, input.assess(), &course, None)
    };
    let status = plan.status.unwrap();
    assert_eq!(said(&status.conditions, ConditionType::Remediating), ("False".into(), "CoolingDown".into()));
    assert_eq!(status.remediation.as_ref().unwrap().restarts, 7);
    let written = stored(&connector, &status);
    let viewed = case(&written, &offline, now(901)).assess();
    assert_eq!(said(&viewed.conditions, ConditionType::Remediating), ("False".into(), "CoolingDown".into()));
}

#[test]
fn the_same_case_an_hour_later_is_no_write() {
    let mut lives = vec![live(Presence::NeverSeen, 0)];
    for presence in [Presence::Online, Presence::Late, Presence::Offline, Presence::Unknown] {
        lives.push(checked(live(presence, 5), &[("Process", CheckOutcome::Fail), ("New", CheckOutcome::Warn)]));
    }
    for live in lives {
        for mass_silence in [None, Some("3 of 4")] {
            let connector = connector(json!({}));
            let retired_use = Some(now(8).wall);
            let first = decided(&Input { mass_silence, retired_use, ..case(&connector, &live, now(1000)) });
            let connector = stored(&connector, &first.status.unwrap());
            // Written, so the stored stamp is the one that counts.
            let live = Snapshot { written: live.last_contact, ..live.clone() };
            for (second, drift) in [(1000, 0), (1001, 0), (4600, 0), (4600, 900_000_000), (90_000, -900_000_000)] {
                let mut later = now(second);
                // The wall clock is slewed against the monotonic one all the time.
                later.wall += SignedDuration::from_nanos(drift);
                let again = decided(&Input { mass_silence, retired_use, ..case(&connector, &live, later) });
                assert_eq!(again.status, None, "{:?} after {second} s", live.verdict.presence);
                assert!(again.events.is_empty() && again.due_at.is_none());
            }
        }
    }
}

#[test]
fn offline_is_dated_at_its_deadline_and_what_checks_say_is_dated_now() {
    let mut life = Life::new(json!({}));
    life.look(&checked(live(Presence::Online, 100), &[("Process", CheckOutcome::Pass)]), 101);
    let plan = life.look(&checked(live(Presence::Online, 100), &[("Process", CheckOutcome::Fail)]), 500);
    let seconds = |at: &Timestamp| at.as_second() - START;
    assert_eq!(plan.due_at.as_ref().map(seconds), Some(500), "it was not degraded since it is online");
    assert_eq!(life.status().state_since.as_ref().map(|at| seconds(&at.0)), Some(500));
    life.look(&checked(live(Presence::Online, 100), &[("Process", CheckOutcome::Pass)]), 560);
    assert_eq!(seconds(&life.status().transitions[0].time.0), 560);
    assert!(
        life.events.last().unwrap().note.contains("after 1m (Degraded, ProcessDown)"),
        "{}",
        life.events.last().unwrap().note
    );
    let plan = life.look(&live(Presence::Offline, 800), 2000);
    assert_eq!(plan.due_at.as_ref().map(seconds), Some(800));
    let online = conditions::get(&life.status().conditions, ConditionType::Online).unwrap();
    assert_eq!(seconds(&online.last_transition_time.0), 800);
}

#[test]
fn a_transition_is_never_dated_before_the_one_before_it_nor_in_the_future() {
    let mut life = Life::new(json!({}));
    life.look(&live(Presence::Offline, 500), 600);
    life.look(&live(Presence::Online, 400), 601);
    let times: Vec<_> = life.status().transitions.iter().map(|one| one.time.0.as_second() - START).collect();
    assert_eq!(times, [500, 500]);
    // Our predecessor's clock was an hour ahead.
    let mut ahead = life.status().clone();
    ahead.state_since = Some(MicroTime(now(5000).wall));
    life.connector = stored(&life.connector, &ahead);
    life.look(&live(Presence::Offline, 1300), 1400);
    assert!(
        life.status().state_since.as_ref().unwrap().0 <= now(1400).wall,
        "a stored time of the future is overwritten"
    );
}

#[test]
fn ten_transitions_are_kept_the_newest_first() {
    let mut life = Life::new(json!({}));
    for round in 0..12 {
        life.look(&live(Presence::Online, round * 1000), round * 1000 + 1);
        life.look(&live(Presence::Offline, round * 1000 + 500), round * 1000 + 501);
    }
    let status = life.status();
    assert_eq!((status.transitions.len(), status.transitions[0].to.as_str()), (MAX_TRANSITIONS, "Offline"));
    assert!(status.transitions.is_sorted_by(|newer, older| newer.time.0 >= older.time.0));
}

#[test]
fn late_and_coming_back_from_it_tell_nothing() {
    let mut life = Life::new(json!({}));
    life.look(&live(Presence::NeverSeen, 0), 1);
    life.look(&live(Presence::Online, 10), 10);
    for round in 0..15 {
        life.look(&live(Presence::Late, 100 + round * 100), 100 + round * 100);
        life.look(&live(Presence::Online, 150 + round * 100), 150 + round * 100);
    }
    assert_eq!(life.told(), ["Online"]);
    assert!(life.events[0].note.contains("heard for the first time"), "{}", life.events[0].note);
}

#[test]
fn a_recovery_says_how_long_it_lasted_and_why() {
    let mut life = Life::new(json!({}));
    life.look(&live(Presence::Online, 0), 0);
    life.look(&live(Presence::Late, 90), 90);
    life.look(&live(Presence::Offline, 300), 300);
    life.look(&live(Presence::Online, 7500), 7500);
    assert_eq!(life.told(), ["Online", "Offline", "Online"]);
    let [_, offline, online] = &life.events[..] else { panic!("three") };
    assert_eq!(offline.kind, EventType::Warning);
    assert!(
        offline.note.starts_with("HeartbeatExpired: ") && offline.note.contains("Is its process running"),
        "{}",
        offline.note
    );
    assert_eq!(online.kind, EventType::Normal);
    assert!(online.note.contains("after 2h (Offline, HeartbeatExpired)"), "{}", online.note);
}

#[test]
fn an_event_has_the_same_occurrence_after_a_restart_of_ours() {
    let mut life = Life::new(json!({}));
    for (presence, second) in
        [(Presence::Online, 0), (Presence::Offline, 300), (Presence::Unknown, 700), (Presence::Online, 900)]
    {
        // Dated between two microseconds: what is stored is rounded, and told again from there.
        life.look(&live(presence, second), second + 1);
        let again = state_event(&life.connector, life.status()).unwrap();
        assert_eq!(Some(&again), life.events.last());
    }
}

#[test]
fn two_hosts_with_one_token_are_told_once_and_the_state_does_not_flap() {
    let mut life = Life::new(json!({}));
    let one = checked(live(Presence::Online, 0), &[("Process", CheckOutcome::Pass)]);
    let two = Snapshot { duplicate: Some((moment(60), moment(150))), ..one.clone() };
    life.look(&one, 10);
    for second in 61..70 {
        life.look(&two, second);
    }
    assert_eq!(life.told(), ["Online", "DuplicateInstance"]);
    assert_eq!(life.status().state, Some(ConnectorState::Online));
    assert_eq!(said(&life.status().conditions, ConditionType::Healthy), ("True".into(), "Warnings".into()));
    assert_eq!(life.status().diagnosis.as_ref().map(|found| found.cause), Some(Cause::DuplicateInstance));
    life.look(&one, 160);
    assert_eq!((life.events.len(), life.status().diagnosis.as_ref()), (2, None));
}

#[test]
fn what_changes_with_every_beat_waits_for_a_checkpoint() {
    let mut life = Life::new(json!({}));
    life.look(&checked(live(Presence::Online, 0), &[("Process", CheckOutcome::Pass)]), 1);
    let mut beat = checked(live(Presence::Online, 60), &[("Process", CheckOutcome::Pass)]);
    beat.agent.as_mut().unwrap().clock_skew_seconds = Some(3);
    beat.agent.as_mut().unwrap().address = Some("192.0.2.7".parse().unwrap());
    beat.checks.as_mut().unwrap()[0].message = Some("running for 60 s".to_owned());
    let plan = life.look(&beat, 61);
    assert_eq!(plan.status, None);
    assert_eq!(plan.current.last_heartbeat_time.map(|at| at.0.as_second() - START), Some(60));
    beat.agent.as_mut().unwrap().version = Some("2.0".into());
    assert!(life.look(&beat, 62).status.is_some());
}

#[test]
fn a_brought_secret_is_named_where_a_token_is_looked_for() {
    let brought = connector(json!({ "token": { "existingSecretRef": { "name": "mine", "key": "token" } } }));
    let advice = |connector: &Connector, presence, retired_use| {
        let live = live(presence, 0);
        Input { retired_use, ..case(connector, &live, now(500)) }.assess().diagnosis.unwrap().advice
    };
    assert!(advice(&brought, Presence::NeverSeen, None).contains("Secret mine"));
    assert!(advice(&brought, Presence::Late, Some(now(400).wall)).contains("Secret mine"));
    let plan = TokenPlan {
        status: crate::api::TokenStatus {
            generation: 1,
            observed_revoke_request: Some("t".into()),
            ..Default::default()
        },
        write: Write::Nothing,
        reuses: false,
        provisioned: ConditionValue::new(Truth::False, Reason::TokenSecretInvalid, "revoked"),
        refused: None,
        events: vec![TokenEvent::Revoked],
        has_failed: false,
        reread_after: None,
    };
    let live = live(Presence::Online, 0);
    let told = {
        let input = case(&brought, &live, now(10));
        decided_with(&input, Some(&plan)).events
    };
    assert!(told[0].reason == "TokenRevoked" && told[0].note.contains("Secret mine"), "{told:?}");
}

#[test]
fn a_token_that_ended_and_is_still_used_is_the_cause_while_nothing_else_keeps_it_online() {
    let connector = connector(json!({}));
    let cause = |presence, used: i64| {
        let live = live(presence, 100);
        Input { retired_use: Some(now(used).wall), ..case(&connector, &live, now(1000)) }
            .assess()
            .diagnosis
            .map(|found| found.cause)
    };
    assert_eq!(cause(Presence::Offline, 700), Some(Cause::TokenRevoked));
    assert_eq!(cause(Presence::Late, 700), Some(Cause::TokenRevoked));
    assert_eq!(cause(Presence::Offline, 50), Some(Cause::HeartbeatExpired), "it was heard after that");
    assert_eq!(cause(Presence::Online, 700), None);
}

fn any_presence() -> impl Strategy<Value = Presence> {
    prop::sample::select(vec![
        Presence::NeverSeen,
        Presence::Online,
        Presence::Late,
        Presence::Unknown,
        Presence::Offline,
    ])
}

prop_compose! {
    fn any_live()(presence in any_presence(), since in -5000i64..5000, outcomes in prop::collection::vec((0usize..9, 0usize..4), 0..5),
        told in any::<bool>(), duplicate in any::<bool>(), skew in -100i64..100) -> Snapshot {
        let types = ["Process", "WireGuardInterface", "WireGuardHandshake", "OverlayRoute", "IPForwarding", "NATRules", "ControlPlane", "ClockSkew", "FromTheFuture"];
        let checks: Vec<_> = outcomes.iter().map(|(type_, outcome)| (types[*type_], CheckOutcome::ALL[*outcome])).collect();
        let mut live = if told { checked(live(presence, since), &checks) } else { live(presence, since) };
        if let Some(agent) = &mut live.agent {
            agent.clock_skew_seconds = Some(skew);
        }
        live.duplicate = duplicate.then(|| (moment(since), moment(since + 90)));
        live
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes: what is written settles it, what is told can be told again, and every bad state is explained.
    #[test]
    fn a_decision_that_was_written_leaves_nothing_to_decide(looks in prop::collection::vec((any_live(), 0i64..4000, any::<bool>(), any::<bool>()), 1..12)) {
        let mut connector = connector(json!({}));
        let mut second = 5000;
        for (live, step, mass, refuse) in looks {
            second += step;
            let refused = refuse.then(|| (Reason::InvalidSpec, "the spec is wrong".to_owned()));
            let mass_silence = mass.then_some("3 of 4");
            let plan = decided(&Input { mass_silence, refused: refused.clone(), ..case(&connector, &live, now(second)) });
            let told: Vec<_> = plan.events.iter().filter(|event| event.reason != "DuplicateInstance").cloned().collect();
            if let Some(status) = &plan.status {
                connector = stored(&connector, status);
                if !told.is_empty() {
                    let again = state_event(&connector, connector.status.as_ref().unwrap());
                    prop_assert_eq!(told.first(), again.as_ref());
                }
            }
            let status = connector.status.clone().unwrap();
            prop_assert!(status.state == Some(ConnectorState::Online) || status.diagnosis.is_some());
            prop_assert!(status.transitions.len() <= MAX_TRANSITIONS);
            prop_assert!(status.transitions.is_sorted_by(|newer, older| newer.time.0 >= older.time.0));
            prop_assert!(status.last_heartbeat_time.is_none_or(|at| at.0 <= now(second).wall));
            let live = Snapshot { written: live.last_contact, ..live };
            let again = decided(&Input { mass_silence, refused, ..case(&connector, &live, now(second + 1)) });
            prop_assert_eq!(again.status, None);
            prop_assert!(again.events.is_empty());
        }
    }
}

#[test]
fn a_silence_is_acted_upon_only_when_the_pods_that_may_explain_it_were_seen() {
    let judged = |life: &Life, silent: &Snapshot| {
        let case = case(&life.connector, silent, now(301));
        let verdict = verdict(&case, &case.assess());
        (verdict.health(), verdict.diagnosis.as_ref().map(|found| found.confidence))
    };
    let mut life = Life::new(json!({"workloadRef": {"kind": "Deployment", "name": "gw"}}));
    life.look(&live(Presence::Online, 0), 0);
    let mut silent = live(Presence::Offline, 300);
    assert_eq!(judged(&life, &silent).0, ObjectHealth::Unknown, "first it is told, then its pods are looked at");
    life.look(&silent, 300);
    assert_eq!(judged(&life, &silent), (ObjectHealth::Unhealthy, Some(Confidence::Possible)), "they could not be seen");
    silent.pods = PodDiagnosis::Seen(None);
    assert_eq!(judged(&life, &silent), (ObjectHealth::Unhealthy, Some(Confidence::Certain)), "they explain nothing");

    let mut alone = Life::new(json!({}));
    alone.look(&live(Presence::Online, 0), 0);
    let silent = live(Presence::Offline, 300);
    assert_eq!(judged(&alone, &silent), (ObjectHealth::Unhealthy, Some(Confidence::Certain)), "it has no pods");
}
