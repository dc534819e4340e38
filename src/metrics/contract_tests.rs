//! Compares alerts, dashboards and runbooks with the code that they refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::api::{AttemptOutcome, BackendState, Cause, ConnectorState, Denial};
use crate::heartbeat::routes::BeatResult;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All rules: the alerts and the recording rules that they use.
fn all_rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read("charts/vigie/files/alerts.yaml")).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The alerts.
fn rules() -> Vec<Value> {
    all_rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

fn of<'a>(rule: &'a Value, pointer: &str) -> &'a str {
    rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn names() -> BTreeSet<String> {
    rules().iter().map(|rule| of(rule, "/alert").to_owned()).collect()
}

fn dashboards() -> [String; 2] {
    ["fleet", "object"].map(|name| read(&format!("charts/vigie/files/dashboards/{name}.json")))
}

#[test]
fn every_alert_says_how_grave_it_is_what_happened_and_where_its_runbook_is() {
    for rule in rules() {
        let name = of(&rule, "/alert");
        let severity = of(&rule, "/labels/severity");
        assert!(["critical", "warning"].iter().any(|known| severity.contains(known)), "{name}: {severity}");
        assert!(of(&rule, "/annotations/summary").len() > 10, "{name}");
        assert!(of(&rule, "/annotations/description").len() > 40, "{name}");
        let runbook = format!("https://vigie.example.com/runbooks/{name}");
        assert_eq!(of(&rule, "/annotations/runbook_url"), runbook);
    }
}

#[test]
fn every_alert_has_a_runbook_that_names_it_and_every_runbook_an_alert() {
    let mut pages = BTreeSet::new();
    for page in std::fs::read_dir(root("docs/runbooks")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".md").filter(|name| *name != "README") {
            assert!(read(&format!("docs/runbooks/{name}.md")).starts_with(&format!("# {name}\n")), "{name}");
            pages.insert(name.to_owned());
        }
    }
    assert_eq!(pages, names());
    let index = read("docs/runbooks/README.md");
    for name in names() {
        assert!(index.contains(&format!("[{name}]({name}.md)")), "the index lacks {name}");
    }
}

#[test]
fn every_alert_but_operator_down_is_inhibited_by_it() {
    let page = read("docs/alerting.md");
    let rule = page.split("alertname = \"OperatorDown\"").nth(1).expect("the inhibition by OperatorDown");
    let listed = Regex::new(r#"alertname =~ "([A-Za-z|]+)""#).unwrap();
    let listed = listed.captures(rule).expect("its targets").get(1).expect("the list").as_str();
    let listed: BTreeSet<String> = listed.split('|').map(str::to_owned).collect();
    assert_eq!(listed, names().into_iter().filter(|name| name != "OperatorDown").collect());
}

#[test]
fn every_metric_that_alerts_and_dashboards_ask_for_is_exported() {
    let reference = read("docs/reference/metrics.md");
    let metric = Regex::new(r"\bvigie_[a-z_]+").unwrap();
    let [fleet, object] = dashboards();
    for text in [read("charts/vigie/files/alerts.yaml"), fleet, object] {
        for found in metric.find_iter(&text) {
            let name = found.as_str().trim_end_matches("_bucket");
            assert!(reference.contains(&format!("`{name}`")), "{name} is not exported");
        }
    }
}

#[test]
fn every_word_that_an_alert_compares_a_label_with_is_one_that_the_code_writes() {
    let words = |all: Vec<&'static str>| all.into_iter().collect::<BTreeSet<_>>();
    let states =
        ConnectorState::ALL.iter().map(|word| word.as_str()).chain(BackendState::ALL.iter().map(|w| w.as_str()));
    let results = BeatResult::ALL.iter().map(|word| word.as_str());
    let outcomes: Vec<_> = AttemptOutcome::ALL.iter().map(|word| word.as_str()).collect();
    let known = BTreeMap::from([
        ("state", words(states.collect())),
        ("kind", words(vec!["Connector", "MonitoredBackend"])),
        ("cause", words(Cause::ALL.iter().map(|word| word.as_str()).collect())),
        ("reason", words(Denial::ALL.iter().map(|word| word.as_str()).collect())),
        ("outcome", words(outcomes.clone())),
        ("result", words(results.chain(outcomes).collect())),
    ]);
    let compared = Regex::new(r#"(\w+)=~?["']([A-Za-z_|]+)["']"#).unwrap();
    let mut seen = 0;
    for rule in rules() {
        for found in compared.captures_iter(of(&rule, "/expr")) {
            let known = known.get(&found[1]).unwrap_or_else(|| panic!("the label {}", &found[1]));
            for word in found[2].split('|') {
                assert!(known.contains(word), "{}: {word} is never a {}", of(&rule, "/alert"), &found[1]);
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_cause_that_a_backend_may_have_is_in_one_class() {
    let rule = rules().into_iter().find(|rule| of(rule, "/alert") == "BackendDown").unwrap();
    let class = Regex::new(r#""class", "(\w+)", "cause", "([A-Za-z|]+)""#).unwrap();
    let mut classed: Vec<String> = Vec::new();
    for found in class.captures_iter(of(&rule, "/expr")) {
        classed.extend(found[2].split('|').map(str::to_owned));
    }
    let all: BTreeSet<String> = classed.iter().cloned().collect();
    assert_eq!(classed.len(), all.len(), "a cause is in two classes");
    // Causes of connectors only are missing, and causes of a backend that is Pending or Unknown: it is never Down for them.
    let first = Cause::ALL.iter().position(|cause| *cause == Cause::InvalidTarget).unwrap();
    let shared = ["InvalidSpec", "WorkloadNotFound", "SecretNotFound", "UnreadableStatus"];
    let of_backends = Cause::ALL[first..].iter().map(|cause| cause.as_str()).chain(shared);
    let expected: BTreeSet<String> =
        of_backends.filter(|cause| !["NotProbed", "Unexplained"].contains(cause)).map(str::to_owned).collect();
    assert_eq!(all, expected);
}
