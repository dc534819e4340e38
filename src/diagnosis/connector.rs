//! Diagnosis of a connector: cause and advice.

use jiff::Timestamp;

use self::fault::fault_finding;
pub use self::fault::known_fault;
pub use self::silence::{AgentStop, ConnectorSilence, stop_text};
use self::silence::{agent_stopped, connector_silent};
use crate::api::{Alternative, Cause, Confidence, Diagnosis, MAX_MESSAGE, Reason, RestartHelps, clip};
use crate::health::checks::FailedCheck;
use crate::health::liveness::Presence;

mod fault;
mod silence;

/// The message about two instances that share a token: in the `Healthy` condition, the diagnosis and the event.
pub const DUPLICATE_INSTANCE: &str = "two instances beat in turn with this connector's token";

/// Input of a connector's diagnosis. Times are timestamps, never ages: the same state must give the same text, or each
/// reconcile would write the status.
#[derive(Clone, Debug)]
pub struct ConnectorEvidence<'a> {
    /// The connector's id, as its agent sends it.
    pub connector_id: &'a str,
    /// `False` of the `Accepted` condition: reason and message.
    pub refused: Option<(Reason, &'a str)>,
    /// `False` of the `Provisioned` condition: reason and message.
    pub unprovisioned: Option<(Reason, &'a str)>,
    /// The verdict of `health::liveness`.
    pub presence: Presence,
    /// The reason of the `Online` condition.
    pub reason: Reason,
    /// Time of the last contact.
    pub last_contact: Option<Timestamp>,
    /// Seconds after which it is Offline.
    pub offline_after: u64,
    /// `N of M`: silent connectors of its site when mass silence began.
    pub mass_silence: Option<&'a str>,
    /// When a retired token was last used after the last contact.
    pub retired_token_used: Option<Timestamp>,
    /// Its failing checks, the most severe first; empty unless it sends heartbeats.
    pub faults: &'a [FailedCheck],
    /// Two hosts send heartbeats with its token.
    pub duplicate: bool,
    /// The diagnosis of the pods that it runs in, where they were examined and a rule matched.
    pub pods: Option<&'a Diagnosis>,
    /// The Lease whose renewals count as heartbeats.
    pub lease: Option<&'a str>,
    /// The Secret that holds its token.
    pub secret: &'a str,
    /// The host name that it reported last.
    pub host: Option<&'a str>,
    /// The connector itself is silent, while its agent is heard.
    pub silence: Option<ConnectorSilence<'a>>,
    /// The last words of its agent, when it said that it stops.
    pub stopping: Option<AgentStop>,
}

type ConnectorRule = fn(&ConnectorEvidence<'_>) -> Option<Diagnosis>;

/// The order is the specification: the first that matches is the diagnosis, the others are its alternatives.
const RULES: &[ConnectorRule] = &[
    // Nothing else can be judged before the spec is understood, or before there is a token.
    refused,
    unprovisioned,
    // If the operator was not listening, every silence follows from that.
    observer_not_listening,
    // It sends heartbeats with a revoked token: stronger evidence than any guess about its network.
    token_revoked,
    mass_silence,
    // Its pods explain the silence; a restart would fail in the same way.
    pods_failing,
    agent_stopped,
    silent,
    never_seen,
    // It hangs, or does not run: then what else its agent reports follows from that.
    connector_silent,
    // It sends heartbeats, so its token works: a check that it reports as failing comes before all that concerns the next
    // token or the next restart, and its remedy with it.
    failing_check,
    refused_but_heard,
    unprovisioned_but_heard,
    duplicate,
    late,
    warning,
];

/// The diagnosis, or `None` when there is nothing to explain.
pub fn diagnose(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let mut findings = RULES.iter().filter_map(|rule| rule(evidence));
    let mut first = findings.next()?;
    first.alternatives = findings
        .take(4)
        .map(|other| Alternative { cause: other.cause, confidence: other.confidence, message: other.message })
        .collect();
    Some(first)
}

/// Capitalizes the first letter: advice is a separate sentence.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn finding(
    cause: Cause,
    confidence: Confidence,
    message: String,
    advice: String,
    restart_helps: RestartHelps,
) -> Option<Diagnosis> {
    Some(Diagnosis {
        cause,
        confidence,
        since: None,
        message: clip(message, MAX_MESSAGE),
        advice: clip(capital(&advice), MAX_MESSAGE),
        restart_helps,
        evidence: Vec::new(),
        alternatives: Vec::new(),
    })
}

fn refused(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    refusal(evidence).filter(|_| evidence.presence == Presence::NeverSeen || !is_partial_refusal(evidence))
}

fn refused_but_heard(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    refusal(evidence).filter(|_| evidence.presence != Presence::NeverSeen && is_partial_refusal(evidence))
}

/// The spec names something that is missing, and everything else about the connector is known all the same.
fn is_partial_refusal(evidence: &ConnectorEvidence<'_>) -> bool {
    matches!(evidence.refused, Some((Reason::SecretNotFound | Reason::WorkloadNotFound, _)))
}

fn refusal(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let (reason, message) = evidence.refused?;
    let (cause, advice) = match reason {
        Reason::DuplicateConnectorID => (
            Cause::DuplicateConnectorID,
            "give one of the two Connectors another spec.connectorID (delete and create it: the id is immutable)",
        ),
        Reason::SecretNotFound => (
            Cause::SecretNotFound,
            "create the Secret that spec.token.existingSecretRef names, in the same namespace and with the label of the message, or correct the reference; a token that was accepted before stays accepted",
        ),
        Reason::WorkloadNotFound => (Cause::WorkloadNotFound, "correct spec.workloadRef, or create the workload"),
        Reason::UnreadableStatus => {
            (Cause::UnreadableStatus, "clear the object's status; nothing is done to it until then")
        }
        _ => (Cause::InvalidSpec, "correct the spec as the message says"),
    };
    finding(cause, Confidence::Certain, message.to_owned(), advice.to_owned(), RestartHelps::No)
}

fn unprovisioned(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    undelivered(evidence).filter(|_| evidence.presence == Presence::NeverSeen)
}

// While it is silent, the missing Secret matters less: a running connector has its token already.
fn unprovisioned_but_heard(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    undelivered(evidence).filter(|_| evidence.presence == Presence::Online)
}

fn undelivered(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let (reason, message) = evidence.unprovisioned?;
    let (cause, advice) = match reason {
        Reason::TokenSecretConflict => (
            Cause::TokenSecretConflict,
            format!(
                "vigie does not touch what it does not own. Keep a copy of Secret {} first: it may hold the only copy of a token in \
                 use. If it is this Connector's, mend what the message names, and vigie takes it over with its token; if \
                 not, delete it, and vigie makes one",
                evidence.secret
            ),
        ),
        _ => (
            Cause::TokenSecretInvalid,
            format!(
                "remove what refuses the write, as the message says (a quota, a webhook, a missing right; an immutable Secret \
                 has to be deleted). It is tried again until it works. Install nothing from Secret {} before that, unless \
                 the message says that the token in it is valid",
                evidence.secret
            ),
        ),
    };
    finding(cause, Confidence::Certain, message.to_owned(), advice, RestartHelps::No)
}

fn observer_not_listening(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    if evidence.presence != Presence::Unknown {
        return None;
    }
    let last = stamp(evidence.last_contact);
    match evidence.reason {
        Reason::ObserverUnreachable => finding(
            Cause::ObserverUnreachable,
            Confidence::Certain,
            format!("vigie cannot be reached from outside; last contact was {last}, before that"),
            "repair the path to vigie first (Ingress or route, Service, the leader's label on its pod): the connectors are not the problem".to_owned(),
            RestartHelps::No,
        ),
        _ => finding(
            Cause::ObserverRestarted,
            Confidence::Certain,
            format!("vigie was not listening (restart or failover); last contact was {last}, before that"),
            format!("wait: it is Online with its next beat, or Offline after {} s of listened silence", evidence.offline_after),
            RestartHelps::No,
        ),
    }
}

fn token_revoked(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let used = evidence.retired_token_used.filter(|_| evidence.presence != Presence::Online)?;
    let install = format!(
        "give it the token that is in Secret {} now, and restart its agent; `vigie token show` prints it",
        evidence.secret
    );
    let advice = match evidence.unprovisioned {
        // The Secret does not hold a token to be installed.
        Some((_, problem)) => format!("first have its new token delivered ({problem}); then {install}"),
        None => install,
    };
    finding(
        Cause::TokenRevoked,
        Confidence::Certain,
        format!("it beats with a token that has ended (last refused {})", stamp(Some(used))),
        advice,
        RestartHelps::No,
    )
}

fn mass_silence(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let counts = evidence.mass_silence.filter(|_| evidence.presence.is_silent())?;
    finding(
        Cause::MassSilence,
        Confidence::Likely,
        format!("silent since {}, together with most of its site ({counts})", stamp(evidence.last_contact)),
        "suspect what they share before the connectors: the path to vigie (public URL, Ingress, DNS, certificate, firewall), then the site's own uplink".to_owned(),
        RestartHelps::No,
    )
}

fn pods_failing(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let pods = evidence.pods.filter(|_| evidence.presence == Presence::Offline)?;
    let Diagnosis { cause, confidence, message, advice, restart_helps, .. } = pods;
    let message = format!("silent since {}, and its pods say why: {message}", stamp(evidence.last_contact));
    let found = finding(*cause, *confidence, message, advice.clone(), *restart_helps)?;
    Some(Diagnosis { evidence: pods.evidence.clone(), ..found })
}

fn silent(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    if evidence.presence != Presence::Offline || agent_stopped(evidence).is_some() {
        return None;
    }
    let host = evidence.host.map(|host| format!(" on {host}")).unwrap_or_default();
    let advice = match evidence.lease {
        Some(lease) => format!("look at who renews Lease {lease}{host}: is it running, may it still update the Lease?"),
        None => format!(
            "is its process running{host}, and does the host reach vigie? Send its beat by hand from there (POST /api/connector/heartbeat \
             with connector_id {} and its token): 200 = start the process, 401 = wrong token, no answer = network or firewall",
            evidence.connector_id
        ),
    };
    let stopping = evidence.stopping.map(|stop| format!("; {}", stop_text(stop.reason))).unwrap_or_default();
    let since = stamp(evidence.last_contact);
    finding(
        Cause::HeartbeatExpired,
        Confidence::Certain,
        format!("no heartbeat since {since}; the limit is {} s{stopping}", evidence.offline_after),
        advice,
        RestartHelps::Once,
    )
}

fn never_seen(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    if evidence.presence != Presence::NeverSeen || evidence.refused.is_some() {
        return None;
    }
    let advice = match evidence.lease {
        Some(lease) => format!("start what renews Lease {lease} in this namespace"),
        None => format!(
            "install the connector with connector_id {} and the token from Secret {} (`vigie token show` prints it)",
            evidence.connector_id, evidence.secret
        ),
    };
    finding(Cause::NeverSeen, Confidence::Certain, "it has never been heard".to_owned(), advice, RestartHelps::No)
}

fn late(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    (evidence.presence == Presence::Late).then(|| {
        finding(
            Cause::HeartbeatLate,
            Confidence::Certain,
            format!(
                "no heartbeat since {}; Offline after {} s of silence",
                stamp(evidence.last_contact),
                evidence.offline_after
            ),
            "nothing yet, if this is rare; when it is frequent, look for packet loss or an overloaded host".to_owned(),
            RestartHelps::No,
        )
    })?
}

fn failing_check(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let worst = evidence.faults.first().filter(|fault| fault.critical)?;
    fault_finding(worst)
}

fn warning(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let worst = evidence.faults.first().filter(|fault| !fault.critical)?;
    fault_finding(worst)
}

fn duplicate(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    evidence.duplicate.then(|| {
        finding(
            Cause::DuplicateInstance,
            Confidence::Likely,
            DUPLICATE_INSTANCE.to_owned(),
            "stop one of the two, or give it a Connector of its own; if you do not know the second host, revoke the token (`vigie token revoke`)".to_owned(),
            RestartHelps::No,
        )
    })?
}

fn stamp(at: Option<Timestamp>) -> String {
    match at {
        Some(at) => jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&at),
        None => "never".to_owned(),
    }
}
