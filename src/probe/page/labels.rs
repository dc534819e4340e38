//! Parses labels, and the name of the metric where it is quoted inside the braces.

use std::cmp::Ordering;
use std::ops::Range;

use super::cursor::{Cursor, begins_label, not_utf8};
use super::fault::{Fault, Stop};

/// The dialect of labels: the formats differ in blanks, commas and line feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A sample of the text format: blanks and missing commas are allowed, and quoted texts may contain line feeds.
    Text,
    /// A sample of OpenMetrics: no blanks, and line feeds only in quoted names.
    OpenMetrics,
    /// An exemplar.
    Exemplar,
}

impl Dialect {
    fn skip_blanks(self, cursor: &mut Cursor<'_>) {
        if self == Self::Text {
            cursor.skip_blanks();
        }
    }
}

/// The label names of one sample. Reused from line to line to avoid an allocation for each.
#[derive(Debug, Default)]
pub(super) struct LabelNames(Vec<Range<usize>>);

/// Up to this many names are compared pairwise; more are sorted.
const FEW: usize = 16;

impl LabelNames {
    /// The position of the first duplicate name.
    fn duplicate(&mut self, line: &[u8]) -> Option<usize> {
        let names = &mut self.0;
        if names.len() <= FEW {
            let same = |a: &Range<usize>, b: &Range<usize>| compare(&line[a.clone()], &line[b.clone()]).is_eq();
            let second = (1..names.len()).find(|at| names[..*at].iter().any(|earlier| same(earlier, &names[*at])));
            return second.map(|at| names[at].start);
        }
        let order = |a: &Range<usize>, b: &Range<usize>| compare(&line[a.clone()], &line[b.clone()]);
        names.sort_unstable_by(|a, b| order(a, b).then(a.start.cmp(&b.start)));
        let pairs = names.windows(2).filter(|pair| order(&pair[0], &pair[1]).is_eq());
        pairs.map(|pair| pair[1].start).min()
    }
}

/// Compares two names with their escapes resolved.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if a.contains(&b'\\') || b.contains(&b'\\') { unescaped(a).cmp(unescaped(b)) } else { a.cmp(b) }
}

/// Resolves the escapes of a text. A backslash before any other byte is kept, with that byte.
pub(super) fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        let meant = match (byte, text.get(at + 1)) {
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(escaped @ (b'"' | b'\\'))) => Some(*escaped),
            _ => None,
        };
        at += if meant.is_some() { 2 } else { 1 };
        Some(meant.unwrap_or(byte))
    })
}

/// Reads labels up to the closing brace; the opening one was read. `name` is the metric's, if it is before the brace.
/// Returns the name of the metric, if there is one.
///
/// # Errors
/// The fault and its position.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    dialect: Dialect,
    mut name: Option<Range<usize>>,
    names: &mut LabelNames,
) -> Result<Option<Range<usize>>, Stop> {
    names.0.clear();
    let mut meta = None;
    loop {
        dialect.skip_blanks(cursor);
        if cursor.take(b'}') {
            break;
        }
        let begin = cursor.at;
        let (label, is_quoted) = label_name(cursor, dialect)?;
        dialect.skip_blanks(cursor);
        match cursor.peek() {
            Some(b'=') => cursor.at += 1,
            Some(b',' | b'}') if is_quoted && dialect != Dialect::Exemplar => {
                if name.is_some() {
                    return Err(Stop::Broken(Fault::TwoNames, begin));
                }
                name = Some(label);
                cursor.take(b',');
                continue;
            }
            Some(_) => return Err(cursor.broken(Fault::Equal)),
            None => return Err(cursor.broken(Fault::OpenBrace)),
        }
        dialect.skip_blanks(cursor);
        let is_empty = label_value(cursor, dialect)?;
        // Prometheus drops a label with an empty value before it checks for duplicates.
        if !is_empty {
            if &cursor.line[label.clone()] == b"__name__" {
                meta = meta.or(Some(label.start));
            }
            names.0.push(label);
        }
        dialect.skip_blanks(cursor);
        if !cursor.take(b',') && dialect != Dialect::Text && cursor.peek() != Some(b'}') {
            return Err(cursor.broken(Fault::Comma));
        }
    }
    let second =
        if dialect == Dialect::Exemplar { None } else { names.duplicate(cursor.line).or(name.as_ref().and(meta)) };
    second.map_or(Ok(name), |at| Err(Stop::Broken(Fault::DuplicateLabel, at)))
}

/// Reads the name of a label, or a quoted name of the metric. Returns its range, and whether it is quoted.
fn label_name(cursor: &mut Cursor<'_>, dialect: Dialect) -> Result<(Range<usize>, bool), Stop> {
    match cursor.peek() {
        Some(b'"') => {
            let name = cursor.quoted(dialect != Dialect::Exemplar, false)?;
            let text = &cursor.line[name.clone()];
            match not_utf8(text) {
                Some(at) => Err(Stop::Broken(Fault::NotUtf8, name.start + at)),
                None if text.is_empty() => Err(Stop::Broken(Fault::EmptyName, name.start)),
                None => Ok((name, true)),
            }
        }
        Some(byte) if begins_label(byte) => {
            Ok((cursor.word(|byte| begins_label(byte) || byte.is_ascii_digit()), false))
        }
        Some(_) => Err(cursor.broken(Fault::LabelName)),
        None => Err(cursor.broken(Fault::OpenBrace)),
    }
}

/// Reads the value of a label. Returns whether it is empty.
fn label_value(cursor: &mut Cursor<'_>, dialect: Dialect) -> Result<bool, Stop> {
    match cursor.peek() {
        Some(b'"') => {
            let value = cursor.quoted(dialect == Dialect::Text, dialect != Dialect::Exemplar)?;
            match not_utf8(&cursor.line[value.clone()]) {
                Some(at) => Err(Stop::Broken(Fault::NotUtf8, value.start + at)),
                None => Ok(value.is_empty()),
            }
        }
        Some(_) => Err(cursor.broken(Fault::LabelValue)),
        None => Err(cursor.broken(Fault::OpenBrace)),
    }
}
