//! Limits how often something happens, and allows a few times at once.

use std::time::Duration;

use crate::time::Moment;

/// Allows a number of times at once, and then one more in each interval (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
pub struct BurstLimit {
    /// When all of them are allowed again.
    full_at: Moment,
}

impl BurstLimit {
    /// Counts one time, if it is allowed now.
    pub fn allows(&mut self, at_once: u32, interval: Duration, now: Moment) -> bool {
        let is_allowed = self.full_at.since(now) <= interval * at_once.saturating_sub(1);
        if is_allowed {
            self.full_at = self.full_at.max(now) + interval;
        }
        is_allowed
    }

    /// When the next time is allowed.
    pub fn allowed_at(self, at_once: u32, interval: Duration) -> Moment {
        self.full_at - interval * at_once.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_allows_some_at_once_and_then_one_in_each_interval() {
        let (mut limit, interval) = (BurstLimit::default(), Duration::from_secs(30));
        let at = |second: u64| Moment::default() + Duration::from_secs(second);
        let allowed = |limit: &mut BurstLimit, second| limit.allows(3, interval, at(second));
        assert!(allowed(&mut limit, 100) && allowed(&mut limit, 100) && allowed(&mut limit, 101));
        assert!(!allowed(&mut limit, 102) && !allowed(&mut limit, 129));
        assert_eq!(limit.allowed_at(3, interval), at(130));
        assert!(allowed(&mut limit, 130) && !allowed(&mut limit, 131));
        assert!(allowed(&mut limit, 1000) && allowed(&mut limit, 1000) && allowed(&mut limit, 1000));
        assert!(!allowed(&mut limit, 1000));
    }
}
