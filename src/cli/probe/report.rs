//! The output of `vigie probe`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::run::ProbeRun;
use crate::api::{Alternative, Diagnosis, ErrorClass, Phase, RestartHelps};
use crate::probe::actuator::{HealthPage, Links, Reading};
use crate::probe::{Failure, Outcome};

/// The text: the request, each phase with its time and result, the outcome, and the diagnosis.
pub(super) fn text(run: &ProbeRun) -> String {
    let ProbeRun { url, request, spec: _, outcome, actuator, evidence: _, diagnosis, at: _ } = run;
    let mut lines = vec![url.clone(), String::new()];
    for (phase, took) in outcome.spent.iter() {
        let row = format!("  {:<10} {:>9}   {}", phase.as_str(), milliseconds(took), shown_by(phase, run));
        lines.push(row.trim_end().to_owned());
    }
    let whole = format!("  {:<10} {:>9}   of {} s", "in all", milliseconds(outcome.took), request.timeout.as_secs());
    lines.extend([whole, String::new()]);
    lines.extend(result(outcome.result.as_ref().err(), "passed"));
    if let Some((reading, counts)) = actuator {
        lines.extend([
            String::new(),
            format!("{}{}", reading.base, if *counts { "" } else { " (read because the probe failed)" }),
        ]);
        lines.extend(said_by_actuator(reading));
        if *counts {
            lines.extend(result(run.health_failure().as_ref(), "healthy"));
        }
    }
    lines.push(String::new());
    lines.extend(conclusion(run, diagnosis.as_ref()));
    lines.push(String::new());
    lines.join("\n")
}

/// The result of a phase, beside its time.
fn shown_by(phase: Phase, run: &ProbeRun) -> String {
    let Outcome { seen, result, .. } = &run.outcome;
    let failed_here = result.as_ref().is_err_and(|failure| failure.phase == phase);
    let mut words = Vec::new();
    match phase {
        Phase::Connect if !failed_here => words.extend(seen.address.map(|address| format!("to {address}"))),
        Phase::TLS => {
            words.extend(seen.certificate_expires.map(|expires| certificate(expires, run)));
            if run.request.tls.insecure_skip_verify {
                words.push("any certificate is believed".to_owned());
            }
            if seen.client_certificate_wanted {
                words.push("asks for a client certificate".to_owned());
            }
        }
        Phase::FirstByte => {
            words.extend(seen.http_status.map(|status| format!("status {status}")));
            match seen.redirects {
                0 => {}
                1 => words.push("after 1 redirect".to_owned()),
                more => words.push(format!("after {more} redirects")),
            }
        }
        Phase::Body => {
            if seen.body_bytes > 0 || seen.http_status.is_some() {
                words.push(format!("{} bytes", seen.body_bytes));
            }
            words.extend(seen.page.as_ref().map(|page| match page.samples {
                1 => "1 sample".to_owned(),
                samples => format!("{samples} samples"),
            }));
        }
        _ => {}
    }
    if failed_here {
        words.insert(0, "FAILED".to_owned());
    }
    words.join(", ")
}

fn certificate(expires: Timestamp, run: &ProbeRun) -> String {
    let left = expires.duration_since(run.at);
    let when = expires.strftime("%Y-%m-%d %H:%M UTC");
    let days = left.as_hours() / 24;
    let warned = i64::from(run.spec.http.warn_before_expiry_seconds());
    match (left.is_negative(), left.as_secs() < warned) {
        (true, _) => format!("the certificate expired on {when}"),
        (false, true) => format!("the certificate expires SOON, on {when} (in {days} days)"),
        (false, false) => format!("certificate until {when} ({days} days)"),
    }
}

fn result(failure: Option<&Failure>, well: &str) -> Vec<String> {
    let Some(failure) = failure else { return vec![format!("OK       {well}")] };
    let mut lines = vec![format!("FAILED   {} in {}: {}", failure.class, failure.phase, failure.message)];
    lines.extend(failure.detail.as_ref().map(|detail| format!("         it said: {detail}")));
    lines
}

