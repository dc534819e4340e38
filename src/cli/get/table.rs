//! A table as kubectl prints it.

use std::borrow::Cow;

use jiff::Timestamp;

use super::kind::ListedKind;
use crate::api::is_deceptive;

/// Spaces between columns, as kubectl.
const GAP: usize = 3;
/// The text of an empty cell, so that every line has the same number of words.
pub(super) const NOTHING: &str = "<none>";

/// The table with its header. Times are shown as ages at `now`.
pub(super) fn render<V: ListedKind>(views: &[V], with_namespace: bool, wide: bool, now: Timestamp) -> String {
    let mut lines = vec![header::<V>(with_namespace, wide)];
    lines.extend(views.iter().map(|view| row(view, with_namespace, wide, now)));
    let mut widths = vec![0; lines[0].len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut columns = line.iter().zip(&widths).peekable();
        while let Some((cell, &width)) = columns.next() {
            text.push_str(cell);
            let pad = if columns.peek().is_some() { width + GAP - cell.chars().count() } else { 0 };
            text.extend(std::iter::repeat_n(' ', pad));
        }
        text.push('\n');
    }
    text
}

fn header<V: ListedKind>(with_namespace: bool, wide: bool) -> Vec<Cow<'static, str>> {
    let names = with_namespace.then_some("NAMESPACE").into_iter().chain(["NAME"]);
    let wide = if wide { V::WIDE } else { &[] };
    names.chain(V::COLUMNS.iter().chain(wide).copied()).map(Cow::Borrowed).collect()
}

fn row<V: ListedKind>(view: &V, with_namespace: bool, wide: bool, now: Timestamp) -> Vec<Cow<'_, str>> {
    let (namespace, name) = view.key();
    let names = with_namespace.then_some(namespace).into_iter().chain([name]);
    let mut cells: Vec<Cow<str>> = names.map(Cow::Borrowed).collect();
    cells.extend(view.cells(now));
    if wide {
        cells.extend(view.wide_cells(now));
    }
    cells
}

/// Untrusted text as one word that is safe for a terminal: an agent may report any version, escape sequences included.
pub(super) fn said(text: Option<&str>) -> Cow<'_, str> {
    clean(text, |c| c.is_control() || c.is_whitespace() || is_deceptive(c))
}

/// The same as several words.
pub(super) fn sentence(text: Option<&str>) -> Cow<'_, str> {
    clean(text, |c| c.is_control() || is_deceptive(c))
}

fn clean(text: Option<&str>, is_bad: fn(char) -> bool) -> Cow<'_, str> {
    match text {
        None | Some("") => NOTHING.into(),
        Some(text) if text.contains(is_bad) => text.replace(is_bad, "_").into(),
        Some(text) => text.into(),
    }
}

/// The time since then, to the second within the first hour.
pub(super) fn exact(at: Option<Timestamp>, now: Timestamp) -> Cow<'static, str> {
    at.map_or("<never>".into(), |at| exact_age(seconds(at, now)).into())
}

/// The time since then, as kubectl writes it.
pub(super) fn rough(at: Option<Timestamp>, now: Timestamp) -> Cow<'static, str> {
    at.map_or("<unknown>".into(), |at| human_age(seconds(at, now)).into())
}

/// Whole seconds from `at` to `now`. The local clock may be behind the operator's; then it is 0.
fn seconds(at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0)
}

/// An age to the second within the first hour, and to two units later.
fn exact_age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => two(seconds, (60, "m"), (1, "s")),
        3_600..86_400 => two(seconds, (3_600, "h"), (60, "m")),
        _ => two(seconds, (86_400, "d"), (3_600, "h")),
    }
}

/// An age as kubectl writes it (`duration.HumanDuration` of k8s.io/apimachinery).
fn human_age(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    if seconds < 2 * MINUTE {
        format!("{seconds}s")
    } else if seconds < 10 * MINUTE {
        two(seconds, (MINUTE, "m"), (1, "s"))
    } else if seconds < 3 * HOUR {
        format!("{}m", seconds / MINUTE)
    } else if seconds < 8 * HOUR {
        two(seconds, (HOUR, "h"), (MINUTE, "m"))
    } else if seconds < 2 * DAY {
        format!("{}h", seconds / HOUR)
    } else if seconds < 8 * DAY {
        two(seconds, (DAY, "d"), (HOUR, "h"))
    } else if seconds < 2 * YEAR {
        format!("{}d", seconds / DAY)
    } else if seconds < 8 * YEAR {
        two(seconds, (YEAR, "y"), (DAY, "d"))
    } else {
        format!("{}y", seconds / YEAR)
    }
}

/// `seconds` in a large and a small unit; the small one is left out when it is zero.
fn two(seconds: u64, (large, large_name): (u64, &str), (small, small_name): (u64, &str)) -> String {
    match (seconds / large, seconds % large / small) {
        (large, 0) => format!("{large}{large_name}"),
        (large, small) => format!("{large}{large_name}{small}{small_name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_contact_is_exact_to_the_second_for_an_hour() {
        let cases = [(0, "0s"), (3, "3s"), (59, "59s"), (60, "1m"), (130, "2m10s"), (3_599, "59m59s"), (3_600, "1h")];
        for (seconds, text) in cases.into_iter().chain([(7_260, "2h1m"), (90_000, "1d1h")]) {
            assert_eq!(exact_age(seconds), text);
        }
    }

    #[test]
    fn an_age_is_written_as_kubectl_writes_it() {
        let cases = [(119, "119s"), (120, "2m"), (130, "2m10s"), (600, "10m"), (10_799, "179m"), (10_860, "3h1m")];
        let later = [(28_800, "8h"), (172_800, "2d"), (176_400, "2d1h"), (691_200, "8d"), (63_158_400, "2y1d")];
        for (seconds, text) in cases.into_iter().chain(later) {
            assert_eq!(human_age(seconds), text);
        }
    }

    #[test]
    fn a_contact_ahead_of_our_clock_is_now() {
        assert_eq!(seconds("2026-11-22T12:00:05Z".parse().unwrap(), noon()), 0);
    }
}
