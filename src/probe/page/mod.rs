//! The metrics page, read as Prometheus reads it: a stream of lines, of which no more is held than the one that is not
//! complete.
//!
//! What is taken and what is refused is what the scrape of Prometheus 3 does (its `model/textparse`, its check of label
//! names and the storage's check for labels that are there twice), for the text formats 0.0.4 and 1.0.0 and for
//! OpenMetrics. Prometheus 2.42 differs in three points, in each of which we side with 3: it knows no quoted names
//! (a target sends them to who asks for them only), it takes exemplars behind counters and buckets only, and it takes
//! a page without a content type for the text format.
//!
//! We are stricter in two: a NUL at the beginning of a line or behind a hash (Prometheus drops the rest of the page
//! without a word; we refuse the one and read on behind the other), and a blank before a name in the text format
//! (Prometheus 2 refuses it, 3 takes it for a part of the name). A page that parses and has no sample passes, as it does
//! there; [`Page::samples`] tells.

mod content_type;
mod cursor;
mod excerpt;
mod fault;
mod labels;
mod lines;
mod number;
mod openmetrics;
#[cfg(test)]
mod tests;
mod text;
mod wanted;

use std::ops::Range;
use std::time::Duration;

use crate::api::{ErrorClass, Phase};

use super::{Failure, MetricsOptions, Page};
use content_type::Format;
use cursor::Cursor;
use fault::{Fault, Stop};
use labels::Names;
use lines::{Line, Lines};
use wanted::Wanted;

/// The longest line that is read, in bytes: 256 KiB, which is what all annotations of a Kubernetes object may hold
/// together; the longest labels that are seen in the wild are such ones. Prometheus has no limit of its own; ours
/// bounds what a probe holds of a page whose lines do not end.
pub const LONGEST_LINE: usize = 256 << 10;

/// What Prometheus 3 says that it accepts, in its default order and with its default weights: a target answers to it
/// as it answers to Prometheus.
pub const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,\
    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// The headers that make a request a scrape: [`ACCEPT`], and how long we wait, in seconds, as Prometheus tells it.
/// What the body may be compressed with is the dialler's to say.
pub fn accept_headers(timeout: Duration) -> Vec<(&'static str, String)> {
    let seconds = timeout.as_secs_f64();
    vec![("accept", ACCEPT.to_owned()), ("x-prometheus-scrape-timeout-seconds", seconds.to_string())]
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    /// A comment, metadata, nothing at all.
    Nothing,
    /// A sample of the metric with this name.
    Sample(Name<'a>),
    /// The page ends here.
    End,
}

/// The name of a metric, as it stands on the page: when it is quoted there may be escapes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name<'a>(&'a [u8]);

fn name_of(line: &[u8], name: Range<usize>) -> Name<'_> {
    Name(&line[name])
}

/// Reads a page, chunk by chunk.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    sheet: Sheet,
    /// What failed, once something has: nothing is read any more.
    failure: Option<Failure>,
}

/// What is known of the page, and what is asked of it.
#[derive(Debug)]
struct Sheet {
    format: Format,
    page: Page,
    wanted: Wanted,
    most_samples: u64,
    /// OpenMetrics' `# EOF` was read.
    has_ended: bool,
    names: Names,
}

impl Reader {
    /// Begins to read a page that came with `content_type`. The limit of bytes is the caller's to hold.
    ///
    /// # Errors
    /// `ContentType` when it is none that Prometheus scrapes, or when there is none.
    pub fn new(content_type: Option<&str>, options: &MetricsOptions) -> Result<Self, Failure> {
        let MetricsOptions { required, most_bytes: _, most_samples } = options;
        let sheet = Sheet {
            format: content_type::format(content_type)?,
            page: Page::default(),
            wanted: Wanted::new(required),
            most_samples: *most_samples,
            has_ended: false,
            names: Names::default(),
        };
        Ok(Self { lines: Lines::default(), sheet, failure: None })
    }

    /// Reads the next chunk, uncompressed. Where the chunks are cut does not matter.
    ///
    /// # Errors
    /// `Exposition` when a line is broken; also when it is longer than [`LONGEST_LINE`] or there are more samples than
    /// allowed: [`Page::broken_at`] stays empty then. The same again for every chunk that follows.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        if self.failure.is_none() {
            let sheet = &mut self.sheet;
            self.failure = self.lines.feed(chunk, |line| sheet.read(line, false)).err();
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// What was seen of the page so far.
    pub fn page(&self) -> &Page {
        &self.sheet.page
    }

    /// The page is complete: gives what it held, also when it failed earlier.
    ///
    /// # Errors
    /// Beside what [`Reader::feed`] said: `Exposition` when the page is cut off, and `MissingMetric` when it lacks a
    /// required one. A required name is there when a sample has it, or has it with `_total`, `_sum`, `_count`,
    /// `_bucket` or `_info` behind it: the name of a family is as good as that of its samples.
    pub fn finish(mut self) -> (Page, Result<(), Failure>) {
        if self.failure.is_none() {
            self.failure = self.end().err();
        }
        let Sheet { mut page, wanted, .. } = self.sheet;
        if self.failure.is_none() {
            page.missing = wanted.missing();
            self.failure = missing(&page.missing);
        }
        (page, self.failure.map_or(Ok(()), Err))
    }

