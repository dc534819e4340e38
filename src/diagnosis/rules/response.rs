//! Unexpected answers: authentication, content, size, server errors, rate limits.

use super::health::{is_health_bad, is_health_page, says_unwell};
use super::queries::{fails, own_page, pod_vantages, probe_fact, target, vantage};
use super::rollout::rollout_fact;
use super::scrape_error::{Limit, ScrapeError, failing_with, scrape_fact};
use super::text::{diagnose_command, some, url, value};
use super::unexpected::is_large_head;
use super::{Finding, matches_any};
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Evidence, ScrapeTarget, Vantage};

/// Failing vantages of vigie: the target, the metrics page and the health page.
pub(super) fn failing_ours(e: &Evidence) -> impl Iterator<Item = &Vantage> {
    let additional = ["metrics", "health"].into_iter().filter_map(|name| vantage(e, name));
    target(e).into_iter().chain(additional).filter(|vantage| !vantage.ok)
}

/// The first failing vantage with one of these statuses. A health page that says how it is answers with the status that
/// the application maps to its word, so its status says nothing more.
fn with_status(e: &Evidence, holds: impl Fn(u16) -> bool) -> Option<(&Vantage, u16)> {
    let is_explained = |vantage: &Vantage| says_unwell(e) && is_health_page(e, vantage);
    let answers = failing_ours(e).filter_map(|vantage| Some((vantage, vantage.http_status?)));
    let mut matching = answers.filter(|(_, status)| holds(*status));
    matching.find(|(vantage, _)| !is_explained(vantage))
}

/// The first failing vantage of this class.
pub(super) fn with_class(e: &Evidence, class: ErrorClass) -> Option<&Vantage> {
    failing_ours(e).find(|vantage| vantage.error_class == Some(class))
}

/// Prometheus' failure of this kind, while the target's probe does not fail.
pub(super) fn prometheus_only(
    e: &Evidence,
    holds: impl Fn(ScrapeError) -> bool,
) -> Option<(&ScrapeTarget, ScrapeError)> {
    failing_with(e, holds).filter(|_| !fails(e))
}

/// Whether the target is asked with gRPC.
pub(super) fn is_grpc(e: &Evidence) -> bool {
    e.subject.scheme.starts_with("grpc")
}

/// The first failing vantage whose gRPC status is one of `statuses`.
fn with_grpc_status<'a>(e: &'a Evidence, statuses: &[i32]) -> Option<&'a Vantage> {
    failing_ours(e).find(|vantage| vantage.grpc_status.is_some_and(|status| statuses.contains(&status)))
}

/// UNAUTHENTICATED and PERMISSION_DENIED.
fn grpc_authentication_required(e: &Evidence) -> Option<Finding> {
    let vantage = with_grpc_status(e, &[16, 7])?;
    let finding = Finding::new(
        Cause::AuthenticationRequired,
        format!("{}: a gRPC probe sends no credentials", vantage.message),
        "Except grpc.health.v1.Health from authentication (the interceptor of the server, or the policy of the mesh), as the kubelet's gRPC probes need it too",
    );
    Some(finding.fact(probe_fact(vantage)).facts(rollout_fact(e)))
}

pub(super) fn authentication_required(e: &Evidence) -> Option<Finding> {
    if let Some(finding) = grpc_authentication_required(e) {
        return Some(finding);
    }
    let login = || failing_ours(e).find(|vantage| vantage.redirects_to_login);
    let ours = with_status(e, |status| matches!(status, 401 | 403)).map(|(vantage, _)| vantage).or_else(login);
    if let Some(vantage) = ours {
        let what = match vantage.http_status {
            Some(status @ (401 | 403)) => format!("it answers {status}"),
            _ => "it redirects to a login page".to_owned(),
        };
        return Some(
            Finding::new(
                Cause::AuthenticationRequired,
                format!("{what}: it wants credentials, or others than it was given"),
                "Give the probe credentials (spec.probe.http.basicAuthSecretName or bearerTokenSecretRef), or permit health and prometheus in the application's security",
            )
            .fact(probe_fact(vantage))
            .facts(rollout_fact(e)),
        );
    }
    let login = |why| matches!(why, ScrapeError::Status(401 | 403) | ScrapeError::Redirected(true));
    let (scraped, why) = prometheus_only(e, login)?;
    let (at, advice) = (
        url(&scraped.url),
        "Give Prometheus' scrape configuration basic_auth or authorization, or permit the metrics page in the application's security",
    );
    let finding = match why {
        ScrapeError::Status(_) => Finding::new(
            Cause::AuthenticationRequired,
            format!("Prometheus gets {} from {at}: it has no credentials, or wrong ones", why.text()),
            advice,
        ),
        _ => Finding::new(
            Cause::AuthenticationRequired,
            format!("{at} redirects Prometheus to a login on another host, which Prometheus cannot reach"),
            advice,
        )
        .at_most(Confidence::Likely),
    };
    Some(finding.fact(scrape_fact(scraped, why)))
}

