//! The fuzz targets: what comes from outside is parsed, and holds what the rest of the program relies on.
//!
//! Each target takes any bytes. A panic is a finding: of the parser, or of an assertion here.

mod far_side;
mod helper;
mod host;

pub use far_side::{grpc_answer, http_answer, prometheus_answer};
pub use helper::helper_request;
pub use host::host_answers;

use vigie::api::{ErrorClass, MAX_ALTERNATIVES, MAX_BACKENDS, MAX_EVIDENCE, MAX_GAPS, MAX_MESSAGE, MAX_RESTARTS};
use vigie::cli::diagnose::explain_saved;
use vigie::diagnosis::extract::{MAX_SUMMARY, extract, start_error};
use vigie::heartbeat::payload::{self, AgentBeat, MAX_CHECKS, MAX_ID, MAX_TOKEN};
use vigie::probe::actuator::{HealthPage, Links};
use vigie::probe::page::Reader;
use vigie::probe::{MetricsOptions, Scheme, Target};

/// The function of a target: it takes any bytes, and panics at a finding.
pub type Run = fn(&[u8]);

/// The targets, by name: each has a folder in `corpus`.
pub const TARGETS: [(&str, Run); 10] = [
    ("actuator_pages", actuator_pages),
    ("beat", beat),
    ("grpc_answer", grpc_answer),
    ("helper_request", helper_request),
    ("host_answers", host_answers),
    ("http_answer", http_answer),
    ("last_words", last_words),
    ("page", page),
    ("prometheus_answer", prometheus_answer),
    ("saved_evidence", saved_evidence),
];

/// The body of a heartbeat.
pub fn beat(data: &[u8]) {
    let (body, bearer) = match data {
        // The token is in the header.
        [b'B', body @ ..] => (body, Some("0123456789abcdef0123456789abcdef")),
        body => (body, None),
    };
    let beat = match payload::parse(body, bearer) {
        Ok(beat) => beat,
        Err(bad) => {
            // The sender's text is not in it, except a number.
            assert!(bad.message.len() < 256 && is_plain(&bad.message), "{bad:?}");
            assert!(bad.code.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{bad:?}");
            return;
        }
    };
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    assert!(is_json, "this is no JSON, and was taken: {}", body.escape_ascii());
    assert!((1..=MAX_ID).contains(&beat.connector_id.len()) && beat.connector_id.is_ascii());
    assert!((1..=MAX_TOKEN).contains(&beat.token.chars().count()));
    for text in [&beat.boot_id, &beat.version, &beat.hostname, &beat.pod_uid, &beat.node_name].into_iter().flatten() {
        assert!(!text.is_empty() && text.chars().count() <= 253 && !text.chars().any(char::is_control), "{text:?}");
    }
    let checks = beat.checks.as_deref().unwrap_or_default();
    assert!(checks.len() <= MAX_CHECKS);
    for (at, check) in checks.iter().enumerate() {
        assert!(checks[..at].iter().all(|other| other.type_ != check.type_), "twice: {}", check.type_);
        let message = check.message.as_deref().unwrap_or("none");
        assert!(message.chars().count() <= 256 && !message.chars().any(char::is_control), "{message:?}");
    }
    for restart in beat.restart_results() {
        assert!((1..=63).contains(&restart.id.len()));
        assert!(restart.message.as_ref().is_none_or(|message| message.chars().count() <= 1024));
        assert!(restart.target.as_ref().is_none_or(|unit| (1..=255).contains(&unit.len()) && !unit.starts_with('-')));
    }
    beat.agent.iter().for_each(|agent| agent_beat(agent));
}

/// The fields that only an agent sends.
fn agent_beat(agent: &AgentBeat) {
    let (gaps, backends) = (agent.gaps.as_deref().unwrap_or_default(), agent.backends.as_deref().unwrap_or_default());
    assert!(agent.restarts.len() <= MAX_RESTARTS && gaps.len() <= MAX_GAPS && backends.len() <= MAX_BACKENDS);
    let written = serde_json::to_value((&agent.paused, gaps, backends)).expect("it is plain data");
    assert!(!holds_control(&written), "{written}");
    for (at, backend) in backends.iter().enumerate() {
        assert!(backends[..at].iter().all(|other| other.name != backend.name), "twice: {}", backend.name);
        assert!((1..=63).contains(&backend.name.len()) && backend.text_len() <= 1024, "{backend:?}");
    }
}

fn holds_control(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.chars().any(char::is_control),
        serde_json::Value::Array(items) => items.iter().any(holds_control),
        serde_json::Value::Object(members) => {
            members.iter().any(|(name, value)| name.chars().any(char::is_control) || holds_control(value))
        }
        _ => false,
    }
}

