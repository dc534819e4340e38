//! vigie's probe passes and Prometheus' scrape fails: causes between Prometheus and the backend.

use jiff::SignedDuration;

use super::Finding;
use super::queries::{own_page, passes, pods, port_of, probe_fact, reaches_port, target};
use super::scrape_error::{Limit, ScrapeError, failing_with, is_stale, scrape_fact};
use super::text::{list, some, stamp, url};
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Evidence, Lookup, PodNetworkPolicy, ScrapeTarget};

/// How long Prometheus may not know a new target: it reads http_sd_configs each minute, and vigie's own list may be 15
/// s old.
const DISCOVERY: SignedDuration = SignedDuration::from_secs(90);

/// The name of the Prometheus in messages.
fn prometheus_name(e: &Evidence) -> String {
    e.subject
        .prometheus_url
        .as_deref()
        .map_or_else(|| "Prometheus".to_owned(), |at| format!("Prometheus at {}", url(at)))
}

/// The host of a URL.
fn host(of: &str) -> String {
    let shown = url(of);
    let rest = shown.split_once("://").map_or(shown.as_str(), |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let end = authority.rfind(':').filter(|at| !authority[*at..].contains(']')).unwrap_or(authority.len());
    authority[..end].to_owned()
}

/// The source addresses of Prometheus as CIDRs for a firewall rule; `None` when unknown.
fn source(e: &Evidence) -> Option<String> {
    if let Some(cidr) = &e.subject.prometheus_source {
        return Some(super::text::value(cidr));
    }
    let addresses = &e.prometheus.found()?.addresses;
    let cidrs: Vec<String> =
        addresses.iter().map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })).collect();
    (!cidrs.is_empty()).then(|| some(&cidrs, 4))
}

/// `allow TCP 8081 from 198.51.100.7/32`, and the return path.
fn allow(e: &Evidence, scraped: &ScrapeTarget) -> String {
    let port = port_of(&scraped.url).map_or_else(|| "its port".to_owned(), |port| port.to_string());
    let (first, from) = match source(e) {
        Some(source) => (String::new(), source),
        None => (
            format!("Run `vigie probe {}` on the Prometheus host to see it from there; then ", url(&scraped.url)),
            "Prometheus' address".to_owned(),
        ),
    };
    let begin = if first.is_empty() { "In" } else { "in" };
    format!(
        "{first}{begin} the security group, firewall or NetworkPolicy of {}: allow TCP {port} from {from}; and the way back: egress TCP {port} in Prometheus' own group, return ports 1024-65535 where the filter is stateless",
        host(&scraped.url)
    )
}

/// Whether the last scrape succeeded.
pub(super) fn is_up(target: &ScrapeTarget) -> bool {
    target.health == "up"
}

pub(super) fn stale_target(e: &Evidence) -> Option<Finding> {
    let prometheus = e.prometheus.found()?;
    let stale = prometheus.stale.first()?;
    // An entry at its address belongs to the backend, whatever other entries have the same labels.
    if !passes(e) || !prometheus.targets.is_empty() || will_be_discovered(e) {
        return None;
    }
    let urls: Vec<String> = prometheus.stale.iter().map(|target| url(&target.url)).collect();
    let addresses: Vec<String> =
        pods(e).iter().flat_map(|pod| &pod.addresses).map(std::net::IpAddr::to_string).collect();
    let now = if addresses.is_empty() { String::new() } else { format!(": its pods are at {}", some(&addresses, 3)) };
    let advice = if stale.is_discovered {
        "Its service discovery still gives the old address: look for errors of it in Prometheus' log and on its page /service-discovery"
    } else {
        "Let Prometheus discover its targets: http_sd_configs with vigie's /sd/prometheus, or correct the address in its static list"
    };
    let finding = Finding::new(
        Cause::StaleTarget,
        format!("Prometheus scrapes {}, which is no longer this backend's address{now}", some(&urls, 3)),
        advice,
    )
    .fact(format!("Prometheus: {} is {}", url(&stale.url), super::text::value(&stale.health)))
    .facts(target(e).map(probe_fact));
    // A stale target that is up may be another target of the same job.
    Some(if prometheus.stale.iter().any(is_up) { finding.at_most(Confidence::Likely) } else { finding })
}

