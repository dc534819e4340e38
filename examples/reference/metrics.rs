//! The metrics, from a scrape of a synthetic fleet that has every metric.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use vigie::api::{
    AttemptOutcome, BackendState, Cause, CheckOutcome, CheckType, ConnectorState, Denial, ErrorClass, Phase, Truth,
};
use vigie::metrics::{Metrics, ObjectMetrics, encode, register_fleet};
use vigie::view::{BackendView, CheckView, ConnectorView, Fleet, OperatorFacts, RemedyView, Role};

use crate::cell;

/// Renders the page about the metrics.
pub(crate) fn page() -> anyhow::Result<String> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    metrics.observe_transition_lag(Duration::ZERO);
    metrics.probe_failed(ErrorClass::Refused, Phase::Connect);
    register_fleet(&mut registry, Arc::new(One), ObjectMetrics::On);
    let scrape = encode(&registry).context("encoding the metrics")?;
    let mut families = families(&scrape);
    families.sort_by(|one, other| one.name.cmp(&other.name));
    let mut page = "# Metrics\n\nServed at `/metrics` of the admin port, in the OpenMetrics format. Series of single \
                    objects are exported by the replica that leads, and end with their object.\n\n\
                    | metric | type | labels | what it is |\n|---|---|---|---|\n"
        .to_owned();
    for Family { name, kind, help, labels } in families {
        page += &format!("| `{name}` | {kind} | {} | {} |\n", labels.join(", "), cell(&help));
    }
    Ok(page)
}

#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    labels: Vec<String>,
}

fn families(scrape: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in scrape.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.push(Family { name: name.to_owned(), help: sentence(help), ..Family::default() });
        } else if let (Some((_, kind)), Some(last)) =
            (line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')), families.last_mut())
        {
            last.kind = kind.to_owned();
        } else if let (false, Some(last)) = (line.starts_with('#'), families.last_mut()) {
            last.add_sample(line);
        }
    }
    families
}

impl Family {
    /// Reads the queryable name and the labels from a sample.
    fn add_sample(&mut self, line: &str) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if self.kind != "histogram" {
            name.clone_into(&mut self.name);
        }
        let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        for label in labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name) {
            let label = format!("`{label}`");
            if label != "`le`" && !self.labels.contains(&label) {
                self.labels.push(label);
            }
        }
    }
}

/// The registry appends a full stop to every help text, also after an existing one.
fn sentence(help: &str) -> String {
    format!("{}.", help.trim_end_matches('.'))
}

/// A fleet of one connector and one backend, with all data known.
struct One;

impl Fleet for One {
    fn connectors(&self, _namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView)) {
        each(connector());
    }

    fn backends(&self, _namespace: Option<&str>, each: &mut dyn FnMut(BackendView)) {
        each(backend());
    }

    fn role(&self) -> (Role, bool) {
        (Role::Leader, true)
    }

    fn facts(&self) -> OperatorFacts {
        OperatorFacts {
            leader: Role::Leader,
            synced: true,
            listening_since: Some(Timestamp::UNIX_EPOCH),
            reachable: Some(true),
            pod_labelled: Some(true),
            status_write_pending: 0,
            checkpoint_staleness: 0.0,
            connectors: 1,
            backends: 1,
            remedies_in_flight: 0,
            breaker_open: false,
            brakes: vec![("gateways".to_owned(), "north".to_owned())],
            mass_silences: vec![("gateways".to_owned(), "north".to_owned())],
            probe_blind: false,
        }
    }
}

fn connector() -> ConnectorView {
    ConnectorView {
        namespace: "gateways".to_owned(),
        name: "edge-1".to_owned(),
        connector_id: "gateways/edge-1".to_owned(),
        site: String::new(),
        state: ConnectorState::Offline,
        ready: Truth::False,
        cause: Some(Cause::HeartbeatExpired),
        message: None,
        advice: None,
        last_heartbeat_time: Some(Timestamp::UNIX_EPOCH),
        agent_heartbeat_time: Some(Timestamp::UNIX_EPOCH),
        is_agent_silent: Some(true),
        state_since: None,
        health: None,
        version: None,
        hostname: None,
        address: None,
        token_issued_time: None,
        rotation_pending_since: Some(Timestamp::UNIX_EPOCH),
        token_grace_until: Some(Timestamp::UNIX_EPOCH),
        restarts: 0,
        remedy: RemedyView { denial: Some(Denial::GaveUp), last_outcome: Some(AttemptOutcome::NotCured) },
        created_time: None,
        checks: vec![CheckView { type_: CheckType::Process.as_str().to_owned(), status: CheckOutcome::Pass }],
        paused: false,
        written: true,
    }
}

fn backend() -> BackendView {
    BackendView {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        site: String::new(),
        target: None,
        state: BackendState::Degraded,
        ready: Truth::False,
        accepted: true,
        cause: Some(Cause::NotScraped),
        message: None,
        advice: None,
        passed: Some(true),
        last_probe_time: None,
        latency_milliseconds: None,
        state_since: None,
        scrape: None,
        phases: vec![(Phase::Connect, 0.001)],
        scraped: Some(Truth::False),
        prometheus: None,
        certificate_expiry_time: Some(Timestamp::UNIX_EPOCH),
        restarts: 0,
        remedy: RemedyView::default(),
        created_time: None,
        paused: false,
        written: true,
    }
}
