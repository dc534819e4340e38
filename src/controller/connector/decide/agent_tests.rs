//! The status of a connector whose agent beats beside it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::{AgentPause, Cause, CheckOutcome, ConditionType, RestartHelps, StopReason, conditions};
use crate::controller::connector::remediation_input::{remediation_input, verdict};
use crate::controller::test_clock::{START, moment, now};
use crate::health::liveness::{Gap, Presence, Timing, Verdict, reason};
use crate::heartbeat::entry::{AgentReport, AgentSaid, ContactVerdicts, Snapshot};
use crate::heartbeat::payload::ReportedCheck;
use crate::heartbeat::pod_diagnosis::PodDiagnosis;

use super::tests::{case, connector, decided, stored};

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

/// A written time, in seconds since the start.
fn second(time: &Option<MicroTime>) -> i64 {
    time.as_ref().unwrap().0.as_second() - START
}

fn verdict_on(presence: Presence, since: i64) -> Verdict {
    Verdict { presence, since: moment(since), reason: reason(presence, Gap::Restarted), next_check_at: None }
}

/// The agent was heard at `seen`; the connector itself at `own`, and is `presence` since `since`.
fn beside(own: Option<i64>, presence: Presence, since: i64, seen: i64) -> Snapshot {
    let seconds = std::time::Duration::from_secs;
    let process =
        |status| ReportedCheck { type_: "Process".to_owned(), status, message: Some("active (running)".to_owned()) };
    Snapshot {
        timing: Timing { interval: seconds(30), late: seconds(90), offline: seconds(300) },
        last_contact: Some(moment(seen)),
        verdict: verdict_on(Presence::Online, 0),
        used_generation: 1,
        retired_use: None,
        duplicate: None,
        agent: Some(AgentReport { hostname: Some("edge-1".into()), ..AgentReport::default() }),
        checks: Some(vec![process(CheckOutcome::Pass)]),
        contacts: Some(ContactVerdicts {
            own_contact: own.map(moment),
            own: verdict_on(presence, since),
            agent_contact: Some(moment(seen)),
            agent: verdict_on(Presence::Online, 0),
        }),
        said: AgentSaid::default(),
        offered: None,
        restarted: Vec::new(),
        pods: PodDiagnosis::Unseen,
        written: None,
    }
}

fn with_agent() -> Connector {
    connector(json!({ "agentRef": { "unit": "ztna-connector.service" } }))
}

#[test]
fn a_silent_connector_with_a_live_agent_is_degraded_since_its_own_deadline() {
    let online = decided(&case(&with_agent(), &beside(Some(0), Presence::Online, 0, 10), now(10)));
    let before = stored(&with_agent(), &online.status.unwrap());
    let live = beside(Some(0), Presence::Offline, 300, 310);
    let input = case(&before, &live, now(311));
    let plan = decided(&input);
    let status = plan.status.unwrap();
    assert_eq!((status.state, status.state_since.as_ref().unwrap().0), (Some(ConnectorState::Degraded), wall(300)));
    let healthy = conditions::get(&status.conditions, ConditionType::Healthy).unwrap();
    assert_eq!((healthy.status.as_str(), healthy.reason.as_str()), ("False", "ConnectorSilent"));
    assert_eq!(conditions::get(&status.conditions, ConditionType::Online).unwrap().status, "True");
    let found = status.diagnosis.clone().unwrap();
    assert_eq!((found.cause, found.restart_helps), (Cause::ConnectorSilent, RestartHelps::Yes));
    let since = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&wall(0));
    assert_eq!(
        found.message,
        format!(
            "its agent on edge-1 beats and says ztna-connector.service is active; the connector itself has been silent since {since}"
        )
    );
    assert!(found.advice.starts_with("Restart ztna-connector.service on edge-1"), "{}", found.advice);
    assert_eq!(second(&status.last_heartbeat_time), 0, "its own contact");
    let agent = status.agent.as_ref().unwrap();
    assert_eq!((second(&agent.last_seen_time), agent.connector_heard), (310, Some(true)));
    // The agent's further beats change nothing that is written.
    let after = stored(&before, &status);
    for seen in [315, 340, 3_000] {
        let live = beside(Some(0), Presence::Offline, 300, seen);
        assert!(decided(&case(&after, &live, now(seen))).status.is_none(), "{seen}");
    }
}

