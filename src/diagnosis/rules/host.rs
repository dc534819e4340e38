//! A host outside the cluster, of which only the network is seen: no workload, no pods, no Service.

use std::net::IpAddr;

use super::Finding;
use super::agent::{failing_view, state_fact, unit};
use super::agent_reach::is_told_apart;
use super::queries::{answers, fails, pods, probe_fact, target};
use super::text::{url, value};
use crate::api::{AgentView, Cause, Confidence, ErrorClass, TargetState};
use crate::diagnosis::evidence::{Evidence, Vantage};

/// The failing target, if nothing in the cluster is known to stand behind it, and no other page of it answers.
fn lone_target<'a>(e: &'a Evidence, classes: &[ErrorClass]) -> Option<(&'a Vantage, String)> {
    let subject = &e.subject;
    let stands_alone =
        subject.service.is_none() && subject.workload.is_none() && pods(e).is_empty() && !subject.host.is_empty();
    let is_answered = answers(e) || e.vantages.iter().any(|vantage| vantage.ok || vantage.any_byte);
    let target = target(e).filter(|target| target.error_class.is_some_and(|class| classes.contains(&class)))?;
    (fails(e) && stands_alone && !is_answered).then(|| (target, value(&subject.host)))
}

/// Whether Prometheus scrapes a page of this port: then the process runs and is reached.
fn is_scraped(e: &Evidence) -> bool {
    let targets = e.prometheus.found().into_iter().flat_map(|seen| &seen.targets);
    targets.filter(|target| target.health == "up").any(|target| super::queries::port_of(&target.url) == Some(port(e)))
}

pub(super) fn port(e: &Evidence) -> u16 {
    target(e).and_then(|target| target.port).unwrap_or(e.subject.port)
}

/// The name resolves in the cluster only: it is a Service's.
fn is_in_cluster(host: &str) -> bool {
    host.split('.').nth(2) == Some("svc")
}

pub(super) fn nothing_listens(e: &Evidence) -> Option<Finding> {
    let (target, host) = lone_target(e, &[ErrorClass::Refused])?;
    let port = port(e);
    // The agent's view of a unit that does not run is the better word.
    let view = failing_view(e).filter(|view| view.state != TargetState::Unknown);
    if is_scraped(e) || view.is_some_and(|view| view.state != TargetState::Running || is_told_apart(view)) {
        return None;
    }
    if let Some(view) = view {
        return Some(
            Finding::new(
                Cause::NothingListens,
                format!("nothing accepts connections on port {port} of {host}, while {} runs: it listens on another port or address, or no more", unit(view)),
                format!("Look on {host} where it listens (`ss -ltnp`, `docker ps`); a probe of the agent's own (`probe:` in its configuration) would tell"),
            )
            .at_most(Confidence::Likely)
            .restart_once()
            .fact(state_fact(view))
            .fact(probe_fact(target)),
        );
    }
    if is_in_cluster(&host) {
        let namespace = host.split('.').nth(1).unwrap_or_default();
        let get = format!("`kubectl -n {namespace} get services,endpointslices`");
        return Some(
            Finding::new(
                Cause::NothingListens,
                format!("nothing accepts connections on port {port} of {host}: its Service has no ready endpoint, or nothing listens behind it"),
                format!("Look at the Service and its endpoints ({get}); named in spec.target.service, in its own namespace, its pods are looked at too"),
            )
            .at_most(Confidence::Possible)
            .fact(probe_fact(target)),
        );
    }
    let finding = Finding::new(
        Cause::NothingListens,
        format!("nothing accepts connections on port {port} of {host}: its process or container is stopped, or it listens on another port or address"),
        format!(
            "Look on {host} whether it runs and where it listens (`ss -ltnp`, `docker ps -a`, `systemctl status UNIT`): start it, or let it listen on port {port} of an address that is reached from here, not on 127.0.0.1. If it does listen there, a firewall in between rejects"
        ),
    )
    .at_most(Confidence::Likely)
    .fact(probe_fact(target))
    .fact(format!("not seen: its process or container, because {}", unseen(e)));
    Some(if e.subject.has_agent { finding.restart_once() } else { finding })
}

