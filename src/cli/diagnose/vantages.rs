//! The vantages of a diagnosis: own probes, and those that the operator wrote last. Selects which of the two counts.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::api::{ErrorClass, MonitoredBackendStatus, VantageStatus};
use crate::diagnosis::evidence::{Agent, Vantage};
use crate::probe::Target;

/// The age up to which a vantage of the operator counts as current, at least.
const FRESH: SignedDuration = SignedDuration::from_mins(2);

/// The vantage of the agent on the host: no probe, and so none of the vantages by which the rules judge.
const AGENT: &str = "agent";

/// Failures of a response: the target sent something.
const ANSWERED: [ErrorClass; 10] = [
    ErrorClass::NotHTTP,
    ErrorClass::HTTPStatus,
    ErrorClass::BodyTimeout,
    ErrorClass::BodyTooLarge,
    ErrorClass::RedirectLimit,
    ErrorClass::ContentType,
    ErrorClass::Exposition,
    ErrorClass::MissingMetric,
    ErrorClass::Assertion,
    ErrorClass::GRPCStatus,
];

/// One vantage, with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VantageView {
    /// `here` or `operator`.
    pub(super) from: &'static str,
    pub(super) vantage: Vantage,
    /// Whether the diagnosis uses it.
    pub(super) counts: bool,
}

/// The position of this process in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NetworkPosition {
    /// Whether this process runs in a pod of the cluster: it reaches pods and Services as the operator does.
    pub(super) in_cluster: bool,
    /// Networks of the cluster that are reachable from here by the flags, through a VPN for example.
    pub(super) reached: Vec<IpNet>,
}

impl NetworkPosition {
    /// Whether a target is dialled from here. Outside the cluster the address of a Service or a pod belongs to another host,
    /// or to none: that host would be taken for the backend, and receive its credentials.
    pub(super) fn dials(&self, target: &Target) -> bool {
        match &target.address {
            Some(address) => self.reaches(*address),
            None => self.in_cluster || !target.host.ends_with(".svc"),
        }
    }

    /// Whether an address of the cluster's networks is dialled from here.
    pub(super) fn reaches(&self, address: IpAddr) -> bool {
        self.in_cluster || self.reached.iter().any(|network| network.contains(&address))
    }
}

/// The recent vantages of the operator.
pub(super) fn of_operator(status: &MonitoredBackendStatus, interval_seconds: i64, now: Timestamp) -> Vec<Vantage> {
    let fresh = FRESH.max(SignedDuration::from_secs(3 * interval_seconds));
    // The time of the last round is the time of all of its probes.
    let last = status.last_probe_time.as_ref().map(|time| time.0);
    let seen = |of: &VantageStatus| {
        let at = of.time.as_ref().map(|time| time.0).max(last.filter(|_| !of.name.starts_with("pod/")))?;
        (now.duration_since(at) <= fresh).then(|| vantage(of, at))
    };
    status.vantages.iter().filter(|of| of.name != AGENT).filter_map(seen).collect()
}

/// The word of the agent on the host, as the operator wrote it last.
pub(super) fn agent_of_operator(status: &MonitoredBackendStatus) -> Option<Agent> {
    let word = status.vantages.iter().find(|of| of.name == AGENT)?;
    let missing = status.agent.is_none().then(|| word.message.clone());
    Some(Agent { view: status.agent.clone(), missing, ..Agent::default() })
}

fn vantage(of: &VantageStatus, at: Timestamp) -> Vantage {
    Vantage {
        name: of.name.clone(),
        ok: of.ok,
        error_class: of.error_class,
        phase: of.phase,
        milliseconds: of.milliseconds.and_then(|milliseconds| u64::try_from(milliseconds).ok()).unwrap_or(0),
        at,
        message: of.message.clone(),
        detail: None,
        address: None,
        port: None,
        source: None,
        http_status: status_in(&of.message),
        redirects_to_login: false,
        not_serving: false,
        grpc_status: None,
        // The status does not contain the response; a pass, or a failure of the response, shows that there was one.
        any_byte: of.ok || of.error_class.is_some_and(|class| ANSWERED.contains(&class)),
        certificate_expires: None,
        missing_metrics: Vec::new(),
        broken_at: None,
        samples: None,
        confirmed: None,
        last_passed: None,
    }
}

/// The HTTP status in the operator's message: "the status is 404, expected …".
fn status_in(message: &str) -> Option<u16> {
    let (_, after) = message.split_once("the status is ")?;
    after.get(..3)?.parse().ok()
}

/// Both views of each vantage, each marked by whether it counts.
pub(super) fn views(own: Vec<Vantage>, operator: Vec<Vantage>, position: &NetworkPosition) -> Vec<VantageView> {
    let mut views: Vec<VantageView> = Vec::new();
    let mut rest = operator;
    for own in own {
        let theirs = rest.iter().position(|vantage| vantage.name == own.name).map(|at| rest.remove(at));
        let own_counts = counts(&own, theirs.as_ref(), position);
        let theirs_count = theirs.is_some() && !own_counts;
        views.push(VantageView { from: "here", vantage: own, counts: own_counts });
        views.extend(theirs.map(|vantage| VantageView { from: "operator", vantage, counts: theirs_count }));
    }
    views.extend(rest.into_iter().map(|vantage| VantageView { from: "operator", vantage, counts: true }));
    views
}

/// Whether the own view of a vantage counts, beside the operator's.
fn counts(own: &Vantage, theirs: Option<&Vantage>, position: &NetworkPosition) -> bool {
    // In the cluster the own view is as close as the operator's, and newer.
    if position.in_cluster {
        return true;
    }
    match theirs {
        None => true,
        Some(theirs) if theirs.ok => reached(own) && !own.ok,
        // Both fail: the one that received a response has more information.
        Some(_) => !own.ok && reached(own),
    }
}

/// Whether the target itself sent anything.
fn reached(vantage: &Vantage) -> bool {
    vantage.ok || vantage.any_byte
}
