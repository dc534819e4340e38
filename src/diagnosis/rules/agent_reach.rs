//! A unit that runs, as the agent on its host sees it: where it listens, whether it answers there, and so whether the path
//! to it is at fault.

use std::net::IpAddr;

use jiff::SignedDuration;

use super::Finding;
use super::agent::{
    answers_locally, began, failing_view, has_served, host, is_container, is_young, local_probe_fact, logs, state_fact,
    unit,
};
use super::host::source;
use super::queries::{probe_fact, process_port, target};
use super::rollout::startup;
use super::text::{some, stamp, value};
use crate::api::{AgentView, Cause, Confidence, ErrorClass, TargetState};
use crate::diagnosis::evidence::{Evidence, Vantage};

/// Where a unit can be reached by its port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    /// On an address that other hosts reach; the entry.
    Open(String),
    /// On loopback only; the entry, and whether that is inside its container.
    Loopback(String, bool),
    /// On other ports only; the entries.
    Elsewhere(Vec<String>),
    /// The agent does not say.
    Unknown,
}

/// Address and port of `127.0.0.1:8081`, `[::]:8081` or `*:8081`; no address = all of them.
fn socket(text: &str) -> Option<(Option<IpAddr>, u16)> {
    let (address, port) = text.trim().rsplit_once(':')?;
    let address = address.trim_matches(['[', ']']);
    let port = port.parse().ok()?;
    match address {
        "" | "*" | "::" | "0.0.0.0" => Some((None, port)),
        "localhost" => Some((Some(IpAddr::from([127, 0, 0, 1])), port)),
        address => Some((Some(address.split('%').next()?.parse().ok()?), port)),
    }
}

/// The socket on the host, and the port inside the container, of `127.0.0.1:8081->8080/tcp`.
fn published(text: &str) -> Option<((Option<IpAddr>, u16), u16)> {
    let (outside, inside) = text.split_once("->")?;
    let inside = inside.trim().strip_suffix("/tcp").or((!inside.contains('/')).then_some(inside.trim()))?;
    Some((socket(outside)?, inside.parse().ok()?))
}

fn is_loopback(address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| address.is_loopback() || address.to_canonical().is_loopback())
}

/// Where the listeners in `entries` are reached by `port`.
fn listening(entries: &[String], port: u16, inside: bool) -> Reach {
    let all: Vec<(&String, Option<IpAddr>, u16)> =
        entries.iter().filter_map(|text| socket(text).map(|(address, port)| (text, address, port))).collect();
    let here = || all.iter().filter(|(.., number)| *number == port);
    if let Some((text, ..)) = here().find(|(_, address, _)| !is_loopback(*address)) {
        return Reach::Open(value(text));
    }
    if let Some((text, ..)) = here().next() {
        return Reach::Loopback(value(text), inside);
    }
    if all.is_empty() {
        return Reach::Unknown;
    }
    Reach::Elsewhere(all.iter().map(|(text, ..)| value(text)).collect())
}

fn reach(view: &AgentView, port: u16) -> Reach {
    let all: Vec<_> = view.published.iter().filter_map(|text| published(text).map(|of| (text, of))).collect();
    if all.is_empty() {
        // A container without published ports has an address of its own, or the host's network.
        return listening(&view.listens, port, is_container(view));
    }
    let here = || all.iter().filter(|(_, ((_, outside), _))| *outside == port);
    let open = here().find(|(_, ((address, _), _))| !is_loopback(*address));
    match (open, here().next()) {
        (Some((text, (_, inside))), _) => match listening(&view.listens, *inside, true) {
            loopback @ Reach::Loopback(..) => loopback,
            _ => Reach::Open(value(text)),
        },
        (None, Some((text, _))) => Reach::Loopback(value(text), false),
        (None, None) => Reach::Elsewhere(all.iter().map(|(text, _)| value(text)).collect()),
    }
}

/// The view of a unit that runs, and the target's failure before any answer.
fn unreached<'a>(e: &'a Evidence, classes: &[ErrorClass]) -> Option<(&'a AgentView, &'a Vantage)> {
    let view = failing_view(e).filter(|view| view.state == TargetState::Running)?;
    let target = target(e).filter(|target| target.error_class.is_some_and(|class| classes.contains(&class)))?;
    Some((view, target))
}

fn is_refused_locally(view: &AgentView) -> bool {
    view.probe.as_ref().is_some_and(|probe| !probe.is_answered() && probe.error_class == Some(ErrorClass::Refused))
}

/// Whether the agent's own probe tells more than that the unit runs: it is answered, or it is refused by a unit whose start
/// is known, which never listened or does no more.
pub(super) fn is_told_apart(view: &AgentView) -> bool {
    answers_locally(view) || (is_refused_locally(view) && view.since.is_some())
}

