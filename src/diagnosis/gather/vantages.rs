//! Converts probe outcomes to vantages, and builds the probes of pods at their own addresses.

use std::net::IpAddr;

use jiff::Timestamp;

use super::service;
use crate::api::{ErrorClass, Phase};
use crate::diagnosis::evidence::{Evidence, Pod, Vantage};
use crate::probe::{Failure, Outcome, Request, source_address};

/// Maximum number of pods that are probed: enough to distinguish one bad pod from all.
const MAX: usize = 20;

/// A probe's outcome as a vantage.
pub fn vantage(name: &str, request: &Request, outcome: &Outcome, at: Timestamp) -> Vantage {
    let failure = outcome.result.as_ref().err();
    let seen = &outcome.seen;
    let page = seen.page.as_ref();
    Vantage {
        name: name.to_owned(),
        ok: failure.is_none(),
        error_class: failure.map(|failure| failure.class),
        phase: failure.map(|failure| failure.phase),
        milliseconds: u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
        at,
        message: failure.map_or_else(|| passed(outcome), |failure| failure.message.clone()),
        detail: failure.and_then(|failure| failure.detail.clone()),
        address: seen.address.map(|address| address.ip()).or(request.target.address),
        port: Some(request.target.port),
        source: source(failure, seen.dialled.map(|address| address.ip()).or(request.target.address)),
        http_status: seen.http_status,
        redirects_to_login: seen.redirects_to_login,
        not_serving: seen.not_serving,
        grpc_status: seen.grpc_status,
        any_byte: seen.any_byte,
        certificate_expires: seen.certificate_expires,
        missing_metrics: page.map(|page| page.missing.clone()).unwrap_or_default(),
        broken_at: page.and_then(|page| page.broken_at),
        samples: page.map(|page| page.samples),
        confirmed: None,
        last_passed: None,
    }
}

/// The vantage of a target of which no address is known: there is nothing that could be dialled, for the reason `why`.
pub fn nothing_to_dial(why: String, at: Timestamp) -> Vantage {
    Vantage {
        name: "target".to_owned(),
        ok: false,
        error_class: Some(ErrorClass::Unreachable),
        phase: Some(Phase::Resolve),
        milliseconds: 0,
        at,
        message: why,
        detail: None,
        address: None,
        port: None,
        source: None,
        http_status: None,
        redirects_to_login: false,
        not_serving: false,
        grpc_status: None,
        any_byte: false,
        certificate_expires: None,
        missing_metrics: Vec::new(),
        broken_at: None,
        samples: None,
        confirmed: None,
        last_passed: None,
    }
}

/// The local address of packets to this one, where a firewall may have to admit it.
fn source(failure: Option<&Failure>, to: Option<IpAddr>) -> Option<IpAddr> {
    let silent = [ErrorClass::Refused, ErrorClass::ConnectTimeout, ErrorClass::Unreachable];
    failure.filter(|failure| silent.contains(&failure.class))?;
    source_address(to?)
}

fn passed(outcome: &Outcome) -> String {
    match (outcome.seen.http_status, &outcome.seen.page) {
        (Some(status), Some(page)) => format!("answered {status} with {} samples", page.samples),
        (Some(status), None) => format!("answered {status}"),
        (None, _) => "answered".to_owned(),
    }
}

/// The probes of the pods, each with the name of its vantage: as `like`, the target's request, but at the pod's own
/// address and port.
///
/// Pods without an address, pods that ended or are being deleted, and pods with an unknown port are left out, and so are
/// pods on their host's network that do not declare the port: there it is the node's.
pub fn pod_probes(evidence: &Evidence, pods_port: Option<&str>, like: &Request) -> Vec<(String, Request)> {
    let serves = |pod: &&Pod| !pod.deleting && !matches!(pod.phase.as_str(), "Succeeded" | "Failed");
    let pods = evidence.pods.found().into_iter().flatten().filter(serves);
    let probe = |pod: &Pod| {
        let address = *pod.addresses.first()?;
        let port = port(evidence, pods_port, pod).filter(|port| service::owns_port(pod, *port))?;
        let mut request = like.clone();
        request.target.address = Some(address);
        request.target.port = port;
        request.target.is_own = true;
        if request.target.host.is_empty() {
            request.target.host = address.to_string();
        }
        Some((format!("pod/{}", pod.name), request))
    };
    pods.filter_map(probe).take(MAX).collect()
}

/// The port of a pod that the target leads to. If pods declare no port at all, the port of the URL is tried.
fn port(evidence: &Evidence, pods_port: Option<&str>, pod: &Pod) -> Option<u16> {
    let declares_none = pod.containers.iter().all(|container| container.ports.is_empty());
    let is_url = evidence.subject.service.is_none() && pods_port.is_none();
    let tried = (is_url && declares_none && evidence.subject.port > 0).then_some(evidence.subject.port);
    service::pod_port(evidence, pods_port, pod).or(tried)
}
