//! Extracts from termination messages and logs the parts that may be shown (docs/design/probes-and-diagnosis.md, "What
//! may be shown").
//!
//! An allow-list, not a filter: the class of an exception, the known words of the `Description` and `Action` of Spring's
//! failure analysis, and a host with its port. The rest of a termination message is never shown, because every reader of
//! the object would see it.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::api::clip;

mod clean;
mod kind;
mod prose;
#[cfg(test)]
mod tests;

pub use kind::{ExtractSubject, Refusal};

/// Maximum length of a summary, in characters.
pub const MAX_SUMMARY: usize = 512;
/// Maximum lengths of Description and Action, in characters: with quotes and separator they add up to [`MAX_SUMMARY`].
const MAX_DESCRIPTION: usize = 310;
const MAX_ACTION: usize = 170;
/// Maximum length of an exception class, in characters.
const MAX_CLASS: usize = 128;
/// Bytes of a text that are read: a termination message has at most 4 KiB, a log tail may have more.
const MAX_READ: usize = 64 << 10;

/// The parts of a termination message that may be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extract {
    /// The class of the exception at the root, or `panic`.
    pub exception: Option<String>,
    /// Spring's Description, without values.
    pub description: Option<String>,
    /// Spring's Action.
    pub action: Option<String>,
    /// The host, with its port if there is one, of the failed connection.
    pub endpoint: Option<String>,
    /// Classification of the message.
    pub kind: ExtractSubject,
}

impl Extract {
    /// All parts in one text of at most [`MAX_SUMMARY`] characters; `None` when there are none.
    pub fn summary(&self) -> Option<String> {
        let Self { exception, description, action, endpoint, kind: _ } = self;
        let mut parts = Vec::new();
        match (description, exception) {
            (Some(description), _) => parts.push(format!("\"{description}\"")),
            (None, Some(exception)) => parts.push(exception.clone()),
            (None, None) => {}
        }
        // A Description names the endpoint itself; a bare class does not.
        if description.is_none() {
            parts.extend(endpoint.clone());
        }
        parts.extend(action.as_ref().map(|action| format!("Action: \"{action}\"")));
        (!parts.is_empty()).then(|| clip(parts.join("; "), MAX_SUMMARY))
    }
}

/// Extracts from a termination message or the tail of a log.
pub fn extract(text: &str) -> Extract {
    let text = tail(text);
    let lines: Vec<&str> = text.lines().collect();
    let (description, action) = spring(&lines);
    Extract {
        exception: exception(&lines),
        kind: kind::classify(text, description.is_some()),
        description,
        action,
        endpoint: endpoint(&lines),
    }
}

/// The last [`MAX_READ`] bytes of a text.
fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(MAX_READ);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The Description and the Action of the last failure analysis
/// (org.springframework.boot.diagnostics.LoggingFailureAnalysisReporter).
fn spring(lines: &[&str]) -> (Option<String>, Option<String>) {
    let heading = |word: &str| lines.iter().rposition(|line| line.trim() == word);
    // Without its heading the end of a truncated value cannot be found.
    let Some(begin) = heading("Description:") else { return (None, None) };
    let action = heading("Action:").filter(|at| *at > begin);
    let body = &lines[begin + 1..action.unwrap_or(lines.len())];
    let (kept, values) = clean::without_values(body);
    let part = |text: String, most: usize| {
        let text = prose::shown(&clean::without_quotes(&text, &values));
        (!text.is_empty()).then(|| shortened(&text, most))
    };
    let advice = action.map(|at| first_paragraph(&lines[at + 1..]));
    let advice = advice.and_then(|advice| part(advice, MAX_ACTION));
    (part(kept.join("\n"), MAX_DESCRIPTION), advice)
}

/// The text, cut at a word boundary if it is too long.
fn shortened(text: &str, max: usize) -> String {
    let cut = clip(text, max);
    if cut.len() == text.len() {
        return cut;
    }
    let end = cut.rfind(' ').unwrap_or(cut.len());
    format!("{} …", &cut[..end])
}

/// The lines up to the first empty one: later lines do not belong to the Action.
fn first_paragraph(lines: &[&str]) -> String {
    let text = lines.iter().skip_while(|line| line.trim().is_empty());
    text.take_while(|line| !line.trim().is_empty()).copied().collect::<Vec<_>>().join("\n")
}

