//! Shares a number of places fairly between namespaces: however many backends one tenant has, and however slow they are,
//! the next namespace finds a free place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Places that namespaces share.
///
/// A namespace may take half of the places that the others leave. Alone it takes half of all, two busy ones take a third
/// each, three a quarter each: as much as each of them has stays free for the next. Within the share of a namespace,
/// suspects, whose last probe failed, take at most half, and only while more than half of the share is free. Without the
/// second rule, targets that hang for the first time and suspects together would delay the healthy ones.
#[derive(Clone, Debug)]
pub struct FairShare(Arc<Places>);

#[derive(Debug)]
struct Places {
    all: usize,
    state: Mutex<State>,
}

/// The places that one namespace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) all: usize,
    pub(super) suspects: usize,
}

/// The callers of one namespace that wait, by their tickets: the lowest has waited for the longest time.
#[derive(Debug, Default)]
struct Waiting {
    healthy: BTreeMap<u64, oneshot::Sender<Place>>,
    suspects: BTreeMap<u64, oneshot::Sender<Place>>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Namespaces that hold a place.
    held: HashMap<Arc<str>, Held>,
    /// Namespaces of which a caller waits.
    waiting: HashMap<Arc<str>, Waiting>,
    last_ticket: u64,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    of: Arc<Places>,
    namespace: Arc<str>,
    is_suspect: bool,
}

/// A caller that waits. Dropping it ends the wait, and releases a place that it was given meanwhile.
struct Ticket {
    of: Arc<Places>,
    namespace: Arc<str>,
    is_suspect: bool,
    number: u64,
    place: oneshot::Receiver<Place>,
}

/// Whether a namespace that holds `held` of `all` places may take another one, when `taken` are taken in all.
pub(super) fn may_take(all: usize, taken: usize, held: Held, is_suspect: bool) -> bool {
    let others = taken - held.all;
    let share = all.saturating_sub(others).div_ceil(2);
    let free = share.saturating_sub(held.all);
    let for_suspects = (share / 2).max(1);
    free > 0 && (!is_suspect || (held.suspects < for_suspects && free > share - for_suspects))
}

impl FairShare {
    /// This many places, but not fewer than 2.
    pub fn new(all: usize) -> Self {
        Self(Arc::new(Places { all: all.max(2), state: Mutex::default() }))
    }

    /// Waits for a place for `namespace`. Dropping the future stops waiting.
    pub async fn acquire(&self, namespace: &Arc<str>, is_suspect: bool) -> Place {
        let mut ticket = match self.0.take_or_wait(namespace, is_suspect) {
            Ok(place) => return place,
            Err(ticket) => ticket,
        };
        (&mut ticket.place).await.expect("a sender is dropped only after it has sent, or with the receiver")
    }

    /// Whether a caller besides this one has it.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Places {
    fn take_or_wait(self: &Arc<Self>, namespace: &Arc<str>, is_suspect: bool) -> Result<Place, Ticket> {
        let mut state = self.state.lock();
        // Callers of this namespace that wait already come first.
        let is_first = state.waiting.get(namespace).is_none_or(|waiting| waiting.queue(is_suspect).is_empty());
        if is_first && may_take(self.all, state.taken, state.held_by(namespace), is_suspect) {
            state.take(namespace, is_suspect);
            return Ok(self.place(namespace, is_suspect));
        }
        let (sender, place) = oneshot::channel();
        state.last_ticket += 1;
        let number = state.last_ticket;
        state.waiting.entry(namespace.clone()).or_default().queue_mut(is_suspect).insert(number, sender);
        Err(Ticket { of: self.clone(), namespace: namespace.clone(), is_suspect, number, place })
    }

    fn place(self: &Arc<Self>, namespace: &Arc<str>, is_suspect: bool) -> Place {
        Place { of: self.clone(), namespace: namespace.clone(), is_suspect }
    }

