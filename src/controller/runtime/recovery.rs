//! Notices that calls work again: one object tries often on behalf of all that wait for the same kind of call in its
//! namespace, so that the others may wait for a minute and still are well within seconds after the fault.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::calls::CallKind;
use crate::api::Key;
use crate::cluster::PROBE_INTERVAL;
use crate::time::Moment;

/// A kind of call in one namespace: a missing right, a quota, a webhook and a namespace that is being deleted concern one
/// namespace, and an outage of the API server concerns each.
type Group = (CallKind, Arc<str>);

/// The objects that wait for one kind of call in one namespace.
#[derive(Debug, Default)]
struct Waiting {
    /// When one of them tries next, at the latest.
    tried_at: Moment,
    /// By the numbers of their entries.
    objects: HashMap<u64, Key>,
}

/// The objects that wait for calls which failed.
#[derive(Debug, Default)]
pub struct Recovery(Mutex<HashMap<Group, Waiting>>);

impl Recovery {
    /// A call about an object failed, and its own `wait` would follow; returns the wait until its next try. It is at most
    /// [`PROBE_INTERVAL`] unless another object of its group tries before that.
    pub fn failed(&self, call: CallKind, (number, key): (u64, &Key), wait: Duration, now: Moment) -> Duration {
        let mut groups = self.0.lock();
        let waiting = groups.entry((call, key.namespace.clone())).or_default();
        waiting.objects.insert(number, key.clone());
        if waiting.tried_at > now {
            return wait;
        }
        let wait = wait.min(PROBE_INTERVAL);
        waiting.tried_at = now + wait;
        wait
    }

    /// A call about an object succeeded; returns the others that wait for that kind of call.
    pub fn succeeded(&self, call: CallKind, number: u64, namespace: &Arc<str>) -> Vec<(u64, Key)> {
        let mut groups = self.0.lock();
        if groups.is_empty() {
            return Vec::new();
        }
        let waiting = groups.remove(&(call, namespace.clone())).unwrap_or_default();
        waiting.objects.into_iter().filter(|(other, _)| *other != number).collect()
    }

    /// Forgets an object that was deleted.
    pub fn remove(&self, number: u64) {
        let mut groups = self.0.lock();
        groups.retain(|_, waiting| {
            waiting.objects.remove(&number);
            !waiting.objects.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    fn key(namespace: &str) -> Key {
        Key { namespace: namespace.into(), name: "paris".into() }
    }

    #[test]
    fn one_of_many_tries_often_and_the_others_are_woken_by_its_success() {
        let recovery = Recovery::default();
        let failed = |number, namespace, second| {
            recovery.failed(CallKind::Status, (number, &key(namespace)), MINUTE, at(second))
        };
        assert_eq!(failed(1, "edge", 0), PROBE_INTERVAL, "somebody has to try");
        assert_eq!(failed(2, "edge", 1), MINUTE);
        assert_eq!(failed(3, "apps", 1), PROBE_INTERVAL, "another namespace may have another fault");
        assert_eq!(failed(1, "edge", 12), PROBE_INTERVAL);
        recovery.remove(1);
        assert_eq!(failed(2, "edge", 61), PROBE_INTERVAL, "it takes over");
        failed(4, "edge", 62);
        assert_eq!(recovery.succeeded(CallKind::Event, 2, &"edge".into()), []);
        assert_eq!(recovery.succeeded(CallKind::Status, 2, &"edge".into()), [(4, key("edge"))]);
        assert_eq!(recovery.succeeded(CallKind::Status, 2, &"edge".into()), []);
    }
}