/// The responses of the pages of an actuator, one line each.
fn said_by_actuator(reading: &Reading) -> Vec<String> {
    let line = |page: &str, answered: Result<u16, ErrorClass>, said: String| {
        let answered = answered.map_or_else(|class| class.to_string(), |status| status.to_string());
        format!("  {page:<10} {answered:>9}   {said}").trim_end().to_owned()
    };
    let links = match &reading.links.content {
        Some(links) => listed(reading, links),
        None => "no list of links".to_owned(),
    };
    let health = |health: Option<&HealthPage>| health.map_or_else(|| "no health page".to_owned(), HealthPage::describe);
    let mut lines = vec![
        line("links", reading.links.status_or_error(), links),
        line("health", reading.health.status_or_error(), health(reading.health.content.as_ref())),
    ];
    lines.extend(
        reading
            .liveness
            .as_ref()
            .map(|alive| line("liveness", alive.status_or_error(), health(alive.content.as_ref()))),
    );
    lines
}

/// The names of the links, with their paths where these differ from the names.
fn listed(reading: &Reading, links: &Links) -> String {
    let base = reading.base.trim_end_matches('/');
    let named = links.0.iter().filter(|(rel, _)| *rel != "self").map(|(rel, path)| {
        if base.strip_suffix(path.trim_end_matches(rel.as_str()).trim_end_matches('/')).is_some() {
            rel.clone()
        } else {
            format!("{rel} at {path}")
        }
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() { "nothing but itself".to_owned() } else { named.join(", ") }
}

/// The diagnosis that the operator would make.
fn conclusion(run: &ProbeRun, diagnosis: Option<&Diagnosis>) -> Vec<String> {
    let threshold = run.spec.failure_threshold;
    let after = match run.passed() || threshold < 2 {
        true => String::new(),
        false => format!(", after {threshold} such probes in a row"),
    };
    let mut lines = vec![format!("The operator would say {}{after}", run.state())];
    let Some(diagnosis) = diagnosis else { return lines };
    let Diagnosis { cause, confidence, since: _, message, advice, restart_helps, evidence: _, alternatives } =
        diagnosis;
    let restart = match restart_helps {
        RestartHelps::No => "would not help",
        RestartHelps::Once => "may help, once",
        RestartHelps::Yes => "would help",
    };
    lines.push(format!("  cause      {cause} ({confidence}): {message}"));
    lines.push(format!("  advice     {advice}"));
    lines.push(format!("  restart    {restart}"));
    for Alternative { cause, confidence, message } in alternatives {
        lines.push(format!("  or         {cause} ({confidence}): {message}"));
    }
    if !run.passed() {
        lines.extend([String::new(), MORE.to_owned()]);
    }
    lines
}

/// The limits of a single probe.
const MORE: &str = "Of a MonitoredBackend the operator also sees the pods, Prometheus and what was before: \
    `vigie diagnose backend NAME`";

fn milliseconds(took: Duration) -> String {
    if took >= Duration::from_secs(10) {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{:.1} ms", took.as_secs_f64() * 1e3)
    }
}

/// The JSON. Times are in milliseconds, with fractions.
pub(super) fn json(run: &ProbeRun) -> Value {
    let ProbeRun { url, request, spec: _, outcome, actuator, evidence, diagnosis, at } = run;
    let Outcome { result, took, spent, seen } = outcome;
    let millis = |took: Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
    let phases = spent.iter().map(|(phase, took)| json!({ "phase": phase, "milliseconds": millis(took) }));
    let page = seen.page.as_ref().map(|page| {
        let broken = page.broken_at.map(|(line, byte)| json!({ "line": line, "byte": byte }));
        json!({ "samples": page.samples, "brokenAt": broken, "missing": page.missing })
    });
    json!({
        "url": url,
        "time": at,
        "passed": run.passed(),
        "failure": result.as_ref().err().map(failure),
        "milliseconds": millis(*took),
        "timeoutMilliseconds": millis(request.timeout),
        "phases": phases.collect::<Vec<_>>(),
        "address": seen.address,
        "httpStatus": seen.http_status,
        "redirects": seen.redirects,
        "redirectsToLogin": seen.redirects_to_login,
        "certificateExpiryTime": seen.certificate_expires,
        "clientCertificateWanted": seen.client_certificate_wanted,
        "bodyBytes": seen.body_bytes,
        "page": page,
        "health": actuator.as_ref().and(run.health_failure()).as_ref().map(failure),
        "actuator": evidence.actuator.found(),
        "state": run.state(),
        "diagnosis": diagnosis,
    })
}

fn failure(failure: &Failure) -> Value {
    let Failure { class, phase, message, detail } = failure;
    json!({ "errorClass": class, "phase": phase, "message": message, "detail": detail })
}
