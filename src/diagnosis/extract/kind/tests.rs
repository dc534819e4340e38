//! Real texts and their subjects; and no alternative of a table without a text that needs it.

use super::*;
use crate::diagnosis::alternatives_tests::{at_the_top, without_one};

/// The subject as it is printed, and the text.
struct Text {
    subject: String,
    said: String,
}

fn texts() -> Vec<Text> {
    let refusals = read(include_str!("refusal/texts.txt"), |name| format!("DatabaseRefuses({name})"));
    refusals.into_iter().chain(read(include_str!("texts.txt"), str::to_owned)).collect()
}

fn read(table: &str, subject: impl Fn(&str) -> String) -> Vec<Text> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let columns = lines.map(|line| line.split_once(" | ").expect(line));
    columns.map(|(name, said)| Text { subject: subject(name), said: said.replace("\\n", "\n") }).collect()
}

fn subject(words: &Words, text: &Text) -> String {
    format!("{:?}", words.subject(&text.said, false))
}

#[test]
fn each_text_has_the_subject_that_it_is_about() {
    let (words, texts) = (Words::new(), texts());
    assert!(texts.len() >= 450, "the tables are not whole");
    let different = texts.iter().filter(|text| subject(&words, text) != text.subject);
    let different: Vec<String> =
        different.map(|text| format!("{}, not {}: {}", text.subject, subject(&words, text), text.said)).collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// A removed alternative is noticed: a text whose subject depends on the table matches it and no other one of the table. So
/// a word comes with a text, or not at all.
#[test]
fn each_alternative_is_needed_by_a_text() {
    let (mut whole, texts) = (Words::new(), texts());
    let patterns: Vec<String> = whole.tables().iter().map(|table| table.as_str().to_owned()).collect();
    let never = Regex::new(r"[^\s\S]").unwrap();
    let mut unneeded = Vec::new();
    for (at, pattern) in patterns.iter().enumerate() {
        let table = Regex::new(pattern).unwrap();
        let mut without = whole.clone();
        *without.tables()[at] = never.clone();
        let depends = |text: &&Text| table.is_match(&text.said) && subject(&without, text) != text.subject;
        let depending: Vec<&Text> = texts.iter().filter(depends).collect();
        unneeded.extend(unneeded_in(pattern, &depending));
    }
    assert!(unneeded.is_empty(), "no text needs {}", unneeded.join("\n"));
}

/// The alternatives of a table without which each of these texts still matches.
fn unneeded_in(pattern: &str, depending: &[&Text]) -> Vec<String> {
    let flags = if pattern.starts_with("(?i)") { "(?i)" } else { "" };
    let alternatives = at_the_top(pattern);
    let regex = |pattern: &str| Regex::new(&format!("{flags}{pattern}")).expect(pattern);
    let compiled: Vec<Regex> = alternatives.iter().map(|alternative| regex(alternative)).collect();
    let matching = |text: &&&Text| compiled.iter().filter(|one| one.is_match(&text.said)).count() == 1;
    let alone: Vec<&&Text> = depending.iter().filter(matching).collect();
    let mut unneeded = Vec::new();
    for (alternative, one) in alternatives.iter().zip(&compiled) {
        let of_it: Vec<&str> = alone.iter().map(|text| text.said.as_str()).filter(|said| one.is_match(said)).collect();
        if of_it.is_empty() {
            unneeded.push(alternative.clone());
        }
        for (part, rest) in without_one(alternative) {
            let rest = regex(&rest);
            if of_it.iter().all(|said| rest.is_match(said)) {
                unneeded.push(format!("{part} of {alternative}"));
            }
        }
    }
    unneeded
}
