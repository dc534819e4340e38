//! The handshakes with the peers of a WireGuard interface.

use std::collections::BTreeMap;
use std::time::Duration;

use super::finding::Finding;
use super::host::{Host, seen};
use super::words::{bytes, duration};
use crate::agent::facts::{Facts, Peer};
use crate::time::Moment;

/// A peer that is sent data, or asked for a handshake, answers within 10 seconds. WireGuard itself takes a peer that is
/// silent for 15 seconds for gone, and asks for a new handshake.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Bytes of a keepalive. It is never answered.
const KEEPALIVE: u64 = 32;
/// WireGuard uses no session that is older than 180 seconds: the next packet after that asks for a handshake, and asks
/// again after 5 seconds. So long, and one keepalive longer, a handshake may lie back in a tunnel that is well.
const SESSION: u64 = 180 + 5;
/// How long a peer that never had a handshake may take for its first one.
const FIRST_HANDSHAKE: Duration = Duration::from_secs(30);

/// The memory of one peer.
#[derive(Clone, Debug)]
struct Known {
    peer: Peer,
    first_seen: Moment,
    /// The age of its last handshake when this one was first seen, and when that was. Afterwards the clock of the host may
    /// be set without making the handshake older.
    handshake: Option<(u64, Moment)>,
    /// Bytes sent to it when something last came from it, and when that was seen.
    sent_at_last_answer: u64,
    answered_at: Moment,
    /// When it was first seen that it was sent more since then than keepalives.
    unanswered_since: Option<Moment>,
}

/// The memory of all peers, by interface and key.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<(String, String), Known>);

impl Peers {
    pub(super) fn update(&mut self, facts: &Facts, now: Moment) {
        let of_interface = |name: &str| facts.tunnels.get(name);
        // A look that failed says nothing about the peers.
        self.0.retain(|(name, key), _| {
            of_interface(name)
                .is_some_and(|look| look.seen().map_or(true, |peers| peers.iter().any(|peer| peer.key == *key)))
        });
        for (name, look) in &facts.tunnels {
            for peer in look.seen().map_or(&[][..], Vec::as_slice) {
                let key = (name.clone(), peer.key.clone());
                let seen = self.0.entry(key).or_insert_with(|| Known::new(peer, now));
                seen.update(peer, facts.wall_seconds, now);
            }
        }
    }
}

impl Known {
    fn new(peer: &Peer, now: Moment) -> Self {
        let peer = Peer { handshake: None, ..peer.clone() };
        Self {
            sent_at_last_answer: peer.sent,
            peer,
            first_seen: now,
            handshake: None,
            answered_at: now,
            unanswered_since: None,
        }
    }

    fn update(&mut self, peer: &Peer, wall_seconds: u64, now: Moment) {
        let before = std::mem::replace(&mut self.peer, peer.clone());
        if peer.handshake != before.handshake {
            self.handshake = peer.handshake.map(|at| (wall_seconds.saturating_sub(at), now));
        }
        // Counters that fall are those of a new interface.
        if peer.received != before.received || peer.sent < before.sent {
            (self.sent_at_last_answer, self.answered_at, self.unanswered_since) = (peer.sent, now, None);
        } else if peer.sent - self.sent_at_last_answer > self.keepalives(now) {
            self.unanswered_since.get_or_insert(now);
        }
    }

    /// Most bytes of keepalives that may have been sent since something came from it. Without an interval it is the one
    /// that answers data.
    fn keepalives(&self, now: Moment) -> u64 {
        let passed = now.since(self.answered_at).as_secs();
        KEEPALIVE * (2 + passed.checked_div(self.peer.keepalive.into()).unwrap_or(0))
    }

    /// Whether it has not answered what every peer answers.
    fn is_silent(&self, now: Moment) -> bool {
        self.unanswered_since.is_some_and(|since| now.since(since) >= ANSWER_WITHIN)
    }

    /// Seconds since the last handshake.
    fn age(&self, now: Moment) -> Option<u64> {
        self.handshake.map(|(age, at)| age.saturating_add(now.since(at).as_secs()))
    }

    /// Whether its last handshake is older than `most` seconds. A younger one than a tunnel that is well may have is no
    /// fault by its age alone.
    fn is_stale(&self, most: u64, now: Moment) -> bool {
        match self.age(now) {
            Some(age) if self.is_silent(now) => age > most,
            Some(age) => age > most.max(SESSION + u64::from(self.peer.keepalive)),
            None => now.since(self.first_seen) >= FIRST_HANDSHAKE,
        }
    }

    /// Whether silence of this peer is a fault: it is sent keepalives, or other packets that it does not answer.
    fn should_answer(&self, now: Moment) -> bool {
        let is_sent_to = self.peer.keepalive != 0 && self.peer.endpoint.is_some();
        is_sent_to || self.is_silent(now)
    }

    fn tell(&self, now: Moment) -> String {
        let key = &self.peer.key;
        let end = key.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
        let place = self.peer.endpoint.map_or(" without an endpoint".to_owned(), |endpoint| format!(" at {endpoint}"));
        let handshake = match self.age(now) {
            Some(age) => format!("last handshake {} ago", duration(age)),
            None => "no handshake yet".to_owned(),
        };
        let sent = match self.peer.sent.saturating_sub(self.sent_at_last_answer) {
            0 => String::new(),
            sent => format!(", sent {} since, received nothing", bytes(sent)),
        };
        format!("peer …{}{place}: {handshake}{sent}", &key[end..])
    }
}

pub(super) fn judge(host: &Host<'_>, peers: &Peers, now: Moment) -> Finding {
    const CAUSES: &str = "UDP filtered, or the peer's key or endpoint changed";
    let name = host.interface();
    match host.link() {
        Err(unknown) => return unknown,
        Ok(None) => return Finding::unknown(format!("{name} does not exist")),
        Ok(Some(_)) => {}
    }
    let Some(look) = host.facts.tunnels.get(name) else {
        return Finding::unknown(format!(
            "{name} is no WireGuard interface of the kernel and has no socket /run/wireguard/{name}.sock"
        ));
    };
    if let Err(unknown) = seen(Some(look), name) {
        return unknown;
    }
    let all: Vec<&Known> = peers.0.iter().filter(|((of, _), _)| of == name).map(|(_, known)| known).collect();
    let most = host.handshake_age();
    let expected = || all.iter().filter(|peer| peer.should_answer(now));
    let stale: Vec<_> = expected().filter(|peer| peer.is_stale(most, now)).collect();
    match (stale.first(), expected().count()) {
        (Some(first), 1) => Finding::fail(format!("{}: {CAUSES}", first.tell(now))),
        (Some(first), count) if stale.len() == count => {
            Finding::fail(format!("none of {count} peers answers, the first is {}: {CAUSES}", first.tell(now)))
        }
        (Some(first), count) => {
            Finding::warn(format!("{} of {count} peers do not answer: {}: {CAUSES}", stale.len(), first.tell(now)))
        }
        (None, _) if all.is_empty() => Finding::warn(format!("{name} has no peer: wg show {name}")),
        (None, 0) if all.iter().all(|peer| peer.is_stale(most, now)) => Finding::warn(format!(
            "cannot tell: {} idle and sends no keepalives: set PersistentKeepalive=25",
            if all.len() == 1 { "the peer is".to_owned() } else { format!("each of {} peers is", all.len()) }
        )),
        (None, _) => match all.iter().filter_map(|peer| peer.age(now)).min() {
            Some(age) => Finding::pass(format!("last handshake {} ago", duration(age))),
            None => Finding::warn(format!("{name} is new and had no handshake yet")),
        },
    }
}
