//! Real texts of `lastError`, and the conclusion that each must lead to while our own probe passes.

use super::scene::*;
use crate::api::Cause::{PrometheusCannotScrape, ServerError};
use crate::api::RestartHelps::No;
use crate::diagnosis::evidence::Evidence;

/// The probe of the health page passes; Prometheus scrapes the metrics page by `scheme`, and fails with this error.
fn scraped_with(scheme: &str, error: &str) -> Evidence {
    with(only_prometheus(""), |e| {
        (e.subject.path, e.subject.wants_metrics) = ("/actuator/health".to_owned(), false);
        e.subject.scheme = scheme.to_owned();
        let target = &mut prometheus_of(e).targets[0];
        target.url = format!("{scheme}://10.1.0.7:8081/actuator/prometheus");
        target.last_error = error.replace("{U}", &target.url);
    })
}

/// One line of `scrape_errors.txt`.
struct Text<'a> {
    scheme: &'a str,
    cause: &'a str,
    confidence: &'a str,
    word: &'a str,
    error: &'a str,
}

fn texts() -> Vec<Text<'static>> {
    let lines = include_str!("scrape_errors.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &'static str| {
        let mut columns = line.splitn(5, " | ");
        let mut next = || columns.next().expect(line);
        Text { scheme: next(), cause: next(), confidence: next(), word: next(), error: next() }
    };
    lines.map(read).collect()
}

#[test]
fn each_text_of_prometheus_leads_to_its_cause_and_its_advice() {
    let texts = texts();
    assert!(texts.len() >= 60, "the table is not whole");
    let mut different = Vec::new();
    for Text { scheme, cause, confidence, word, error } in &texts {
        let d = diagnosis(&scraped_with(scheme, error));
        let is_wanted = d.cause.as_str() == *cause && d.confidence.as_str() == *confidence && d.restart_helps == No;
        if !is_wanted || !d.advice.contains(word) {
            different.push(format!("{error}\n  {} {}: {}\n  -> {}", d.cause, d.confidence, d.message, d.advice));
        }
    }
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), texts.len(), different.join("\n"));
}

#[test]
fn no_text_of_a_redirect_is_shown() {
    let e = scraped_with(
        "http",
        "Get \"https://hunter2.example.com/hunter2\": dial tcp: lookup hunter2.example.com: no such host",
    );
    assert!(!format!("{:?}", diagnosis(&e)).contains("hunter2"));
}

#[test]
fn a_refusal_of_the_proxy_is_never_the_targets() {
    for words in
        ["connect: connection refused", "i/o timeout", "connect: no route to host", "lookup p: server misbehaving"]
    {
        let error = format!("Get \"{{U}}\": proxyconnect tcp: dial tcp 192.0.2.3:3128: {words}");
        let d = expect_cause(&scraped_with("http", &error), PrometheusCannotScrape);
        assert!(!d.advice.contains("allow TCP 8081"), "{}", d.advice);
    }
}

#[test]
fn what_a_backend_writes_into_its_status_line_is_not_taken_for_prometheus_words() {
    expect_cause(&scraped_with("http", "server returned HTTP status 500 connection refused"), ServerError);
    let e = scraped_with("http", "server returned HTTP status 500 target_limit exceeded");
    expect_cause(&e, ServerError);
}
