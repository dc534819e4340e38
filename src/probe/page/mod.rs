//! Parses a metrics page as Prometheus does: as a stream of lines, of which only the incomplete one is held in memory.
//!
//! The parser accepts and refuses what the scrape of Prometheus 3 does (its `model/textparse`, its check of label names
//! and the storage's check for duplicate labels), for the text formats 0.0.4 and 1.0.0 and for OpenMetrics. Prometheus
//! 2.42 differs in three points, in each of which this parser follows version 3: it knows no quoted names (a target sends
//! them only on request), it accepts exemplars only after counters and buckets, and it reads a page without a content
//! type as the text format.
//!
//! This parser is stricter in two points. A NUL at the beginning of a line or after a hash: Prometheus silently drops the
//! rest of the page; this parser refuses the first and reads on after the second. A blank before a name in the text
//! format: Prometheus 2 refuses it, 3 makes it a part of the name. A page without a sample passes, as with Prometheus;
//! [`Page::samples`] shows it.

mod content_type;
mod cursor;
mod excerpt;
mod fault;
#[cfg(test)]
mod golden_tests;
mod labels;
mod lines;
mod number;
mod openmetrics;
mod required;
#[cfg(test)]
mod tests;
mod text;

use std::ops::Range;
use std::time::Duration;

use crate::api::{ErrorClass, Phase};

use super::{Failure, MetricsOptions, Page};
use content_type::Format;
use cursor::Cursor;
use fault::{Fault, Stop};
use labels::LabelNames;
use lines::{Line, Lines};
use required::RequiredMetrics;

/// The longest line, in bytes: 256 KiB, the limit of all annotations of a Kubernetes object together, which are the
/// longest labels seen in practice. Prometheus has no such limit; this one bounds the memory of a probe whose page has
/// lines without an end.
pub const MAX_LINE: usize = 256 << 10;

/// The `Accept` header of Prometheus 3, in its default order and with its default weights. A target answers a probe as it
/// answers Prometheus.
pub const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,\
    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// The headers of a scrape: [`ACCEPT`], and the timeout in seconds, as Prometheus sends it. The caller adds
/// `Accept-Encoding`.
pub fn accept_headers(timeout: Duration) -> Vec<(&'static str, String)> {
    let seconds = timeout.as_secs_f64();
    vec![("accept", ACCEPT.to_owned()), ("x-prometheus-scrape-timeout-seconds", seconds.to_string())]
}

/// The content of a line.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    /// A comment, metadata, or an empty line.
    Nothing,
    /// A sample of the metric with this name.
    Sample(Name<'a>),
    /// The page ends here.
    End,
}

/// The name of a metric as written on the page. A quoted name may contain escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name<'a>(&'a [u8]);

fn name_of(line: &[u8], name: Range<usize>) -> Name<'_> {
    Name(&line[name])
}

/// Parses a page, chunk by chunk.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    state: PageState,
    /// The first failure. Nothing is parsed after it.
    failure: Option<Failure>,
}

/// The state of the parser, and the requirements of the page.
#[derive(Debug)]
struct PageState {
    format: Format,
    page: Page,
    required: RequiredMetrics,
    max_samples: u64,
    /// OpenMetrics' `# EOF` was read.
    has_ended: bool,
    /// The label names of the current sample.
    names: LabelNames,
}

impl Reader {
    /// Begins to parse a page of type `content_type`. The caller enforces the limit of bytes.
    ///
    /// # Errors
    /// `ContentType` when it is missing or is not one that Prometheus scrapes.
    pub fn new(content_type: Option<&str>, options: &MetricsOptions) -> Result<Self, Failure> {
        let MetricsOptions { required, most_bytes: _, most_samples } = options;
        let state = PageState {
            format: content_type::format(content_type)?,
            page: Page::default(),
            required: RequiredMetrics::new(required),
            max_samples: *most_samples,
            has_ended: false,
            names: LabelNames::default(),
        };
        Ok(Self { lines: Lines::default(), state, failure: None })
    }

    /// Parses the next chunk, uncompressed. Chunks may be cut anywhere.
    ///
    /// # Errors
    /// `Exposition` when a line is broken; also when it is longer than [`MAX_LINE`] or there are more samples than
    /// allowed: [`Page::broken_at`] stays empty then. Later chunks return the same failure.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        if self.failure.is_none() {
            let state = &mut self.state;
            self.failure = self.lines.feed(chunk, |line| state.read(line, false)).err();
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// The content of the page so far.
    pub fn page(&self) -> &Page {
        &self.state.page
    }

    /// Ends the page and returns its content, also after an earlier failure.
    ///
    /// # Errors
    /// The failure of [`Reader::feed`]; `Exposition` when the page is cut off, and `MissingMetric` when it lacks a
    /// required one. A required name is present when a sample has it, alone or with the suffix `_total`, `_sum`,
    /// `_count`, `_bucket` or `_info`: a family's name is as good as those of its samples.
    pub fn finish(mut self) -> (Page, Result<(), Failure>) {
        if self.failure.is_none() {
            self.failure = self.end().err();
        }
        let PageState { mut page, required, .. } = self.state;
        if self.failure.is_none() {
            page.missing = required.missing();
            self.failure = missing(&page.missing);
        }
        (page, self.failure.map_or(Ok(()), Err))
    }