/// Prometheus may not have discovered the backend, or its newest pod, yet. Not if its entry comes from a static list.
fn will_be_discovered(e: &Evidence) -> bool {
    let pods = pods(e).into_iter().filter_map(|pod| pod.created);
    let newest = pods.chain(e.subject.created).max();
    let listed = e.prometheus.found().is_some_and(|seen| seen.stale.iter().any(|target| !target.is_discovered));
    !listed && newest.is_some_and(|at| e.gathered_at.duration_since(at) < DISCOVERY)
}

/// All ingress policies, if none admits the peer; empty otherwise. Policies add up, so one that admits is enough.
fn barring(e: &Evidence, admits: impl Fn(&PodNetworkPolicy) -> Option<bool>) -> Vec<&PodNetworkPolicy> {
    let policies: Vec<&PodNetworkPolicy> =
        e.policies.found().into_iter().flatten().filter(|policy| policy.ingress).collect();
    if policies.iter().all(|policy| admits(policy) == Some(false)) { policies } else { Vec::new() }
}

pub(super) fn blocked_by_network_policy(e: &Evidence) -> Option<Finding> {
    let port = e.subject.port;
    let ours = target(e).filter(|target| !target.ok);
    let dropped = |class| matches!(class, ErrorClass::ConnectTimeout | ErrorClass::Unreachable);
    let (who, policies, port, fact) = if let Some(ours) = ours.filter(|ours| ours.error_class.is_some_and(dropped)) {
        ("vigie", barring(e, |policy| policy.admits_us), port, probe_fact(ours))
    } else {
        // Some network plugins reject where others drop. The port is open, because vigie's probe passes.
        let stopped = |why| matches!(why, ScrapeError::Timeout(_) | ScrapeError::Refused | ScrapeError::NoRoute);
        let (scraped, why) = failing_with(e, stopped).filter(|_| passes(e))?;
        let port = port_of(&scraped.url).unwrap_or(port);
        ("Prometheus", barring(e, |policy| policy.admits_prometheus), port, scrape_fact(scraped, why))
    };
    let first = policies.first()?;
    let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
    let from = source(e)
        .filter(|_| who == "Prometheus")
        .unwrap_or_else(|| format!("{who}'s pods (namespaceSelector and podSelector)"));
    Some(
        Finding::new(
            Cause::BlockedByNetworkPolicy,
            format!(
                "NetworkPolicy {} selects the pods and does not admit {who} to port {port}",
                list(&names[..names.len().min(4)])
            ),
            format!("Add an ingress rule to NetworkPolicy {}: allow TCP {port} from {from}", first.name),
        )
        .fact(fact)
        .facts(names.iter().take(4).map(|name| format!("NetworkPolicy {name}: no ingress rule for {who}"))),
    )
}

/// The connection is made, and the larger packets of a handshake do not arrive.
fn handshake_blocked(e: &Evidence) -> Option<Finding> {
    let (scraped, why) = failing_with(e, |why| why == ScrapeError::HandshakeTimeout).filter(|_| passes(e))?;
    Some(
        Finding::new(
            Cause::BlockedForPrometheus,
            format!(
                "Prometheus connects to {} and the TLS handshake does not end, while it answers us: packets are lost on the way",
                url(&scraped.url)
            ),
            "Look between Prometheus and the target for a smaller MTU (a tunnel or VPN that drops large packets without ICMP) and for a firewall that inspects TLS; is the port a TLS port at all?",
        )
        .at_most(Confidence::Likely)
        .fact(scrape_fact(scraped, why))
        .facts(target(e).map(probe_fact)),
    )
}

