//! Checks tokens by their hashes, in constant time. No token is stored.

use std::num::NonZeroU32;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::api::TokenHash;
use crate::time::Moment;

/// The most hashes of one connector: current, pending, previous in grace, retired (`docs/design/api.md`).
pub const MAX_CREDENTIALS: usize = 4;

/// The rounds of the slow hash of a token that a user brings.
pub const ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).expect("it is not zero");

/// The most rounds that a stored hash may ask for: more would cost a heartbeat too much time.
const MAX_ROUNDS: u32 = 100_000;

#[cfg(test)]
thread_local! {
    /// The slow hashes that this thread has computed.
    pub(crate) static SLOW_HASHES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The rounds that a stored hash names. Numbers that no version writes give a hash that no token has.
pub fn rounds(stored: Option<i32>) -> Option<NonZeroU32> {
    let rounds = u32::try_from(stored?).unwrap_or(MAX_ROUNDS).clamp(1, MAX_ROUNDS);
    NonZeroU32::new(rounds)
}

/// The hash of a token: its SHA-256, or a slow hash. 32 random bytes have no dictionary, so the SHA-256 of a token that the
/// operator makes is no secret and needs no salt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash of `token`.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The slow hash of a token that a user brings: PBKDF2 with HMAC-SHA256, salted with the UID of its Connector. People
    /// choose such tokens, and the status may be read by more people than the Secret. It takes milliseconds: the operator
    /// computes it on blocking threads only ([`slow_hash`](super::slow_hash)).
    pub fn slow(token: &str, uid: &str, rounds: NonZeroU32) -> Self {
        #[cfg(test)]
        SLOW_HASHES.with(|count| count.set(count.get() + 1));
        let mut bytes = [0; 32];
        let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA256;
        ring::pbkdf2::derive(algorithm, rounds, uid.as_bytes(), token.as_bytes(), &mut bytes);
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        use std::fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Whether a stored hash is that of `token`, for the Connector with this `uid`.
pub fn is_hash_of(hash: &TokenHash, token: &str, uid: &str) -> bool {
    let own = match rounds(hash.rounds) {
        Some(rounds) => Digest::slow(token, uid, rounds),
        None => Digest::of(token),
    };
    hash.sha256 == own.to_hex()
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}…", &self.to_hex()[..8])
    }
}

/// One token that a connector has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The hash of the token.
    pub digest: Digest,
    /// The rounds of the hash; `None` for a SHA-256. [`check`] compares those only.
    pub rounds: Option<NonZeroU32>,
    /// The number of its delivery.
    pub generation: i64,
    /// The end of its validity; `None` = no end.
    pub until: Option<Moment>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The token is accepted; the number of its delivery.
    Accepted(i64),
    /// The token was accepted once.
    Retired,
    /// The token is not one of this connector.
    Wrong,
}

/// Compares `presented` with each of `credentials`, always with [`MAX_CREDENTIALS`] comparisons: the time reveals
/// neither which one matched nor how many there are. Without credentials (an unknown connector) it takes the same time.
pub fn check(credentials: &[Credential], presented: &Digest, now: Moment) -> Checked {
    let presented = words(&presented.0);
    let mut found = Choice::from(0);
    let mut at = 0u8;
    for index in 0..MAX_CREDENTIALS {
        let (digest, exists) = match credentials.get(index) {
            Some(credential) => (&credential.digest.0, u8::from(credential.rounds.is_none())),
            None => (&[0u8; 32], 0),
        };
        let same = words(digest).ct_eq(&presented) & Choice::from(exists) & !found;
        at = u8::conditional_select(&at, &(index as u8), same);
        found |= same;
    }
    match credentials.get(usize::from(at)) {
        Some(credential) if bool::from(found) => match credential.until {
            Some(until) if until <= now => Checked::Retired,
            _ => Checked::Accepted(credential.generation),
        },
        _ => Checked::Wrong,
    }
}

/// A hash as words of eight bytes: comparing them is as constant in time as comparing bytes, in an eighth of the steps.
fn words(digest: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|i| std::array::from_fn(|j| digest[8 * i + j])).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(token: &str, generation: i64, until: Option<i64>) -> Credential {
        Credential { digest: Digest::of(token), rounds: None, generation, until: until.map(Moment::from_micros) }
    }

    #[test]
    fn a_token_is_accepted_until_its_end_and_retired_after() {
        let known = [credential("new", 2, None), credential("old", 1, Some(100))];
        let check = |token, now| check(&known, &Digest::of(token), Moment::from_micros(now));
        assert_eq!(check("new", 1_000_000), Checked::Accepted(2));
        assert_eq!(check("old", 99), Checked::Accepted(1));
        assert_eq!(check("old", 100), Checked::Retired);
        assert_eq!(check("other", 0), Checked::Wrong);
        assert_eq!(check("", 0), Checked::Wrong);
    }

    #[test]
    fn an_unknown_connector_accepts_nothing_not_even_a_hash_of_zeroes() {
        assert_eq!(check(&[], &Digest([0; 32]), Moment::default()), Checked::Wrong);
    }

    #[test]
    fn a_slow_hash_depends_on_the_object_and_is_never_compared_as_a_plain_one() {
        let slow = |token, uid| Digest::slow(token, uid, ROUNDS);
        assert_eq!(slow("0123456789abcdef", "u1"), slow("0123456789abcdef", "u1"));
        assert_ne!(slow("0123456789abcdef", "u1"), slow("0123456789abcdef", "u2"));
        assert_ne!(slow("0123456789abcdef", "u1"), Digest::of("0123456789abcdef"));
        let stored = Credential { digest: slow("x", "u1"), rounds: Some(ROUNDS), generation: 1, until: None };
        assert_eq!(check(&[stored], &slow("x", "u1"), Moment::default()), Checked::Wrong);
        assert_eq!(rounds(None), None);
        assert_eq!(rounds(Some(10_000)), Some(ROUNDS));
        assert_eq!(rounds(Some(i32::MAX)).map(NonZeroU32::get), Some(MAX_ROUNDS), "no heartbeat takes seconds");
        assert!(rounds(Some(-1)).is_some() && rounds(Some(0)).is_some());
    }

    #[test]
    fn hashes_survive_being_written_and_read() {
        let digest = Digest::of("vgt_example");
        assert_eq!(Digest::from_hex(&digest.to_hex()), Some(digest));
        assert_eq!(Digest::from_hex("zz"), None);
        assert_eq!(Digest::from_hex(&"é".repeat(32)), None);
        assert!(!format!("{digest:?}").contains(&digest.to_hex()));
    }
}