pub(super) fn not_metrics(e: &Evidence) -> Option<Finding> {
    const ADVICE: &str = "Correct the path or the target: something else answers there (a web page, an Ingress' default backend, a JSON endpoint). Prometheus 3 also wants a Content-Type, or fallback_scrape_protocol";
    if let Some(page) = with_class(e, ErrorClass::ContentType).filter(|_| !is_grpc(e)) {
        if page.message.contains("Content-Encoding") {
            let advice = "Turn that compression off for this page, or have the server heed Accept-Encoding: a proxy or a filter that compresses every answer is the usual cause";
            let finding = Finding::new(Cause::NotMetrics, page.message.clone(), advice);
            return Some(finding.fact(probe_fact(page)));
        }
        return Some(
            Finding::new(
                Cause::NotMetrics,
                "what answers is no metrics page: its content type is not one that Prometheus reads",
                ADVICE,
            )
            .fact(probe_fact(page)),
        );
    }
    if let Some((scraped, why)) = prometheus_only(e, |why| why == ScrapeError::ContentType) {
        let message = format!("what Prometheus gets from {} is no metrics page: {}", url(&scraped.url), why.text());
        return Some(Finding::new(Cause::NotMetrics, message, ADVICE).fact(scrape_fact(scraped, why)));
    }
    if let Some(finding) = redirects_prometheus(e) {
        return Some(finding);
    }
    let empty = |target: &&ScrapeTarget| target.health == "up" && target.samples == Some(0);
    let scraped = e.prometheus.found()?.targets.iter().find(empty)?;
    Some(
        Finding::new(
            Cause::NotMetrics,
            format!("Prometheus scrapes {} and gets no samples", url(&scraped.url)),
            "Look at the page: it is empty, or metric_relabel_configs drop all of it",
        )
        .at_most(Confidence::Likely)
        .fact(format!("Prometheus: {} is up, 0 samples", url(&scraped.url))),
    )
}

/// A redirect that leads Prometheus to no page. Its target is the backend's word, and is not shown.
fn redirects_prometheus(e: &Evidence) -> Option<Finding> {
    let (scraped, why) =
        prometheus_only(e, |why| matches!(why, ScrapeError::Redirected(false) | ScrapeError::RedirectLoop))?;
    let at = url(&scraped.url);
    let (message, advice) = match why {
        ScrapeError::RedirectLoop => (
            format!("{at} redirects Prometheus in a circle"),
            "Correct the redirect (a trailing slash, http to https and back, a login that wants a cookie), or metrics_path and scheme of the job",
        ),
        _ => (
            format!("{at} redirects Prometheus to another host or port, and that request fails"),
            "Let Prometheus ask for the page itself: correct metrics_path, scheme and port of the job, or the redirect; lastError of the target in Prometheus (Status, Targets) names where it leads",
        ),
    };
    Some(Finding::new(Cause::NotMetrics, message, advice).at_most(Confidence::Likely).fact(scrape_fact(scraped, why)))
}

/// Whether the page as a whole is in another form (HTML, JSON, gzip, UTF-16), rather than broken in one line.
fn is_another_form(page: &Vantage) -> bool {
    ["what begins like this", "a byte order mark"].iter().any(|words| page.message.contains(words))
}

