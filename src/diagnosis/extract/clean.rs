//! Redacts secrets in texts of a backend.

use std::sync::LazyLock;

use regex::{NoExpand, Regex};

/// Replaces redacted text.
pub(super) const REDACTED: &str = "…";

/// A Description without its `Value:` lines, and those values.
///
/// A value may span lines: it ends at the next property of the failure analysis.
pub(super) fn without_values<'a>(lines: &[&'a str]) -> (Vec<&'a str>, Vec<String>) {
    const PROPERTIES: &[&str] = &["Property:", "Origin:", "Reason:", "Action:", "Description:"];
    let mut kept = Vec::new();
    let mut values: Vec<String> = Vec::new();
    let mut in_value = false;
    for line in lines {
        let bare = line.trim_start();
        if let Some(value) = bare.strip_prefix("Value:") {
            in_value = true;
            values.push(value.trim().to_owned());
        } else if PROPERTIES.iter().any(|property| bare.starts_with(property)) {
            in_value = false;
            kept.push(*line);
        } else if in_value {
            values.push(bare.trim().to_owned());
        } else {
            kept.push(*line);
        }
    }
    (kept, values.into_iter().flat_map(|value| pieces(&value)).collect())
}

/// A value and its parts: a Reason may quote one element of a list, or one part of a URL.
fn pieces(value: &str) -> Vec<String> {
    let value = value.trim_matches(['"', '\'']);
    let mut pieces = vec![value.to_owned()];
    pieces.extend(value.split([',', ';', ' ', '=', ':', '/', '@', '&', '?', '"', '\'']).map(str::to_owned));
    // Short parts occur in every sentence; quotes of them are redacted separately.
    pieces.retain(|piece| piece.chars().count() >= 4);
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    pieces.dedup();
    pieces
}

/// The text without values: those of properties, and those that a sentence quotes.
pub(super) fn without_quotes(text: &str, values: &[String]) -> String {
    static QUOTED_VALUE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?is)(\bvalue:?\s+|\binput string:\s*)("[^"]*"?|'[^']*'?|\[[^\]]*\]?)"#)
            .expect("a constant pattern")
    });
    static INLINE_VALUE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)\bValue:.*$").expect("a constant pattern"));
    static REASON: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*Reason:.*$").expect("a constant pattern"));
    static QUOTED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#""[^"]*"?|'[^']*'|\[[^\]]*\]"#).expect("a constant pattern"));
    let mut text = QUOTED_VALUE.replace_all(text, format!("${{1}}{REDACTED}").as_str()).into_owned();
    text = INLINE_VALUE.replace_all(&text, NoExpand("")).into_owned();
    if !values.is_empty() {
        // A Reason often quotes the rejected value.
        text = REASON
            .replace_all(&text, |reason: &regex::Captures<'_>| QUOTED.replace_all(&reason[0], REDACTED).into_owned())
            .into_owned();
        for value in values {
            text = replace_everywhere(&text, value);
        }
    }
    text
}

/// A line in which a host is looked for, printable, without user info and queries of URLs, and probable secrets. Never
/// shown itself.
pub(super) fn line(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut hide_next = false;
    for word in text.split_whitespace() {
        let (shown, hide) = if hide_next { (REDACTED.to_owned(), precedes_secret(word)) } else { self::word(word) };
        hide_next = hide;
        words.push(shown);
    }
    words.join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// The text without the value, compared case-insensitively.
fn replace_everywhere(text: &str, value: &str) -> String {
    // ASCII lower case keeps byte offsets, so they are valid in both texts.
    let (hay, needle) = (text.to_ascii_lowercase(), value.to_ascii_lowercase());
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in hay.match_indices(&needle) {
        kept.push_str(&text[from..at]);
        kept.push_str(REDACTED);
        from = at + found.len();
    }
    kept.push_str(&text[from..]);
    kept
}

/// A word with secrets redacted, and whether the next word must be redacted.
fn word(word: &str) -> (String, bool) {
    static SECRET: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?i)([A-Za-z0-9_.-]*(?:pass|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credentials?|authorization|bearer|basic)[A-Za-z0-9_.-]*)["']?\s*([=:])(.*)$"#,
        )
        .expect("a constant pattern")
    });
    // In a URL they are part of the path or the query, which are removed anyway.
    if let Some(found) = SECRET.captures(word)
        && word.find("://").is_none_or(|at| found.get(2).is_some_and(|sign| sign.start() < at))
    {
        let shown = format!("{}{}{REDACTED}", &found[1], &found[2]);
        // `password: x`: the value is the next word.
        return (shown, found[3].trim_matches(['"', '\'']).is_empty());
    }
    if precedes_secret(word) {
        return (word.to_owned(), true);
    }
    let shown = if word.contains("://") {
        url(word)
    } else if word.contains('@') {
        after_user(word)
    } else {
        word.to_owned()
    };
    (if looks_secret(&shown) { REDACTED.to_owned() } else { shown }, false)
}

/// Whether a secret follows this word.
fn precedes_secret(word: &str) -> bool {
    static PRECEDES_SECRET: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)^["'(]*(?:pass(?:w(?:or)?d|phrase)?|pwd|secret|token|bearer|basic)["')]*$"#)
            .expect("a constant pattern")
    });
    PRECEDES_SECRET.is_match(word)
}

/// The scheme, the host and the port of a URL.
pub(super) fn url(word: &str) -> String {
    let Some((before, rest)) = word.split_once("://") else { return REDACTED.to_owned() };
    let scheme = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && !"+.:-".contains(c)).next().unwrap_or_default();
    let authority = &rest[..rest.find(['/', '?', '#', ';']).unwrap_or(rest.len())];
    let host = authority.rsplit('@').next().unwrap_or_default();
    // A further `@` may end a password that was not escaped: then only the scheme is safe to show.
    let unsure = rest.matches('@').count() > authority.matches('@').count();
    if unsure || !is_authority(host) { format!("{scheme}://{REDACTED}") } else { format!("{scheme}://{host}") }
}

/// `user:password@host:port/x`, `user/password@//host:port/x`, `user:password@tcp(host:port)/x`.
fn after_user(word: &str) -> String {
    static HOST: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?://)?(?:tcp\()?([A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?)\)?(?:/[A-Za-z0-9_.-]*)?[,.;:)']*$")
            .expect("a constant pattern")
    });
    let after_at = word.rsplit('@').next().unwrap_or_default();
    match HOST.captures(after_at) {
        Some(host) => host[1].to_owned(),
        None => REDACTED.to_owned(),
    }
}

fn is_authority(text: &str) -> bool {
    static AUTHORITY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^(?:[A-Za-z0-9.-]{0,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?[)"',.:]*$"#)
            .expect("a constant pattern")
    });
    AUTHORITY.is_match(text)
}

/// A known key prefix, or a run of 20 key characters with at least 3 digits. Prose and class names have fewer digits.
fn looks_secret(word: &str) -> bool {
    static KNOWN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b(?:eyJ[A-Za-z0-9_-]{8,}|AKIA[0-9A-Z]{12,}|gh[pousr]_[A-Za-z0-9]{8,}|vgt_[A-Za-z0-9_-]{8,}|xox[a-z]-[A-Za-z0-9-]{8,}|sk-[A-Za-z0-9_-]{8,}|-----BEGIN)")
            .expect("a constant pattern")
    });
    static RUN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_=-]{20,}").expect("a constant pattern"));
    let digits = |run: &str| run.bytes().filter(u8::is_ascii_digit).count();
    KNOWN.is_match(word) || RUN.find_iter(word).any(|run| digits(run.as_str()) >= 3 && !run.as_str().contains('/'))
}
