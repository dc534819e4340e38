//! The rules of the house, held against the source tree (docs/architecture.md).
//!
//! What is read is text, formatted by rustfmt: that is what makes so simple a reading reliable.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// No file is longer, no function is, and `main` least of all.
const FILE: usize = 400;
const FUNCTION: usize = 50;
const MAIN: usize = 25;

/// Reads what the diagnosis is made from; the rest of its room is pure.
const GATHER: &str = "diagnosis/gather";

/// Reads workloads and restarts them; the rest of its room is pure.
const ACTING: &str = "remediation/workload";

struct Source {
    /// Path below `src`, with slashes.
    path: String,
    /// Its lines, those of unit tests at its end left away.
    lines: Vec<String>,
}

impl Source {
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs" || name.ends_with("_tests.rs") || ["fake.rs", "simulation.rs"].contains(&name)
    }

    /// Lines of code, comments left away.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().enumerate().map(|(at, line)| (at + 1, line.as_str()));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().map(str::to_owned).collect();
                let path = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.push(Source { path, lines });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the source tree was not found");
    found
}

/// The program without its tests: whole files of tests, and inline modules at the end of others.
fn program() -> Vec<Source> {
    let mut program: Vec<Source> = sources().into_iter().filter(|source| !source.is_test()).collect();
    for source in &mut program {
        let inline = source.lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1] == "mod tests {");
        source.lines.truncate(inline.unwrap_or(source.lines.len()));
    }
    program
}

#[track_caller]
fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// The lines of `among` in which one of `words` stands.
fn mentions<'a>(among: impl IntoIterator<Item = &'a Source>, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in among {
        for (at, line) in source.code().filter(|(_, line)| words.iter().any(|word| line.contains(word))) {
            found.push(format!("src/{}:{at}: {}", source.path, line.trim()));
        }
    }
    found
}

#[test]
fn no_file_is_longer_than_four_hundred_lines_and_main_is_thin() {
    let long = |source: &&Source| source.lines.len() > if source.path == "main.rs" { MAIN } else { FILE };
    let program = program();
    let found = program.iter().filter(long).map(|source| format!("src/{}: {}", source.path, source.lines.len()));
    none(found.collect(), "too long");
}

#[test]
fn no_function_is_longer_than_fifty_lines() {
    let mut found = Vec::new();
    for source in program() {
        let mut open: Option<(usize, usize, &str)> = None;
        for (at, line) in source.lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if open.is_none() && is_function(line) && !line.ends_with('}') && !line.ends_with(';') {
                open = Some((at, indent, line));
            }
            // rustfmt puts the closing brace of a function under its first letter.
            if let Some((begin, depth, first)) = open
                && indent == depth
                && (line.trim_start().starts_with('}') || line.ends_with(';') && at > begin)
            {
                let lines = at - begin + 1;
                if lines > FUNCTION {
                    found.push(format!("src/{}:{}: {lines} lines: {}", source.path, begin + 1, first.trim()));
                }
                open = None;
            }
        }
    }
    none(found, "functions too long");
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.contains("fn")).collect();
    let before = words.iter().all(|word| word.starts_with("pub") || ["const", "async", "unsafe", "in"].contains(word));
    before && line.split_whitespace().nth(words.len()) == Some("fn")
}

/// Which rooms each room may use: the table of architecture.md, as far as it is built. A room that is not named here is
/// put together from all the others.
fn may_use() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("api", &[][..]),
        ("time", &[]),
        ("leadership", &["time"]),
        ("health", &["api", "time"]),
        ("http", &["heartbeat", "time"]),
        // What failed, and in which presence: the judgement it explains.
        ("diagnosis", &["api", "health"]),
        // What the facts are collected from; no rule is applied there.
        (GATHER, &["api", "cluster", "diagnosis", "http", "probe", "time"]),
        ("probe", &["api"]),
        ("schedule", &["time"]),
        ("leader", &["cluster", "leadership", "time"]),
        ("cluster", &["http", "leadership", "time"]),
        ("view", &["api"]),
        ("remediation", &["api", "health"]),
        (ACTING, &["api", "cluster", "leadership", "remediation", "time"]),
        ("heartbeat", &["api", "health", "http", "schedule", "time"]),
        ("metrics", &["api", "cli", "cluster", "health", "heartbeat", "view"]),
        ("admin", &["api", "cluster", "heartbeat", "metrics", "time", "view"]),
        (
            "monitor",
            &[
                "api",
                "cluster",
                "controller",
                "diagnosis",
                "health",
                "leadership",
                "metrics",
                "probe",
                "remediation",
                "schedule",
                "time",
                "view",
            ],
        ),
        (
            "controller",
            &[
                "api",
                "cluster",
                "diagnosis",
                "health",
                "heartbeat",
                "leadership",
                "metrics",
                "monitor",
                "probe",
                "remediation",
                "schedule",
                "time",
                "view",
            ],
        ),
    ])
}