#[test]
fn a_process_that_does_not_run_explains_the_silence_of_its_connector() {
    let mut live = beside(Some(0), Presence::Offline, 300, 310);
    live.checks.as_mut().unwrap()[0].status = CheckOutcome::Fail;
    let status = decided(&case(&with_agent(), &live, now(311))).status.unwrap();
    assert_eq!(status.diagnosis.unwrap().cause, Cause::ProcessDown);
    assert_eq!(conditions::get(&status.conditions, ConditionType::Healthy).unwrap().reason, "ProcessDown");
}

#[test]
fn an_agent_alone_is_the_last_contact_of_its_connector() {
    let live = beside(None, Presence::NeverSeen, 0, 310);
    let status = decided(&case(&with_agent(), &live, now(311))).status.unwrap();
    assert_eq!(status.state, Some(ConnectorState::Online));
    assert_eq!(second(&status.last_heartbeat_time), 310);
    assert_eq!(status.agent.unwrap().connector_heard, None);
}

#[test]
fn what_was_not_reported_since_the_start_of_the_process_stands_as_it_is_stored() {
    let known = json!({ "version": "1.2", "hostname": "gate", "bootID": "b", "podUID": "u", "clockSkewSeconds": 3 });
    let old: ConnectorStatus = serde_json::from_value(json!({ "agent": known })).unwrap();
    let before = stored(&connector(json!({})), &old);
    let mut live = beside(None, Presence::NeverSeen, 0, 10);
    (live.contacts, live.agent) = (None, Some(AgentReport { version: Some("1.3".into()), ..AgentReport::default() }));
    let agent = decided(&case(&before, &live, now(11))).status.unwrap().agent.unwrap();
    let expected = json!({ "version": "1.3", "hostname": "gate", "bootID": "b", "podUID": "u", "clockSkewSeconds": 3 });
    assert_eq!(serde_json::to_value(agent).unwrap(), expected);
}

#[test]
fn a_pause_on_the_host_is_shown_and_denies_restarts_with_its_reason() {
    let mut live = beside(Some(0), Presence::Offline, 300, 310);
    let pause = AgentPause { by: Some("ops".into()), reason: Some("kernel update".into()), seconds: Some(60) };
    live.said = AgentSaid { paused: Some(pause), paused_until: Some(moment(370)), ..AgentSaid::default() };
    let paused_at = |second| {
        let connector = with_agent();
        let input = case(&connector, &live, now(second));
        let assessment = input.assess();
        let verdict = verdict(&input, &assessment);
        (decided(&input).status.unwrap().agent.unwrap().paused, remediation_input(&input, &verdict).paused)
    };
    let (shown, denied) = paused_at(311);
    assert_eq!(shown.unwrap().until.unwrap().0.as_second(), START + 370);
    assert_eq!(denied.as_deref(), Some("restarts are paused on the host of its agent by ops: kernel update"));
    assert_eq!(paused_at(370), (None, None));
    // Pods are not restarted by an agent.
    let of_workload = connector(json!({ "workloadRef": { "kind": "Deployment", "name": "gateway" } }));
    let input = case(&of_workload, &live, now(311));
    let assessment = input.assess();
    assert_eq!(remediation_input(&input, &verdict(&input, &assessment)).paused, None);
}

/// The note of the event of a recovery at second 700 from an Offline of second 300, with these gaps.
fn recovered(gaps: Value) -> String {
    let offline = |presence, since| Snapshot {
        verdict: verdict_on(presence, since),
        contacts: None,
        ..beside(None, Presence::NeverSeen, 0, 0)
    };
    let online = decided(&case(&with_agent(), &offline(Presence::Online, 0), now(1))).status.unwrap();
    let online = stored(&with_agent(), &online);
    let silent = decided(&case(&online, &offline(Presence::Offline, 300), now(300))).status.unwrap();
    let mut live = beside(None, Presence::NeverSeen, 0, 700);
    live.verdict = verdict_on(Presence::Online, 700);
    let gaps: Vec<AgentGap> = serde_json::from_value(gaps).unwrap();
    live.said.gaps = Some((Arc::from(gaps), moment(700)));
    let plan = decided(&case(&stored(&online, &silent), &live, now(700)));
    assert_eq!(plan.status.unwrap().transitions[1].to, "Offline", "a gap rewrites no history");
    plan.events.into_iter().find(|event| event.reason == "Online").unwrap().note
}

