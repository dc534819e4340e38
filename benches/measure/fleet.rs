//! Connectors as the API server would store them, and their beats.

use jiff::{SignedDuration, Timestamp};
use vigie::api::{
    Connector, ConnectorSpec, ConnectorState, ConnectorStatus, HeartbeatSpec, MicroTime, Time, TokenHash, TokenStatus,
};
use vigie::heartbeat::credentials::Digest;

pub(crate) const NAMESPACE: &str = "gateways";

/// The token of connector `i`, as long as a real one.
pub(crate) fn token(i: usize) -> String {
    format!("vgt_{i:043}")
}

pub(crate) fn id(i: usize) -> String {
    format!("{NAMESPACE}/{}", name(i))
}

fn name(i: usize) -> String {
    format!("edge-{i:06}")
}

/// The initial status of a connector.
pub(crate) struct Past {
    pub(crate) state: ConnectorState,
    /// Time since its last beat.
    pub(crate) heard_ago: SignedDuration,
    pub(crate) site: String,
    /// Its beat interval in seconds.
    pub(crate) interval: i32,
}

/// Connector `i` with a past.
pub(crate) fn connector(i: usize, past: Past, now: Timestamp) -> Connector {
    let heartbeat = HeartbeatSpec { interval_seconds: past.interval, ..HeartbeatSpec::default() };
    let spec = ConnectorSpec { site: Some(past.site), heartbeat, ..ConnectorSpec::default() };
    let mut connector = Connector::new(&name(i), spec);
    let created = now - SignedDuration::from_hours(24);
    connector.metadata.namespace = Some(NAMESPACE.to_owned());
    connector.metadata.uid = Some(format!("00000000-0000-4000-8000-{i:012x}"));
    connector.metadata.generation = Some(1);
    connector.metadata.resource_version = Some((1_000 + i).to_string());
    connector.metadata.creation_timestamp = Some(Time(created));
    let hash = TokenHash { generation: 1, sha256: Digest::of(&token(i)).to_hex(), rounds: None, not_after: None };
    connector.status = Some(ConnectorStatus {
        state: Some(past.state),
        last_heartbeat_time: Some(MicroTime(now - past.heard_ago)),
        state_since: Some(MicroTime(created)),
        observed_generation: 1,
        token: Some(TokenStatus { generation: 1, hashes: vec![hash], ..TokenStatus::default() }),
        ..ConnectorStatus::default()
    });
    connector
}

pub(crate) fn beat(id: &str, token: &str) -> String {
    format!(r#"{{"connector_id":"{id}","token":"{token}"}}"#)
}

/// A beat with all fields of an agent: eight checks, and its identity.
pub(crate) fn full_beat(i: usize, sequence: u64) -> String {
    let checks: Vec<String> = [
        "Process",
        "WireGuardInterface",
        "WireGuardHandshake",
        "OverlayRoute",
        "IPForwarding",
        "NATRules",
        "ControlPlane",
        "ClockSkew",
    ]
    .iter()
    .map(|check| format!(r#"{{"type":"{check}","status":"Pass"}}"#))
    .collect();
    format!(
        r#"{{"connector_id":"{}","token":"{}","boot_id":"00000000-0000-4000-9000-{i:012x}","sequence":{sequence},"version":"1.4.2","hostname":"edge-{i:06}.example.net","checks":[{}]}}"#,
        id(i),
        token(i),
        checks.join(",")
    )
}

/// `body` as a heartbeat request on a keep-alive connection.
pub(crate) fn request(body: &str) -> Vec<u8> {
    format!(
        "POST /api/connector/heartbeat HTTP/1.1\r\nHost: vigie.example\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
