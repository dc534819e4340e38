//! Runs after the suite: a right in the role files that no operator used is one too many. `scripts/e2e` runs this when
//! the suite has passed; it reads the audit log of the operators that the suite ran.

// A test reports a failure by a panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use serde_json::Value;

/// The rights of the suite's operators; those for the whole cluster are the same (tests/suite/rights.rs).
const ROLES: &str = include_str!("../../config/rbac/namespaced.yaml");

/// Verb, API group, resource with its subresource, and the object's name if the rule has one.
type Right = (String, String, String, Option<String>);

fn rights(rule: &PolicyRule) -> Vec<Right> {
    let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let names = rule.resource_names.clone().unwrap_or_default();
    let names: Vec<Option<String>> = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
    let mut rights = Vec::new();
    for group in all(&rule.api_groups) {
        for resource in all(&rule.resources) {
            for verb in &rule.verbs {
                for name in &names {
                    rights.push((verb.clone(), group.clone(), resource.clone(), name.clone()));
                }
            }
        }
    }
    rights
}

/// Every right in the role files, with its role.
fn granted() -> Vec<(String, Right)> {
    let roles = ROLES.split("\n---\n").map(|role| serde_saphyr::from_str::<Role>(role).expect("a Role"));
    let mut granted = Vec::new();
    for role in roles {
        let name = role.metadata.name.expect("a Role has a name");
        let rules = role.rules.unwrap_or_default();
        granted.extend(rules.iter().flat_map(rights).map(|right| (name.clone(), right)));
    }
    granted
}

/// Whether the user is an operator of the suite, by the name of its ServiceAccount.
fn is_an_operator(user: &str) -> bool {
    let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    account.is_some_and(|(_, name)| ["vigie", "vigie-second"].contains(&name))
}

/// The right that one line of the audit log shows in use, with and without the name of the object.
fn used(line: &str, since: Timestamp) -> Option<[Right; 2]> {
    if !line.contains(":vigie") {
        return None;
    }
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let at: Timestamp = text("/requestReceivedTimestamp").parse().ok()?;
    let is_allowed = text("/annotations/authorization.k8s.io~1decision") == "allow";
    if at < since || !is_allowed || !is_an_operator(text("/user/username")) {
        return None;
    }
    let sub = text("/objectRef/subresource");
    let mut resource = text("/objectRef/resource").to_owned();
    if !sub.is_empty() {
        resource = format!("{resource}/{sub}");
    }
    let right = |name: Option<&str>| {
        (text("/verb").to_owned(), text("/objectRef/apiGroup").to_owned(), resource.clone(), name.map(str::to_owned))
    };
    Some([right(None), right(Some(text("/objectRef/name")))])
}

/// The log and its rotated files.
fn logs(log: &Path) -> Vec<PathBuf> {
    let folder = log.parent().expect("a file is in a folder");
    let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("no folder {folder:?}: {error}"));
    let is_log = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("audit") && name.ends_with(".log")
    };
    files.filter_map(|entry| Some(entry.ok()?.path())).filter(is_log).collect()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: scripts/e2e runs this, after the suite"))
}

#[test]
fn every_right_that_we_ask_for_was_used() {
    let log = PathBuf::from(variable("VIGIE_RIGHTS_AUDIT_LOG"));
    let since: Timestamp = variable("VIGIE_RIGHTS_SINCE").parse().expect("VIGIE_RIGHTS_SINCE is a time");
    let mut seen = BTreeSet::new();
    for log in logs(&log) {
        let lines = BufReader::new(File::open(&log).unwrap()).lines().map_while(Result::ok);
        seen.extend(lines.filter_map(|line| used(&line, since)).flatten());
    }
    assert!(!seen.is_empty(), "{log:?} knows of no operator since {since}: the check proves nothing");
    let granted = granted();
    let unused: Vec<_> = granted.iter().filter(|(_, right)| !seen.contains(right)).collect();
    assert!(unused.is_empty(), "asked for in config/rbac and never used in the suite: {unused:#?}");
}

#[test]
fn a_line_of_the_log_is_a_right_that_was_used() {
    let line = |decision: &str, user: &str| {
        serde_json::json!({
            "verb": "patch", "requestReceivedTimestamp": "2026-11-20T10:00:00.5Z", "user": {"username": user},
            "objectRef": {"resource": "connectors", "apiGroup": "vigie.dev", "subresource": "status", "name": "a"},
            "annotations": {"authorization.k8s.io/decision": decision},
        })
        .to_string()
    };
    let since = |text: &str| text.parse::<Timestamp>().unwrap();
    let (early, late) = (since("2026-11-20T10:00:00Z"), since("2026-11-20T10:00:01Z"));
    let ours = line("allow", "system:serviceaccount:ns:vigie");
    let right = |name: Option<&str>| {
        ("patch".to_owned(), "vigie.dev".to_owned(), "connectors/status".to_owned(), name.map(str::to_owned))
    };
    assert_eq!(used(&ours, early), Some([right(None), right(Some("a"))]));
    assert_eq!(used(&ours, late), None);
    assert_eq!(used(&line("forbid", "system:serviceaccount:ns:vigie"), early), None);
    assert_eq!(used(&line("allow", "system:serviceaccount:ns:vigie-other"), early), None);
}