/// The class of the root exception: of the last `Caused by`, else of the last exception at the start of a line.
fn exception(lines: &[&str]) -> Option<String> {
    static JAVA: LazyLock<Regex> = LazyLock::new(|| {
        let class = r"((?:[a-z_][A-Za-z0-9_]*\.)+[A-Z][A-Za-z0-9_$]*(?:Exception|Error|Failure|Throwable))";
        Regex::new(&format!(
            r#"^\s*(Caused by: |Exception in thread "[^"]*" |)(?:nested exception is )?{class}(?::|\s*$)"#
        ))
        .expect("a constant pattern")
    });
    // Python, Node and .NET: a class alone before a colon, or a name with dots.
    static OTHER: LazyLock<Regex> = LazyLock::new(|| {
        let class = r"((?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Z]?[A-Za-z0-9_]*(?:Error|Exception))";
        Regex::new(&format!(r"^(?:Uncaught |Unhandled exception\. )?{class}(?: \(\w+\)| \[\w+\])?(?::|\s*$)"))
            .expect("a constant pattern")
    });
    static PANIC: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:panic: |fatal error: |thread '[^']*' panicked at )").expect("a constant pattern")
    });
    let mut found = None;
    for line in lines {
        if let Some(class) = JAVA.captures(line) {
            found = Some(class[2].to_owned());
        } else if let Some(class) = OTHER.captures(line) {
            found = Some(class[1].to_owned());
        } else if PANIC.is_match(line) {
            found = Some("panic".to_owned());
        }
    }
    found.map(|class| clip(class, MAX_CLASS))
}

/// The host and port in the last line about a connection.
fn endpoint(lines: &[&str]) -> Option<String> {
    static ABOUT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)refused|connect|timed? ?out|unknown ?host|no such host|unreachable|communications|jdbc:|dial tcp|ENOTFOUND|translate host",
        )
        .expect("a constant pattern")
    });
    static PAIR: LazyLock<Regex> = LazyLock::new(|| {
        let host = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*\.)*[A-Za-z0-9-]{0,63}|\[[0-9A-Fa-f:.]+\])";
        Regex::new(&format!(r"(?:^|[\s/@(\x22'=,])({host}):([0-9]{{2,5}})(?:[^0-9A-Za-z:.-]|\.?$|\.\s|:\s)"))
            .expect("a constant pattern")
    });
    static POSTGRES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"server at "([A-Za-z0-9.-]{1,253})"(?: \([0-9A-Fa-f.:]+\))?, port ([0-9]{2,5})"#)
            .expect("a constant pattern")
    });
    static ALONE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?:UnknownHostException: |ENOTFOUND |translate host name "|lookup )([A-Za-z0-9][A-Za-z0-9.-]{0,252})(?:["\s:]|$)"#,
        )
        .expect("a constant pattern")
    });
    let about = lines.iter().filter(|line| ABOUT.is_match(line)).map(|line| clean::line(line));
    let mut found = None;
    for line in about {
        let is_place = |pair: &Captures<'_>| is_host(&pair[1]) && is_address(&line, pair);
        let pair = POSTGRES.captures(&line).or_else(|| PAIR.captures_iter(&line).find(is_place));
        if let Some(pair) = pair.filter(|pair| pair[2].parse::<u16>().is_ok()) {
            found = Some(format!("{}:{}", &pair[1], &pair[2]));
        } else if let Some(host) = ALONE.captures(&line) {
            found = found.or_else(|| Some(host[1].trim_end_matches('.').to_owned()));
        }
    }
    found
}

/// Distinguishes a host and a port from a user and a password of digits: it has a dot or is an address, stands in a URL or
/// behind a word about a connection, or the port is a database's.
fn is_address(line: &str, pair: &Captures<'_>) -> bool {
    const PORTS: [&str; 10] = ["5432", "3306", "1521", "1433", "27017", "6379", "5672", "9042", "26257", "9092"];
    const BEFORE: [&str; 12] = [
        "to",
        "at",
        "host",
        "server",
        "connect",
        "connecting",
        "tcp",
        "broker",
        "node",
        "address",
        "econnrefused",
        "from",
    ];
    let (host, port) = (&pair[1], &pair[2]);
    let before = pair.get(1).map_or("", |host| &line[..host.start()]);
    let word = before.split_whitespace().next_back().unwrap_or_default().to_lowercase();
    host.contains('.')
        || host.starts_with('[')
        || host == "localhost"
        || before.ends_with("//")
        || PORTS.contains(&port)
        || BEFORE.contains(&word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// Distinguishes a host from a time of day, a date and a line of source.
fn is_host(text: &str) -> bool {
    static SOURCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\.(?:java|kt|scala|groovy|go|py|js|mjs|ts|rb|rs|cs|cpp|c|php)$|^[0-9-]+(?:T[0-9]+)?$")
            .expect("a constant pattern")
    });
    !SOURCE.is_match(text)
}

