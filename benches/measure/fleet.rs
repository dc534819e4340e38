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

/// The checks of a beat, and what an agent says about each on a host where all is well.
const CHECKS: [(&str, &str); 8] = [
    ("Process", "gateway.service is active"),
    ("WireGuardInterface", "wg0 is up, and has 10.8.0.2/24"),
    ("WireGuardHandshake", "the last handshake of wg0 was less than 3 minutes ago"),
    ("OverlayRoute", "10.8.0.0/24 leads to wg0"),
    ("IPForwarding", "net.ipv4.ip_forward is 1"),
    ("NATRules", "a rule masquerades what leaves through eth0"),
    ("ControlPlane", "the control plane answers at control.example.com:443"),
    ("ClockSkew", "the clock is synchronised"),
];

/// A beat with all fields of a connector that looks after itself: eight checks, and its identity.
pub(crate) fn full_beat(i: usize, sequence: u64) -> String {
    let check = |(type_, _): &(&str, &str)| format!(r#"{{"type":"{type_}","status":"Pass"}}"#);
    let checks: Vec<String> = CHECKS.iter().map(check).collect();
    format!("{{{}}}", identified(i, sequence, &checks))
}

/// A beat of an agent that looks after the connector: eight checks with texts, and a backend beside it.
pub(crate) fn agent_beat(i: usize, sequence: u64) -> String {
    let check = |(type_, text): &(&str, &str)| format!(r#"{{"type":"{type_}","status":"Pass","message":"{text}"}}"#);
    let checks: Vec<String> = CHECKS.iter().map(check).collect();
    let backend = r#"{"name":"orders","unit":"orders.service","state":"Running","since_seconds":86400,"restarts":0,"policy":"always","listens":["0.0.0.0:8081"],"probe":{"ok":true,"status":200,"milliseconds":3}}"#;
    format!(r#"{{{},"agent":true,"backends":[{backend}]}}"#, identified(i, sequence, &checks))
}

fn identified(i: usize, sequence: u64, checks: &[String]) -> String {
    format!(
        r#""connector_id":"{}","token":"{}","boot_id":"00000000-0000-4000-9000-{i:012x}","sequence":{sequence},"version":"1.4.2","hostname":"edge-{i:06}.example.net","checks":[{}]"#,
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
