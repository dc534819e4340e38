//! Whether the rules of a firewall can do something to a packet of the overlay.

use ipnet::IpNet;

use crate::agent::facts::{Action, Chain, Condition, Family, Hook, Rule};

/// Deepest jump, and most rules that one question looks at: chains may lead to each other in many ways.
const MAX_DEPTH: usize = 16;
const MAX_STEPS: usize = 100_000;

/// The packets that are asked about: from a network of the overlay, received by the tunnel, leaving by another interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packets<'a> {
    pub(super) overlay: &'a IpNet,
    pub(super) all_overlays: &'a [IpNet],
    pub(super) tunnel: &'a str,
    /// The interfaces that they may leave by.
    pub(super) ways: &'a [&'a str],
}

/// Whether a rule meets the packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    Never,
    /// By a condition that is not understood.
    Unclear(String),
    /// Some of them.
    Maybe,
    /// All of them.
    Always,
}

/// Whether something happens to the packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// To none.
    #[default]
    No,
    /// To none, because it happens only to those that leave by an interface that does not exist.
    NoInterface(String),
    /// Only to those for which a condition holds that is not understood.
    Unclear(String),
    /// To some, or all.
    Yes,
}

/// How the rules of a chain end for the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// The packets go on after the jump.
    Goes,
    /// Nothing more is asked about them.
    Ends,
    /// They are dropped.
    Drops,
}

/// Asks the same question of all chains.
struct Walk<'a> {
    chains: &'a [Chain],
    packets: Packets<'a>,
    wanted: Action,
    answer: Answer,
    steps: usize,
}

/// Whether the source of the packets is translated.
pub(super) fn translates(chains: &[Chain], packets: Packets<'_>) -> Answer {
    let mut walk = Walk { chains, packets, wanted: Action::Translate, answer: Answer::No, steps: 0 };
    for chain in walk.from(Hook::Postrouting) {
        walk.chain(chain, 0, &Met::Always);
    }
    walk.answer
}

/// A chain that drops the packets when they are forwarded: its table and name.
pub(super) fn drops(chains: &[Chain], packets: Packets<'_>) -> Option<String> {
    let mut walk = Walk { chains, packets, wanted: Action::Accept, answer: Answer::No, steps: 0 };
    for chain in walk.from(Hook::Forward) {
        walk.answer = Answer::No;
        let flow = walk.chain(chain, 0, &Met::Always);
        let is_dropped = flow == Flow::Drops || (flow == Flow::Goes && chain.drops);
        if is_dropped && walk.answer < Answer::Unclear(String::new()) {
            return Some(format!("{} {}", chain.table, chain.name));
        }
    }
    None
}

impl<'a> Walk<'a> {
    /// The chains that the packets enter by a hook.
    fn from(&self, hook: Hook) -> Vec<&'a Chain> {
        let family = family_of(self.packets.overlay);
        let sees = |chain: &&Chain| chain.family == family || chain.family == Family::Both;
        self.chains.iter().filter(|chain| chain.hook == Some(hook)).filter(sees).collect()
    }

    fn chain(&mut self, chain: &'a Chain, depth: usize, way: &Met) -> Flow {
        for rule in &chain.rules {
            self.steps += 1;
            if self.steps > MAX_STEPS || depth > MAX_DEPTH {
                self.learn(Answer::Unclear("too many jumps".to_owned()));
                return Flow::Goes;
            }
            let met = self.meets(rule);
            if met == Met::Never {
                continue;
            }
            let is_always = met == Met::Always;
            let met = met.min(way.clone());
            let target = |name: &String| {
                let is_it = |other: &&Chain| other.table == chain.table && other.name == *name;
                self.chains.iter().find(is_it)
            };
            match &rule.action {
                action if *action == self.wanted => {
                    self.learn(met.answer());
                    if is_always {
                        return Flow::Ends;
                    }
                }
                Action::Jump(name) | Action::Goto(name) => {
                    let Some(target) = target(name) else { continue };
                    let flow = self.chain(target, depth + 1, &met);
                    let goes_on = flow == Flow::Goes && matches!(rule.action, Action::Jump(_));
                    if is_always && !goes_on {
                        return flow;
                    }
                }
                Action::Drop if is_always => return Flow::Drops,
                Action::Accept if is_always => return Flow::Ends,
                Action::Return if is_always => return Flow::Goes,
                _ => {}
            }
        }
        Flow::Goes
    }

    fn learn(&mut self, answer: Answer) {
        if answer > self.answer {
            self.answer = answer;
        }
    }

    fn meets(&mut self, rule: &Rule) -> Met {
        let mut met = Met::Always;
        for condition in &rule.conditions {
            let one = self.condition(condition);
            if one == Met::Never {
                self.note_interface(rule, condition);
                return Met::Never;
            }
            met = met.min(one);
        }
        met
    }

    /// Remembers that a rule would do it, if its interface existed.
    fn note_interface(&mut self, rule: &Rule, failed: &Condition) {
        let Condition::Out { of, not: false } = failed else { return };
        let others = rule.conditions.iter().filter(|other| *other != failed);
        let rest = others.map(|other| self.condition(other)).min().unwrap_or(Met::Always);
        if rule.action == self.wanted && rest != Met::Never && !of.iter().any(|name| name == self.packets.tunnel) {
            self.learn(Answer::NoInterface(of.join(", ")));
        }
    }

    fn condition(&self, condition: &Condition) -> Met {
        let Packets { overlay, all_overlays, tunnel, ways } = self.packets;
        let overlaps = |network: &IpNet| network.contains(overlay) || overlay.contains(network);
        match condition {
            Condition::Source { of, not: false } => {
                if of.iter().any(|network| network.contains(overlay)) {
                    Met::Always
                } else {
                    maybe(of.iter().any(overlaps))
                }
            }
            Condition::Source { of, not: true } => match of.iter().any(overlaps) {
                false => Met::Always,
                true => maybe(!of.iter().any(|network| network.contains(overlay))),
            },
            Condition::Destination { of, not: false } => {
                let is_overlay = |network: &IpNet| all_overlays.iter().any(|overlay| overlay.contains(network));
                maybe(!of.iter().all(is_overlay))
            }
            Condition::Destination { of, not: true } => maybe(!of.iter().any(|network| network.prefix_len() == 0)),
            Condition::In { of, not } => match names(of, tunnel) != *not {
                true => Met::Always,
                false => Met::Never,
            },
            Condition::Out { of, not } => maybe(ways.iter().any(|way| names(of, way) != *not)),
            Condition::Family(family) => match *family == Family::Both || *family == family_of(overlay) {
                true => Met::Always,
                false => Met::Never,
            },
            Condition::Mark => Met::Maybe,
            // The first packet of a connection decides: it is neither established nor related.
            Condition::Established => Met::Never,
            Condition::Other(name) => Met::Unclear(name.clone()),
        }
    }
}

impl Met {
    fn answer(&self) -> Answer {
        match self {
            Self::Never => Answer::No,
            Self::Unclear(name) => Answer::Unclear(name.clone()),
            Self::Maybe | Self::Always => Answer::Yes,
        }
    }
}

fn maybe(is: bool) -> Met {
    if is { Met::Maybe } else { Met::Never }
}

fn family_of(network: &IpNet) -> Family {
    if network.addr().is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Whether one of the patterns names the interface.
fn names(patterns: &[String], interface: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(begin) => interface.starts_with(begin),
        None => pattern == interface,
    };
    patterns.iter().any(fits)
}
