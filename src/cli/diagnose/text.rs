//! Text for terminals: columns, ages, and escaping of untrusted text.

use jiff::Timestamp;

use crate::api::is_deceptive;

/// Spaces between columns, as kubectl.
const GAP: usize = 3;

/// Rows as columns, each line indented.
pub(super) fn columns(rows: &[Vec<String>], indent: &str) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(indent);
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `12 s ago`, `3 min ago`, `2 h 5 min ago`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h {} min ago", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Escapes untrusted text for a terminal: control characters, which can move the cursor or worse, and marks that change
/// the direction of writing.
pub(super) fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push('\n'),
            '\t' => safe.push(' '),
            c if c.is_control() || is_deceptive(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// The text with each line indented.
pub(super) fn indented(text: &str, indent: &str) -> String {
    text.lines().map(|line| format!("{indent}{}\n", line.trim_end())).collect()
}

/// A title with its body; empty when the body is empty.
pub(super) fn section(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n{title}\n{body}") }
}

/// One line each, with a dash.
pub(super) fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    items.into_iter().map(|item| format!("  - {}\n", harmless(item).replace('\n', " "))).collect()
}
