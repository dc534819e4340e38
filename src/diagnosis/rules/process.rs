//! The process behind the port: it listens elsewhere, still starts, never listened, or stopped listening.

use super::Finding;
use super::queries::{
    actuator, actuator_port, answers, began, closest, fails, is_refused, is_target, own_page, pod_vantages, pods,
    port_of, probe_fact, process_fails, process_port, reaches_port, separate_actuator_port, target, vantage, waiting,
    workload,
};
use super::rollout::{rollout_fact, startup};
use super::scrape_error::{ScrapeError, failing, failing_with, scrape_fact};
use super::settings::{Setting, application, how_to_set, less_certain, setting, setting_fact};
use super::text::{kubectl, some, stamp, url};
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Container, Evidence, Pod, Vantage};

/// Failures without any answer.
const SILENT: &[ErrorClass] =
    &[ErrorClass::ConnectTimeout, ErrorClass::FirstByteTimeout, ErrorClass::Reset, ErrorClass::BodyTimeout];

/// The target is one of Spring's management endpoints.
pub(super) fn is_management(e: &Evidence) -> bool {
    let base = setting(e, "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH");
    let path = &e.subject.path;
    path.contains("/actuator") || base.is().is_some_and(|base| base.len() > 1 && path.starts_with(base))
}

pub(super) fn bound_to_loopback(e: &Evidence) -> Option<Finding> {
    if !is_refused(e) {
        return None;
    }
    let port = process_port(e);
    let management = setting(e, "MANAGEMENT_SERVER_PORT").port();
    // With a port of its own the management server does not take the main server's address over.
    let names: &[&str] = match management {
        Some(own) if own == port => &["MANAGEMENT_SERVER_ADDRESS"],
        Some(_) => &["SERVER_ADDRESS"],
        None => &["SERVER_ADDRESS", "MANAGEMENT_SERVER_ADDRESS"],
    };
    let name = names.iter().find(|name| setting(e, name).is_loopback())?;
    let fact = setting_fact(e, name)?;
    let running = pods(e).iter().any(|pod| pod.containers.iter().any(|c| c.running_since.is_some()));
    let finding = Finding::new(
        Cause::BoundToLoopback,
        format!("port {port} is refused because its process listens on loopback only: {fact}"),
        format!("Listen on all addresses: {}", how_to_set(e, name, "0.0.0.0")),
    )
    .fact(fact)
    .facts(closest(e).first().map(|vantage| probe_fact(vantage)))
    .facts(rollout_fact(e));
    Some(if running { finding } else { finding.at_most(Confidence::Likely) })
}

pub(super) fn wrong_port(e: &Evidence) -> Option<Finding> {
    configured_elsewhere(e).or_else(|| seen_elsewhere(e)).or_else(|| undeclared(e)).or_else(|| scraped_elsewhere(e))
}

/// A setting names another port.
fn configured_elsewhere(e: &Evidence) -> Option<Finding> {
    let target = target(e)?;
    let page = own_page(e).filter(|page| !page.ok).unwrap_or(target);
    let port = process_port(e);
    let managed = is_management(e);
    let refused = is_refused(e);
    // The main server answers 404 for endpoints that are served on a separate management port.
    let elsewhere = managed && !page.ok && page.http_status == Some(404);
    if !refused && !elsewhere {
        return None;
    }
    let management = setting(e, "MANAGEMENT_SERVER_PORT");
    let name = match management {
        Setting::Is(_) if managed => "MANAGEMENT_SERVER_PORT",
        // Without a separate port the main server serves the management endpoints.
        Setting::Absent if refused => "SERVER_PORT",
        Setting::Unknown(_) | Setting::Is(_) if refused && !managed => "SERVER_PORT",
        _ => return None,
    };
    if name == "MANAGEMENT_SERVER_PORT" && management.is_word("-1") {
        let fact = setting_fact(e, name)?;
        let advice = format!("Give the management server a port again: {}", how_to_set(e, name, &port.to_string()));
        let message = format!("nothing is managed over HTTP: {fact} switches the management server off");
        return Some(Finding::new(Cause::WrongPort, message, advice).fact(fact).facts(rollout_fact(e)));
    }
    let other = setting(e, name).port().filter(|other| *other != port)?;
    let fact = setting_fact(e, name)?;
    let open = actuator(e).filter(|a| actuator_port(a) == Some(other) && a.base_status.is_some());
    let what = if refused { "is refused" } else { "answers 404" };
    Some(
        Finding::new(
            Cause::WrongPort,
            format!("port {port} {what}: its process serves this on port {other} ({fact})"),
            format!("{}, or {}", ask_at(e, other), how_to_set(e, name, &port.to_string())),
        )
        .fact(fact)
        .fact(probe_fact(page))
        .facts(open.map(|actuator| format!("{} answers", url(&actuator.base))))
        .facts(rollout_fact(e)),
    )
}

