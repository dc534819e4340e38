//! A position in a line, and the parsing of basic tokens.

use std::ops::Range;

use memchr::memchr2;

use super::fault::{Fault, Stop};

/// A line without its line feed, and the position of the parser.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    /// The bytes of the line.
    pub(super) line: &'a [u8],
    /// The index of the next byte.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of `line`.
    pub(super) const fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    /// The next byte; `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// The bytes that were not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.line[self.at..]
    }

    /// Whether the whole line was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.line.len()
    }

    /// Reads `byte`, if it is the next one.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    /// Reads spaces and tabs.
    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Reads the bytes for which `belongs` is true.
    pub(super) fn word(&mut self, belongs: impl Fn(u8) -> bool) -> Range<usize> {
        let from = self.at;
        let length = self.rest().iter().position(|byte| !belongs(*byte));
        self.at = length.map_or(self.line.len(), |length| from + length);
        from..self.at
    }

    /// Reads the name of a metric. The caller has checked that one begins here.
    pub(super) fn metric_name(&mut self) -> Range<usize> {
        self.word(|byte| begins_name(byte) || byte.is_ascii_digit())
    }

    /// A fault at the current position.
    pub(super) const fn broken(&self, fault: Fault) -> Stop {
        Stop::Broken(fault, self.at)
    }

    /// Reads a text in double quotes. Returns its range, without the quotes and with its escapes. A backslash escapes any
    /// next byte except a line feed.
    ///
    /// # Errors
    /// The text is not closed: [`Stop::Open`] where it may contain line feeds, as in the text format of Prometheus.
    pub(super) fn quoted(&mut self, line_feeds: bool, nuls: bool) -> Result<Range<usize>, Stop> {
        let open = self.at;
        let broken = Err(Stop::Broken(Fault::OpenQuote, open));
        self.at += 1;
        loop {
            let Some(found) = memchr2(b'"', b'\\', self.rest()) else {
                self.at = self.line.len();
                return if line_feeds { Err(Stop::Open(open)) } else { broken };
            };
            let found = self.at + found;
            if self.line[found] == b'"' {
                self.at = found + 1;
                let text = open + 1..found;
                let forbidden = |byte: &u8| *byte == b'\n' && !line_feeds || *byte == 0 && !nuls;
                let is_fine = line_feeds && nuls || !self.line[text.clone()].iter().any(forbidden);
                return if is_fine { Ok(text) } else { broken };
            }
            match self.line.get(found + 1) {
                None | Some(b'\n') => {
                    self.at = found + 1;
                    return broken;
                }
                Some(_) => self.at = found + 2,
            }
        }
    }
}

/// Whether the name of a metric may begin with `byte`.
pub(super) const fn begins_name(byte: u8) -> bool {
    byte == b':' || begins_label(byte)
}

/// Whether the name of a label may begin with `byte`.
pub(super) const fn begins_label(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphabetic()
}

/// The position of the first byte of `text` that is not UTF-8.
pub(super) fn not_utf8(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).err().map(|error| error.valid_up_to())
}
