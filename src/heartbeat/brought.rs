//! Tokens that users bring. They are chosen by people, so they may be guessed: their stored hashes are salted and slow, and
//! only a few wrong ones a minute are compared at all.

use std::net::IpAddr;

use super::credentials::Digest;
use super::rate_limit::WINDOW;
use crate::http::client_network::client_network;
use crate::time::Moment;

/// Wrong tokens that are compared within a minute, from the address of the last right one and from all others.
const CHECKED_FAILURES: u8 = 20;

/// The state of a connector whose token a user brings.
#[derive(Clone, Debug, Default)]
pub(super) struct Brought {
    /// Stored hashes, each with the SHA-256 of its token: of those that were in the Secret, or right in a heartbeat, since
    /// this process began.
    verified: Vec<(Digest, Digest)>,
    /// The network of the last right token.
    known: Option<IpAddr>,
    from_known: Failures,
    from_others: Failures,
}

/// The wrong tokens of the last minute.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    since: Option<Moment>,
    count: u8,
}

impl Failures {
    /// The seconds until a token is compared again; `None` when it is compared now.
    fn wait(&self, now: Moment) -> Option<u32> {
        let age = now.since(self.since?);
        let left = WINDOW.checked_sub(age).filter(|left| !left.is_zero())?;
        (self.count >= CHECKED_FAILURES).then(|| left.as_secs_f64().ceil() as u32)
    }

    fn add(&mut self, now: Moment) {
        if self.since.is_none_or(|since| now.since(since) >= WINDOW) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
    }
}

impl Brought {
    /// The seconds until a token from this address is compared again; `None` when it is compared now. Failures from other
    /// addresses never keep out the address of the last right token.
    pub(super) fn wait(&self, from: IpAddr, now: Moment) -> Option<u32> {
        if self.known == Some(client_network(from)) { self.from_known.wait(now) } else { self.from_others.wait(now) }
    }

    /// Counts a wrong token.
    pub(super) fn failed(&mut self, from: IpAddr, now: Moment) {
        self.failures(from).add(now);
    }

    /// Takes back one that was counted as wrong before it was compared.
    pub(super) fn take_back(&mut self, from: IpAddr) {
        let failures = self.failures(from);
        failures.count = failures.count.saturating_sub(1);
    }

    fn failures(&mut self, from: IpAddr) -> &mut Failures {
        if self.known == Some(client_network(from)) { &mut self.from_known } else { &mut self.from_others }
    }

    /// Notes where the right token came from.
    pub(super) fn accepted(&mut self, from: IpAddr) {
        let network = client_network(from);
        if self.known != Some(network) {
            self.known = Some(network);
            self.from_known = Failures::default();
        }
    }

    /// The SHA-256 of the token with this stored hash, where that is known.
    pub(super) fn plain(&self, stored: Digest) -> Option<Digest> {
        self.verified.iter().find(|(known, _)| *known == stored).map(|(_, plain)| *plain)
    }

    /// Remembers the SHA-256 of the token with this stored hash.
    pub(super) fn learn(&mut self, stored: Digest, plain: Digest) {
        if self.plain(stored).is_none() {
            self.verified.truncate(super::credentials::MAX_CREDENTIALS - 1);
            self.verified.insert(0, (stored, plain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn guesses(brought: &mut Brought, from: IpAddr, now: Moment) -> u32 {
        let mut compared = 0;
        for _ in 0..1_000 {
            if brought.wait(from, now).is_none() {
                compared += 1;
                brought.failed(from, now);
            }
        }
        compared
    }

    #[test]
    fn twenty_guesses_a_minute_are_compared_whatever_addresses_they_come_from() {
        let mut brought = Brought::default();
        let mut compared = 0;
        for last in 1..=200 {
            compared += guesses(&mut brought, IpAddr::from([198, 51, 100, last]), at(0));
        }
        assert_eq!(compared, 20);
        assert_eq!(brought.wait(OWN, at(45)), Some(15));
        assert_eq!(guesses(&mut brought, OWN, at(59)), 0);
        assert_eq!(guesses(&mut brought, OWN, at(60)), 20);
    }

    #[test]
    fn guesses_from_elsewhere_never_keep_the_connector_out() {
        let mut brought = Brought::default();
        brought.accepted(OWN);
        guesses(&mut brought, IpAddr::from([198, 51, 100, 1]), at(0));
        assert_eq!(brought.wait(OWN, at(0)), None);
        // From behind its own address, too, no more than twenty are compared.
        assert_eq!(guesses(&mut brought, OWN, at(0)), 20);
    }
}