pub(super) fn malformed_metrics(e: &Evidence) -> Option<Finding> {
    let broken = with_class(e, ErrorClass::Exposition).and_then(|page| Some((page, page.broken_at?)));
    if let Some((page, _)) = broken.filter(|(page, _)| is_another_form(page)) {
        let advice = "Correct what serves the page, not a collector: it must send the text of the page as it is, in UTF-8, with its Content-Type";
        let finding = Finding::new(Cause::MalformedMetrics, page.message.clone(), advice);
        return Some(finding.fact(probe_fact(page)).facts(rollout_fact(e)));
    }
    if let Some((page, (line, offset))) = broken {
        return Some(
            Finding::new(
                Cause::MalformedMetrics,
                format!("its metrics page cannot be parsed: line {line}, at byte {offset}"),
                format!(
                    "Correct the collector that writes line {line}; {} shows the line",
                    diagnose_command(&e.subject)
                ),
            )
            .fact(probe_fact(page))
            .facts(rollout_fact(e)),
        );
    }
    let broken = [ScrapeError::Malformed, ScrapeError::Compressed, ScrapeError::CutOff];
    let (scraped, why) = prometheus_only(e, |why| broken.contains(&why))?;
    let at = url(&scraped.url);
    let (message, advice) = match why {
        ScrapeError::Compressed => (
            format!("the page at {at} reaches Prometheus compressed in a way that it does not read"),
            "Let the server, or the proxy in front of it, obey Accept-Encoding: Prometheus reads gzip alone, once, and only with its Content-Encoding; zstd and br are not read",
        ),
        ScrapeError::CutOff => (
            format!("the page at {at} ends in the middle when Prometheus reads it"),
            "Look at what ends the connection: a timeout or a size limit of a proxy in between, or the backend itself (its log at the time of a scrape)",
        ),
        _ => (
            format!("Prometheus cannot parse the page at {at}"),
            "Read lastError of the target in Prometheus (Status, Targets): it quotes the line",
        ),
    };
    let finding = Finding::new(Cause::MalformedMetrics, message, advice).fact(scrape_fact(scraped, why));
    Some(if why == ScrapeError::Malformed { finding } else { finding.at_most(Confidence::Likely) })
}

pub(super) fn too_large(e: &Evidence) -> Option<Finding> {
    const ADVICE: &str = "Cut the number of series (labels with many values), or raise the limit; a restart shrinks the page for a while and hides it";
    let samples = || with_class(e, ErrorClass::Exposition).filter(|page| page.broken_at.is_none());
    let body = with_class(e, ErrorClass::BodyTooLarge).filter(|answer| !is_large_head(answer));
    if let Some(page) = body.or_else(samples) {
        let count = page.samples.map(|samples| format!(" ({samples} samples read)")).unwrap_or_default();
        return Some(
            Finding::new(Cause::TooLarge, format!("its answer exceeds a limit of size or samples{count}"), ADVICE)
                .fact(probe_fact(page)),
        );
    }
    // `target_limit` counts the targets of a job, whatever their pages are like.
    let of_page = |why| matches!(why, ScrapeError::Limit(limit) if limit != Limit::Targets);
    let (scraped, why) = prometheus_only(e, of_page)?;
    let message = format!("Prometheus drops the page at {}: {}", url(&scraped.url), why.text());
    let advice = match why {
        ScrapeError::Limit(Limit::Labels) => {
            "Take labels off the series, or shorten their names and values; or raise label_limit, label_name_length_limit or label_value_length_limit of the job"
        }
        ScrapeError::Limit(Limit::Body) => {
            "Cut the number of series (labels with many values), or raise body_size_limit of the job; a restart shrinks the page for a while and hides it"
        }
        _ => {
            "Cut the number of series (labels with many values), or raise sample_limit of the job; a restart shrinks the page for a while and hides it"
        }
    };
    Some(Finding::new(Cause::TooLarge, message, advice).fact(scrape_fact(scraped, why)))
}

pub(super) fn metric_missing(e: &Evidence) -> Option<Finding> {
    let page = failing_ours(e).find(|page| !page.missing_metrics.is_empty())?;
    let names: Vec<String> = page.missing_metrics.iter().map(|name| value(name)).collect();
    Some(
        Finding::new(
            Cause::MetricMissing,
            format!("its metrics page lacks {}", some(&names, 6)),
            "Find out what should register it (a library, a first request), or take it out of spec.probe.metrics.required",
        )
        .fact(probe_fact(page))
        .facts(page.samples.map(|samples| format!("{samples} samples on the page")))
        .facts(rollout_fact(e)),
    )
}

/// UNAVAILABLE, INTERNAL, UNKNOWN, DEADLINE_EXCEEDED, ABORTED and DATA_LOSS.
fn grpc_error(e: &Evidence) -> Option<Finding> {
    let vantage = with_grpc_status(e, &[14, 13, 2, 4, 10, 15])?;
    let advice = match vantage.grpc_status {
        Some(14) => {
            "Look at what stands between first (a proxy or mesh without a healthy instance), then at the log of the server: it answers UNAVAILABLE while it starts and while it stops"
        }
        Some(4) => {
            "Find out what its health check waits for (a database, another service), or raise the time limit of the proxy in front"
        }
        _ => "Read its log at the time of a probe; the exception is there",
    };
    let finding = Finding::new(Cause::ServerError, vantage.message.clone(), advice).at_most(Confidence::Likely);
    Some(finding.fact(probe_fact(vantage)).facts(rollout_fact(e)))
}

