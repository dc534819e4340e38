//! What stands between braces: labels, and the name of the metric when it is quoted.

use std::cmp::Ordering;
use std::ops::Range;

use super::cursor::{Cursor, begins_label, not_utf8};
use super::fault::{Fault, Stop};

/// Whose labels they are: the formats differ in blanks, commas and line feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Of a sample of the text format: blanks and missing commas are allowed, and quotes may hold line feeds.
    Text,
    /// Of a sample of OpenMetrics: no blanks, and line feeds in quoted names alone.
    OpenMetrics,
    /// Of an exemplar.
    Exemplar,
}

impl Of {
    fn skip_blanks(self, cursor: &mut Cursor<'_>) {
        if self == Self::Text {
            cursor.skip_blanks();
        }
    }
}

/// The names of one sample's labels: kept from line to line, because it is filled for each.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Range<usize>>);

/// Up to so many names are compared each with each.
const FEW: usize = 16;

impl Names {
    /// Where a name is there for the second time.
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

/// Compares two names by what they mean, escapes resolved.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if a.contains(&b'\\') || b.contains(&b'\\') { unescaped(a).cmp(unescaped(b)) } else { a.cmp(b) }
}

/// The bytes that an escaped text means. What is behind a backslash and no escape stays as it is, backslash included.
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

/// Reads labels up to the closing brace; the opening one was read. `name` is the metric's, when it stood before the
/// brace. Gives the name, if there is one.
///
/// # Errors
/// Where and how they are broken.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    of: Of,
    mut name: Option<Range<usize>>,
    names: &mut Names,
) -> Result<Option<Range<usize>>, Stop> {
    names.0.clear();
    let mut meta = None;
    loop {
        of.skip_blanks(cursor);
        if cursor.take(b'}') {
            break;
        }
        let begin = cursor.at;
        let (label, is_quoted) = label_name(cursor, of)?;
        of.skip_blanks(cursor);
        match cursor.peek() {
            Some(b'=') => cursor.at += 1,
            Some(b',' | b'}') if is_quoted && of != Of::Exemplar => {
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
        of.skip_blanks(cursor);
        let is_empty = label_value(cursor, of)?;
        // Prometheus drops a label without a value before it looks for a second one.
        if !is_empty {
            if &cursor.line[label.clone()] == b"__name__" {
                meta = meta.or(Some(label.start));
            }
            names.0.push(label);
        }
        of.skip_blanks(cursor);
        if !cursor.take(b',') && of != Of::Text && cursor.peek() != Some(b'}') {
            return Err(cursor.broken(Fault::Comma));
        }
    }
    let second = if of == Of::Exemplar { None } else { names.duplicate(cursor.line).or(name.as_ref().and(meta)) };
    second.map_or(Ok(name), |at| Err(Stop::Broken(Fault::DuplicateLabel, at)))
}

/// Reads the name of a label, or a quoted name of the metric: where it stands, and whether it is quoted.
fn label_name(cursor: &mut Cursor<'_>, of: Of) -> Result<(Range<usize>, bool), Stop> {
    match cursor.peek() {
        Some(b'"') => {
            let name = cursor.quoted(of != Of::Exemplar, false)?;
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

/// Reads the value of a label, and says whether it is empty.
fn label_value(cursor: &mut Cursor<'_>, of: Of) -> Result<bool, Stop> {
    match cursor.peek() {
        Some(b'"') => {
            let value = cursor.quoted(of == Of::Text, of != Of::Exemplar)?;
            match not_utf8(&cursor.line[value.clone()]) {
                Some(at) => Err(Stop::Broken(Fault::NotUtf8, value.start + at)),
                None => Ok(value.is_empty()),
            }
        }
        Some(_) => Err(cursor.broken(Fault::LabelValue)),
        None => Err(cursor.broken(Fault::OpenBrace)),
    }
}
