//! What the tools and sockets of a host answer to the agent's helper.

use jiff::Timestamp;
use vigie::agent::facts::{Chain, Condition, Family};
use vigie::agent::look::docker::parse;
use vigie::agent::look::firewall::{iptables, nft, reachable};
use vigie::agent::look::{listeners, systemd, wireguard};

use super::is_plain;

/// The answer of one of the tools, which the first byte chooses.
pub fn host_answers(data: &[u8]) {
    let [choice, answer @ ..] = data else { return };
    let text = String::from_utf8_lossy(answer);
    let wall = Timestamp::from_second(1_800_000_000).expect("it is in range");
    match choice {
        b'S' => {
            for unit in systemd::parse(&text, u64::MAX) {
                let facts = unit.facts;
                for word in [&facts.load, &facts.active, &facts.sub, &facts.result, &facts.policy, &facts.file_state] {
                    assert!(word.chars().count() <= 64 && is_plain(word), "{word:?}");
                }
                assert!(facts.environment.len() <= 32);
            }
        }
        b'D' => {
            let Ok(container) = parse::inspected(answer, wall) else { return };
            let facts = container.facts;
            for word in [&facts.id, &facts.name, &facts.status, &facts.started_at, &facts.policy] {
                assert!(word.chars().count() <= 128 && is_plain(word), "{word:?}");
            }
            assert!(facts.published.len() <= 16 && facts.published.iter().all(|port| is_plain(port)));
            assert!(facts.environment.len() <= 32 && facts.environment.keys().all(|name| is_plain(name)));
        }
        b'C' => {
            let containers = parse::listed(answer).unwrap_or_default();
            let _ = parse::of_service(&containers, "backend", None);
        }
        b'E' => {
            let _ = parse::was_stopped(answer, wall);
        }
        b'L' => assert!(parse::log_text(answer, false).len() <= 3 * answer.len()),
        b'N' => firewall(nft::parse(answer).and_then(reachable)),
        b'I' => firewall(reachable(iptables::parse(answer, Family::V4))),
        b'W' => assert!(wireguard::userspace(&text).unwrap_or_default().len() <= 256),
        b'P' => drop(listeners::parse(&text, None)),
        _ => {}
    }
}

fn firewall(chains: Result<Vec<Chain>, String>) {
    let chains = chains.unwrap_or_default();
    assert!(chains.iter().map(|chain| chain.rules.len()).sum::<usize>() <= 2_048);
    for rule in chains.iter().flat_map(|chain| &chain.rules) {
        for condition in &rule.conditions {
            let (Condition::Source { of, .. } | Condition::Destination { of, .. }) = condition else { continue };
            assert!(of.len() <= 64);
        }
    }
}