    /// Gives the free places to those that wait: first to the namespace that holds the fewest.
    fn grant(self: &Arc<Self>) {
        let granted = {
            let mut state = self.state.lock();
            std::iter::from_fn(|| {
                let (namespace, is_suspect) = state.next_to_serve(self.all)?;
                let sender = state.leave_queue(&namespace, is_suspect, None)?;
                state.take(&namespace, is_suspect);
                Some((sender, self.place(&namespace, is_suspect)))
            })
            .collect::<Vec<_>>()
        };
        // Outside of the lock: a caller that has just stopped waiting gives its place back here.
        for (sender, place) in granted {
            drop(sender.send(place));
        }
    }
}

impl Waiting {
    fn queue(&self, is_suspect: bool) -> &BTreeMap<u64, oneshot::Sender<Place>> {
        if is_suspect { &self.suspects } else { &self.healthy }
    }

    fn queue_mut(&mut self, is_suspect: bool) -> &mut BTreeMap<u64, oneshot::Sender<Place>> {
        if is_suspect { &mut self.suspects } else { &mut self.healthy }
    }
}

impl State {
    fn held_by(&self, namespace: &str) -> Held {
        self.held.get(namespace).copied().unwrap_or_default()
    }

    fn take(&mut self, namespace: &Arc<str>, is_suspect: bool) {
        self.taken += 1;
        let held = self.held.entry(namespace.clone()).or_default();
        held.all += 1;
        held.suspects += usize::from(is_suspect);
    }

    fn give_back(&mut self, namespace: &str, is_suspect: bool) {
        self.taken -= 1;
        let Some(held) = self.held.get_mut(namespace) else { return };
        held.all -= 1;
        held.suspects -= usize::from(is_suspect);
        if held.all == 0 {
            self.held.remove(namespace);
        }
    }

    fn next_to_serve(&self, all: usize) -> Option<(Arc<str>, bool)> {
        let first = |(namespace, waiting): (&Arc<str>, &Waiting)| {
            let held = self.held_by(namespace);
            let may = |is_suspect: &bool| {
                !waiting.queue(*is_suspect).is_empty() && may_take(all, self.taken, held, *is_suspect)
            };
            let is_suspect = [false, true].into_iter().find(may)?;
            let ticket = *waiting.queue(is_suspect).keys().next()?;
            Some((held.all, ticket, namespace.clone(), is_suspect))
        };
        let next = self.waiting.iter().filter_map(first).min_by_key(|(held, ticket, ..)| (*held, *ticket));
        next.map(|(_, _, namespace, is_suspect)| (namespace, is_suspect))
    }