/// Advice to probe this port of its pods.
fn ask_at(e: &Evidence, port: u16) -> String {
    match &e.subject.service {
        Some((service, _)) => format!(
            "Give Service {service} a port that leads to {port} and name it in spec.target.service.port (Prometheus' target too)"
        ),
        None => format!("Correct the port of spec.target (and of Prometheus' target) to {port}"),
    }
}

/// The actuator answers on another port and lists the requested page there.
fn seen_elsewhere(e: &Evidence) -> Option<Finding> {
    let page = own_page(e).or_else(|| target(e)).filter(|page| !page.ok)?;
    let actuator = actuator(e)?;
    let other = separate_actuator_port(e)?;
    let missing = is_refused(e) || page.http_status == Some(404);
    let id = if page.name == "health" || e.subject.path.contains("health") { "health" } else { "prometheus" };
    let listed = actuator.links.as_ref().is_some_and(|links| links.contains_key(id));
    if !missing || !listed || !is_management(e) {
        return None;
    }
    let base = url(&actuator.base);
    Some(
        Finding::new(
            Cause::WrongPort,
            format!("port {} does not serve this: {base} on port {other} lists {id}", process_port(e)),
            ask_at(e, other),
        )
        .fact(probe_fact(page))
        .fact(format!("{base} lists {id}"))
        .facts(rollout_fact(e)),
    )
}

/// Its pods declare other ports only.
fn undeclared(e: &Evidence) -> Option<Finding> {
    if !is_refused(e) {
        return None;
    }
    let port = process_port(e);
    let mut ports: Vec<u16> =
        pods(e).iter().flat_map(|p| &p.containers).flat_map(|c| &c.ports).map(|(_, n)| *n).collect();
    ports.sort_unstable();
    ports.dedup();
    let expected = ["MANAGEMENT_SERVER_PORT", "SERVER_PORT"];
    let is_expected = expected.iter().any(|name| setting(e, name).port() == Some(port));
    let open = e.vantages.iter().find(|vantage| vantage.ok && vantage.port.is_some_and(|open| open != port));
    let listened = pods(e).into_iter().any(|pod| has_served(e, pod));
    let starting = open.is_none() && pods(e).into_iter().all(|pod| is_young(e, pod));
    if (ports.is_empty() && open.is_none()) || ports.contains(&port) || is_expected || listened || starting {
        return None;
    }
    let names: Vec<String> = ports.iter().map(u16::to_string).collect();
    let has = match open.and_then(|vantage| vantage.port) {
        Some(open) => format!("port {open} is open"),
        None => format!("its containers declare port {}", some(&names, 4)),
    };
    let finding = Finding::new(
        Cause::WrongPort,
        format!("nothing listens on port {port}; {has}"),
        format!(
            "Correct the port of spec.target, or have the process listen on {port} (Spring: MANAGEMENT_SERVER_PORT or SERVER_PORT)"
        ),
    )
    .at_most(Confidence::Likely)
    .facts(closest(e).first().map(|vantage| probe_fact(vantage)))
    .fact(has)
    .facts(rollout_fact(e));
    Some(less_certain(e, finding, &expected))
}

/// Prometheus is refused at a port that vigie does not probe.
fn scraped_elsewhere(e: &Evidence) -> Option<Finding> {
    let ours = target(e).filter(|target| target.ok)?;
    let (scraped, why) = failing_with(e, |why| why == ScrapeError::Refused)?;
    let port = port_of(&scraped.url).filter(|port| !reaches_port(e, *port))?;
    let open = ours.port.unwrap_or(e.subject.port);
    Some(
        Finding::new(
            Cause::WrongPort,
            format!("Prometheus scrapes port {port}, where nothing listens; port {open} answers us"),
            format!("Correct the port of Prometheus' target, or have the process listen on {port}; `vigie probe {}` shows what is there", url(&scraped.url)),
        )
        .at_most(Confidence::Likely)
        .fact(scrape_fact(scraped, why))
        .fact(probe_fact(ours))
        .lacking(format!("port {port} from here")),
    )
}

/// Whether it was healthy since this container started: then it did listen.
fn has_served(e: &Evidence, pod: &Pod) -> bool {
    let began = pod.containers.iter().filter_map(|container| container.running_since).max();
    began.is_some_and(|began| e.history.last_healthy.is_some_and(|healthy| healthy > began))
}