pub(super) fn blocked_for_prometheus(e: &Evidence) -> Option<Finding> {
    dropped_for_prometheus(e).or_else(|| handshake_blocked(e))
}

fn dropped_for_prometheus(e: &Evidence) -> Option<Finding> {
    let (scraped, why) = failing_with(e, |why| matches!(why, ScrapeError::Timeout(_))).filter(|_| passes(e))?;
    let ours = target(e)?;
    let finding = Finding::new(
        Cause::BlockedForPrometheus,
        format!(
            "Prometheus gets no answer from {} ({}) while it answers us: its packets are dropped on the way",
            url(&scraped.url),
            why.text()
        ),
        allow(e, scraped),
    )
    .fact(scrape_fact(scraped, why))
    .fact(probe_fact(ours));
    let port = port_of(&scraped.url).unwrap_or(e.subject.port);
    if !reaches_port(e, port) {
        return Some(finding.at_most(Confidence::Possible).fact(format!("not seen: port {port} from here")));
    }
    let limit = scraped.timeout_milliseconds;
    let quick = own_page(e).is_some_and(|page| page.ok && (limit == 0 || page.milliseconds.saturating_mul(2) < limit));
    let finding = match why {
        // The connection failed: the speed of the page does not matter.
        ScrapeError::Timeout(true) => finding,
        _ if quick => finding,
        _ => finding.lacking("how long its metrics page takes from here: it may only be slow"),
    };
    Some(match e.policies.missing() {
        Some(missing) => finding.lacking(missing),
        None => finding,
    })
}

/// The other side ends the HTTP/2 connection or the stream.
fn http2_ended(e: &Evidence) -> Option<Finding> {
    let (scraped, why) = failing_with(e, |why| why == ScrapeError::Http2).filter(|_| passes(e))?;
    Some(
        Finding::new(
            Cause::RejectedForPrometheus,
            format!("{} ends Prometheus' HTTP/2 connection with an error while it answers us", url(&scraped.url)),
            "Read the log of the backend or of the proxy in front of it at the time of a scrape; enable_http2: false in the job of Prometheus shows whether HTTP/1.1 works",
        )
        .at_most(Confidence::Likely)
        .fact(scrape_fact(scraped, why))
        .facts(target(e).map(probe_fact)),
    )
}

pub(super) fn rejected_for_prometheus(e: &Evidence) -> Option<Finding> {
    turned_away(e).or_else(|| http2_ended(e))
}

fn turned_away(e: &Evidence) -> Option<Finding> {
    let rejected = |why| matches!(why, ScrapeError::Refused | ScrapeError::NoRoute | ScrapeError::Reset);
    let (scraped, why) = failing_with(e, rejected).filter(|_| passes(e))?;
    let port = port_of(&scraped.url).unwrap_or(e.subject.port);
    let host = host(&scraped.url);
    let first = match why {
        ScrapeError::NoRoute => {
            format!("Look for a route from Prometheus to {host}, and for a device between them that rejects")
        }
        _ => format!(
            "Check first that {host} is this backend when Prometheus asks (name, address, routing): a refusal comes from a host that was reached. Then look for a device that rejects"
        ),
    };
    let finding = Finding::new(
        Cause::RejectedForPrometheus,
        format!("Prometheus is turned away from {} ({}) while it answers us", url(&scraped.url), why.text()),
        format!("{first}. {}", allow(e, scraped)),
    )
    .at_most(if why == ScrapeError::Reset { Confidence::Possible } else { Confidence::Likely })
    .fact(scrape_fact(scraped, why))
    .facts(target(e).map(probe_fact));
    Some(if reaches_port(e, port) {
        finding
    } else {
        finding.at_most(Confidence::Possible).fact(format!("not seen: port {port} from here"))
    })
}