/// Why the process is not seen.
fn unseen(e: &Evidence) -> String {
    let agent = e.agent.as_ref();
    if let Some(view) = agent.and_then(|agent| agent.view.as_ref()) {
        let why = view.message.as_deref().map(|why| format!(": {}", value(why))).unwrap_or_default();
        return format!("the agent could not look at {}{why}", unit(view));
    }
    match agent.and_then(|agent| agent.missing.as_deref()) {
        Some(why) => why.to_owned(),
        None if e.subject.has_agent => "its agent has said nothing about it".to_owned(),
        None => "nothing of vigie runs on its host".to_owned(),
    }
}

/// Prometheus reaches the port: the process listens, and something turns vigie away.
fn refused_for_us(e: &Evidence, target: &Vantage, host: &str) -> Finding {
    let port = port(e);
    Finding::new(
        Cause::HostSilent,
        format!("port {port} of {host} refuses vigie while Prometheus scrapes it: a device on the way rejects vigie's connections"),
        format!("Allow TCP {port} from {} in the security group or firewall of {host}", source(target)),
    )
    .at_most(Confidence::Likely)
    .fact(probe_fact(target))
    .facts(scraped_fact(e))
}

pub(super) fn host_silent(e: &Evidence) -> Option<Finding> {
    if let Some((target, host)) = lone_target(e, &[ErrorClass::Refused]).filter(|_| is_scraped(e)) {
        return Some(refused_for_us(e, target, &host));
    }
    let (target, host) = lone_target(e, &[ErrorClass::ConnectTimeout, ErrorClass::Unreachable])?;
    let port = port(e);
    // The host of an agent that is heard is not down.
    if let Some(view) = failing_view(e) {
        return Some(silent_beside_its_agent(e, target, &host, view));
    }
    let what = match target.error_class {
        Some(ErrorClass::Unreachable) => "no way leads to it, or the host is down",
        _ => "a security group or firewall drops the packets, or the host is down",
    };
    let allow = format!(
        "allow TCP {port} from {} in the security group or firewall of {host}, and the way back",
        source(target)
    );
    if is_scraped(e) {
        return Some(
            Finding::new(
                Cause::HostSilent,
                format!("{host} does not answer vigie on port {port} while Prometheus scrapes it: vigie's packets are dropped on the way"),
                format!("The host runs: {allow}"),
            )
            .at_most(Confidence::Likely)
            .fact(probe_fact(target))
            .facts(scraped_fact(e)),
        );
    }
    Some(
        Finding::new(
            Cause::HostSilent,
            format!("{host} does not answer on port {port}: {what}"),
            format!("Look whether {host} runs and its address is right; if it does, {allow}"),
        )
        .at_most(Confidence::Possible)
        .fact(probe_fact(target))
        .facts(target.source.map(|source| format!("vigie asks from {source}")))
        .fact(match e.subject.has_agent {
            true => format!("not seen: its process or container, because {}", unseen(e)),
            false => "not seen: anything else of this host".to_owned(),
        }),
    )
}

fn silent_beside_its_agent(e: &Evidence, target: &Vantage, host: &str, view: &AgentView) -> Finding {
    let port = port(e);
    let from = source(target);
    Finding::new(
        Cause::HostSilent,
        format!("{host} does not answer on port {port} while its agent is heard: the packets are dropped on the way, or {host} is another host"),
        format!("Allow TCP {port} from {from} in the security group or firewall of {host}, and the way back"),
    )
    .at_most(Confidence::Likely)
    .fact(state_fact(view))
    .fact(probe_fact(target))
}

fn scraped_fact(e: &Evidence) -> Option<String> {
    let targets = e.prometheus.found().into_iter().flat_map(|seen| &seen.targets);
    targets
        .filter(|target| target.health == "up")
        .map(|target| format!("Prometheus: {} is up", url(&target.url)))
        .next()
}

/// vigie's address for a firewall rule.
pub(super) fn source(target: &Vantage) -> String {
    match target.source {
        Some(source) => format!(
            "{} (vigie's address; where the cluster translates pod addresses, that of its node or its NAT gateway)",
            cidr(source)
        ),
        None => "vigie's address (that of its node or its NAT gateway)".to_owned(),
    }
}

fn cidr(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
