//! A queue whose places namespaces share: however many keys of one namespace wait, and however slow their work is, the
//! next namespace finds a free place.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use super::fair_share::{Held, may_take};

/// A key that belongs to a namespace.
pub trait Namespaced {
    /// The namespace.
    fn namespace(&self) -> &Arc<str>;
}

/// Keys that wait for one of a number of places, each at most once; the places are shared as by [`super::FairShare`].
///
/// The keys of one namespace are served in the order in which they came. A free place goes to the namespace that holds
/// the fewest, of equal ones to the one that was served longest ago. A key that waits is 32 bytes in the line of its
/// namespace and 40 in the table of turns: about 10 MiB for 100,000 keys, with the room in which both grow.
#[derive(Debug)]
pub struct FairQueue<K> {
    places: usize,
    taken: usize,
    turns: HashMap<K, Turn>,
    /// Namespaces of which a key waits or runs.
    lines: HashMap<Arc<str>, Line<K>>,
    /// Namespaces of which a key waits, in the order in which they are served: by the places that they hold, and by their
    /// tickets.
    next: BTreeSet<(usize, u64, Arc<str>)>,
    last_ticket: u64,
}

/// The state of a key in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waits,
    Runs,
    /// It was requested again while it runs, so it waits again afterwards.
    RunsAndIsDue,
}

/// The keys of one namespace.
#[derive(Debug)]
struct Line<K> {
    waiting: VecDeque<K>,
    held: usize,
    ticket: u64,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), held: 0, ticket: 0 }
    }
}

impl<K: Namespaced + Clone + Eq + Hash> FairQueue<K> {
    /// An empty queue with this many places, but not fewer than 2.
    pub fn new(places: usize) -> Self {
        Self {
            places: places.max(2),
            taken: 0,
            turns: HashMap::new(),
            lines: HashMap::new(),
            next: BTreeSet::new(),
            last_ticket: 0,
        }
    }

    /// Requests a turn of `key`. A key that waits keeps its place in the line; one that runs waits again afterwards.
    pub fn push(&mut self, key: K) {
        match self.turns.entry(key) {
            Entry::Occupied(mut known) => {
                if *known.get() == Turn::Runs {
                    known.insert(Turn::RunsAndIsDue);
                }
            }
            Entry::Vacant(new) => {
                let key = new.key().clone();
                new.insert(Turn::Waits);
                self.join_line(key);
            }
        }
    }

    /// Takes a place for the key whose turn it is, until [`FairQueue::done`]; `None` when no key waits, or none may run.
    pub fn pop(&mut self) -> Option<K> {
        let (held, _, _) = self.next.first()?;
        // A namespace that holds more may take none either.
        if !may_take(self.places, self.taken, Held { all: *held, suspects: 0 }, false) {
            return None;
        }
        let (_, _, namespace) = self.next.pop_first()?;
        let line = self.lines.get_mut(&namespace)?;
        let key = line.waiting.pop_front()?;
        line.held += 1;
        self.taken += 1;
        self.turns.insert(key.clone(), Turn::Runs);
        if !line.waiting.is_empty() {
            self.last_ticket += 1;
            line.ticket = self.last_ticket;
            self.next.insert((line.held, line.ticket, namespace));
        }
        Some(key)
    }

    /// Gives back the place of a key. Returns whether the key waits again.
    pub fn done(&mut self, key: &K) -> bool {
        let Some(turn) = self.turns.remove(key) else { return false };
        self.leave_place(key.namespace());
        let is_due = turn == Turn::RunsAndIsDue;
        if is_due {
            self.push(key.clone());
        }
        is_due
    }

    fn leave_place(&mut self, namespace: &Arc<str>) {
        let Some(line) = self.lines.get_mut(namespace) else { return };
        let before = (line.held, line.ticket, namespace.clone());
        line.held -= 1;
        self.taken -= 1;
        if self.next.remove(&before) {
            self.next.insert((line.held, line.ticket, namespace.clone()));
        } else if line.held == 0 {
            self.lines.remove(namespace);
        }
    }

