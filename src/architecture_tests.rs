//! The rules of the source tree (docs/architecture.md).
//!
//! The text is formatted by rustfmt, so a simple reading of it is reliable.

mod modules;
mod references;
mod source;

use source::{Source, Token, program, sources};

/// Longest file and longest function, in lines, and longest `main.rs`.
const FILE: usize = 400;
const FUNCTION: usize = 50;
const MAIN: usize = 25;

/// Most parameters of a function, `self` among them.
const PARAMETERS: usize = 6;

/// The files that decide, in modules that are not pure as a whole. Each pattern is a folder and a file name.
const DECISIONS: [(&str, &str); 4] = [
    ("controller/", "/assess.rs"),
    ("controller/", "/decide.rs"),
    ("controller/", "/token.rs"),
    ("leader/", "/decide.rs"),
];

/// The files that read a clock, and why each does not take the time as an argument.
const CLOCK_READERS: [(&str, &str); 26] = [
    ("controller/runtime/queue.rs", "When a retry is due."),
    ("admin/auth.rs", "How long an answer of the API server about a caller's token is used."),
    ("agent/install/apply.rs", "How long an installation waits for the first heartbeat."),
    ("cli/agent/mod.rs", "The command line dates the end of a pause."),
    ("cli/agent/status.rs", "The command line prints ages."),
    ("cli/breaker/mod.rs", "The command line stamps what it writes."),
    ("cli/diagnose/backend.rs", "The command line judges and prints ages at the time of the call."),
    ("cli/diagnose/connector.rs", "As above."),
    ("cli/get/mod.rs", "The command line prints ages, and times its own watch."),
    ("cli/get/status.rs", "As above."),
    ("cli/probe/run.rs", "The command line stamps its own probe."),
    ("cli/restart/mod.rs", "The command line stamps its request, and judges progress at the time of the call."),
    ("operator/shutdown.rs", "How long a shutdown has taken."),
    ("cli/token/mod.rs", "The command line stamps its request."),
    ("time/clock.rs", "The clock of everything that decides."),
    ("diagnosis/gather/prometheus/cache.rs", "How long the answer of a Prometheus is shared."),
    ("http/connection.rs", "How long a connection takes for each phase of a request."),
    ("heartbeat/registry.rs", "Stamps a beat only when something of it is stored."),
    ("heartbeat/routes.rs", "The age of a connection."),
    ("heartbeat/agent_binary.rs", "How long a download has taken."),
    ("http/server.rs", "The timers of a connection, and one log line a minute."),
    ("leader/pod_label.rs", "How long the pass over the pods has taken."),
    ("probe/connect.rs", "When the next address is dialled."),
    ("probe/resolve.rs", "How long a name took."),
    ("probe/stream.rs", "When the first byte came."),
    ("probe/trace.rs", "How long each phase of a probe took."),
];

