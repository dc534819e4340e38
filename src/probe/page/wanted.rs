//! The metrics that must be on a page.

use std::collections::HashSet;

use super::Name;
use super::labels::unescaped;

/// What a family's samples add to its name: a counter, a histogram or a summary, and OpenMetrics' info.
const SUFFIXES: [&[u8]; 5] = [b"_total", b"_sum", b"_count", b"_bucket", b"_info"];

/// Required names, and which of them were not seen yet.
#[derive(Debug)]
pub(super) struct Wanted {
    required: Vec<String>,
    unseen: HashSet<Vec<u8>>,
    /// The name of the last sample: the samples of a family stand together, so most need no look-up.
    last: Vec<u8>,
}

impl Wanted {
    /// None of `required` was seen.
    pub(super) fn new(required: &[String]) -> Self {
        let unseen = required.iter().map(|name| name.clone().into_bytes()).collect();
        Self { required: required.to_vec(), unseen, last: Vec::new() }
    }

    /// A sample of `name` was seen. It stands for itself, and for the family whose name it has with a suffix more.
    pub(super) fn see(&mut self, name: Name<'_>) {
        if self.unseen.is_empty() || self.last == name.0 {
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(name.0);
        if name.0.contains(&b'\\') {
            let meant: Vec<u8> = unescaped(name.0).collect();
            self.strike(&meant);
        } else {
            self.strike(name.0);
        }
    }

    fn strike(&mut self, name: &[u8]) {
        self.unseen.remove(name);
        for family in SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(*suffix)) {
            self.unseen.remove(family);
        }
    }

    /// The required names that were not seen, in the order in which they were asked for.
    pub(super) fn missing(self) -> Vec<String> {
        self.required.into_iter().filter(|name| self.unseen.contains(name.as_bytes())).collect()
    }
}
