//! Cuts chunks into lines, and holds the one that is not complete.

use memchr::memchr;

use super::LONGEST_LINE;
use crate::probe::Failure;

/// One line of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Its bytes, without the line feed at its end; a quoted text in it may hold some.
    pub(super) bytes: &'a [u8],
    /// Its number, from 1.
    pub(super) number: u64,
    /// Where it begins in the page, from 0.
    pub(super) offset: u64,
    /// A quoted text in it goes on behind a line feed; the first such text begins here.
    pub(super) quote: Option<usize>,
    /// It is longer than [`LONGEST_LINE`]; these are its first bytes.
    pub(super) is_cut: bool,
}

/// The lines of a page.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Lines that were read.
    read: u64,
    /// Where the next one begins.
    offset: u64,
    /// What came of it.
    pending: Vec<u8>,
    /// It goes on behind its first line feed: where the quoted text begins, and how far its quotes were followed.
    quotes: Option<(usize, Quotes)>,
}

impl Lines {
    /// Gives every line that `chunk` completes to `read`, which says where in it a quoted text begins that goes on
    /// behind its line feed, if one does.
    ///
    /// # Errors
    /// What `read` says; it is asked no more then.
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

    /// Takes a part of a line, `ends` when it is its last one.
    fn take(
        &mut self,
        part: &[u8],
        ends: bool,
        read: &mut impl FnMut(Line<'_>) -> Result<Option<usize>, Failure>,
    ) -> Result<(), Failure> {
        let fits = self.pending.len() + part.len() <= LONGEST_LINE;
        // Most lines lie within one chunk and need no copy.
        let in_place = self.pending.is_empty() && ends && fits;
        if !in_place {
            let room = LONGEST_LINE - self.pending.len().min(LONGEST_LINE);
            self.pending.extend_from_slice(&part[..part.len().min(room)]);
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

    /// How many bytes are set aside for a line that is not complete.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.pending.capacity()
    }

    /// The page has ended: gives the last line to `read` when it has no line feed, and the empty line behind the end.
    ///
    /// # Errors
    /// What `read` says.
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

/// Follows the quotes of a line, to tell the line feed that ends it from those in quoted texts. Each byte is looked at
/// once, however often the line goes on: a page made to be slow is not.
#[derive(Debug, Default)]
struct Quotes {
    is_open: bool,
    is_escaped: bool,
    /// It is metadata: only the name can be quoted, and quotes behind it mean nothing.
    is_metadata: bool,
    is_over: bool,
}

impl Quotes {
    /// Follows what there is of a line that goes on.
    fn follow(begun: &[u8]) -> Self {
        let is_metadata = begun.trim_ascii_start().first() == Some(&b'#');
        let mut quotes = Self { is_metadata, ..Self::default() };
        for byte in begun {
            quotes.step(*byte);
        }
        quotes
    }

    /// Where in `chunk` the line feed is that ends the line.
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
