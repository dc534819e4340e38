//! Formats figures and names in sentences.

use jiff::Timestamp;

/// Most names in a sentence.
const NAMES: usize = 3;

/// An absolute time, to the second: an age would change with each step.
pub(super) fn format_time(at: Timestamp) -> String {
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&at)
}

/// `web-1, web-2 and 3 more`.
pub(super) fn name_list<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `1 pod`, `2 pods`.
pub(super) fn count(number: i64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