    fn join_line(&mut self, key: K) {
        let namespace = key.namespace().clone();
        let line = self.lines.entry(namespace.clone()).or_default();
        if line.waiting.is_empty() {
            self.last_ticket += 1;
            line.ticket = self.last_ticket;
            self.next.insert((line.held, line.ticket, namespace));
        }
        line.waiting.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Named(Arc<str>, usize);

    impl Namespaced for Named {
        fn namespace(&self) -> &Arc<str> {
            &self.0
        }
    }

    fn named(namespace: &str, number: usize) -> Named {
        Named(namespace.into(), number)
    }

    fn pop_all(queue: &mut FairQueue<Named>) -> Vec<Named> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn however_many_keys_of_one_namespace_wait_the_next_namespace_runs_at_once() {
        let mut queue = FairQueue::new(256);
        (0..2_000).for_each(|number| queue.push(named("greedy", number)));
        let running = pop_all(&mut queue);
        assert_eq!(running, (0..128).map(|number| named("greedy", number)).collect::<Vec<_>>(), "half, as they came");
        queue.push(named("shop", 0));
        assert_eq!(pop_all(&mut queue), [named("shop", 0)]);
        queue.done(&running[0]);
        queue.push(named("late", 0));
        assert_eq!(queue.pop(), Some(named("late", 0)), "one that holds none comes before one that waits for long");
    }

    #[test]
    fn a_key_runs_once_at_a_time_and_again_when_it_was_requested_meanwhile() {
        let mut queue = FairQueue::new(8);
        queue.push(named("shop", 0));
        queue.push(named("shop", 0));
        assert_eq!(pop_all(&mut queue), [named("shop", 0)], "once for two requests");
        queue.push(named("shop", 0));
        queue.push(named("shop", 0));
        assert_eq!(queue.pop(), None, "it runs");
        assert!(queue.done(&named("shop", 0)));
        assert_eq!(pop_all(&mut queue), [named("shop", 0)]);
        assert!(!queue.done(&named("shop", 0)));
        assert!(queue.turns.is_empty() && queue.lines.is_empty() && queue.next.is_empty(), "nothing is left behind");
        assert_eq!(queue.taken, 0);
    }

    #[test]
    fn namespaces_that_hold_as_many_are_served_in_turn() {
        let mut queue = FairQueue::new(2);
        for number in 0..3 {
            ["a", "b", "c"].iter().for_each(|namespace| queue.push(named(namespace, number)));
        }
        let mut served = Vec::new();
        while let Some(key) = queue.pop() {
            queue.done(&key);
            served.push(key.0.to_string());
        }
        assert_eq!(served.concat(), "abcabcabc");
    }

    proptest! {
        #[test]
        fn every_key_is_served_and_a_namespace_that_holds_none_finds_a_free_place(
            places in 2..20_usize, keys in prop::collection::vec((0..5_usize, 0..40_usize, any::<bool>()), 1..200),
        ) {
            let mut queue = FairQueue::new(places);
            let (mut running, mut due) = (Vec::new(), std::collections::HashSet::new());
            for (namespace, number, is_done) in keys {
                let key = named(&format!("tenant-{namespace}"), number);
                due.insert(key.clone());
                queue.push(key);
                while let Some(key) = queue.pop() {
                    prop_assert!(!running.contains(&key), "one at a time");
                    due.remove(&key);
                    running.push(key);
                }
                prop_assert!(running.len() <= places);
                let holds_none = |key: &Named| running.iter().all(|other| other.0 != key.0);
                prop_assert!(running.len() == places || !due.iter().any(holds_none));
                if is_done {
                    queue.done(&running.remove(0));
                }
            }
            loop {
                while let Some(key) = queue.pop() {
                    due.remove(&key);
                    running.push(key);
                }
                let Some(key) = running.pop() else { break };
                queue.done(&key);
            }
            prop_assert!(due.is_empty());
            prop_assert!(queue.turns.is_empty() && queue.lines.is_empty() && queue.next.is_empty());
        }
    }
}
