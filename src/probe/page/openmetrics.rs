//! Parses one line of OpenMetrics 1.0.

use super::cursor::{Cursor, begins_name, not_utf8};
use super::fault::{Fault, Stop};
use super::labels::{self, Dialect, LabelNames};
use super::{Entry, name_of, number};

/// The last line of a page.
pub(super) const EOF: &[u8] = b"# EOF";

/// The metric types of the format.
const TYPES: [&[u8]; 8] =
    [b"counter", b"gauge", b"histogram", b"gaugehistogram", b"summary", b"info", b"stateset", b"unknown"];

/// Reads one line, without its line feed.
///
/// # Errors
/// The fault and its position, or a quoted name that continues in the next line.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>, names: &mut LabelNames) -> Result<Entry<'a>, Stop> {
    let name = match cursor.peek() {
        None => return Err(cursor.broken(Fault::BlankLine)),
        Some(b'#') => return comment(cursor),
        Some(b'{') => None,
        Some(0) => return Err(cursor.broken(Fault::Nul)),
        Some(b' ' | b'\t') => return Err(cursor.broken(Fault::LeadingBlank)),
        Some(byte) if !begins_name(byte) => return Err(cursor.broken(Fault::NoName)),
        Some(_) => Some(cursor.metric_name()),
    };
    let name = if cursor.take(b'{') { labels::read(cursor, Dialect::OpenMetrics, name, names)? } else { name };
    let name = name.ok_or_else(|| cursor.broken(Fault::NameMissing))?;
    let value = word(cursor).ok_or_else(|| cursor.broken(Fault::NoValue))?;
    number::check(value).map_err(|fault| Stop::Broken(fault, cursor.at - value.len()))?;
    if !cursor.is_at_end() && !begins_exemplar(cursor) {
        timestamp(cursor, Fault::Timestamp)?;
    }
    if begins_exemplar(cursor) {
        exemplar(cursor, names)?;
    }
    if cursor.is_at_end() {
        return Ok(Entry::Sample(name_of(cursor.line, name)));
    }
    let trailing = cursor.broken(Fault::Trailing);
    if EXEMPLAR.starts_with(cursor.rest()) {
        // The line is valid as far as it goes: a page that ends here was cut off and is not broken.
        cursor.at = cursor.line.len();
    }
    Err(trailing)
}

/// The beginning of an exemplar.
const EXEMPLAR: &[u8] = b" # {";

/// Reads one blank and the word after it; `None` when there is none.
fn word<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    if !cursor.take(b' ') {
        return None;
    }
    let word = cursor.word(|byte| !matches!(byte, b' ' | b'\n'));
    if word.is_empty() { None } else { Some(&cursor.line[word]) }
}

/// Reads a timestamp, in seconds.
fn timestamp(cursor: &mut Cursor<'_>, fault: Fault) -> Result<(), Stop> {
    let stamp = word(cursor).ok_or_else(|| cursor.broken(fault))?;
    if number::is_finite(stamp) { Ok(()) } else { Err(Stop::Broken(fault, cursor.at - stamp.len())) }
}

fn begins_exemplar(cursor: &Cursor<'_>) -> bool {
    cursor.rest().starts_with(EXEMPLAR)
}

/// Reads an exemplar: labels, a value, perhaps a timestamp. Prometheus 3 accepts one after any sample.
fn exemplar(cursor: &mut Cursor<'_>, names: &mut LabelNames) -> Result<(), Stop> {
    cursor.at += EXEMPLAR.len();
    labels::read(cursor, Dialect::Exemplar, None, names)?;
    let value = word(cursor).ok_or_else(|| cursor.broken(Fault::ExemplarValue))?;
    if number::check(value).is_err() {
        return Err(Stop::Broken(Fault::ExemplarValue, cursor.at - value.len()));
    }
    if cursor.is_at_end() { Ok(()) } else { timestamp(cursor, Fault::ExemplarTimestamp) }
}

fn comment<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Stop> {
    let line = cursor.line;
    if let Some(behind) = line.strip_prefix(EOF) {
        cursor.at = EOF.len();
        return if behind.is_empty() { Ok(Entry::End) } else { Err(cursor.broken(Fault::AfterEof)) };
    }
    let keyword = line.get(2..6).filter(|_| line.starts_with(b"# ") && line.get(6) == Some(&b' '));
    let Some(keyword @ (b"HELP" | b"TYPE" | b"UNIT")) = keyword else {
        return Err(cursor.broken(Fault::Comment));
    };
    cursor.at = b"# HELP ".len();
    let name = match cursor.peek() {
        Some(b'"') => cursor.quoted(true, false)?,
        Some(byte) if begins_name(byte) => cursor.metric_name(),
        _ => return Err(cursor.broken(Fault::MetadataName)),
    };
    if !cursor.take(b' ') {
        return Err(cursor.broken(Fault::MetadataText));
    }
    let text = cursor.rest();
    match (keyword, not_utf8(text)) {
        (b"TYPE", _) if !TYPES.contains(&text) => Err(cursor.broken(Fault::UnknownType)),
        (b"HELP", Some(at)) => Err(Stop::Broken(Fault::NotUtf8, cursor.at + at)),
        (b"UNIT", _) if !ends_with_unit(&line[name], text) => Err(cursor.broken(Fault::Unit)),
        _ => {
            cursor.at = line.len();
            Ok(Entry::Nothing)
        }
    }
}

fn ends_with_unit(name: &[u8], unit: &[u8]) -> bool {
    unit.is_empty() || name.strip_suffix(unit).is_some_and(|rest| rest.ends_with(b"_"))
}
