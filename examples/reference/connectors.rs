//! The diagnoses of connectors: one sample for each cause and each advice.

use jiff::Timestamp;
use vigie::api::{Cause, CheckOutcome, CheckType, Diagnosis, Reason, StopReason};
use vigie::diagnosis::connector::{AgentStop, ConnectorEvidence, ConnectorSilence, diagnose};
use vigie::health::checks::FailedCheck;
use vigie::health::liveness::Presence;

/// A healthy connector: the rules find nothing.
fn well<'a>() -> ConnectorEvidence<'a> {
    ConnectorEvidence {
        connector_id: "gateways/edge-1",
        refused: None,
        unprovisioned: None,
        presence: Presence::Online,
        reason: Reason::HeartbeatReceived,
        last_contact: Some(contact()),
        offline_after: 300,
        mass_silence: None,
        retired_token_used: None,
        faults: &[],
        duplicate: false,
        pods: None,
        lease: None,
        secret: "edge-1-connector-token",
        host: Some("edge-1.example.com"),
        silence: None,
        stopping: None,
    }
}

/// 2026-11-05T10:00:00Z: any time works.
fn contact() -> Timestamp {
    Timestamp::constant(1_793_872_800, 0)
}

/// The agent is heard, and the connector itself is not.
fn silence() -> ConnectorSilence<'static> {
    ConnectorSilence {
        last_heartbeat: contact(),
        host: Some("edge-1.example.com"),
        unit: Some("ztna-connector.service"),
        process: Some(CheckOutcome::Pass),
    }
}

/// The agent, which alone sent heartbeats, said why it stops.
fn stopped(reason: StopReason) -> Option<AgentStop> {
    Some(AgentStop { reason, is_alone: true })
}

/// The diagnosis of every sample.
pub(crate) fn diagnoses() -> Vec<Diagnosis> {
    let faults: Vec<Vec<FailedCheck>> = faults().into_iter().map(|fault| vec![fault]).collect();
    let failing = faults.iter().map(|faults| ConnectorEvidence { faults, ..well() });
    spec().into_iter().chain(contact_samples()).chain(failing).filter_map(|facts| diagnose(&facts)).collect()
}

/// Faults of the spec and of the token's Secret.
fn spec() -> Vec<ConnectorEvidence<'static>> {
    let refused = [
        (Reason::InvalidSpec, "spec.heartbeat: intervalSeconds must be below offlineAfterSeconds"),
        (Reason::DuplicateConnectorID, "connectorID gateways/edge-1 belongs to gateways/edge-0, which is older"),
        (Reason::SecretNotFound, "Secret edge-1-brought does not exist"),
        (Reason::WorkloadNotFound, "Deployment edge-1 does not exist"),
        (Reason::UnreadableStatus, "the stored status cannot be read"),
    ];
    let unprovisioned = [
        (Reason::TokenSecretConflict, "Secret edge-1-connector-token exists and belongs to nobody"),
        (Reason::TokenSecretInvalid, "Secret edge-1-brought has no key token"),
    ];
    let refused = refused.into_iter().map(|refused| ConnectorEvidence { refused: Some(refused), ..never_seen() });
    refused
        .chain(unprovisioned.into_iter().map(|it| ConnectorEvidence { unprovisioned: Some(it), ..never_seen() }))
        .collect()
}

fn never_seen() -> ConnectorEvidence<'static> {
    ConnectorEvidence {
        presence: Presence::NeverSeen,
        reason: Reason::NeverSeen,
        last_contact: None,
        host: None,
        ..well()
    }
}

/// Faults of its contact.
fn contact_samples() -> Vec<ConnectorEvidence<'static>> {
    let unknown = |reason| ConnectorEvidence { presence: Presence::Unknown, reason, ..well() };
    let offline = || ConnectorEvidence { presence: Presence::Offline, reason: Reason::HeartbeatExpired, ..well() };
    let lease = Some("edge-in-cluster");
    vec![
        never_seen(),
        ConnectorEvidence { lease, ..never_seen() },
        offline(),
        ConnectorEvidence { lease, ..offline() },
        ConnectorEvidence { presence: Presence::Late, reason: Reason::HeartbeatLate, ..well() },
        ConnectorEvidence { mass_silence: Some("9 of 12"), reason: Reason::MassSilence, ..offline() },
        unknown(Reason::ObserverRestarted),
        unknown(Reason::ObserverUnreachable),
        ConnectorEvidence { retired_token_used: Some(contact()), ..offline() },
        ConnectorEvidence { duplicate: true, ..well() },
        ConnectorEvidence { silence: Some(silence()), ..well() },
        ConnectorEvidence { stopping: stopped(StopReason::Stop), ..offline() },
        ConnectorEvidence { stopping: stopped(StopReason::Update), ..offline() },
        ConnectorEvidence { stopping: stopped(StopReason::Uninstall), ..offline() },
    ]
}

/// A failing check of each known type, and of an unknown one.
fn faults() -> Vec<FailedCheck> {
    let known = [
        (CheckType::Process, Cause::ProcessDown, Reason::ProcessDown),
        (CheckType::WireGuardInterface, Cause::WireGuardDown, Reason::WireGuardDown),
        (CheckType::WireGuardHandshake, Cause::HandshakeStale, Reason::HandshakeStale),
        (CheckType::OverlayRoute, Cause::RouteMissing, Reason::RouteMissing),
        (CheckType::IPForwarding, Cause::IPForwardingOff, Reason::IPForwardingOff),
        (CheckType::NATRules, Cause::NATRulesMissing, Reason::NATRulesMissing),
        (CheckType::ControlPlane, Cause::ControlPlaneUnreachable, Reason::ControlPlaneUnreachable),
        (CheckType::ClockSkew, Cause::ClockSkew, Reason::ClockSkew),
    ];
    let fault = |type_: &str, cause, reason| FailedCheck {
        type_: type_.to_owned(),
        cause,
        reason,
        critical: true,
        outcome: CheckOutcome::Fail,
        message: None,
    };
    let known = known.into_iter().map(|(type_, cause, reason)| fault(type_.as_str(), cause, reason));
    known.chain([fault("DiskSpace", Cause::CheckFailed, Reason::CheckFailed)]).collect()
}
