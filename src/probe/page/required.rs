//! Checks which required metrics a page has.

use std::collections::HashSet;

use super::Name;
use super::labels::unescaped;

/// The suffixes that samples add to the name of their family: counters, histograms, summaries, and OpenMetrics' info.
const SUFFIXES: [&[u8]; 5] = [b"_total", b"_sum", b"_count", b"_bucket", b"_info"];

/// The required names, and those that were not seen yet.
#[derive(Debug)]
pub(super) struct RequiredMetrics {
    required: Vec<String>,
    unseen: HashSet<Vec<u8>>,
    /// The name of the last sample. The samples of a family follow each other, so most need no lookup.
    last: Vec<u8>,
}

impl RequiredMetrics {
    /// Starts with none of `required` seen.
    pub(super) fn new(required: &[String]) -> Self {
        let unseen = required.iter().map(|name| name.clone().into_bytes()).collect();
        Self { required: required.to_vec(), unseen, last: Vec::new() }
    }

    /// Records a sample of `name`. It counts for its own name, and for the family whose name it extends by a suffix.
    pub(super) fn see(&mut self, name: Name<'_>) {
        if self.unseen.is_empty() || self.last == name.0 {
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(name.0);
        if name.0.contains(&b'\\') {
            let resolved: Vec<u8> = unescaped(name.0).collect();
            self.mark_seen(&resolved);
        } else {
            self.mark_seen(name.0);
        }
    }

    fn mark_seen(&mut self, name: &[u8]) {
        self.unseen.remove(name);
        for family in SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(*suffix)) {
            self.unseen.remove(family);
        }
    }

    /// The required names that were not seen, in the order of the spec.
    pub(super) fn missing(self) -> Vec<String> {
        self.required.into_iter().filter(|name| self.unseen.contains(name.as_bytes())).collect()
    }
}