/// What the agent and the probe say, as facts.
fn seen(finding: Finding, view: &AgentView, target: &Vantage) -> Finding {
    finding.fact(state_fact(view)).facts(local_probe_fact(view)).fact(probe_fact(target))
}

pub(super) fn bound_to_loopback(e: &Evidence) -> Option<Finding> {
    // A port of Docker's that leads to nothing inside the container is reset, or refused.
    let (view, target) = unreached(e, &[ErrorClass::Refused, ErrorClass::Reset])?;
    let port = process_port(e);
    let Reach::Loopback(entry, inside) = reach(view, port) else { return None };
    let is_published = entry.contains("->");
    let (what, advice) = match (is_published, inside) {
        (true, _) => (
            format!("is published on loopback only ({entry})"),
            format!(
                "Publish the port on an address that is reached from here: `ports: [\"{port}:{}\"]` in the compose file or `docker run -p`, and create the container again",
                published(&entry).map_or(port, |(_, inside)| inside)
            ),
        ),
        (false, true) => (
            format!("listens on {entry} inside its container only"),
            "Listen on all addresses of the container (Spring: SERVER_ADDRESS or MANAGEMENT_SERVER_ADDRESS=0.0.0.0), and create the container again".to_owned(),
        ),
        (false, false) => (
            format!("listens on loopback only ({entry})"),
            "Listen on an address that is reached from here (Spring: SERVER_ADDRESS or MANAGEMENT_SERVER_ADDRESS=0.0.0.0), and restart it".to_owned(),
        ),
    };
    let finding = Finding::new(
        Cause::BoundToLoopback,
        format!("port {port} does not answer from here: {} {what}", unit(view)),
        advice,
    );
    Some(seen(finding.fact(format!("agent: {entry}")), view, target))
}

pub(super) fn wrong_port(e: &Evidence) -> Option<Finding> {
    let (view, target) = unreached(e, &[ErrorClass::Refused])?;
    let port = process_port(e);
    let Reach::Elsewhere(entries) = reach(view, port) else { return None };
    // While it starts, its port may only come. What answers on the host is the path's fault.
    if answers_locally(view) || (is_young(e, view, startup(e)) && !has_served(e, view)) {
        return None;
    }
    let where_ = some(&entries, 4);
    let finding = Finding::new(
        Cause::WrongPort,
        format!("nothing listens on port {port}: {} listens on {where_}", unit(view)),
        format!("Correct the port of spec.target, or have it listen on port {port}"),
    )
    .at_most(Confidence::Likely)
    .fact(format!("agent: it listens on {where_}"));
    Some(seen(finding, view, target))
}

pub(super) fn never_started_listening(e: &Evidence) -> Option<Finding> {
    let (view, target) = unreached(e, &[ErrorClass::Refused])?;
    let since = began(view)?;
    if !is_refused_locally(view) || is_young(e, view, startup(e)) || has_served(e, view) {
        return None;
    }
    let port = process_port(e);
    let finding = Finding::new(
        Cause::NeverStartedListening,
        format!(
            "{} runs since {} and has not listened on port {port}; its budget of {} s is over",
            unit(view),
            stamp(since),
            e.subject.startup_seconds
        ),
        format!("Read its log ({}), take a thread dump, then restart it once", logs(view)),
    )
    .restart_once();
    Some(seen(finding, view, target))
}

pub(super) fn stopped_listening(e: &Evidence) -> Option<Finding> {
    let (view, target) = unreached(e, &[ErrorClass::Refused])?;
    let healthy = e.history.last_healthy?;
    if !is_refused_locally(view) || !has_served(e, view) {
        return None;
    }
    let finding = Finding::new(
        Cause::MainPortDead,
        format!(
            "nothing listens on port {} any more: {} runs, and answered last at {}",
            process_port(e),
            unit(view),
            stamp(healthy)
        ),
        format!("Read what its server said when it ended ({}), then restart it once", logs(view)),
    )
    .restart_once()
    .at_most(Confidence::Likely);
    Some(seen(finding, view, target))
}

fn reach_fact(reach: &Reach) -> Option<String> {
    match reach {
        Reach::Open(entry) => Some(format!("agent: it is reached by {entry}")),
        Reach::Loopback(entry, _) => Some(format!("agent: it listens on {entry}")),
        Reach::Elsewhere(entries) => Some(format!("agent: it is reached by {}", some(entries, 4))),
        Reach::Unknown => None,
    }
}

/// The longest time between a look of the agent and the heartbeat that tells it.
const LOOK: SignedDuration = SignedDuration::from_secs(5);

/// Whether the agent may have looked before the target began to fail: what it saw then may be over.
fn looked_before(e: &Evidence) -> bool {
    let looked = e.agent.as_ref().and_then(|agent| agent.confirmed_at).zip(e.history.bad_since);
    looked.is_some_and(|(told, bad_since)| told.duration_since(bad_since) < LOOK)
}

