use parking_lot::Mutex;

use super::*;
use crate::api::{Cause, CheckOutcome, ConnectorState, Truth};
use crate::view::{CheckView, ConnectorView, OperatorFacts, RemedyView, Role};

struct Few {
    views: Mutex<Vec<ConnectorView>>,
    facts: Mutex<OperatorFacts>,
}

impl Fleet for Few {
    fn connectors(&self, _namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView)) {
        self.views.lock().iter().cloned().for_each(each);
    }

    fn backends(&self, _: Option<&str>, _: &mut dyn FnMut(crate::view::BackendView)) {}

    fn role(&self) -> (Role, bool) {
        let facts = self.facts.lock();
        (facts.leader, facts.synced)
    }

    fn facts(&self) -> OperatorFacts {
        OperatorFacts { connectors: self.views.lock().len(), ..self.facts.lock().clone() }
    }
}

fn view(name: &str, state: ConnectorState, cause: Option<Cause>) -> ConnectorView {
    ConnectorView {
        namespace: "gw".to_owned(),
        name: name.to_owned(),
        connector_id: format!("gw/{name}"),
        site: String::new(),
        state,
        ready: Truth::Unknown,
        cause,
        message: None,
        advice: None,
        last_heartbeat_time: (state != ConnectorState::Pending).then(|| "2026-11-22T12:00:00.25Z".parse().unwrap()),
        agent_heartbeat_time: (state == ConnectorState::Offline).then(|| "2026-11-22T11:58:20.5Z".parse().unwrap()),
        is_agent_silent: (state == ConnectorState::Offline).then_some(true),
        state_since: None,
        health: None,
        version: None,
        hostname: None,
        address: None,
        token_issued_time: None,
        rotation_pending_since: None,
        token_grace_until: None,
        restarts: 0,
        remedy: RemedyView::default(),
        created_time: None,
        checks: vec![
            CheckView { type_: "NATRules".to_owned(), status: CheckOutcome::Fail },
            CheckView { type_: "Free text\"\n".to_owned(), status: CheckOutcome::Pass },
        ],
        paused: false,
        written: true,
    }
}

fn few(views: Vec<ConnectorView>) -> Arc<Few> {
    let facts = OperatorFacts {
        leader: Role::Leader,
        synced: true,
        listening_since: Some("2026-11-22T11:00:00Z".parse().unwrap()),
        reachable: None,
        pod_labelled: Some(true),
        status_write_pending: 2,
        checkpoint_staleness: 12.5,
        connectors: 0,
        backends: 0,
        remedies_in_flight: 0,
        breaker_open: false,
        brakes: Vec::new(),
        mass_silences: Vec::new(),
        probe_blind: false,
    };
    Arc::new(Few { views: Mutex::new(views), facts: Mutex::new(facts) })
}

fn two() -> Arc<Few> {
    few(vec![
        view("edge-1", ConnectorState::Offline, Some(Cause::HeartbeatExpired)),
        view("edge-2", ConnectorState::Pending, None),
    ])
}

fn scrape(fleet: &Arc<Few>, objects: ObjectMetrics) -> String {
    let mut registry = Registry::default();
    register_fleet(&mut registry, fleet.clone(), objects);
    encode(&registry).unwrap()
}

/// The samples of one metric, without those whose names only begin like it.
fn samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let is_sample = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(is_sample).collect()
}

