//! Text of findings: commands, lists, and foreign text that may be shown.

use jiff::Timestamp;

use crate::api::{WorkloadKind, WorkloadRef, clip};
use crate::diagnosis::evidence::{Evidence, Subject};

/// Maximum length of the value of a setting, in characters.
const LONGEST_VALUE: usize = 128;

/// `deployment/web`, kubectl's name of the workload.
pub(super) fn kubectl_name(workload: &WorkloadRef) -> String {
    let kind = match workload.kind {
        WorkloadKind::Deployment => "deployment",
        WorkloadKind::StatefulSet => "statefulset",
        WorkloadKind::DaemonSet => "daemonset",
    };
    format!("{kind}/{}", workload.name)
}

/// `Deployment web`; `the workload` when the spec names none.
pub(super) fn workload_name(evidence: &Evidence) -> String {
    match &evidence.subject.workload {
        Some(workload) => format!("{} {}", workload.kind, workload.name),
        None => "the workload".to_owned(),
    }
}

/// A kubectl command in the namespace of the subject, in backticks.
pub(super) fn kubectl(evidence: &Evidence, rest: impl std::fmt::Display) -> String {
    format!("`kubectl -n {} {rest}`", evidence.subject.namespace)
}

/// The command that shows all of the evidence, in backticks.
pub(super) fn diagnose_command(subject: &Subject) -> String {
    format!("`vigie diagnose backend {} -n {}`", subject.name, subject.namespace)
}

/// The advice as `vigie diagnose` prints it: without the advice to run `vigie diagnose`.
pub fn as_read_in_a_report(advice: &str, subject: &Subject) -> String {
    let command = diagnose_command(subject);
    advice
        .replace(&format!("Look at all that was seen: {command}"), "Look at all that was seen, below")
        .replace(&format!("{command} shows the line"), "the line stands below")
}

/// The command that goes back to the previous template; `None` when there is no workload or no previous template.
pub(super) fn undo(evidence: &Evidence) -> Option<String> {
    let workload = evidence.subject.workload.as_ref()?;
    let (_, has_previous) = evidence.workload.found()?.revision?;
    has_previous.then(|| kubectl(evidence, format_args!("rollout undo {}", kubectl_name(workload))))
}

/// The command that sets an environment variable on the workload; `None` where no workload is known.
pub(super) fn set_env(evidence: &Evidence, container: Option<&str>, assignment: &str) -> Option<String> {
    let workload = evidence.subject.workload.as_ref()?;
    let container = container.map(|name| format!(" -c {name}")).unwrap_or_default();
    Some(kubectl(evidence, format_args!("set env {}{container} {assignment}", kubectl_name(workload))))
}

/// A timestamp, to the second. Timestamps, never ages: the same state must give the same text.
pub(super) fn stamp(at: Timestamp) -> String {
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&at)
}

/// ` since 2026-11-05T10:00:00Z`, or nothing.
pub(super) fn since(at: Option<Timestamp>) -> String {
    at.map(|at| format!(" since {}", stamp(at))).unwrap_or_default()
}

/// `a, b and c`.
pub(super) fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// At most `most` of them, and the number of others.
pub(super) fn some<S: AsRef<str>>(items: &[S], most: usize) -> String {
    if items.len() <= most {
        return list(items);
    }
    let shown: Vec<&str> = items[..most].iter().map(AsRef::as_ref).collect();
    format!("{} and {} more", shown.join(", "), items.len() - most)
}

/// The value of a setting as it may be shown: printable and truncated.
pub(super) fn value(text: &str) -> String {
    let printable: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    clip(printable.trim(), LONGEST_VALUE)
}

/// A component's name, if it may be shown: `[A-Za-z0-9_-]{1,64}`, nested ones separated by slashes.
pub(super) fn component(name: &str) -> Option<&str> {
    let parts = || name.split('/');
    let plain = |part: &str| {
        (1..=64).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    (parts().count() <= 4 && parts().all(plain)).then_some(name)
}

/// A path, if it may be shown: characters of a path on the same origin, without a query.
pub(super) fn path(text: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_-.~%{}*:+,".contains(&b);
    (text.starts_with('/') && !text.starts_with("//") && text.len() <= 256 && text.bytes().all(plain)).then_some(text)
}

/// A URL without user info, query and fragment, in printable characters.
pub(super) fn url(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let bare = &text[..end];
    let bare = match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match authority.rsplit('@').next() {
                // An `@` after the first slash may end a password that was not escaped.
                _ if path.contains('@') => format!("{scheme}://…"),
                Some(host) => format!("{scheme}://{host}{path}"),
                None => format!("{scheme}://…"),
            }
        }
        None => bare.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    clip(bare.chars().filter(|c| c.is_ascii_graphic() || *c == '…').collect::<String>(), 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_as_a_person_says_it() {
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(some(&["a", "b", "c"], 2), "a, b and 1 more");
        assert_eq!(some(&["a", "b"], 2), "a and b");
    }

    #[test]
    fn components_and_paths_of_others_are_named_only_when_they_are_plain() {
        assert_eq!(component("db"), Some("db"));
        assert_eq!(component("db/primary"), Some("db/primary"));
        assert_eq!(component("db primary"), None);
        assert_eq!(component(&"x".repeat(65)), None);
        assert_eq!(component(""), None);
        assert_eq!(path("/actuator/prometheus"), Some("/actuator/prometheus"));
        assert_eq!(path("//evil.example.com/x"), None);
        assert_eq!(path("/a?token=b"), None);
        assert_eq!(path("actuator"), None);
    }

    #[test]
    fn a_url_loses_what_may_be_secret() {
        assert_eq!(url("http://u:p@10.0.0.1:8081/metrics?token=x"), "http://10.0.0.1:8081/metrics");
        assert_eq!(url("http://u:p/w@10.0.0.1/metrics"), "http://…");
        assert_eq!(url("http://[::1]:9/x#y"), "http://[::1]:9/x");
    }

    #[test]
    fn a_value_is_printable_and_not_endless() {
        assert_eq!(value("health,\ninfo\u{1b}[2J"), "health,info[2J");
        assert_eq!(value(&"x".repeat(500)).len(), 128);
    }
}