/// A metrics page, and where it is cut into chunks.
pub fn page(data: &[u8]) {
    let [choice, cut, page @ ..] = data else { return };
    let content_type = match choice % 4 {
        0 => "text/plain; version=0.0.4; charset=utf-8",
        1 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        2 => "text/plain; version=1.0.0; escaping=allow-utf-8",
        _ => "application/openmetrics-text; version=0.0.1",
    };
    let options = MetricsOptions { required: vec!["up".to_owned()], most_samples: 64, ..MetricsOptions::default() };
    let read = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let mut reader = Reader::new(Some(content_type), &options).expect("Prometheus scrapes this type");
        for chunk in chunks {
            let _ = reader.feed(chunk);
        }
        reader.finish()
    };
    let whole = read(&mut std::iter::once(page));
    let cut = usize::from(*cut) % 61 + 1;
    assert_eq!(whole, read(&mut page.chunks(cut)), "in chunks of {cut} it is another page");
    let (seen, result) = whole;
    assert!(seen.samples <= options.most_samples + 1, "{}", seen.samples);
    if let Some((line, byte)) = seen.broken_at {
        assert!(line >= 1 && byte <= page.len() as u64, "line {line}, byte {byte} of {}", page.len());
    }
    match result {
        Ok(()) => assert!(seen.broken_at.is_none() && seen.missing.is_empty()),
        Err(failure) => {
            assert!(is_plain(&failure.message) && failure.message.len() < 512, "{failure:?}");
            assert!(failure.detail.is_none_or(|detail| is_plain(&detail)));
            assert!((failure.class == ErrorClass::MissingMetric) != seen.missing.is_empty());
        }
    }
}

/// A termination message, or the tail of a log.
pub fn last_words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let found = extract(&text);
    assert_eq!(found, extract(&text), "the same text has the same meaning");
    let summary = found.summary().unwrap_or_default();
    assert!(summary.chars().count() <= MAX_SUMMARY && is_plain(&summary), "{summary:?}");
    for part in [&found.exception, &found.description, &found.action, &found.endpoint].into_iter().flatten() {
        assert!(!part.trim().is_empty() && is_plain(part), "{part:?}");
    }
    if let Some(error) = start_error(&text) {
        assert!(error.chars().count() <= MAX_MESSAGE && is_plain(&error), "{error:?}");
    }
}

/// A file for `vigie diagnose backend --from`.
pub fn saved_evidence(data: &[u8]) {
    let Ok((text, json)) = explain_saved(data) else { return };
    assert!(!text.trim().is_empty());
    let diagnosis = &json["diagnosis"];
    if diagnosis.is_null() {
        return;
    }
    let length = |of: &serde_json::Value| of.as_str().map_or(0, |text| text.chars().count());
    for part in ["message", "advice"] {
        assert!((1..=MAX_MESSAGE).contains(&length(&diagnosis[part])), "{part}: {diagnosis:#}");
    }
    let many = |part: &str| diagnosis[part].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(many("alternatives").len() <= MAX_ALTERNATIVES && many("evidence").len() <= MAX_EVIDENCE);
    assert!(many("evidence").iter().all(|fact| length(fact) <= MAX_MESSAGE), "{diagnosis:#}");
}

/// The pages of an actuator.
pub fn actuator_pages(data: &[u8]) {
    if let Some(health) = HealthPage::read(data) {
        assert!(is_plain(&health.describe()), "{health:?}");
        let components = health.components.unwrap_or_default();
        assert!(components.len() <= 64, "{}", components.len());
        assert!(components.iter().all(|(name, word)| name.len() <= 64 * 5 && is_plain(name) && is_plain(word)));
    }
    let target = Target {
        scheme: Scheme::Http,
        host: "web.example.com".to_owned(),
        port: 8081,
        path: "/".to_owned(),
        address: None,
        is_own: false,
    };
    if let Some(Links(links)) = Links::read(data, &target) {
        assert!(links.len() <= 64);
        for (name, path) in links {
            assert!(is_plain(&name) && path.starts_with('/') && !path.starts_with("//") && is_plain(&path), "{path:?}");
        }
    }
}

/// Without characters that change what a terminal shows.
pub(crate) fn is_plain(text: &str) -> bool {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| c.is_control() || turns(c))
}
