//! Splits chunks into lines, and holds the incomplete one.

use memchr::memchr;

use super::MAX_LINE;
use crate::probe::Failure;

/// One line of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Its bytes, without the line feed at its end. A quoted text in it may contain line feeds.
    pub(super) bytes: &'a [u8],
    /// Its number, from 1.
    pub(super) number: u64,
    /// The offset of its first byte in the page, from 0.
    pub(super) offset: u64,
    /// The position of the first quoted text that continues after a line feed.
    pub(super) quote: Option<usize>,
    /// The line is longer than [`MAX_LINE`], and these are its first bytes.
    pub(super) is_cut: bool,
}

/// The lines of a page.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The number of lines that were read.
    read: u64,
    /// The offset of the next line in the page.
    offset: u64,
    /// The received bytes of the next line.
    pending: Vec<u8>,
    /// The next line continues after a line feed: the position of the quoted text, and the state of its quotes.
    quotes: Option<(usize, Quotes)>,
}

impl Lines {
    /// Passes every line that `chunk` completes to `read`, which returns the position of a quoted text that continues after
    /// the line feed, if there is one.
    ///
    /// # Errors
    /// The first error of `read`, which is not called again.
    pub(super) fn feed(
        &mut self,
        mut chunk: &[u8],
        mut read: impl FnMut(Line<'_>) -> Result<Option<usize>, Failure>,
    ) -> Result<(), Failure> {
        while !chunk.is_empty() {
            let end = match &mut self.quotes {
                Some((_, quotes)) => quotes.find_end(chunk),
                None => memchr(b'\n', chunk),
            };
            let (part, rest) = end.map_or((chunk, &[][..]), |end| (&chunk[..end], &chunk[end + 1..]));
            self.take(part, end.is_some(), &mut read)?;
            chunk = rest;
        }
        Ok(())
    }

    /// Takes a part of a line; `ends` marks its last part.
    fn take(
        &mut self,
        part: &[u8],
        ends: bool,
        read: &mut impl FnMut(Line<'_>) -> Result<Option<usize>, Failure>,
    ) -> Result<(), Failure> {
        let fits = self.pending.len() + part.len() <= MAX_LINE;
        // Most lines are within one chunk and need no copy.
        let in_place = self.pending.is_empty() && ends && fits;
        if !in_place {
            let free_slots = MAX_LINE - self.pending.len().min(MAX_LINE);
            self.pending.extend_from_slice(&part[..part.len().min(free_slots)]);
        }
        if fits && !ends {
            return Ok(());
        }
        let bytes = if in_place { part } else { &self.pending };
        let quote = self.quotes.as_ref().map(|(quote, _)| *quote);
        let line = Line { bytes, number: self.read + 1, offset: self.offset, quote, is_cut: !fits };
        let Some(quote) = read(line)? else {
            self.read += 1 + memchr::memchr_iter(b'\n', bytes).count() as u64;
            self.offset += bytes.len() as u64 + 1;
            self.pending.clear();
            self.quotes = None;
            return Ok(());
        };
        if in_place {
            self.pending.extend_from_slice(part);
        }
        self.pending.push(b'\n');
        self.quotes = Some((quote, Quotes::follow(&self.pending)));
        Ok(())
    }

    /// The capacity for an incomplete line, in bytes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.pending.capacity()
    }

    /// Ends the page. Passes the last line to `read` if it has no line feed. Returns the empty line after the end.
    ///
    /// # Errors
    /// The error of `read`.
    pub(super) fn finish(
        &mut self,
        read: impl FnOnce(Line<'_>) -> Result<(), Failure>,
    ) -> Result<Line<'static>, Failure> {
        let length = self.pending.len() as u64;
        let number = self.read + 1;
        if length > 0 {
            let quote = self.quotes.as_ref().map(|(quote, _)| *quote);
            read(Line { bytes: &self.pending, number, offset: self.offset, quote, is_cut: false })?;
        }
        Ok(Line { bytes: &[], number, offset: self.offset + length, quote: None, is_cut: false })
    }
}

/// Tracks the quotes of a line, to distinguish the line feed that ends it from those in quoted texts. Each byte is
/// examined once, however often the line continues, so a malicious page cannot make this slow.
#[derive(Debug, Default)]
struct Quotes {
    is_open: bool,
    is_escaped: bool,
    /// The line is metadata: only the name can be quoted, and later quotes have no meaning.
    is_metadata: bool,
    is_over: bool,
}

impl Quotes {
    /// Tracks the quotes in the first part of a line.
    fn follow(begun: &[u8]) -> Self {
        let is_metadata = begun.trim_ascii_start().first() == Some(&b'#');
        let mut quotes = Self { is_metadata, ..Self::default() };
        for byte in begun {
            quotes.step(*byte);
        }
        quotes
    }

    /// The position in `chunk` of the line feed that ends the line.
    fn find_end(&mut self, chunk: &[u8]) -> Option<usize> {
        chunk.iter().position(|byte| {
            self.step(*byte);
            *byte == b'\n' && !self.is_open
        })
    }

    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.is_over => {}
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_open => self.is_escaped = true,
            b'"' => {
                self.is_open = !self.is_open;
                self.is_over = self.is_metadata && !self.is_open;
            }
            _ => {}
        }
    }
}
