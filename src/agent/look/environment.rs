//! The environment of a target: the names of its variables, and the values of the few settings that the rules of a
//! diagnosis ask for. Other values may be secrets, and are dropped here.

use std::collections::BTreeMap;

use crate::api::one_line;
use crate::diagnosis::evidence::WANTED_ENVIRONMENT;

/// Most variables that are told. Those with a value come first.
const MAX_VARIABLES: usize = 32;
/// Longest name, and longest value, in characters.
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 128;

/// The environment in assignments `NAME=value`.
pub(super) fn of(assignments: impl IntoIterator<Item = String>) -> BTreeMap<String, Option<String>> {
    let mut all: Vec<(String, Option<String>)> = Vec::new();
    for assignment in assignments {
        let (name, value) = assignment.split_once('=').unwrap_or((&assignment, ""));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            continue;
        }
        let value = WANTED_ENVIRONMENT.contains(&name).then(|| one_line(value, MAX_VALUE));
        all.push((one_line(name, MAX_NAME), value));
    }
    all.sort_by_key(|(_, value)| value.is_none());
    all.truncate(MAX_VARIABLES);
    all.into_iter().collect()
}

/// The words of a line in which systemd quotes those with spaces.
pub(super) fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => word.extend(characters.next()),
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            ' ' if quote.is_none() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}
