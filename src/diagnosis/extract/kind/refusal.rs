//! What a database, or a broker, answers when it refuses. Each answer proves that it was reached.

use std::sync::LazyLock;

use regex::Regex;

use super::compiled;

mod words;

/// Why a database refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All its connections are in use.
    Connections,
    /// It starts, stops or recovers.
    Starting,
    /// The host of the client is not admitted.
    Host,
    /// One side wants encryption, the other does not have it.
    Encryption,
    /// Its certificate is not trusted, or it wants one of the client.
    Certificate,
    /// The driver may not request its public key.
    PublicKey,
    /// The driver does not know its way of authentication.
    Method,
    /// The account is locked, or its password has expired.
    Account,
    /// The account is known and lacks a right.
    Rights,
    /// User or password is wrong or missing.
    Credentials,
    /// It has no such database or service.
    Name,
    /// The driver does not know its time zone.
    TimeZone,
    /// A lock of a migration is held.
    Lock,
    /// A migration fails, or the schema is not the expected one.
    Migration,
    /// It answers with another error.
    Other,
}

impl Refusal {
    /// Whether only a database that was reached gives this answer. The words of a migration tool also appear when it
    /// cannot connect.
    pub(super) fn proves_an_answer(self) -> bool {
        self != Self::Migration
    }
}

/// How many lines before common words may name the database: `HikariPool-1 - Exception …` stands before the reason.
const LINES_BEFORE: usize = 2;

/// The compiled tables of words.
#[derive(Clone)]
pub(super) struct Words {
    sure: Vec<(Refusal, Regex)>,
    common: Vec<(Refusal, Regex)>,
    databases: Regex,
}

impl Words {
    pub(super) fn new() -> Self {
        let table = |rows: &[(Refusal, &[&str])]| {
            rows.iter().map(|(refusal, words)| (*refusal, compiled("(?i)", words))).collect::<Vec<_>>()
        };
        Self { sure: table(words::SURE), common: table(words::COMMON), databases: compiled("(?i)", words::DATABASES) }
    }

    /// Why the database refuses, as its words say.
    pub(super) fn refusal(&self, text: &str) -> Option<Refusal> {
        let sure = self.sure.iter().find(|(_, words)| words.is_match(text)).map(|(refusal, _)| *refusal);
        // The server's other words say less than a common reason does.
        match sure {
            None | Some(Refusal::Other | Refusal::Migration) => self.common_reason(text).or(sure),
            sure => sure,
        }
    }

    /// The reason that common words give beside the name of a database. A log names its database in many lines that say
    /// nothing about the failure, so only the same line and those right before it count.
    fn common_reason(&self, text: &str) -> Option<Refusal> {
        static FRAME: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^\s*(?:at |\.\.\. \d+ )|HikariPool-\d+ - (?:Start|Shutdown|Added)")
                .expect("a constant pattern")
        });
        let lines: Vec<&str> = text.lines().filter(|line| !FRAME.is_match(line)).collect();
        let names = |line: &&str| self.databases.is_match(line) && !super::names_a_web_address(line);
        let is_said = |words: &Regex| {
            let of_database = |at: usize| lines[at.saturating_sub(LINES_BEFORE)..=at].iter().any(names);
            lines.iter().enumerate().any(|(at, line)| words.is_match(line) && of_database(at))
        };
        self.common.iter().find(|(_, words)| is_said(words)).map(|(refusal, _)| *refusal)
    }

    /// Each compiled table, to be tried without one of its alternatives.
    #[cfg(test)]
    pub(super) fn tables(&mut self) -> Vec<&mut Regex> {
        let rows = self.sure.iter_mut().chain(&mut self.common).map(|(_, words)| words);
        rows.chain([&mut self.databases]).collect()
    }
}
