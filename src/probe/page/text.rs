//! Parses one line of the Prometheus text format, 0.0.4 and 1.0.0.

use super::cursor::{Cursor, begins_name, not_utf8};
use super::fault::{Fault, Stop};
use super::labels::{self, Dialect, LabelNames};
use super::{Entry, name_of, number};

/// The metric types of the format.
const TYPES: [&[u8]; 5] = [b"counter", b"gauge", b"histogram", b"summary", b"untyped"];

/// Reads one line, without its line feed.
///
/// # Errors
/// The fault and its position, or a quoted text that continues in the next line.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>, names: &mut LabelNames) -> Result<Entry<'a>, Stop> {
    cursor.skip_blanks();
    let name = match cursor.peek() {
        None => return Ok(Entry::Nothing),
        Some(b'#') => return comment(cursor).map(|()| Entry::Nothing),
        Some(b'{') => None,
        Some(0) => return Err(cursor.broken(Fault::Nul)),
        Some(byte) if !begins_name(byte) => return Err(cursor.broken(Fault::NoName)),
        Some(_) if cursor.at > 0 => return Err(Stop::Broken(Fault::LeadingBlank, 0)),
        Some(_) => Some(cursor.metric_name()),
    };
    cursor.skip_blanks();
    let name = if cursor.take(b'{') { labels::read(cursor, Dialect::Text, name, names)? } else { name };
    let name = name.ok_or_else(|| cursor.broken(Fault::NameMissing))?;
    cursor.skip_blanks();
    let value = cursor.word(|byte| !matches!(byte, b'{' | b' ' | b'\t' | b'\n'));
    if value.is_empty() {
        return Err(cursor.broken(Fault::NoValue));
    }
    number::check(&cursor.line[value.clone()]).map_err(|fault| Stop::Broken(fault, value.start))?;
    timestamp(cursor)?;
    Ok(Entry::Sample(name_of(cursor.line, name)))
}

/// Reads what may follow the value: a timestamp in milliseconds, and blanks.
fn timestamp(cursor: &mut Cursor<'_>) -> Result<(), Stop> {
    cursor.skip_blanks();
    if cursor.is_at_end() {
        return Ok(());
    }
    let stamp = cursor.word(|byte| byte.is_ascii_digit());
    if !number::is_milliseconds(&cursor.line[stamp.clone()]) {
        return Err(Stop::Broken(Fault::Timestamp, stamp.start));
    }
    cursor.skip_blanks();
    if cursor.is_at_end() { Ok(()) } else { Err(cursor.broken(Fault::Trailing)) }
}

/// Reads a comment. HELP and TYPE are checked; any other comment is skipped.
fn comment(cursor: &mut Cursor<'_>) -> Result<(), Stop> {
    cursor.at += 1;
    let hash = cursor.at;
    cursor.skip_blanks();
    let word = cursor.rest().get(..4);
    let is_type = word == Some(b"TYPE");
    let is_metadata = is_type || word == Some(b"HELP");
    if cursor.at == hash || !is_metadata || !matches!(cursor.rest().get(4), Some(b' ' | b'\t')) {
        cursor.at = cursor.line.len();
        return Ok(());
    }
    cursor.at += 4;
    cursor.skip_blanks();
    match cursor.peek() {
        Some(b'"') => cursor.quoted(true, false)?,
        Some(byte) if begins_name(byte) => cursor.metric_name(),
        _ => return Err(cursor.broken(Fault::MetadataName)),
    };
    // Exactly one byte, of any value, separates the name from the text.
    cursor.at = cursor.line.len().min(cursor.at + 1);
    let text = cursor.rest();
    match (is_type, not_utf8(text)) {
        (true, _) if !TYPES.contains(&text) => Err(cursor.broken(Fault::UnknownType)),
        (false, Some(at)) => Err(Stop::Broken(Fault::NotUtf8, cursor.at + at)),
        _ => {
            cursor.at = cursor.line.len();
            Ok(())
        }
    }
}
