//! Detects that etcd was restored from an older copy. Pure.
//!
//! resourceVersions then go backwards, which no client expects: a watch waits for versions that were seen already, and an
//! object that was remembered is taken for younger than the stored one, until the counter has caught up.

use super::decide::LeaseRecord;

/// The Lease as it was last read or written.
#[derive(Debug, Default)]
pub(super) struct RestoreDetector {
    version: Option<u64>,
    record: Option<LeaseRecord>,
}

impl RestoreDetector {
    /// Handles one answer with the Lease; true when it proves that the store is older than it was.
    ///
    /// The calls follow one another, and the API server answers each from etcd, so a version never goes backwards by
    /// itself. A holder renews with ever later times, so an earlier one under the same acquisition is an older copy, also
    /// when other clients have written enough since to catch up with the version.
    pub(super) fn saw(&mut self, version: Option<&str>, record: &LeaseRecord) -> bool {
        let version = version.and_then(|version| version.parse().ok());
        let is_older = matches!((self.version, version), (Some(last), Some(new)) if new < last);
        let is_earlier = self.record.as_ref().is_some_and(|last| {
            last.holder.is_some()
                && (&last.holder, last.acquired_at) == (&record.holder, record.acquired_at)
                && record.renewed_at < last.renewed_at
        });
        (self.version, self.record) = (version, Some(record.clone()));
        is_older || is_earlier
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(holder: &str, acquired: i64, renewed: i64) -> LeaseRecord {
        let at = |second| jiff::Timestamp::from_second(second).ok();
        LeaseRecord {
            holder: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            acquired_at: at(acquired),
            renewed_at: at(renewed),
            transitions: 0,
            lasts_for: Duration::from_secs(12),
        }
    }

    #[test]
    fn a_store_that_went_backwards_is_told_from_everything_that_happens_to_a_lease() {
        for (what, answers, expected) in [
            ("renewals", vec![("7", held("me", 0, 1)), ("9", held("me", 0, 3))], false),
            ("read twice", vec![("7", held("me", 0, 1)), ("7", held("me", 0, 1))], false),
            ("given back", vec![("7", held("me", 0, 1)), ("9", held("", 0, 1))], false),
            ("another clock is behind", vec![("7", held("me", 50, 60)), ("9", held("other", 3, 3))], false),
            ("deleted and created", vec![("7", held("other", 50, 60)), ("9", held("other", 55, 55))], false),
            ("versions that are no numbers", vec![("b", held("me", 0, 1)), ("a", held("me", 0, 2))], false),
            ("an older version", vec![("700", held("me", 0, 9)), ("699", held("other", 0, 1))], true),
            ("a digit fewer", vec![("1000", held("me", 0, 9)), ("999", held("me", 0, 9))], true),
            ("created again in an older store", vec![("700", held("me", 0, 9)), ("42", held("me", 10, 10))], true),
            ("an older copy whose counter caught up", vec![("700", held("me", 0, 9)), ("701", held("me", 0, 4))], true),
        ] {
            let mut detector = RestoreDetector::default();
            let proofs: Vec<bool> =
                answers.iter().map(|(version, record)| detector.saw(Some(version), record)).collect();
            assert_eq!(proofs, [false, expected], "{what}");
        }
    }
}