#[test]
fn a_recovery_says_what_the_agent_knows_about_the_silence() {
    let gap = |kind: &str, ago: u64| json!({ "kind": kind, "ended_seconds_ago": ago, "lasted_seconds": 412 });
    let mut unreachable = gap("Unreachable", 0);
    unreachable["error_class"] = json!("ConnectTimeout");
    unreachable["failing"] = json!(["Process", "NATRules"]);
    let note = recovered(json!([unreachable]));
    assert!(note.contains("is Online again after"), "{note}");
    assert!(
        note.ends_with(
            "back after 412 s: it ran and could not reach us (ConnectTimeout); meanwhile failed: Process, NATRules"
        ),
        "{note}"
    );
    assert!(recovered(json!([gap("HostDown", 3)])).ends_with("back after 412 s: its host was down"));
    assert!(recovered(json!([gap("NotRunning", 3)])).ends_with("its agent did not run while its host was up"));
    assert!(recovered(json!([gap("Unknown", 3)])).ends_with("back after 412 s"));
    // One that ended before is of another silence.
    assert!(!recovered(json!([gap("HostDown", 401)])).contains("back after"));
    assert!(!recovered(json!([gap("HostDown", u64::MAX)])).contains("back after"));
}

#[test]
fn the_last_words_of_an_agent_are_part_of_the_diagnosis_of_its_silence() {
    let last = |own: Option<i64>, reason| {
        let mut live = beside(own, Presence::Offline, 300, 0);
        live.verdict = verdict_on(Presence::Offline, 300);
        live.contacts.as_mut().unwrap().agent = live.verdict;
        live.said.stopping = Some(reason);
        let status = decided(&case(&with_agent(), &live, now(301))).status.unwrap();
        assert_eq!(status.agent.unwrap().stopping.as_deref(), Some(reason.as_str()));
        assert_eq!(status.state, Some(ConnectorState::Offline), "nothing was heard");
        status.diagnosis.unwrap()
    };
    let shut_down = last(None, StopReason::Shutdown);
    assert_eq!((shut_down.cause, shut_down.restart_helps), (Cause::HeartbeatExpired, RestartHelps::Once));
    assert!(shut_down.message.ends_with("; its agent said last that its host shuts down"), "{}", shut_down.message);
    for (reason, words, advice) in [
        (StopReason::Stop, "it is being stopped", "Start the agent on edge-1 again"),
        (StopReason::Update, "it makes place for another version", "Look why the agent on edge-1 did not start"),
        (StopReason::Uninstall, "it is being removed", "Install the agent again"),
    ] {
        let alone = last(None, reason);
        assert_eq!((alone.cause, alone.restart_helps), (Cause::AgentStopped, RestartHelps::No), "{reason}");
        assert!(alone.message.contains(words) && alone.advice.starts_with(advice), "{alone:?}");
        assert_eq!(second(&alone.since), 300, "since its deadline");
        assert!(alone.alternatives.is_empty(), "{alone:?}");
        // A connector that was heard itself is missed all the same.
        let both = last(Some(0), reason);
        assert_eq!((both.cause, both.restart_helps), (Cause::HeartbeatExpired, RestartHelps::Once), "{reason}");
        assert!(both.message.contains(words), "{}", both.message);
    }
}

#[test]
fn a_unit_that_a_person_stopped_is_known_to_be_so_and_that_outlives_a_change_of_leader() {
    let mut live = beside(Some(0), Presence::Offline, 300, 310);
    live.said.is_stopped_on_purpose = true;
    let connector = with_agent();
    let input = case(&connector, &live, now(311));
    assert!(verdict(&input, &input.assess()).is_stopped_on_purpose);
    let status = decided(&input).status.unwrap();
    assert!(status.agent.as_ref().unwrap().stopped_on_purpose);
    live.said.is_stopped_on_purpose = false;
    let after = stored(&connector, &status);
    let input = case(&after, &live, now(320));
    assert!(!verdict(&input, &input.assess()).is_stopped_on_purpose);
    assert!(!decided(&input).status.unwrap().agent.unwrap().stopped_on_purpose, "its end is written at once");
}

#[test]
fn an_agent_that_said_that_it_stops_is_asked_for_nothing() {
    for (stopping, is_heard) in [(None, true), (Some(StopReason::Update), false), (Some(StopReason::Stop), false)] {
        let mut live = beside(Some(0), Presence::Offline, 300, 310);
        live.said.stopping = stopping;
        let connector = with_agent();
        let input = case(&connector, &live, now(311));
        let verdict = verdict(&input, &input.assess());
        assert_eq!(remediation_input(&input, &verdict).agent.map(|agent| agent.is_heard), Some(is_heard));
    }
}