pub(super) fn blocked_before_host(e: &Evidence) -> Option<Finding> {
    use ErrorClass::{ConnectTimeout, Refused, Unreachable};
    let (view, target) = unreached(e, &[Refused, ConnectTimeout, Unreachable])?;
    let port = process_port(e);
    let reach = reach(view, port);
    let answers = answers_locally(view);
    let is_refusal = target.error_class == Some(Refused);
    // A process that has just ended is refused, too. A host whose packets are dropped is no dead process.
    if is_refusal && looked_before(e) {
        return None;
    }
    // Without a probe of the agent's own, a socket that is open to others is the word that it listens.
    let listens = matches!(reach, Reach::Open(_)) && view.probe.is_none() && !is_refusal;
    if !answers && !listens {
        return None;
    }
    let host = host(view);
    let answering = if answers { "answers there" } else { "listens there" };
    let (what, advice) = match (is_refusal, &reach) {
        (true, Reach::Elsewhere(entries)) => (
            format!("port {port} is refused from here, and it is reached by {}", some(entries, 4)),
            format!("Publish port {port} on {host}, or correct the port of spec.target"),
        ),
        (true, _) => (
            format!(
                "port {port} is refused from here: it is published on another address or port of {host}, or bound to another one"
            ),
            format!(
                "Compare the address that spec.target names with those of `ss -ltn` and `docker ps` on {host}, and publish or bind port {port} there; what still refuses then is a device on the way that rejects vigie's connections"
            ),
        ),
        (false, _) => (
            format!("vigie's packets to port {port} are dropped or find no way"),
            format!(
                "Allow TCP {port} from {} in the security group or firewall of {host}, and the way back; the address of spec.target must be that of {host}",
                source(target)
            ),
        ),
    };
    let finding = Finding::new(
        Cause::BlockedBeforeHost,
        format!("{} runs and {answering}; {what}", unit(view)),
        format!("{advice}. A restart changes nothing"),
    )
    .facts(reach_fact(&reach));
    let certain = answers && (!is_refusal || matches!(reach, Reach::Elsewhere(_)));
    let finding = if certain { finding } else { finding.at_most(Confidence::Likely) };
    Some(seen(finding, view, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_ss_docker_and_proc_write_them() {
        let ip = |text: &str| text.parse().ok();
        for (text, expected) in [
            ("127.0.0.1:8081", Some((ip("127.0.0.1"), 8081))),
            ("[::1]:8081", Some((ip("::1"), 8081))),
            ("[::]:8081", Some((None, 8081))),
            (":::8081", Some((None, 8081))),
            ("*:80", Some((None, 80))),
            ("fe80::1%eth0:80", Some((ip("fe80::1"), 80))),
            ("8081", None),
            ("x:y", None),
            ("192.0.2.1:99999", None),
        ] {
            assert_eq!(socket(text), expected, "{text}");
        }
        assert_eq!(published("0.0.0.0:8081->8080/tcp"), Some(((None, 8081), 8080)));
        assert_eq!(published("0.0.0.0:8081->8080/udp"), None);
        assert_eq!(published("8080/tcp"), None);
    }

    #[test]
    fn the_published_port_decides_and_then_the_listener_inside() {
        let view = |published: &[&str], listens: &[&str]| AgentView {
            unit: Some("container:orders".to_owned()),
            published: published.iter().map(|text| (*text).to_owned()).collect(),
            listens: listens.iter().map(|text| (*text).to_owned()).collect(),
            ..AgentView::default()
        };
        let of = |published: &[&str], listens: &[&str]| reach(&view(published, listens), 8081);
        let open = Reach::Open("0.0.0.0:8081->8080/tcp".to_owned());
        assert_eq!(of(&["0.0.0.0:8081->8080/tcp"], &[]), open);
        assert_eq!(of(&["0.0.0.0:8081->8080/tcp"], &["[::]:8080"]), open);
        let inside = Reach::Loopback("127.0.0.1:8080".to_owned(), true);
        assert_eq!(of(&["0.0.0.0:8081->8080/tcp"], &["127.0.0.1:8080"]), inside);
        let outside = Reach::Loopback("127.0.0.1:8081->8080/tcp".to_owned(), false);
        assert_eq!(of(&["127.0.0.1:8081->8080/tcp"], &["[::]:8080"]), outside);
        let elsewhere = Reach::Elsewhere(vec!["0.0.0.0:9081->8080/tcp".to_owned()]);
        assert_eq!(of(&["0.0.0.0:9081->8080/tcp"], &[]), elsewhere);
        assert_eq!(of(&[], &[]), Reach::Unknown);
        assert_eq!(
            of(&[], &["[::ffff:127.0.0.1]:8081", "0.0.0.0:22"]),
            Reach::Loopback("[::ffff:127.0.0.1]:8081".to_owned(), true)
        );
    }
}