fn is_young(e: &Evidence, pod: &Pod) -> bool {
    began(pod).is_some_and(|at| e.gathered_at.duration_since(at) < startup(e))
}

/// Whether it may still be starting: not `Ready`, or without a readiness probe. A pod with an ended container does not
/// count.
fn may_be_starting(pod: &Pod) -> bool {
    let has_readiness = pod.containers.iter().any(|container| container.probes.2);
    let has_ended = |c: &Container| c.terminated.is_some() || waiting(c) == Some("CrashLoopBackOff");
    (!pod.ready || !has_readiness) && !pod.containers.iter().any(has_ended)
}

/// The previous termination, if this is not its first start.
fn ended_before(pod: &Pod) -> Option<String> {
    let (container, end) = pod.containers.iter().find_map(|c| Some((c, c.last.as_ref()?)))?;
    let at = end.ended.map(|at| format!(" at {}", stamp(at))).unwrap_or_default();
    Some(format!("container {} ended before: {}, exit {}{at}", container.name, end.reason, end.exit_code))
}

pub(super) fn still_starting(e: &Evidence) -> Option<Finding> {
    let lacks = workload(e).is_some_and(|workload| workload.ready < workload.wanted);
    let own = |name: &str| pod_vantages(e).find(|(pod, _)| *pod == name).map(|(_, vantage)| vantage);
    let all = pods(e);
    let bad: Vec<&Pod> =
        all.into_iter().filter(|pod| own(&pod.name).map_or(!pod.ready || fails(e), |vantage| !vantage.ok)).collect();
    let own_of_bad = || bad.iter().filter_map(|pod| own(&pod.name));
    // The target passes and a pod fails at its own address: what the target and its actuator answer says nothing of it.
    let alone = !fails(e) && own_of_bad().any(|vantage| vantage.confirmed != Some(false));
    let served = |pod: &Pod| match own(&pod.name).filter(|_| alone) {
        Some(vantage) => vantage.last_passed.is_some_and(|passed| began(pod).is_some_and(|began| passed >= began)),
        None => has_served(e, pod),
    };
    let starting = bad.iter().all(|pod| is_young(e, pod) && may_be_starting(pod) && !served(pod));
    let answers = match alone {
        true => own_of_bad().any(|vantage| vantage.any_byte),
        false => closest(e).iter().any(|vantage| !vantage.ok && vantage.any_byte) || answers(e),
    };
    let pending_startup = bad.iter().any(|pod| pod.containers.iter().any(|c| c.started == Some(false)));
    let health_says = !alone && actuator(e).is_some_and(|actuator| actuator.health.is_some());
    if !(fails(e) || lacks || alone) || bad.is_empty() || !starting || (answers && !pending_startup) || health_says {
        return None;
    }
    let pod = bad.first()?;
    let at = began(pod)?;
    let running = pod.containers.iter().any(|container| container.running_since.is_some());
    let what = if running { "runs" } else { "is being created" };
    let until = stamp(at.checked_add(startup(e)).unwrap_or(jiff::Timestamp::MAX));
    let before = ended_before(pod);
    // Ready without a readiness probe: the Service sends it requests from the first moment.
    let is_sent_requests = alone && pod.ready && pod.containers.iter().all(|container| !container.probes.2);
    let probe = match is_sent_requests {
        true => " With a readinessProbe its Service would send it no requests until then",
        false => "",
    };
    let again = before.as_ref().map(|ended| format!(" ({ended})")).unwrap_or_default();
    Some(
        Finding::new(
            Cause::StillStarting,
            format!("pod {} {what} since {} and does not answer yet{again}; it has until {until}", pod.name, stamp(at)),
            format!("Wait until {until}; a restart would only begin anew. If it needs longer, raise spec.startupSeconds or its startupProbe's budget.{probe}").trim_end_matches('.').to_owned(),
        )
        .facts(before)
        .at_most(Confidence::Likely)
        .fact(format!("budget for starting: {} s", e.subject.startup_seconds))
        .facts(own(&pod.name).or_else(|| closest(e).first().copied()).map(probe_fact))
        .facts(rollout_fact(e)),
    )
}

