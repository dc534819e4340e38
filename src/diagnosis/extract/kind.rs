//! Classifies a termination message or a log tail.

use std::sync::LazyLock;

use regex::Regex;

mod refusal;
#[cfg(test)]
mod tests;
mod words;

pub use refusal::Refusal;

/// The subject of a termination message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtractSubject {
    /// A configuration error.
    Configuration,
    /// A port that another process holds; its number, if named.
    PortInUse(Option<u16>),
    /// A database (or a broker) that cannot be reached.
    DatabaseUnreachable,
    /// A database that answers and refuses.
    DatabaseRefuses(Refusal),
    /// No known pattern matches.
    #[default]
    Other,
}

/// What the text is about. `has_analysis` says that it holds a failure analysis of Spring.
pub(super) fn classify(text: &str, has_analysis: bool) -> ExtractSubject {
    static WORDS: LazyLock<Words> = LazyLock::new(Words::new);
    WORDS.subject(text, has_analysis)
}

/// The compiled tables of words.
#[derive(Clone)]
struct Words {
    in_use: Regex,
    port: Regex,
    configuration: Regex,
    unset: Regex,
    unreachable: Regex,
    no_database: Regex,
    names: Regex,
    ports: Regex,
    frames: Regex,
    refusals: refusal::Words,
}

impl Words {
    fn new() -> Self {
        Self {
            in_use: compiled("(?i)", words::IN_USE),
            port: compiled("(?i)", words::PORT),
            configuration: compiled("", words::CONFIGURATION),
            unset: compiled("(?i)", words::UNSET),
            unreachable: compiled("(?i)", words::UNREACHABLE),
            no_database: compiled("", words::NO_DATABASE),
            names: compiled("(?i)", words::NAMES),
            ports: compiled("", words::PORTS),
            frames: compiled("", words::FRAMES),
            refusals: refusal::Words::new(),
        }
    }

    /// The order matters: Spring's failure analysis means configuration, whatever its reason mentions; and a DataSource
    /// that was never configured does not mean that the database is down.
    fn subject(&self, text: &str, has_analysis: bool) -> ExtractSubject {
        if let Some(port) = self.port_in_use(text) {
            return ExtractSubject::PortInUse(port);
        }
        if has_analysis || self.is_configuration(text) {
            return ExtractSubject::Configuration;
        }
        // Refusals first: a database that answers "password authentication failed" was reached. A migration that cannot
        // connect is a connection problem, not a failed migration.
        let refusal = self.refusals.refusal(text);
        let refusal = refusal.filter(|refusal| refusal.proves_an_answer() || !self.unreachable.is_match(text));
        if let Some(refusal) = refusal {
            return ExtractSubject::DatabaseRefuses(refusal);
        }
        if self.is_database_unreachable(text) { ExtractSubject::DatabaseUnreachable } else { ExtractSubject::Other }
    }

    fn port_in_use(&self, text: &str) -> Option<Option<u16>> {
        let mut said = text.lines().filter(|line| self.in_use.is_match(line)).peekable();
        said.peek()?;
        let number = |line: &str| {
            let found = self.port.captures(line)?;
            found.iter().skip(1).flatten().next()?.as_str().parse().ok()
        };
        Some(said.find_map(number))
    }

    fn is_configuration(&self, text: &str) -> bool {
        let lacks = |line: &str| self.unset.is_match(line) && !line.contains("default");
        self.configuration.is_match(text) || text.lines().any(lacks)
    }

    fn is_database_unreachable(&self, text: &str) -> bool {
        // A plain network error is about a database if it says so, or if it names a database's default port.
        let is_about =
            |line: &str| self.ports.is_match(line) || (self.names.is_match(line) && !names_a_web_address(line));
        // The tail of a stack trace lacks its first lines: then the frames identify the client.
        let in_frames = || self.unreachable.is_match(text) && self.frames.is_match(text);
        self.no_database.is_match(text)
            || text.lines().any(|line| self.unreachable.is_match(line) && is_about(line))
            || in_frames()
    }

    /// Each compiled table, to be tried without one of its alternatives.
    #[cfg(test)]
    fn tables(&mut self) -> Vec<&mut Regex> {
        let mut tables = vec![
            &mut self.in_use,
            &mut self.port,
            &mut self.configuration,
            &mut self.unset,
            &mut self.unreachable,
            &mut self.no_database,
            &mut self.names,
            &mut self.ports,
            &mut self.frames,
        ];
        tables.extend(self.refusals.tables());
        tables
    }
}

/// Whether the line names a URL of HTTP: then the peer is a web service, such as the one that keeps the password of the
/// database.
fn names_a_web_address(line: &str) -> bool {
    line.contains("http://") || line.contains("https://")
}

fn compiled(flags: &str, words: &[&str]) -> Regex {
    Regex::new(&format!("{flags}{}", words.join("|"))).expect("a constant pattern")
}