pub(super) fn server_error(e: &Evidence) -> Option<Finding> {
    if let Some(finding) = grpc_error(e) {
        return Some(finding);
    }
    let (vantage, status) = match with_status(e, |status| status >= 500) {
        Some(found) => found,
        None => return prometheus_gets_errors(e),
    };
    // A health page that says DOWN is not a server error.
    if status == 503
        && matches_any(e, &[Cause::DependencyDown, Cause::DiskFull, Cause::LivenessBroken, Cause::OutOfService])
    {
        return None;
    }
    let pods_pass = pod_vantages(e).next().is_some() && pod_vantages(e).all(|(_, pod)| pod.ok);
    if matches!(status, 502..=504) && pods_pass {
        return Some(
            Finding::new(
                Cause::ServerError,
                format!("a gateway in front answers {status} while the pods themselves answer well"),
                "Look at what stands between: Ingress, gateway or mesh, their timeouts and their view of the endpoints; restarting the backend changes nothing",
            )
            .fact(probe_fact(vantage))
            .facts(pod_vantages(e).take(3).map(|(_, pod)| probe_fact(pod))),
        );
    }
    let health = is_health_bad(e);
    let finding = Finding::new(
        Cause::ServerError,
        format!(
            "it answers {status}: an error of its own{}",
            if health == Some(true) { ", and its health is bad too" } else { "" }
        ),
        "Read its log at the time of a probe; the exception is there",
    )
    .fact(probe_fact(vantage))
    .facts(rollout_fact(e));
    Some(match (status, health) {
        (500, Some(true)) => finding.at_most(Confidence::Likely).restart_once().needs(&e.pods),
        (500 | 501, _) => finding.at_most(Confidence::Likely),
        _ => {
            finding.at_most(Confidence::Possible).fact("not seen: who answers, the backend or a gateway in front of it")
        }
    })
}

fn prometheus_gets_errors(e: &Evidence) -> Option<Finding> {
    let broken = |why| matches!(why, ScrapeError::Status(500..) | ScrapeError::BadHead);
    let (scraped, why) = prometheus_only(e, broken)?;
    let (message, advice) = match why {
        ScrapeError::BadHead => (
            format!("the answer of {} breaks the rules of HTTP, and Prometheus refuses it", url(&scraped.url)),
            "Correct the header or status line that lastError of the target in Prometheus (Status, Targets) names: in the backend, or in a proxy in front of it; another protocol than HTTP on this port looks the same",
        ),
        _ => (
            format!("Prometheus gets {} from {}", why.text(), url(&scraped.url)),
            "Read the backend's log at the time of a scrape, or that of the gateway that Prometheus goes through",
        ),
    };
    Some(Finding::new(Cause::ServerError, message, advice).at_most(Confidence::Likely).fact(scrape_fact(scraped, why)))
}

pub(super) fn rate_limited(e: &Evidence) -> Option<Finding> {
    // RESOURCE_EXHAUSTED.
    if let Some(vantage) = with_grpc_status(e, &[8]) {
        let advice = "Raise spec.probe.intervalSeconds, or the limit (requests in a time, streams of a connection, memory) that the server or the proxy in front has";
        let finding = Finding::new(Cause::RateLimited, vantage.message.clone(), advice);
        return Some(finding.at_most(Confidence::Likely).fact(probe_fact(vantage)));
    }
    if let Some((vantage, _)) = with_status(e, |status| status == 429) {
        return Some(
            Finding::new(
                Cause::RateLimited,
                "it answers 429: it is asked too often",
                "Raise spec.probe.intervalSeconds, or let the limit spare the probe's path",
            )
            .fact(probe_fact(vantage)),
        );
    }
    let (scraped, why) = prometheus_only(e, |why| why == ScrapeError::Status(429))?;
    let message = format!("Prometheus is turned away from {} with 429: it asks too often", url(&scraped.url));
    let advice = "Raise scrape_interval, or let the limit spare the metrics page";
    Some(Finding::new(Cause::RateLimited, message, advice).fact(scrape_fact(scraped, why)))
}

/// Whether the probe of the metrics page passes; used by the conditions.
pub(super) fn page_passes(e: &Evidence) -> Option<bool> {
    own_page(e).map(|page| page.ok)
}
