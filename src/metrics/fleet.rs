//! Gauges that are computed at the scrape, so that no series is stale and none remains of a deleted object.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::encoding::{gauge, single, unix_seconds};
use super::remedies::RemedyRow;
use super::{backends, remedies};
use crate::api::{BackendState, Cause, CheckOutcome, CheckType, ConnectorState};
use crate::view::{BackendView, CheckView, ConnectorView, Fleet, OperatorFacts, RemedyView, Role};

/// Above this many objects `auto` omits the series of single objects. A connector has some 40 series, and a Prometheus of
/// medium size takes a scrape of 200,000 series without tuning.
const AUTO_LIMIT: usize = 5_000;

/// Whether each object has series of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectMetrics {
    /// Up to 5,000 objects.
    #[default]
    Auto,
    /// However many there are.
    On,
    /// Never.
    Off,
}

impl ObjectMetrics {
    fn is_on(self, objects: usize) -> bool {
        match self {
            Self::Auto => objects <= AUTO_LIMIT,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// Reads the fleet at each scrape.
pub struct FleetCollector {
    fleet: Arc<dyn Fleet>,
    objects: ObjectMetrics,
}

impl FleetCollector {
    /// A collector over `fleet`.
    pub fn new(fleet: Arc<dyn Fleet>, objects: ObjectMetrics) -> Self {
        Self { fleet, objects }
    }
}

impl fmt::Debug for FleetCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetCollector").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// The fields of one connector that its series need. The text is grouped by metric, so all rows are collected first: the
/// fleet is visited once, and its locks are released before the first line is written.
struct Row {
    namespace: String,
    name: String,
    state: ConnectorState,
    cause: Option<Cause>,
    last_heartbeat: Option<Timestamp>,
    agent_heartbeat: Option<Timestamp>,
    is_agent_silent: Option<bool>,
    checks: Vec<CheckView>,
    paused: bool,
    rotation_pending_since: Option<Timestamp>,
    token_grace_until: Option<Timestamp>,
    restarts: i64,
    remedy: RemedyView,
}

impl From<ConnectorView> for Row {
    fn from(view: ConnectorView) -> Self {
        let ConnectorView { namespace, name, state, cause, last_heartbeat_time, checks, paused, .. } = view;
        let ConnectorView { agent_heartbeat_time, is_agent_silent, .. } = view;
        let ConnectorView { rotation_pending_since, token_grace_until, restarts, remedy, .. } = view;
        Self {
            namespace,
            name,
            state,
            cause,
            last_heartbeat: last_heartbeat_time,
            agent_heartbeat: agent_heartbeat_time,
            is_agent_silent,
            checks,
            paused,
            rotation_pending_since,
            token_grace_until,
            restarts,
            remedy,
        }
    }
}

impl Row {
    fn key(&self) -> [(&'static str, &str); 2] {
        [("namespace", &self.namespace), ("name", &self.name)]
    }

    fn check(&self, type_: CheckType) -> Option<CheckOutcome> {
        self.checks.iter().find(|check| check.type_ == type_.as_str()).map(|check| check.status)
    }
}

impl Collector for FleetCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let facts = self.fleet.facts();
        let mut counts = [0_u64; ConnectorState::ALL.len()];
        let mut rows = Vec::new();
        // An Uncertain replica is the only one that accepts heartbeats: its series must stay while the API server is down.
        let per_object = facts.leader != Role::Follower && self.objects.is_on(facts.connectors + facts.backends);
        self.fleet.connectors(None, &mut |view| {
            counts[view.state as usize] += 1;
            if per_object {
                rows.push(Row::from(view));
            }
        });
        let mut backend_counts = [0_u64; BackendState::ALL.len()];
        let mut backends = Vec::new();
        self.fleet.backends(None, &mut |view| {
            backend_counts[view.state as usize] += 1;
            if per_object {
                backends.push(view);
            }
        });
        encode_facts(&mut encoder, &facts)?;
        remedies::encode(&mut encoder, &facts)?;
        encode_counts(&mut encoder, &counts)?;
        backends::encode_counts(&mut encoder, &backend_counts)?;
        if per_object {
            encode_contacts(&mut encoder, &rows)?;
            encode_agents(&mut encoder, &rows)?;
            encode_states(&mut encoder, &rows)?;
            encode_checks(&mut encoder, &rows)?;
            encode_rotations(&mut encoder, &rows)?;
            encode_diagnoses(&mut encoder, &rows, &backends)?;
            encode_paused(&mut encoder, &rows, &backends)?;
            backends::encode(&mut encoder, &backends)?;
            remedies::encode_objects(&mut encoder, &remedy_rows(&rows, &backends))?;
        }
        Ok(())
    }
}

fn encode_facts(encoder: &mut DescriptorEncoder, facts: &OperatorFacts) -> fmt::Result {
    let OperatorFacts {
        leader,
        synced: _,
        listening_since,
        reachable,
        pod_labelled,
        status_write_pending,
        checkpoint_staleness,
        connectors: _,
        backends: _,
        remedies_in_flight: _,
        breaker_open: _,
        brakes: _,
        mass_silences: _,
        probe_blind: _,
    } = facts;
    let help = "Whether this replica leads: 1 on exactly one replica while all is well.";
    single(encoder, "vigie_leader", help, None, &u32::from(*leader == Role::Leader))?;
    let help = "Transitions that the API server does not know yet.";
    single(encoder, "vigie_status_write_pending", help, None, status_write_pending)?;
    let help = "Age of the oldest last contact or probe that is not yet written to its status.";
    single(encoder, "vigie_checkpoint_staleness", help, Some(&Unit::Seconds), checkpoint_staleness)?;
    if let Some(since) = listening_since {
        let help = "Since when silence counts; absent while this replica cannot be heard.";
        single(encoder, "vigie_listening_since_timestamp", help, Some(&Unit::Seconds), &unix_seconds(*since))?;
    }
    if let Some(reachable) = reachable {
        let help = "Whether the public URL leads to us; absent when it is not asked.";
        single(encoder, "vigie_reachable", help, None, &u32::from(*reachable))?;
    }
    if let Some(labelled) = pod_labelled {
        let help =
            "Whether the leader's pod has the label by which the heartbeat Service finds it; absent for a follower.";
        single(encoder, "vigie_leader_pod_labelled", help, None, &u32::from(*labelled))?;
    }
    Ok(())
}

fn encode_counts(encoder: &mut DescriptorEncoder, counts: &[u64]) -> fmt::Result {
    let help = "Connectors by state, as this replica knows them; join with vigie_leader.";
    let mut metric = encoder.encode_descriptor("vigie_connectors", help, None, MetricType::Gauge)?;
    for state in ConnectorState::ALL {
        gauge(&mut metric, &[("state", state.as_str())], &counts[*state as usize])?;
    }
    Ok(())
}

fn encode_contacts(encoder: &mut DescriptorEncoder, rows: &[Row]) -> fmt::Result {
    let name = "vigie_connector_last_heartbeat_timestamp";
    let help = "When the last authenticated beat was received; absent when there was none.";
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for row in rows {
        if let Some(at) = row.last_heartbeat {
            gauge(&mut metric, &row.key(), &unix_seconds(at))?;
        }
    }
    Ok(())
}

fn encode_agents(encoder: &mut DescriptorEncoder, rows: &[Row]) -> fmt::Result {
    let name = "vigie_agent_last_heartbeat_timestamp";
    let help = "When the last beat of a connector's agent was received; absent when there was none.";
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (row, at) in rows.iter().filter_map(|row| Some((row, row.agent_heartbeat?))) {
        gauge(&mut metric, &row.key(), &unix_seconds(at))?;
    }
    let help = "Whether the agent of a connector is silent; absent when there is none, or when that is not known.";
    let mut metric = encoder.encode_descriptor("vigie_agent_silent", help, None, MetricType::Gauge)?;
    for (row, is_silent) in rows.iter().filter_map(|row| Some((row, row.is_agent_silent?))) {
        gauge(&mut metric, &row.key(), &u32::from(is_silent))?;
    }
    Ok(())
}

fn encode_states(encoder: &mut DescriptorEncoder, rows: &[Row]) -> fmt::Result {
    let help = "The state of a connector: one series per state, exactly one of them is 1.";
    let mut metric = encoder.encode_descriptor("vigie_connector_state", help, None, MetricType::Gauge)?;
    for row in rows {
        let [namespace, name] = row.key();
        for state in ConnectorState::ALL {
            gauge(&mut metric, &[namespace, name, ("state", state.as_str())], &u32::from(row.state == *state))?;
        }
    }
    Ok(())
}

fn encode_checks(encoder: &mut DescriptorEncoder, rows: &[Row]) -> fmt::Result {
    let help = "The outcome of a check as last reported: one series per outcome, exactly one of them is 1.";
    let mut metric = encoder.encode_descriptor("vigie_connector_check_status", help, None, MetricType::Gauge)?;
    for row in rows {
        let [namespace, name] = row.key();
        // Checks of unknown types, from newer agents, are in the status only: the values of a label are a closed set.
        for type_ in CheckType::ALL {
            let Some(outcome) = row.check(*type_) else { continue };
            for status in CheckOutcome::ALL {
                let labels = [namespace, name, ("check", type_.as_str()), ("status", status.as_str())];
                gauge(&mut metric, &labels, &u32::from(outcome == *status))?;
            }
        }
    }
    Ok(())
}

fn encode_rotations(encoder: &mut DescriptorEncoder, rows: &[Row]) -> fmt::Result {
    let name = "vigie_token_rotation_pending_timestamp";
    let help = "Since when a new token waits for its first use; absent while no rotation is pending.";
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (row, at) in rows.iter().filter_map(|row| Some((row, row.rotation_pending_since?))) {
        gauge(&mut metric, &row.key(), &unix_seconds(at))?;
    }
    let name = "vigie_token_grace_end_timestamp";
    let help = "When the token before the pending one ends; absent while no rotation is pending.";
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (row, at) in rows.iter().filter_map(|row| Some((row, row.token_grace_until?))) {
        gauge(&mut metric, &row.key(), &unix_seconds(at))?;
    }
    Ok(())
}

fn remedy_rows<'a>(rows: &'a [Row], backends: &'a [BackendView]) -> Vec<RemedyRow<'a>> {
    let connectors = rows.iter().map(|row| {
        let [namespace, name] = row.key();
        RemedyRow { key: [("kind", "Connector"), namespace, name], restarts: row.restarts, remedy: row.remedy }
    });
    let backends = backends.iter().map(|view| {
        let [namespace, name] = backends::key(view);
        RemedyRow { key: [("kind", "MonitoredBackend"), namespace, name], restarts: view.restarts, remedy: view.remedy }
    });
    connectors.chain(backends).collect()
}

fn encode_diagnoses(encoder: &mut DescriptorEncoder, rows: &[Row], backends: &[BackendView]) -> fmt::Result {
    let help = "The cause of a state that is not well; absent when all is well.";
    let mut metric = encoder.encode_descriptor("vigie_diagnosis", help, None, MetricType::Info)?;
    for row in rows {
        let [namespace, name] = row.key();
        if let Some(cause) = row.cause {
            metric.encode_info(&[("kind", "Connector"), namespace, name, ("cause", cause.as_str())])?;
        }
    }
    for view in backends {
        let [namespace, name] = backends::key(view);
        if let Some(cause) = view.cause {
            metric.encode_info(&[("kind", "MonitoredBackend"), namespace, name, ("cause", cause.as_str())])?;
        }
    }
    Ok(())
}

fn encode_paused(encoder: &mut DescriptorEncoder, rows: &[Row], backends: &[BackendView]) -> fmt::Result {
    let help = "Whether remedies are paused for an object.";
    let mut metric = encoder.encode_descriptor("vigie_paused", help, None, MetricType::Gauge)?;
    for row in rows {
        let [namespace, name] = row.key();
        gauge(&mut metric, &[("kind", "Connector"), namespace, name], &u32::from(row.paused))?;
    }
    for view in backends {
        let [namespace, name] = backends::key(view);
        gauge(&mut metric, &[("kind", "MonitoredBackend"), namespace, name], &u32::from(view.paused))?;
    }
    Ok(())
}
