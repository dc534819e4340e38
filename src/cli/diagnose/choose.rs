//! From where was it seen, and which of two views is evidence: what this very call saw, or what the operator wrote last.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::api::{ErrorClass, MonitoredBackendStatus, VantageStatus};
use crate::diagnosis::evidence::Vantage;
use crate::probe::Target;

/// The age up to which what the operator saw speaks for now, at least.
const FRESH: SignedDuration = SignedDuration::from_mins(2);

/// Failures that are about an answer: something came from the far side.
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

/// One view of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Whose: `here`, or `operator`.
    pub(super) from: &'static str,
    /// What was seen.
    pub(super) vantage: Vantage,
    /// It counts: the diagnosis is made from it.
    pub(super) counts: bool,
}

/// Where we look from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standpoint {
    /// We run in the cluster ourselves: pods and Services are as near as to the operator.
    pub(super) in_cluster: bool,
    /// Networks of the cluster that a person says are reached from here, by a VPN for example.
    pub(super) reached: Vec<IpNet>,
}

impl Standpoint {
    /// Whether a target is dialled from here. Outside the cluster the address of a Service or a pod means something
    /// else, or nothing: what answers there would be taken for the backend, and be sent its credentials.
    pub(super) fn dials(&self, target: &Target) -> bool {
        match &target.address {
            Some(address) => self.reaches(*address),
            None => self.in_cluster || !target.host.ends_with(".svc"),
        }
    }

    /// Whether an address of the cluster's own is dialled from here.
    pub(super) fn reaches(&self, address: IpAddr) -> bool {
        self.in_cluster || self.reached.iter().any(|network| network.contains(&address))
    }
}

/// What the operator saw last, as far as it is recent.
pub(super) fn of_operator(status: &MonitoredBackendStatus, interval_seconds: i64, now: Timestamp) -> Vec<Vantage> {
    let fresh = FRESH.max(SignedDuration::from_secs(3 * interval_seconds));
    // The last round's time stands for all of its probes.
    let last = status.last_probe_time.as_ref().map(|time| time.0);
    let seen = |of: &VantageStatus| {
        let at = of.time.as_ref().map(|time| time.0).max(last.filter(|_| !of.name.starts_with("pod/")))?;
        (now.duration_since(at) <= fresh).then(|| vantage(of, at))
    };
    status.vantages.iter().filter_map(seen).collect()
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
        http_status: status_in(&of.message),
        redirects_to_login: false,
        not_serving: false,
        // Whatever came from there is not written in the status; a pass, or what was wrong with an answer, shows it.
        any_byte: of.ok || of.error_class.is_some_and(|class| ANSWERED.contains(&class)),
        certificate_expires: None,
        missing_metrics: Vec::new(),
        broken_at: None,
        samples: None,
    }
}

/// The status that our own words about an answer name: "the status is 404, expected …".
fn status_in(message: &str) -> Option<u16> {
    let (_, after) = message.split_once("the status is ")?;
    after.get(..3)?.parse().ok()
}

/// Both views of each place, each marked by whether it counts.
pub(super) fn views(own: Vec<Vantage>, operator: Vec<Vantage>, standpoint: &Standpoint) -> Vec<View> {
    let mut views: Vec<View> = Vec::new();
    let mut rest = operator;
    for own in own {
        let theirs = rest.iter().position(|vantage| vantage.name == own.name).map(|at| rest.remove(at));
        let own_counts = counts(&own, theirs.as_ref(), standpoint);
        let theirs_count = theirs.is_some() && !own_counts;
        views.push(View { from: "here", vantage: own, counts: own_counts });
        views.extend(theirs.map(|vantage| View { from: "operator", vantage, counts: theirs_count }));
    }
    views.extend(rest.into_iter().map(|vantage| View { from: "operator", vantage, counts: true }));
    views
}

/// Whether our own view of a place counts, beside the operator's.
fn counts(own: &Vantage, theirs: Option<&Vantage>, standpoint: &Standpoint) -> bool {
    // In the cluster we are as near as the operator, and later.
    if standpoint.in_cluster {
        return true;
    }
    match theirs {
        None => true,
        Some(theirs) if theirs.ok => reached(own) && !own.ok,
        // Both fail: whoever heard something from the far side knows more.
        Some(_) => !own.ok && reached(own),
    }
}

/// The far side itself answered, in one way or another.
fn reached(vantage: &Vantage) -> bool {
    vantage.ok || vantage.any_byte
}
