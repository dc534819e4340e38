//! A list of Prometheus with a bound on its memory: whole while a common budget allows, so that other questions can
//! share it, else only the entries that fit the question.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Maximum bytes of the texts of one entry: its URL, its labels and its error.
const MAX_TEXT: usize = 8 << 10;
/// Maximum number of entries for one question, of those that are sure to fit and of those that may fit.
const MAX_OWN: usize = 200;

/// How an entry fits a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    No,
    /// Further knowledge decides.
    Maybe,
    Sure,
}

/// An entry of a list, and the memory that it takes.
pub(super) trait Entry: Clone {
    /// The bytes of its texts.
    fn text_bytes(&self) -> usize;

    /// The entry without the part of its texts that is never used.
    fn shortened(self) -> Self {
        self
    }
}

/// The bytes that lists may take together.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    taken: AtomicUsize,
}

impl Budget {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

/// A share of a budget, returned when it is dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    fn take(&mut self, bytes: usize) -> bool {
        let is_taken = self.budget.take(bytes);
        self.bytes += if is_taken { bytes } else { 0 };
        is_taken
    }

    fn give_back(&mut self) {
        self.budget.taken.fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The entries of a list.
#[derive(Debug)]
pub(super) struct List<T> {
    entries: Vec<T>,
    share: Share,
    /// Once the list is not whole: the entries that fit.
    own: Option<Own<T>>,
    /// The number of entries that were left out because they are too large.
    pub(super) oversized: usize,
}

impl<T: Entry> List<T> {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { entries: Vec::new(), share: Share { budget, bytes: 0 }, own: None, oversized: 0 }
    }

    /// Adds an entry. Above the budget, only those are kept that fit the question.
    pub(super) fn push(&mut self, entry: T, fits: &impl Fn(&T) -> Fit) {
        let entry = entry.shortened();
        if entry.text_bytes() > MAX_TEXT {
            self.oversized += 1;
            return;
        }
        if let Some(own) = &mut self.own {
            own.push(entry, fits);
            return;
        }
        // A vector has up to twice the room that it uses.
        if self.share.take(2 * size_of::<T>() + entry.text_bytes()) {
            self.entries.push(entry);
            return;
        }
        let mut own = Own::new();
        std::mem::take(&mut self.entries).into_iter().for_each(|entry| own.push(entry, fits));
        own.push(entry, fits);
        self.own = Some(own);
        self.share.give_back();
    }

    /// Whether it has all entries.
    pub(super) fn is_whole(&self) -> bool {
        self.own.is_none()
    }

    /// The number of entries that are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.own.as_ref().map_or(0, |own| own.sure.len() + own.maybe.len())
    }

    /// The entries that fit a question; those that are sure to fit come first.
    pub(super) fn own(&self, fits: &impl Fn(&T) -> Fit) -> Vec<T> {
        let kept = self.own.iter().flat_map(|own| own.sure.iter().chain(&own.maybe));
        let mut own = Own::new();
        self.entries.iter().chain(kept).for_each(|entry| own.push(entry, &|entry: &&T| fits(entry)));
        own.sure.into_iter().chain(own.maybe).cloned().collect()
    }
}

/// The entries that fit one question.
#[derive(Debug)]
struct Own<T> {
    sure: Vec<T>,
    maybe: Vec<T>,
}

impl<T> Own<T> {
    fn new() -> Self {
        Self { sure: Vec::new(), maybe: Vec::new() }
    }

    fn push(&mut self, entry: T, fits: &impl Fn(&T) -> Fit) {
        let like = match fits(&entry) {
            Fit::No => return,
            Fit::Maybe => &mut self.maybe,
            Fit::Sure => &mut self.sure,
        };
        if like.len() < MAX_OWN {
            like.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Entry for u32 {
        fn text_bytes(&self) -> usize {
            92
        }
    }

    fn fits(entry: &u32) -> Fit {
        match entry {
            5_000_u32.. => Fit::Sure,
            4_000_u32.. => Fit::Maybe,
            _ => Fit::No,
        }
    }

    fn filled(budget: &Arc<Budget>, numbers: std::ops::Range<u32>) -> List<u32> {
        let mut list = List::new(budget.clone());
        numbers.for_each(|number| list.push(number, &fits));
        list
    }

    #[test]
    fn a_list_above_the_budget_keeps_what_fits_the_question() {
        let budget = Arc::new(Budget::new(100_000));
        let whole = filled(&budget, 4_990..5_010);
        assert!(whole.is_whole());
        assert_eq!((whole.len(), budget.taken.load(Ordering::Acquire)), (20, 2000));
        assert_eq!(whole.own(&fits)[..2], [5_000, 5_001], "the sure ones first");
        let partial = filled(&budget, 0..6_000);
        assert!(!partial.is_whole());
        assert_eq!(partial.own(&fits).len(), 2 * MAX_OWN);
        assert_eq!(partial.len(), 2 * MAX_OWN);
        assert_eq!(budget.taken.load(Ordering::Acquire), 2000, "a partial list takes nothing of the budget");
        drop(whole);
        assert_eq!(budget.taken.load(Ordering::Acquire), 0);
    }
}
