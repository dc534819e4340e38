//! A line, and how far it was read.

use std::ops::Range;

use memchr::memchr2;

use super::fault::{Fault, Stop};

/// A line without its line feed, and how far it was read.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    /// The line.
    pub(super) line: &'a [u8],
    /// The byte that is read next.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `line`.
    pub(super) const fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    /// The byte that is read next; `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.line[self.at..]
    }

    /// Whether all was read.
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

    /// Reads as long as `belongs` says so.
    pub(super) fn word(&mut self, belongs: impl Fn(u8) -> bool) -> Range<usize> {
        let from = self.at;
        let length = self.rest().iter().position(|byte| !belongs(*byte));
        self.at = length.map_or(self.line.len(), |length| from + length);
        from..self.at
    }

    /// Reads the name of a metric; it must have been seen that one begins here.
    pub(super) fn metric_name(&mut self) -> Range<usize> {
        self.word(|byte| begins_name(byte) || byte.is_ascii_digit())
    }

    /// Broken here.
    pub(super) const fn broken(&self, fault: Fault) -> Stop {
        Stop::Broken(fault, self.at)
    }

    /// Reads a text in double quotes and gives where it stands, without them and with its escapes. A backslash takes
    /// the next byte with it, whatever that is but a line feed.
    ///
    /// # Errors
    /// When it is not closed: [`Stop::Open`] where line feeds may stand in it, as Prometheus' text format has it.
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

/// Whether the name of a metric may begin with it.
pub(super) const fn begins_name(byte: u8) -> bool {
    byte == b':' || begins_label(byte)
}

/// Whether the name of a label may begin with it.
pub(super) const fn begins_label(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphabetic()
}

/// Where `text` stops to be UTF-8, if it does.
pub(super) fn not_utf8(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).err().map(|error| error.valid_up_to())
}