/// The room that a file is in: its first folder, but for the places within pure rooms that do I/O.
fn room(path: &str) -> &str {
    if let Some(thin) = [GATHER, ACTING].into_iter().find(|thin| path.starts_with(thin)) {
        return thin;
    }
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

#[test]
fn rooms_use_only_the_rooms_that_they_may() {
    let allowed = may_use();
    let mut found = Vec::new();
    for source in program() {
        let room = room(&source.path);
        let Some(allowed) = allowed.get(room) else { continue };
        for (at, line) in source.code() {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if used != room && !allowed.contains(&used.as_str()) {
                    found.push(format!("src/{}:{at}: {room} uses {used}", source.path));
                }
            }
        }
    }
    none(found, "see the table in docs/architecture.md");
}

#[test]
fn decisions_do_no_io_and_read_no_clock() {
    let pure = |source: &&Source| {
        let decides = ["assess", "decide", "token"]
            .iter()
            .any(|name| source.path.starts_with("controller/") && source.path.ends_with(&format!("/{name}.rs")));
        decides
            || ["health/", "diagnosis/", "remediation/"].iter().any(|room| source.path.starts_with(room))
                && ![GATHER, ACTING].iter().any(|thin| source.path.starts_with(thin))
            || source.path == "leader/decide.rs"
    };
    let program = program();
    let decisions: Vec<_> = program.iter().filter(pure).collect();
    assert!(decisions.len() >= 8, "the decisions were not found");
    let forbidden = [
        "tokio",
        "kube::Client",
        "kube::Api",
        "kube::api",
        "Instant::now",
        "Timestamp::now",
        "SystemTime",
        "Zoned::now",
        "std::fs",
        "std::net::Tcp",
        "async fn",
        ".await",
        "gather::",
    ];
    none(mentions(decisions, &forbidden), "a decision takes what it needs as an argument");
}

#[test]
fn clocks_are_read_in_one_place() {
    let program = program();
    let others = program.iter().filter(|source| source.path != "time/clock.rs");
    let found = mentions(others, &["SystemTime::now", "std::time::Instant", "Zoned::now"]);
    none(found, "time/clock.rs reads clocks");
}

#[test]
fn only_main_ends_the_process() {
    let program = program();
    let found =
        mentions(program.iter().filter(|source| source.path != "main.rs"), &["process::exit", "process::abort"]);
    none(found, "errors are returned");
}

#[test]
fn nothing_is_left_undone() {
    // Put together here, so that this file does not find itself.
    let words = ["to", "unimplemen", "TO", "FIX", "XX"].iter().zip(["do!", "ted!", "DO", "ME", "X"]);
    let words: Vec<String> = words.map(|(a, b)| format!("{a}{b}")).collect();
    let mut found = Vec::new();
    for source in sources() {
        for (at, line) in source.lines.iter().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("src/{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    none(found, "done, or not begun");
}

#[test]
fn what_is_read_here_is_told_apart() {
    for line in ["fn a() {", "    pub(super) async fn b(", "pub const fn c() -> u8 {"] {
        assert!(is_function(line), "{line}");
    }
    for line in ["let f = |x| {", "impl Fn() for X {", "/// fn in a comment", "type F = fn() -> u8;"] {
        assert!(!is_function(line), "{line}");
    }
}
