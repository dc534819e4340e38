//! Keeps one copy of a value that many connectors have in common: names of sites, outcomes of checks, messages.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

/// How many unused values an interner keeps at least before it looks for them.
const SPARE: usize = 16;

/// The locks of a [`SharedInterner`].
const SHARDS: usize = 16;

/// The values in use, by themselves.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// How many were left after the last removal of unused values.
    left: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), left: 0 }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The one copy of a value. `new` is called for a value that is not known yet.
    ///
    /// Unused values are removed when the set has doubled: former ones do not accumulate, however often senders change
    /// theirs, and the cost stays small.
    pub(super) fn share(&mut self, value: &T, new: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        if self.known.len() > 2 * self.left + SPARE {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.left = self.known.len();
            self.known.shrink_to(2 * self.left + SPARE);
        }
        let new = new();
        self.known.insert(new.clone());
        new
    }
}

/// An [`Interner`] for many threads. A heartbeat that repeats its connector's earlier ones does not use it.
#[derive(Debug)]
pub(super) struct SharedInterner<T: ?Sized> {
    hasher: RandomState,
    shards: [Mutex<Interner<T>>; SHARDS],
}

impl<T: ?Sized> Default for SharedInterner<T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl<T: ?Sized + Eq + Hash> SharedInterner<T> {
    /// The one copy of a value. `new` is called for a value that is not known yet.
    pub(super) fn share(&self, value: &T, new: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let shard = self.hasher.hash_one(value) as usize % SHARDS;
        self.shards[shard].lock().share(value, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(words: &mut Interner<str>, word: &str) -> Arc<str> {
        words.share(word, || word.into())
    }

    #[test]
    fn values_are_shared_and_forgotten_when_no_connector_uses_them() {
        let mut words = Interner::default();
        let (one, other) = (word(&mut words, "site"), word(&mut words, "site"));
        assert!(Arc::ptr_eq(&one, &other));
        for i in 0..1_000 {
            word(&mut words, &format!("gone-{i}"));
        }
        assert!(words.known.len() < 100, "{} words for one that is used", words.known.len());
        assert!(words.known.contains("site"));
    }

    #[test]
    fn however_many_values_were_in_use_at_once_few_are_left_after_them() {
        let mut words = Interner::default();
        let used: Vec<_> = (0..10_000).map(|i| word(&mut words, &format!("used-{i}"))).collect();
        assert_eq!(words.known.len(), used.len());
        drop(used);
        for i in 0..30_000 {
            word(&mut words, &format!("gone-{i}"));
        }
        assert!(words.known.len() < 100, "{} words, none of which is used", words.known.len());
        assert!(words.known.capacity() < 1_000, "room for {} words", words.known.capacity());
    }

    #[test]
    fn threads_that_share_a_value_get_one_copy() {
        let words = SharedInterner::<str>::default();
        let share = || (0..100).map(|i| format!("word-{i}")).map(|word| words.share(&word, || word.as_str().into()));
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| share().collect::<Vec<Arc<str>>>())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (i, first) in all[0].iter().enumerate() {
            assert!(all.iter().all(|of_thread| Arc::ptr_eq(&of_thread[i], first)), "{first}");
        }
        assert!(words.shards.iter().filter(|shard| !shard.lock().known.is_empty()).count() > 1);
    }
}
