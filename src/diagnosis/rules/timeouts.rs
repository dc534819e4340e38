//! Connections that are accepted and not answered: a hang, or only a slow metrics page.

use super::Finding;
use super::process::thread_dump;
use super::queries::{actuator, answers, closest, fails, is_target, own_page, pods, probe_fact, target, vantage};
use super::response::prometheus_only;
use super::rollout::rollout_fact;
use super::scrape_error::{ScrapeError, failing_with, scrape_fact};
use super::text::url;
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Actuator, Evidence, Lookup};

/// The result of a second probe of the same process.
enum SecondProbe {
    /// It answers: the process lives.
    Answers,
    /// It does not answer either; the fact.
    Silent(String),
    /// There was no second probe.
    NotAsked,
}

/// The second probe is the liveness group, else the link list: neither waits for a database.
fn second_probe(actuator: &Actuator) -> SecondProbe {
    const SILENT: &[ErrorClass] =
        &[ErrorClass::FirstByteTimeout, ErrorClass::ConnectTimeout, ErrorClass::BodyTimeout, ErrorClass::Reset];
    let base = url(&actuator.base);
    match (&actuator.liveness, actuator.base_status, actuator.base_error) {
        (Some(Ok(_)), ..) | (_, Some(_), _) => SecondProbe::Answers,
        (Some(Err(class)), ..) if SILENT.contains(class) => {
            SecondProbe::Silent(format!("its liveness page is silent too ({class})"))
        }
        (_, None, Some(class)) if SILENT.contains(&class) => {
            SecondProbe::Silent(format!("{base} is silent too ({class})"))
        }
        (None, None, None) => SecondProbe::Silent(format!("{base} gives no answer")),
        _ => SecondProbe::NotAsked,
    }
}

pub(super) fn hung(e: &Evidence) -> Option<Finding> {
    let closest = closest(e);
    // A full backlog turns later connections into connect timeouts.
    let silent = |class| matches!(class, ErrorClass::FirstByteTimeout | ErrorClass::ConnectTimeout);
    let all_silent = closest.iter().all(|vantage| !vantage.ok && vantage.error_class.is_some_and(silent));
    let connected = closest.iter().find(|vantage| vantage.error_class == Some(ErrorClass::FirstByteTimeout))?;
    let found = pods(e);
    let running = found.iter().all(|pod| pod.containers.iter().all(|container| container.running_since.is_some()));
    if !fails(e) || !all_silent || !running {
        return None;
    }
    let finding = Finding::new(
        Cause::Hung,
        "it accepts connections and sends no byte: its threads wait for something",
        format!("Take a thread dump first{}, then restart it once", thread_dump(e)),
    )
    .restart_once()
    .fact(probe_fact(connected));
    let finding = match actuator(e).map(second_probe) {
        Some(SecondProbe::Answers) => return None,
        Some(SecondProbe::Silent(how)) => finding.fact(how),
        // A health page that waits for a database looks the same.
        Some(SecondProbe::NotAsked) | None => {
            finding.at_most(Confidence::Possible).fact("not seen: its liveness page or its /actuator list")
        }
    };
    let finding = finding.facts(rollout_fact(e)).needs(&e.actuator).needs(&e.pods);
    Some(if found.is_empty() && e.pods == Lookup::NotLooked { finding.lacking("its pods") } else { finding })
}

const SLOW_ADVICE: &str = "Find out what makes the page slow (a gauge that asks a database, too many series), or raise scrape_timeout in Prometheus and timeoutSeconds here";

/// The page begins and does not end in time for Prometheus, and vigie does not probe it: no filter is on the way.
fn slow_for_prometheus(e: &Evidence) -> Option<Finding> {
    let (scraped, why) = prometheus_only(e, |why| why == ScrapeError::SlowBody)?;
    let message = format!("Prometheus gets the beginning of {} and not its end in time", url(&scraped.url));
    let finding = Finding::new(Cause::SlowMetrics, message, SLOW_ADVICE).fact(scrape_fact(scraped, why));
    Some(finding.at_most(Confidence::Likely))
}

pub(super) fn slow_metrics(e: &Evidence) -> Option<Finding> {
    let Some(page) = own_page(e) else { return slow_for_prometheus(e) };
    let slow = matches!(page.error_class, Some(ErrorClass::FirstByteTimeout | ErrorClass::BodyTimeout));
    let health_answers = || {
        let health_page = vantage(e, "health").is_some_and(|health| health.ok);
        let itself = !is_target(page) && target(e).is_some_and(|target| target.ok);
        health_page || itself || answers(e)
    };
    if !page.ok && slow && health_answers() {
        return Some(
            Finding::new(
                Cause::SlowMetrics,
                format!(
                    "only its metrics page is too slow: no answer within {} s while its health answers",
                    page.milliseconds / 1000
                ),
                SLOW_ADVICE,
            )
            .fact(probe_fact(page))
            .facts(rollout_fact(e)),
        );
    }
    let (scraped, why) = failing_with(e, |why| matches!(why, ScrapeError::Timeout(false) | ScrapeError::SlowBody))
        .filter(|_| page.ok)?;
    // Close to the limit from vigie may be over it from Prometheus.
    let limit = scraped.timeout_milliseconds;
    let near = limit > 0 && page.milliseconds.saturating_mul(5) >= limit.saturating_mul(4);
    (near || why == ScrapeError::SlowBody).then(|| {
        let waits = if limit > 0 { format!(" ({} s)", limit.div_ceil(1000)) } else { String::new() };
        Finding::new(
            Cause::SlowMetrics,
            format!("its metrics page takes longer than Prometheus waits{waits}, or about as long"),
            SLOW_ADVICE,
        )
        .fact(probe_fact(page))
        .fact(scrape_fact(scraped, why))
    })
}