/// Reasons of a failed start, from the runtime's message: the words, and how they are told.
const START_ERRORS: &[(&str, &str)] = &[
    ("runAsNonRoot and image will run as root", ""),
    ("non-numeric user", ""),
    ("breaks non-root policy", "its runAsUser contradicts runAsNonRoot"),
    ("invalid environment variable name", "a name in env or envFrom is not one that an environment variable may have"),
    ("services have not yet been read", "the kubelet could not read the Services in time"),
    ("container init was OOM-killed", "it was killed for memory before its command ran (memory limit too low)"),
    ("unable to apply cgroup configuration", "the node cannot apply its resource limits (cgroup)"),
    ("PostStartHook failed", "its postStart hook failed"),
    ("failed to sync secret cache", "the kubelet could not read a Secret in time"),
    ("failed to sync configmap cache", "the kubelet could not read a ConfigMap in time"),
    ("failed to reserve container name", "the runtime is still creating it from an earlier attempt"),
    ("context deadline exceeded", "the runtime on its node did not create it in time"),
    ("apparmor", "its AppArmor profile cannot be used on the node"),
    ("seccomp", "its seccomp profile cannot be used on the node"),
    ("unable to find user", "the image lacks the user that runAsUser or the image itself names"),
    ("unable to find group", "the image lacks the group that runAsGroup or the image itself names"),
    ("unable to apply caps", "the node cannot grant its capabilities"),
    ("chdir to cwd", "its working directory cannot be entered"),
    ("failed to stat ", "a file or directory that it mounts is missing on the node"),
    ("lstat /dev/", "a device that it wants is missing on the node"),
    ("not a directory", ""),
    ("read-only file system", ""),
    ("exec format error", ""),
    ("no such file or directory", ""),
    ("permission denied", ""),
    ("no command specified", ""),
    ("No command specified", "neither the image nor the pod template names a command"),
    ("device or resource busy", ""),
];

/// The reason of a failed container start, from the runtime's message: the command and its error.
pub fn start_error(text: &str) -> Option<String> {
    static EXEC: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"exec: "([A-Za-z0-9_./-]{1,128})":.{0,200}?(executable file not found|no such file or directory|permission denied|is a directory|exec format error)"#,
        )
        .expect("a constant pattern")
    });
    if let Some(exec) = EXEC.captures(text) {
        return Some(format!("its command {}: {}", &exec[1], &exec[2]));
    }
    // The earlier line wins: runc names the step that failed before the error of the system call.
    let (words, told) = START_ERRORS.iter().find(|(words, _)| text.contains(words))?;
    Some(if told.is_empty() { format!("the runtime says: {words}") } else { (*told).to_owned() })
}

/// The error of a command that was never executed, from the last line of a process: runc, crun, tini and shells report
/// it in the place of the program, with exit codes of their own. Only an absolute path of the command is told.
pub fn exec_error(text: &str) -> Option<String> {
    static EXEC: LazyLock<Regex> = LazyLock::new(|| {
        let begin = r#"^(?:standard_init_linux\.go:[0-9]+: |\[FATAL tini \([0-9]+\)\] |[A-Za-z0-9_./-]{1,64}: (?:line )?[0-9]+: )?"#;
        let command = r#"exec (?:container process |user process caused:? ?)?[`'"]?(?:(/[A-Za-z0-9_./-]{1,127})|[^\s`'"]{1,128})?[`'"]?"#;
        let error = r#"(?: failed)?:? ?"?(exec format error|no such file or directory|permission denied)"?\.?$"#;
        Regex::new(&format!("(?i){begin}{command}{error}")).expect("a constant pattern")
    });
    let last = tail(text).lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    // dumb-init names the command without the word exec.
    let last = last.strip_prefix("[dumb-init] ").map_or_else(|| last.to_owned(), |rest| format!("exec {rest}"));
    let exec = EXEC.captures(&last)?;
    let command = exec.get(1).map(|command| format!(" {}", command.as_str())).unwrap_or_default();
    Some(format!("its command{command}: {}", exec[2].to_lowercase()))
}