#[test]
fn each_heartbeat_result_is_counted_from_zero_and_on_its_own() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    metrics.heartbeats.inc(BeatResult::Accepted);
    metrics.clone().heartbeats.inc(BeatResult::Accepted);
    metrics.heartbeats.inc(BeatResult::DryRun);
    metrics.wrote(WriteReason::Checkpoint, "timeout");
    metrics.observe_transition_lag(Duration::from_millis(300));
    assert_eq!(metrics.heartbeats.get(BeatResult::Accepted), 2);
    let text = encode(&registry).unwrap();
    for line in [
        "# TYPE vigie_heartbeats counter",
        "vigie_heartbeats_total{result=\"heard\"} 2",
        "vigie_heartbeats_total{result=\"dry_run\"} 1",
        "vigie_heartbeats_total{result=\"too_slow\"} 0",
        "vigie_status_writes_total{reason=\"checkpoint\",result=\"timeout\"} 1",
        "vigie_status_writes_total{reason=\"transition\",result=\"ok\"} 0",
        "# UNIT vigie_transition_lag_seconds seconds",
        "vigie_transition_lag_seconds_bucket{le=\"0.25\"} 0",
        "vigie_transition_lag_seconds_bucket{le=\"0.5\"} 1",
        concat!("vigie_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert_eq!(samples(&text, "vigie_heartbeats_total").len(), BeatResult::ALL.len());
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn every_sample_belongs_to_a_metric_with_help_type_and_unit() {
    let text = scrape(&two(), ObjectMetrics::On);
    let units = text.lines().filter(|line| line.starts_with("# UNIT ")).count();
    assert_eq!(units, 8, "the lag of transitions and of probes, five timestamps, a staleness");
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 10 && help.ends_with('.'), "{line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(rest.starts_with(&format!("{family} ")), "{line} follows the help of {family}");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family) && family.starts_with("vigie_"), "{line} lies in {family}");
        }
    }
}

#[test]
fn exactly_one_series_of_a_state_is_1() {
    let text = scrape(&two(), ObjectMetrics::On);
    for name in ["edge-1", "edge-2"] {
        let of = |line: &&str| line.contains(&format!("name=\"{name}\""));
        let states: Vec<&str> = samples(&text, "vigie_connector_state").into_iter().filter(of).collect();
        assert_eq!(states.len(), ConnectorState::ALL.len());
        assert_eq!(states.iter().filter(|line| line.ends_with("} 1")).count(), 1, "{states:?}");
    }
    assert!(text.contains("vigie_connector_state{namespace=\"gw\",name=\"edge-1\",state=\"Offline\"} 1\n"));
    let checks = samples(&text, "vigie_connector_check_status");
    assert_eq!(checks.iter().filter(|line| line.ends_with("status=\"Fail\"} 1")).count(), 2);
    assert_eq!(checks.len(), 2 * CheckOutcome::ALL.len(), "a check of an unknown type has no series");
}

#[test]
fn states_are_counted_also_where_there_are_none() {
    let text = scrape(&two(), ObjectMetrics::Off);
    assert_eq!(samples(&text, "vigie_connectors").len(), ConnectorState::ALL.len());
    assert!(text.contains("vigie_connectors{state=\"Offline\"} 1\n"));
    assert!(text.contains("vigie_connectors{state=\"Online\"} 0\n"));
    assert!(!text.contains("edge-1"), "{text}");
}

