//! Complete evidence, as `vigie diagnose --evidence` saves it, and the resulting diagnosis as text.
//!
//! `VIGIE_ACCEPT=1 cargo test golden` rewrites the texts: read the difference before you commit it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::api::{ConditionValue, Diagnosis};
use crate::diagnosis::evidence::{Evidence, FORMAT};
use crate::diagnosis::rules::{conclude, diagnose};

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/diagnosis/rules/golden");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    found.sort();
    found
}

fn written(d: &Diagnosis, e: &Evidence) -> String {
    let mut text = String::new();
    writeln!(text, "{} ({}, restart helps: {})", d.cause, d.confidence, d.restart_helps).unwrap();
    writeln!(text, "{}\n-> {}", d.message, d.advice).unwrap();
    for fact in &d.evidence {
        writeln!(text, "  - {fact}").unwrap();
    }
    for other in &d.alternatives {
        writeln!(text, "or {} ({}): {}", other.cause, other.confidence, other.message).unwrap();
    }
    let conclusions = conclude(e);
    let conditions = [
        ("MetricsExposed", conclusions.metrics_exposed),
        ("Scraped", conclusions.scraped),
        ("WorkloadHealthy", conclusions.workload_healthy),
    ];
    for (name, condition) in conditions {
        if let Some(ConditionValue { status, reason, message }) = condition {
            writeln!(text, "{name}={status} {reason}: {message}").unwrap();
        }
    }
    text
}

#[test]
fn recorded_evidence_gives_the_recorded_diagnosis() {
    let recordings = recordings();
    assert!(recordings.len() >= 6, "the recordings were not found");
    for path in recordings {
        let evidence: Evidence = serde_json::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(evidence.format, FORMAT);
        let text = written(&diagnose(&evidence).expect("something is wrong"), &evidence);
        let expected = path.with_extension("txt");
        if std::env::var_os("VIGIE_ACCEPT").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
    }
}

#[test]
fn what_prometheus_really_said_becomes_the_facts_that_were_played() {
    use crate::diagnosis::rules::scrape_error::{Limit, ScrapeError};

    let errors = include_str!("../../../../tests/golden/prometheus/errors.json");
    let errors: std::collections::BTreeMap<String, Vec<String>> = serde_json::from_str(errors).unwrap();
    let of = |job: &str| -> Option<&[ScrapeError]> {
        Some(match job {
            "connection-refused" => &[ScrapeError::Refused],
            "firewall-drops" => &[ScrapeError::Timeout(true), ScrapeError::Timeout(false)],
            "hung" | "slow-first-byte" => &[ScrapeError::Timeout(false)],
            "slow-body" => &[ScrapeError::SlowBody],
            "no-route" | "no-network" => &[ScrapeError::NoRoute],
            "reset" | "closed" => &[ScrapeError::Reset],
            "dns-no-such-host" | "dns-no-address" => &[ScrapeError::NoSuchHost],
            "dns-server-failure" => &[ScrapeError::Resolver],
            // Either timer may expire first.
            "dns-silent" => &[ScrapeError::Resolver, ScrapeError::Timeout(false)],
            "tls-expired" => &[ScrapeError::Expired],
            "tls-unknown-authority" => &[ScrapeError::UnknownAuthority],
            "tls-wrong-name" | "tls-wrong-name-by-name" => &[ScrapeError::WrongName],
            "tls-to-plain-port" => &[ScrapeError::Scheme],
            "not-http" => &[ScrapeError::BadHead],
            "tls-client-certificate" => &[ScrapeError::ClientCertificate, ScrapeError::Reset],
            "spring-not-exposed" | "status-404" => &[ScrapeError::Status(404)],
            "status-401" | "wrong-password" => &[ScrapeError::Status(401)],
            "status-429" => &[ScrapeError::Status(429)],
            "status-503" => &[ScrapeError::Status(503)],
            "plain-to-tls-port" => &[ScrapeError::Status(400)],
            "body-size-limit" => &[ScrapeError::Limit(Limit::Body)],
            "sample-limit" => &[ScrapeError::Limit(Limit::Samples)],
            "label-limit" => &[ScrapeError::Limit(Limit::Labels)],
            "half-answer" => &[ScrapeError::CutOff],
            "redirect-login" | "invalid-utf8" => &[ScrapeError::Malformed],
            "gzip-broken" => &[ScrapeError::Compressed],
            malformed if malformed.starts_with("malformed-") => &[ScrapeError::Malformed],
            _ => return None,
        })
    };
    let mut known = 0;
    for (job, said) in &errors {
        let Some(expected) = of(job) else { continue };
        known += 1;
        for error in said {
            assert!(expected.contains(&ScrapeError::of(error)), "{job}: {error}: {:?}", ScrapeError::of(error));
        }
    }
    assert!(known >= 30, "only {known} of the recorded jobs are known here");
}