    fn end(&mut self) -> Result<(), Failure> {
        let sheet = &mut self.sheet;
        let end = self.lines.finish(|line| sheet.read(line, true).map(|_| ()))?;
        if sheet.format == Format::OpenMetrics && !sheet.has_ended {
            return Err(sheet.broken(end, Fault::NoEof, 0));
        }
        Ok(())
    }
}

impl Sheet {
    /// Reads a line; when a quoted text goes on behind its line feed, it gives where that begins. The `last` line of a
    /// page has no line feed.
    fn read(&mut self, line: Line<'_>, last: bool) -> Result<Option<usize>, Failure> {
        if self.has_ended {
            return Err(self.broken(line, Fault::AfterEof, 0));
        }
        let mut cursor = Cursor::new(line.bytes);
        let (fault, at) = match self.parse(&mut cursor) {
            Ok(entry) if !line.is_cut => return self.take(entry).map(|()| None),
            Ok(_) => (Fault::LineTooLong, LONGEST_LINE),
            Err(Stop::Open(quote)) if line.quote.is_none() && !last && !line.is_cut => return Ok(Some(quote)),
            Err(Stop::Open(quote)) => (Fault::OpenQuote, quote),
            Err(Stop::Broken(fault, at)) => (fault, at),
        };
        // What fails only where the line was cut may be well.
        let to_the_end = cursor.is_at_end();
        let is_metadata = line.bytes.starts_with(b"#") && fault != Fault::AfterEof;
        let (fault, at) = match self.format {
            _ if line.is_cut && to_the_end => (Fault::LineTooLong, LONGEST_LINE),
            Format::OpenMetrics if last && (to_the_end || is_metadata) => (Fault::NoEof, line.bytes.len()),
            _ => self.better(line, fault, at),
        };
        Err(self.broken(line, fault, at))
    }

    fn parse<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Stop> {
        match self.format {
            Format::Text => text::read(cursor, &mut self.names),
            Format::OpenMetrics => openmetrics::read(cursor, &mut self.names),
        }
    }

    /// Notes what a line said.
    fn take(&mut self, entry: Entry<'_>) -> Result<(), Failure> {
        match entry {
            Entry::Nothing => {}
            Entry::End => self.has_ended = true,
            Entry::Sample(_) if self.page.samples == self.most_samples => {
                let message = format!("the page has more than the {} samples that are allowed", self.most_samples);
                return Err(failure(ErrorClass::Exposition, message, None));
            }
            Entry::Sample(name) => {
                self.page.samples += 1;
                self.wanted.see(name);
            }
        }
        Ok(())
    }

    /// The fault that says more, where there is one.
    fn better(&mut self, line: Line<'_>, fault: Fault, at: usize) -> (Fault, usize) {
        if let [without @ .., b'\r'] = line.bytes
            && (without.is_empty() || self.parse(&mut Cursor::new(without)).is_ok())
        {
            return (Fault::CarriageReturn, without.len());
        }
        // Line feeds in quoted texts are rare, and quotes that are not closed are not.
        if let Some(quote) = line.quote
            && line.bytes[quote..at.max(quote)].contains(&b'\n')
        {
            return (Fault::LineFeed, quote);
        }
        let better = match line.bytes.trim_ascii() {
            _ if line.offset > 0 => fault,
            [b'<', ..] => Fault::Markup,
            [b'[', ..] | [b'{'] => Fault::Json,
            [b'{', ..] if line.bytes.get(at) == Some(&b':') => Fault::Json,
            _ => fault,
        };
        (better, at)
    }

    fn broken(&mut self, line: Line<'_>, fault: Fault, at: usize) -> Failure {
        let line_feeds = memchr::memchr_iter(b'\n', &line.bytes[..at.min(line.bytes.len())]).count();
        let (number, offset) = (line.number + line_feeds as u64, line.offset + at as u64);
        let message = match fault {
            // A limit of ours: whether the line is well nobody knows.
            Fault::LineTooLong => format!("line {} of the metrics page is {}", line.number, fault.words()),
            _ => {
                self.page.broken_at = Some((number, offset));
                format!("the metrics page is broken in line {number}, at byte {offset}: {}", fault.words())
            }
        };
        let detail = (!line.bytes.is_empty()).then(|| excerpt::excerpt(line.bytes, at));
        failure(ErrorClass::Exposition, message, detail)
    }
}

fn failure(class: ErrorClass, message: String, detail: Option<String>) -> Failure {
    Failure { detail, ..Failure::new(class, Phase::Body, message) }
}

/// How many of the metrics that are missing are named in the message.
const NAMED: usize = 3;

fn missing(names: &[String]) -> Option<Failure> {
    let named = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let message = match names.len() {
        0 => return None,
        more @ NAMED.. if more > NAMED => format!("the page has no sample of {named} and {} more", more - NAMED),
        _ => format!("the page has no sample of {named}"),
    };
    Some(failure(ErrorClass::MissingMetric, message, None))
}
