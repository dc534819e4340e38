//! The limit on reviews of unknown tokens: wrong tokens must not become requests to the API server one for one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Unknown tokens of one client that are reviewed at once, and the time after which one more is.
const OF_CLIENT: Rate = Rate { burst: 20, every: Duration::from_secs(1) };
/// The same for all clients together: a flood may come from many addresses.
const OF_ALL: Rate = Rate { burst: 50, every: Duration::from_millis(100) };
/// How long a client is vouched for by a token of it that was allowed: longer than the token of a pod lives, which is
/// replaced by one that is unknown.
const VOUCHED_FOR: Duration = Duration::from_secs(2 * 3600);
/// The clients that are remembered as vouched for.
const VOUCHED: usize = 1024;

/// A number of reviews at once, and the interval in which one more is allowed.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// A bucket of reviews: full until the moment that `free_at` is `burst` intervals ahead of the present.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When the bucket is full again.
    free_at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { free_at: now }
    }

    /// The time until one more review is allowed; zero when one is.
    fn wait(self, rate: Rate, now: Instant) -> Duration {
        (self.free_at.saturating_duration_since(now) + rate.every).saturating_sub(rate.every * rate.burst)
    }

    fn take(&mut self, rate: Rate, now: Instant) {
        self.free_at = self.free_at.max(now) + rate.every;
    }
}

/// The clients whose tokens are not known.
#[derive(Debug)]
pub(super) struct Strangers {
    all: Bucket,
    /// Only clients whose bucket is not full; their number follows from the rate of all.
    by_client: HashMap<IpAddr, Bucket>,
    vouched: HashMap<IpAddr, Instant>,
}

impl Strangers {
    pub(super) fn new(now: Instant) -> Self {
        Self { all: Bucket::full(now), by_client: HashMap::new(), vouched: HashMap::new() }
    }

    /// Counts one review of an unknown token of `client`; the error is the time to wait.
    ///
    /// A client that is vouched for has only its own limit: its new token is reviewed whatever other clients send.
    pub(super) fn admit(&mut self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        self.by_client.retain(|_, bucket| bucket.free_at > now);
        let own = self.by_client.get(&client).copied().unwrap_or(Bucket::full(now));
        let is_vouched = self.vouched.get(&client).is_some_and(|until| now < *until);
        let of_all = if is_vouched { Duration::ZERO } else { self.all.wait(OF_ALL, now) };
        let wait = own.wait(OF_CLIENT, now).max(of_all);
        if !wait.is_zero() {
            return Err(wait);
        }
        if !is_vouched {
            self.all.take(OF_ALL, now);
        }
        self.by_client.entry(client).or_insert(own).take(OF_CLIENT, now);
        Ok(())
    }

    /// Records that a token of `client` was allowed.
    pub(super) fn vouch(&mut self, client: IpAddr, now: Instant) {
        if self.vouched.len() >= VOUCHED && !self.vouched.contains_key(&client) {
            let oldest = self.vouched.iter().min_by_key(|(_, until)| **until).map(|(client, _)| *client);
            oldest.and_then(|oldest| self.vouched.remove(&oldest));
        }
        self.vouched.insert(client, now + VOUCHED_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn admitted(strangers: &mut Strangers, client: IpAddr, times: u32, now: Instant) -> u32 {
        (0..times).map(|_| u32::from(strangers.admit(client, now).is_ok())).sum()
    }

    #[test]
    fn a_client_has_a_burst_and_then_one_review_a_second() {
        let now = Instant::now();
        let mut strangers = Strangers::new(now);
        assert_eq!(admitted(&mut strangers, client(1), 1_000, now), OF_CLIENT.burst);
        assert_eq!(strangers.admit(client(1), now), Err(Duration::from_secs(1)));
        let later = now + Duration::from_secs(10);
        assert_eq!(admitted(&mut strangers, client(1), 1_000, later), 10);
        assert_eq!(admitted(&mut strangers, client(2), 1, later), 1, "another client has its own");
    }

    #[test]
    fn a_flood_from_many_addresses_is_bounded_and_nothing_of_it_is_kept() {
        let now = Instant::now();
        let mut strangers = Strangers::new(now);
        let of_all =
            |strangers: &mut Strangers, now| (0..=255).map(|last| admitted(strangers, client(last), 20, now)).sum();
        let first: u32 = of_all(&mut strangers, now);
        assert_eq!(first, OF_ALL.burst);
        let next: u32 = of_all(&mut strangers, now + Duration::from_secs(1));
        assert_eq!(next, 10);
        assert!(strangers.by_client.len() <= 60);
        strangers.admit(client(1), now + Duration::from_secs(120)).unwrap();
        assert_eq!(strangers.by_client.len(), 1);
    }

    #[test]
    fn a_client_that_is_vouched_for_is_not_held_back_by_the_flood_of_others() {
        let now = Instant::now();
        let mut strangers = Strangers::new(now);
        strangers.vouch(client(9), now);
        for last in 0..8 {
            admitted(&mut strangers, client(last), 20, now);
        }
        assert!(strangers.admit(client(8), now).is_err());
        assert_eq!(admitted(&mut strangers, client(9), 1_000, now), OF_CLIENT.burst, "its own limit stays");
        let long_after = now + VOUCHED_FOR;
        for last in 0..8 {
            admitted(&mut strangers, client(last), 20, long_after);
        }
        assert!(strangers.admit(client(9), long_after).is_err());
    }

    #[test]
    fn the_number_of_vouched_clients_is_bounded() {
        let now = Instant::now();
        let mut strangers = Strangers::new(now);
        for number in 0..3_000u32 {
            strangers.vouch(IpAddr::from(number.to_be_bytes()), now + Duration::from_millis(number.into()));
        }
        assert_eq!(strangers.vouched.len(), VOUCHED);
        assert!(strangers.vouched.contains_key(&IpAddr::from(2_999u32.to_be_bytes())));
    }
}