/// `target_limit`: Prometheus scrapes no target of the job.
fn over_target_limit(e: &Evidence) -> Option<Finding> {
    let (scraped, why) = failing_with(e, |why| why == ScrapeError::Limit(Limit::Targets)).filter(|_| passes(e))?;
    let job = super::text::value(&scraped.job);
    Some(
        Finding::new(
            Cause::NotScraped,
            format!("Prometheus scrapes no target of job {job}: the job has more targets than its target_limit"),
            format!("Raise target_limit of job {job} in Prometheus, or drop targets of it by relabel_configs"),
        )
        .fact(scrape_fact(scraped, why)),
    )
}

pub(super) fn not_scraped(e: &Evidence) -> Option<Finding> {
    if !passes(e) {
        return None;
    }
    if let Some(finding) = over_target_limit(e) {
        return Some(finding);
    }
    let dropped = match &e.prometheus {
        Lookup::Absent => false,
        Lookup::Found(found) if found.targets.is_empty() && found.stale.is_empty() => found.dropped,
        _ => return None,
    };
    if !dropped && will_be_discovered(e) {
        return None;
    }
    let name = prometheus_name(e);
    let at = url(&e.subject.url);
    let (how, advice) = if dropped {
        (
            format!("drops {at} by relabelling"),
            "Look at relabel_configs of its job: one of them drops this target".to_owned(),
        )
    } else {
        (
            format!("does not know {at}"),
            "Add it: http_sd_configs with vigie's /sd/prometheus, a ServiceMonitor or PodMonitor whose selectors match, or a static target; or correct job and instance in spec.prometheus".to_owned(),
        )
    };
    Some(
        Finding::new(Cause::NotScraped, format!("{name} {how}: it is not scraped"), advice)
            .fact(format!("no active target of {name} is {at}")),
    )
}

pub(super) fn not_yet_scraped(e: &Evidence) -> Option<Finding> {
    let prometheus = e.prometheus.found()?;
    let targets = &prometheus.targets;
    if targets.is_empty() && !prometheus.dropped && passes(e) && will_be_discovered(e) {
        return Some(
            Finding::new(
                Cause::NotYetScraped,
                format!("{} does not know {} yet", prometheus_name(e), url(&e.subject.url)),
                "Wait a minute: its service discovery has to find what is new first",
            )
            .fact(format!("no active target is {}, and it is new", url(&e.subject.url))),
        );
    }
    let waits =
        |target: &&ScrapeTarget| target.health != "up" && (target.health == "unknown" || target.last_scrape.is_none());
    let scraped = targets.iter().find(waits).filter(|_| passes(e))?;
    let within = match scraped.interval_milliseconds {
        0 => String::new(),
        interval => format!(" of {} s", interval.div_ceil(1000)),
    };
    Some(
        Finding::new(
            Cause::NotYetScraped,
            format!("Prometheus knows {} and has not scraped it yet", url(&scraped.url)),
            format!("Wait one scrape interval{within}"),
        )
        .fact(format!("Prometheus: {} has never been scraped", url(&scraped.url))),
    )
}

pub(super) fn prometheus_down(e: &Evidence) -> Option<Finding> {
    let name = prometheus_name(e);
    let advice = "Bring Prometheus back, or correct spec.prometheus.url; until then nothing is concluded from its view";
    if let Some(why) = e.prometheus.missing() {
        return Some(
            Finding::new(Cause::PrometheusDown, format!("{name} cannot be asked: {why}"), advice)
                .fact(format!("not seen: {why}")),
        );
    }
    let scraped = e.prometheus.found()?.targets.iter().find(|target| is_stale(e, target))?;
    let last = scraped.last_scrape?;
    let message = format!(
        "{name} scraped {} last at {}, longer ago than two of its intervals of {} s: it does not scrape",
        url(&scraped.url),
        stamp(last),
        scraped.interval_milliseconds.div_ceil(1000)
    );
    Some(Finding::new(Cause::PrometheusDown, message, advice).fact(format!("last scrape at {}", stamp(last))))
}