    fn end(&mut self) -> Result<(), Failure> {
        let state = &mut self.state;
        let end = self.lines.finish(|line| state.read(line, true).map(|_| ()))?;
        if state.format == Format::OpenMetrics && !state.has_ended {
            return Err(state.broken(end, Fault::NoEof, 0));
        }
        Ok(())
    }
}

impl PageState {
    /// Parses a line. Returns the position of a quoted text that continues after the line feed. The `last` line of a page
    /// has no line feed.
    fn read(&mut self, line: Line<'_>, last: bool) -> Result<Option<usize>, Failure> {
        if self.has_ended {
            return Err(self.broken(line, Fault::AfterEof, 0));
        }
        let mut cursor = Cursor::new(line.bytes);
        let (fault, at) = match self.parse(&mut cursor) {
            Ok(entry) if !line.is_cut => return self.record(entry).map(|()| None),
            Ok(_) => (Fault::LineTooLong, MAX_LINE),
            Err(Stop::Open(quote)) if line.quote.is_none() && !last && !line.is_cut => return Ok(Some(quote)),
            Err(Stop::Open(quote)) => (Fault::OpenQuote, quote),
            Err(Stop::Broken(fault, at)) => (fault, at),
        };
        // An error at the point where the line was cut may not be an error of the line.
        let to_the_end = cursor.is_at_end();
        let is_metadata = line.bytes.starts_with(b"#") && fault != Fault::AfterEof;
        let (fault, at) = match self.format {
            _ if line.is_cut && to_the_end => (Fault::LineTooLong, MAX_LINE),
            Format::OpenMetrics if last && (to_the_end || is_metadata) => (Fault::NoEof, line.bytes.len()),
            _ => self.more_specific(line, fault, at),
        };
        Err(self.broken(line, fault, at))
    }

    fn parse<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Stop> {
        match self.format {
            Format::Text => text::read(cursor, &mut self.names),
            Format::OpenMetrics => openmetrics::read(cursor, &mut self.names),
        }
    }

    /// Records the content of a line.
    fn record(&mut self, entry: Entry<'_>) -> Result<(), Failure> {
        match entry {
            Entry::Nothing => {}
            Entry::End => self.has_ended = true,
            Entry::Sample(_) if self.page.samples == self.max_samples => {
                let message = format!("the page has more than the {} samples that are allowed", self.max_samples);
                return Err(failure(ErrorClass::Exposition, message, None));
            }
            Entry::Sample(name) => {
                self.page.samples += 1;
                self.required.see(name);
            }
        }
        Ok(())
    }

    /// A more specific fault, where there is one.
    fn more_specific(&mut self, line: Line<'_>, fault: Fault, at: usize) -> (Fault, usize) {
        if let [without @ .., b'\r'] = line.bytes
            && (without.is_empty() || self.parse(&mut Cursor::new(without)).is_ok())
        {
            return (Fault::CarriageReturn, without.len());
        }
        // Line feeds in quoted texts are rare, but unclosed quotes are common.
        if let Some(quote) = line.quote
            && line.bytes[quote..at.max(quote)].contains(&b'\n')
        {
            return (Fault::LineFeed, quote);
        }
        let specific = match line.bytes.trim_ascii() {
            _ if line.offset > 0 => fault,
            [0x1F, 0x8B, ..] => Fault::Gzip,
            [0xEF, 0xBB, 0xBF, ..] => Fault::ByteOrderMark,
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Fault::Utf16,
            [b'"', ..] => Fault::JsonText,
            [b'<', ..] => Fault::Markup,
            [b'[', ..] | [b'{'] => Fault::Json,
            [b'{', ..] if line.bytes.get(at) == Some(&b':') => Fault::Json,
            _ => fault,
        };
        (specific, at)
    }

    fn broken(&mut self, line: Line<'_>, fault: Fault, at: usize) -> Failure {
        let line_feeds = memchr::memchr_iter(b'\n', &line.bytes[..at.min(line.bytes.len())]).count();
        let (number, offset) = (line.number + line_feeds as u64, line.offset + at as u64);
        let message = match fault {
            // A limit of this parser: the line itself may be valid.
            Fault::LineTooLong => format!("line {} of the metrics page is {}", line.number, fault.message()),
            _ => {
                self.page.broken_at = Some((number, offset));
                format!("the metrics page is broken in line {number}, at byte {offset}: {}", fault.message())
            }
        };
        let detail = (!line.bytes.is_empty()).then(|| excerpt::excerpt(line.bytes, at));
        failure(ErrorClass::Exposition, message, detail)
    }
}

fn failure(class: ErrorClass, message: String, detail: Option<String>) -> Failure {
    Failure { detail, ..Failure::new(class, Phase::Body, message) }
}

/// The most missing metrics that are named in the message.
const MAX_NAMED: usize = 3;

fn missing(names: &[String]) -> Option<Failure> {
    let named = names.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let message = match names.len() {
        0 => return None,
        more @ MAX_NAMED.. if more > MAX_NAMED => {
            format!("the page has no sample of {named} and {} more", more - MAX_NAMED)
        }
        _ => format!("the page has no sample of {named}"),
    };
    Some(failure(ErrorClass::MissingMetric, message, None))
}