#[test]
fn a_contact_and_a_cause_are_absent_when_there_is_none() {
    let text = scrape(&two(), ObjectMetrics::On);
    assert_eq!(samples(&text, "vigie_agent_silent"), [r#"vigie_agent_silent{namespace="gw",name="edge-1"} 1"#]);
    let heard = samples(&text, "vigie_agent_last_heartbeat_timestamp_seconds");
    assert_eq!(heard, [r#"vigie_agent_last_heartbeat_timestamp_seconds{namespace="gw",name="edge-1"} 1795348700.5"#]);
    let contacts = samples(&text, "vigie_connector_last_heartbeat_timestamp_seconds");
    let expected = "vigie_connector_last_heartbeat_timestamp_seconds{namespace=\"gw\",name=\"edge-1\"} 1795348800.25";
    assert_eq!(contacts, [expected]);
    let expected =
        "vigie_diagnosis_info{kind=\"Connector\",namespace=\"gw\",name=\"edge-1\",cause=\"HeartbeatExpired\"} 1";
    assert_eq!(samples(&text, "vigie_diagnosis_info"), [expected]);
    assert!(!text.contains("vigie_reachable"), "nobody asks the canary here");
}

#[test]
fn the_facts_are_those_of_this_instant() {
    let fleet = two();
    let text = scrape(&fleet, ObjectMetrics::Auto);
    for line in [
        "vigie_leader 1",
        "vigie_status_write_pending 2",
        "vigie_checkpoint_staleness_seconds 12.5",
        "vigie_listening_since_timestamp_seconds 1795345200.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("vigie_leader_pod_labelled 1\n"));
    fleet.facts.lock().pod_labelled = Some(false);
    assert!(scrape(&fleet, ObjectMetrics::Auto).contains("vigie_leader_pod_labelled 0\n"));
    fleet.facts.lock().pod_labelled = None;
    assert!(!scrape(&fleet, ObjectMetrics::Auto).contains("vigie_leader_pod_labelled"));
    fleet.facts.lock().reachable = Some(false);
    assert!(scrape(&fleet, ObjectMetrics::Auto).contains("vigie_reachable 0\n"));
}

#[test]
fn only_who_hears_has_series_for_objects() {
    let fleet = two();
    let in_role = |role| {
        fleet.facts.lock().leader = role;
        scrape(&fleet, ObjectMetrics::On)
    };
    assert!(in_role(Role::Leader).contains("edge-1"));
    assert!(in_role(Role::Uncertain).contains("edge-1"));
    let follower = in_role(Role::Follower);
    assert!(!follower.contains("edge-1") && follower.contains("vigie_leader 0\n"));
}

#[test]
fn a_deleted_object_leaves_nothing() {
    let fleet = two();
    assert!(scrape(&fleet, ObjectMetrics::On).contains("edge-1"));
    fleet.views.lock().retain(|view| view.name != "edge-1");
    assert!(!scrape(&fleet, ObjectMetrics::On).contains("edge-1"));
}

#[test]
fn auto_leaves_objects_out_above_five_thousand() {
    let many = |count: usize| few((0..count).map(|i| view(&format!("e{i}"), ConnectorState::Online, None)).collect());
    assert!(scrape(&many(5_000), ObjectMetrics::Auto).contains("vigie_connector_state"));
    assert!(!scrape(&many(5_001), ObjectMetrics::Auto).contains("vigie_connector_state"));
}

#[test]
fn outcomes_and_denials_are_counted_from_zero_by_their_words() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    metrics.remedied(AttemptOutcome::NotCured);
    metrics.denied(Denial::SiteBrake);
    metrics.denied(Denial::SiteBrake);
    let text = encode(&registry).unwrap();
    for line in [
        "vigie_remedies_total{result=\"NotCured\"} 1",
        "vigie_remedies_total{result=\"Succeeded\"} 0",
        "vigie_remedy_denials_total{reason=\"SiteBrake\"} 2",
        "vigie_remedy_denials_total{reason=\"SuggestOnly\"} 0",
        "vigie_status_writes_total{reason=\"remedy\",result=\"ok\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert_eq!(samples(&text, "vigie_remedies_total").len(), AttemptOutcome::ALL.len());
    assert_eq!(samples(&text, "vigie_remedy_denials_total").len(), Denial::ALL.len());
}

#[test]
fn what_holds_remedies_back_is_said_by_the_replica_that_decides() {
    let fleet = two();
    let text = scrape(&fleet, ObjectMetrics::Off);
    assert_eq!(samples(&text, "vigie_remedy_in_flight"), ["vigie_remedy_in_flight 0"]);
    assert_eq!(samples(&text, "vigie_breaker_open"), ["vigie_breaker_open 0"]);
    assert!(samples(&text, "vigie_brake_engaged").is_empty());
    {
        let mut facts = fleet.facts.lock();
        (facts.remedies_in_flight, facts.breaker_open) = (3, true);
        facts.brakes = vec![("edge".to_owned(), "north".to_owned()), ("shop".to_owned(), String::new())];
    }
    let text = scrape(&fleet, ObjectMetrics::Off);
    assert_eq!(samples(&text, "vigie_remedy_in_flight"), ["vigie_remedy_in_flight 3"]);
    assert_eq!(samples(&text, "vigie_breaker_open"), ["vigie_breaker_open 1"]);
    let brakes = ["edge\",site=\"north", "shop\",site=\""];
    let expected = brakes.map(|labels| format!("vigie_brake_engaged{{namespace=\"{labels}\"}} 1"));
    assert_eq!(samples(&text, "vigie_brake_engaged"), expected);
    fleet.facts.lock().leader = Role::Follower;
    let text = scrape(&fleet, ObjectMetrics::Off);
    for name in ["vigie_remedy_in_flight", "vigie_breaker_open", "vigie_brake_engaged"] {
        assert!(samples(&text, name).is_empty(), "{name}");
    }
}

#[test]
fn what_makes_the_whole_fleet_doubtful_is_said_by_the_replica_that_hears() {
    let fleet = two();
    let text = scrape(&fleet, ObjectMetrics::Off);
    assert_eq!(samples(&text, "vigie_probe_blind"), ["vigie_probe_blind 0"]);
    assert!(samples(&text, "vigie_mass_silence").is_empty());
    {
        let mut facts = fleet.facts.lock();
        facts.mass_silences = vec![("edge".to_owned(), String::new())];
        facts.probe_blind = true;
    }
    let text = scrape(&fleet, ObjectMetrics::Off);
    assert_eq!(samples(&text, "vigie_probe_blind"), ["vigie_probe_blind 1"]);
    assert_eq!(samples(&text, "vigie_mass_silence"), ["vigie_mass_silence{namespace=\"edge\",site=\"\"} 1"]);
    fleet.facts.lock().leader = Role::Follower;
    let text = scrape(&fleet, ObjectMetrics::Off);
    assert!(samples(&text, "vigie_probe_blind").is_empty() && samples(&text, "vigie_mass_silence").is_empty());
}

#[test]
fn a_pending_rotation_and_the_fate_of_remedies_are_told_by_object_and_absent_where_there_is_none() {
    let mut stuck = view("edge-1", ConnectorState::Online, None);
    stuck.rotation_pending_since = Some("2026-11-22T12:00:00Z".parse().unwrap());
    stuck.token_grace_until = Some("2026-11-22T16:00:00Z".parse().unwrap());
    (stuck.restarts, stuck.remedy) =
        (3, RemedyView { denial: Some(Denial::GaveUp), last_outcome: Some(AttemptOutcome::NotCured) });
    let text = scrape(&few(vec![stuck, view("edge-2", ConnectorState::Online, None)]), ObjectMetrics::On);
    let object = |name: &str| format!("kind=\"Connector\",namespace=\"gw\",name=\"{name}\"");
    let token = "{namespace=\"gw\",name=\"edge-1\"}";
    let expected = format!("vigie_token_rotation_pending_timestamp_seconds{token} 1795348800.0");
    assert_eq!(samples(&text, "vigie_token_rotation_pending_timestamp_seconds"), [expected]);
    let expected = format!("vigie_token_grace_end_timestamp_seconds{token} 1795363200.0");
    assert_eq!(samples(&text, "vigie_token_grace_end_timestamp_seconds"), [expected]);
    let expected = [("edge-1", 3), ("edge-2", 0)].map(|(of, n)| format!("vigie_restarts_total{{{}}} {n}", object(of)));
    assert_eq!(samples(&text, "vigie_restarts_total"), expected);
    let expected = format!("vigie_remedy_denial_info{{{},reason=\"GaveUp\"}} 1", object("edge-1"));
    assert_eq!(samples(&text, "vigie_remedy_denial_info"), [expected]);
    let expected = format!("vigie_last_attempt_info{{{},outcome=\"NotCured\"}} 1", object("edge-1"));
    assert_eq!(samples(&text, "vigie_last_attempt_info"), [expected]);
}