    /// Takes the caller with this ticket out of its queue, else the first one.
    fn leave_queue(
        &mut self,
        namespace: &Arc<str>,
        is_suspect: bool,
        number: Option<u64>,
    ) -> Option<oneshot::Sender<Place>> {
        let waiting = self.waiting.get_mut(namespace)?;
        let queue = waiting.queue_mut(is_suspect);
        let left = match number {
            Some(number) => queue.remove(&number),
            None => queue.pop_first().map(|(_, sender)| sender),
        };
        if waiting.healthy.is_empty() && waiting.suspects.is_empty() {
            self.waiting.remove(namespace);
        }
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.state.lock().give_back(&self.namespace, self.is_suspect);
        self.of.grant();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let sender = self.of.state.lock().leave_queue(&self.namespace, self.is_suspect, Some(self.number));
        drop(sender);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|number| format!("tenant-{number}").into()).collect()
    }

    fn take(places: &FairShare, namespace: &Arc<str>, is_suspect: bool) -> Option<Place> {
        places.acquire(namespace, is_suspect).now_or_never()
    }

    fn take_all(places: &FairShare, namespace: &Arc<str>, is_suspect: bool) -> Vec<Place> {
        std::iter::from_fn(|| take(places, namespace, is_suspect)).collect()
    }

    #[test]
    fn however_many_one_namespace_wants_the_next_one_finds_places_for_healthy_ones_and_for_suspects() {
        let (places, names) = (FairShare::new(256), names(3));
        let greedy = take_all(&places, &names[0], false);
        assert_eq!(greedy.len(), 128, "half of all");
        let suspect = take(&places, &names[1], true).expect("a backend that is Down is probed all the same");
        let second = take_all(&places, &names[1], false);
        assert_eq!(second.len(), 63, "half of the rest, with the suspect");
        assert!(take(&places, &names[2], true).is_some() && take(&places, &names[2], false).is_some());
        drop((greedy, second, suspect));
        assert_eq!(take_all(&places, &names[2], false).len(), 128, "what was released is shared anew");
    }

    #[test]
    fn suspects_take_half_of_the_share_and_only_while_more_than_half_of_it_is_free() {
        let (places, names) = (FairShare::new(16), names(1));
        let suspects = take_all(&places, &names[0], true);
        assert_eq!((suspects.len(), take_all(&places, &names[0], false).len()), (4, 4));
        drop(suspects);
        let first: Vec<_> = (0..4).filter_map(|_| take(&places, &names[0], false)).collect();
        assert!(take(&places, &names[0], true).is_none(), "half of them are taken");
        assert!(take(&places, &names[0], false).is_some(), "by those that hang for the first time");
        drop(first);
        assert!(take(&places, &names[0], true).is_some());
    }

    #[test]
    fn with_two_places_each_of_two_namespaces_is_probed() {
        let (places, names) = (FairShare::new(0), names(2));
        let held = (take(&places, &names[0], true), take(&places, &names[1], true));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(take(&places, &names[0], false).is_none());
    }

    #[tokio::test]
    async fn a_released_place_goes_to_the_namespace_that_holds_fewest_and_never_to_one_that_stopped_waiting() {
        let (places, names) = (FairShare::new(4), names(3));
        let mut held: Vec<Place> = take_all(&places, &names[0], false);
        held.extend(take_all(&places, &names[1], false));
        held.extend(take_all(&places, &names[2], false));
        assert_eq!(held.len(), 4);
        let greedy: Vec<_> = (0..5).map(|_| Box::pin(places.acquire(&names[0], false))).collect();
        let mut greedy: Vec<_> =
            greedy.into_iter().filter_map(|mut one| (&mut one).now_or_never().is_none().then_some(one)).collect();
        let stranger: Arc<str> = "stranger".into();
        let mut gone = Box::pin(places.acquire(&stranger, false));
        assert!((&mut gone).now_or_never().is_none());
        let mut waits = Box::pin(places.acquire(&stranger, false));
        assert!((&mut waits).now_or_never().is_none());
        drop(gone);
        drop(held.pop());
        assert!((&mut waits).now_or_never().is_some(), "it came last, and its namespace holds none");
        assert!(greedy.iter_mut().all(|one| one.now_or_never().is_none()));
        drop((greedy, held, waits));
        let state = places.0.state.lock();
        assert_eq!((state.taken, state.held.len(), state.waiting.len()), (0, 0, 0), "nothing is left behind");
    }

    proptest! {
        #[test]
        fn as_long_as_a_place_is_free_a_namespace_that_holds_none_gets_one(
            all in 2..40_usize, wants in prop::collection::vec((0..6_usize, any::<bool>()), 0..120),
        ) {
            let (places, names) = (FairShare::new(all), names(6));
            let held: Vec<Place> =
                wants.into_iter().filter_map(|(name, is_suspect)| take(&places, &names[name], is_suspect)).collect();
            prop_assert!(held.len() <= all);
            for is_suspect in [false, true] {
                let newcomer = take(&places, &"stranger".into(), is_suspect);
                prop_assert_eq!(newcomer.is_some(), held.len() < all);
            }
        }
    }
}