#[track_caller]
fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// The lines of code among `among` that have one of `words`.
fn mentions<'a>(among: impl IntoIterator<Item = &'a Source>, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in among {
        for (at, line) in source.code.iter().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("src/{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn no_file_is_longer_than_four_hundred_lines_and_main_is_thin() {
    let long = |source: &&Source| source.lines.len() > if source.path == "main.rs" { MAIN } else { FILE };
    let found = program().iter().filter(long).map(|source| format!("src/{}: {}", source.path, source.lines.len()));
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

/// Every function with more parameters than `most`: file, line, name and their number.
fn long_signatures(source: &Source, most: usize) -> Vec<String> {
    let tokens = source.tokens();
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let is_named =
            tokens.get(at + 1).is_some_and(|name| name.text.starts_with(|c: char| c.is_alphabetic() || c == '_'));
        if tokens[at].text != "fn" || !is_named {
            continue;
        }
        let parameters = count_parameters(&tokens[at + 2..]);
        if parameters > most {
            let (line, name) = (tokens[at].line, tokens[at + 1].text);
            found.push(format!("src/{}:{line}: {name} has {parameters} parameters", source.path));
        }
    }
    found
}

/// The number of parameters of a function whose name has just been read.
fn count_parameters(tokens: &[Token<'_>]) -> usize {
    // Commas of generics, tuples and arrays stand deeper than those between parameters.
    let (mut depth, mut is_open, mut parameters, mut is_empty) = (0_usize, false, 0, true);
    for token in tokens {
        match token.text {
            "(" if depth == 0 => {
                is_open = true;
                depth = 1;
                continue;
            }
            "(" | "[" | "{" | "<" => depth += 1,
            ")" if is_open && depth == 1 => break,
            ")" | "]" | "}" | ">" => depth -= 1,
            "," if is_open && depth == 1 => {
                parameters += 1;
                is_empty = true;
                continue;
            }
            _ => {}
        }
        is_empty &= !is_open;
    }
    parameters + usize::from(!is_empty)
}

#[test]
fn no_function_has_more_than_six_parameters() {
    none(program().iter().flat_map(|source| long_signatures(source, PARAMETERS)).collect(), "too many parameters");
}

#[test]
fn parameters_are_counted_as_the_compiler_does() {
    let count = |text: &str| {
        let source = Source::new("a.rs".to_owned(), text);
        let tokens = source.tokens();
        count_parameters(&tokens[2..])
    };
    assert_eq!(count("fn f() {}"), 0);
    assert_eq!(count("fn f(&self) -> (u8, u8) {}"), 1);
    assert_eq!(
        count("fn f<F: Fn(u8, u8) -> u8, const N: usize>(\n    self,\n    (a, b): (u8, [u8; N]),\n    f: F,\n) {}"),
        3
    );
    assert_eq!(count("fn f(a: HashMap<String, Vec<u8>>, b: impl Fn(u8, u8) -> Option<u8>, c: fn(u8, u8) -> u8)"), 3);
}

#[test]
fn decisions_do_no_io_and_read_no_clock() {
    let rows = modules::table();
    let decides = |path: &str, &(folder, name): &(&str, &str)| path.starts_with(folder) && path.ends_with(name);
    let is_pure = |source: &&Source| {
        modules::row_of(&rows, &source.module()).is_some_and(|row| row.is_pure)
            || DECISIONS.iter().any(|pattern| decides(&source.path, pattern))
    };
    let program = program();
    for pattern in &DECISIONS {
        let is_there = program.iter().any(|source| decides(&source.path, pattern));
        assert!(is_there, "no file matches {pattern:?}: correct DECISIONS");
    }
    assert!(rows.iter().any(|row| row.is_pure), "no module of the table is pure");
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
    ];
    none(mentions(program.iter().filter(is_pure), &forbidden), "a decision takes what it needs as an argument");
}

#[test]
fn clocks_are_read_only_where_it_is_explained() {
    let program = program();
    let words = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", ".elapsed()"];
    let is_listed = |source: &&Source| CLOCK_READERS.iter().any(|(path, _)| *path == source.path);
    let mut found = mentions(program.iter().filter(|source| !is_listed(source)), &words);
    for (path, _) in CLOCK_READERS {
        let reads = program.iter().filter(|source| source.path == path).any(|one| !mentions([one], &words).is_empty());
        if !reads {
            found.push(format!("src/{path} reads no clock: take it out of CLOCK_READERS"));
        }
    }
    none(found, "take the time as an argument, or use `time::Clock`");
}

#[test]
fn slow_hashes_are_computed_on_blocking_threads_or_by_a_command() {
    let places = ["heartbeat/credentials.rs", "heartbeat/slow_hash.rs"];
    let program = program();
    let others = program.iter().filter(|source| !places.contains(&source.path.as_str()));
    let mut found = mentions(others, &["Digest::slow(", "pbkdf2"]);
    let commands = |source: &&Source| !places.contains(&source.path.as_str()) && !source.path.starts_with("cli/");
    found.extend(mentions(program.iter().filter(commands), &["is_hash_of("]));
    none(found, "a slow hash on a thread of the runtime keeps heartbeats waiting: use `heartbeat::slow_hash`");
}

#[test]
fn only_main_ends_the_process() {
    let found =
        mentions(program().iter().filter(|source| source.path != "main.rs"), &["process::exit", "process::abort"]);
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
fn functions_are_recognised() {
    for line in ["fn a() {", "    pub(super) async fn b(", "pub const fn c() -> u8 {"] {
        assert!(is_function(line), "{line}");
    }
    for line in ["let f = |x| {", "impl Fn() for X {", "/// fn in a comment", "type F = fn() -> u8;"] {
        assert!(!is_function(line), "{line}");
    }
}