pub(super) fn never_started_listening(e: &Evidence) -> Option<Finding> {
    if !is_refused(e) {
        return None;
    }
    let pods = pods(e);
    let container = application(e)?;
    let since = container.running_since?;
    let never = |pod: &&Pod| {
        let fresh = |c: &Container| c.restarts == 0 && c.running_since.is_some();
        !is_young(e, pod) && !has_served(e, pod) && pod.containers.iter().all(fresh)
    };
    if pods.is_empty() || !pods.iter().all(never) {
        return None;
    }
    let pod = pods.first()?;
    let port = process_port(e);
    let finding = Finding::new(
        Cause::NeverStartedListening,
        format!(
            "container {} of pod {} runs since {} and has never listened on port {port}; its budget of {} s is over",
            container.name,
            pod.name,
            stamp(since),
            e.subject.startup_seconds
        ),
        format!(
            "Take a thread dump before anything else ({}), then restart it once",
            kubectl(e, format_args!("exec {} -c {} -- jstack 1", pod.name, container.name))
        ),
    )
    .restart_once()
    .fact(format!("container {}: running, 0 restarts", container.name))
    .facts(closest(e).first().map(|vantage| probe_fact(vantage)))
    .facts(rollout_fact(e));
    Some(if closest(e).iter().any(|vantage| vantage.name != "target") {
        finding
    } else {
        finding.at_most(Confidence::Likely)
    })
}

/// The command for a thread dump, in parentheses; empty if no pod is known.
pub(super) fn thread_dump(e: &Evidence) -> String {
    let dump = |pod: &&Pod| kubectl(e, format_args!("exec {} -- jcmd 1 Thread.print", pod.name));
    pods(e).first().map(dump).map(|dump| format!(" (for a JVM: {dump})")).unwrap_or_default()
}

/// The vantage of the main port, where it was probed in addition to the management port.
fn main_port(e: &Evidence) -> Option<&Vantage> {
    let is_separate = separate_actuator_port(e).is_some();
    vantage(e, "main").or_else(|| target(e).filter(|_| is_separate && !is_management(e)))
}

pub(super) fn main_port_dead(e: &Evidence) -> Option<Finding> {
    beside_management(e).or_else(|| stopped_listening(e))
}

/// Its containers run and answered before, and nothing listens any more.
fn stopped_listening(e: &Evidence) -> Option<Finding> {
    let pods = pods(e);
    let runs = |pod: &&Pod| pod.containers.iter().all(|container| container.running_since.is_some());
    let served = |pod: &&Pod| runs(pod) && has_served(e, pod);
    // If the actuator still answers, its rules say more.
    let is_alone = actuator(e).is_none_or(|actuator| actuator.base_status.is_none() && actuator.health.is_none());
    let pod = pods.first().filter(|_| is_refused(e) && is_alone && pods.iter().all(served))?;
    let healthy = e.history.last_healthy?;
    let container = application(e)?;
    let port = process_port(e);
    let finding = Finding::new(
        Cause::MainPortDead,
        format!(
            "nothing listens on port {port} any more: container {} of pod {} runs, and answered last at {}",
            container.name,
            pod.name,
            stamp(healthy)
        ),
        format!(
            "Read what its server said when it ended ({}), then restart it once",
            kubectl(e, format_args!("logs {} -c {} --tail=50", pod.name, container.name))
        ),
    )
    .restart_once()
    .at_most(Confidence::Likely)
    .facts(closest(e).first().map(|vantage| probe_fact(vantage)))
    .facts(failing(e).first().map(|(target, why)| scrape_fact(target, *why)))
    .facts(
        container.running_since.map(|since| format!("container {}: running since {}", container.name, stamp(since))),
    );
    Some(finding.facts(rollout_fact(e)))
}

fn beside_management(e: &Evidence) -> Option<Finding> {
    let main = main_port(e).filter(|main| !main.ok)?;
    let dead = |class| class == ErrorClass::Refused || SILENT.contains(&class);
    let is_dead = main.error_class.is_some_and(dead);
    let through_broken_service = is_target(main) && !process_fails(e, &[&[ErrorClass::Refused], SILENT].concat());
    let actuator = actuator(e).filter(|actuator| actuator.health.as_deref() == Some("UP"))?;
    if !is_dead || through_broken_service {
        return None;
    }
    // The target may be a Service, whose port has another number.
    let port = main.port.filter(|_| !is_target(main)).unwrap_or_else(|| process_port(e));
    Some(
        Finding::new(
            Cause::MainPortDead,
            format!("its management port is UP while its main port {port} does not answer"),
            format!(
                "Its connector is dead or its threads are used up: take a thread dump{}, then restart it once",
                thread_dump(e)
            ),
        )
        .restart_once()
        .fact(probe_fact(main))
        .fact(format!("{}: health is UP", url(&actuator.base)))
        .needs(&e.pods),
    )
}
