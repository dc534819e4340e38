//! The rules that forward and translate packets: of nftables by `nft -j`, of legacy iptables by its own tools.
//!
//! nftables does not show legacy rules. The legacy tools are run only where the kernel has legacy tables: they would
//! create them.

pub mod iptables;
pub mod nft;

use std::collections::BTreeSet;
use std::path::Path;

use super::command::output;
use crate::agent::facts::{Action, Chain, Family, Firewall};

/// Most bytes that one tool may print.
const MAX_OUTPUT: u64 = 8 << 20;
/// Most rules that are told.
const MAX_RULES: usize = 2048;

/// Reads both kinds of rules. Each program that runs too long is given up on.
pub(super) async fn read() -> Firewall {
    let nft = super::limited("nft", nftables()).await.into();
    let legacy = match legacy_tables() {
        (false, false) => None,
        tables => Some(super::limited("iptables-legacy-save", legacy(tables)).await.into()),
    };
    Firewall { nft, legacy }
}

async fn nftables() -> Result<Vec<Chain>, String> {
    match output("nft", &["-j", "list", "ruleset"], MAX_OUTPUT).await {
        Ok(printed) => nft::parse(&printed).and_then(reachable),
        // iptables on top of nftables needs no nft, and prints its own rules.
        Err(missing) if missing.ends_with("is not installed") => {
            let v4 = output("iptables-nft-save", &[], MAX_OUTPUT).await.map_err(|_| missing)?;
            let v6 = output("ip6tables-nft-save", &[], MAX_OUTPUT).await?;
            reachable([iptables::parse(&v4, Family::V4), iptables::parse(&v6, Family::V6)].concat())
        }
        Err(error) => Err(error),
    }
}

async fn legacy((v4, v6): (bool, bool)) -> Result<Vec<Chain>, String> {
    let mut chains = Vec::new();
    for (program, family, is_used) in
        [("iptables-legacy-save", Family::V4, v4), ("ip6tables-legacy-save", Family::V6, v6)]
    {
        if !is_used {
            continue;
        }
        let printed = output(program, &[], MAX_OUTPUT).await.map_err(|error| explained(program, error))?;
        chains.extend(iptables::parse(&printed, family));
    }
    reachable(chains)
}

/// The helper has the capability only where the first legacy rules are older than the installation.
fn explained(program: &str, error: String) -> String {
    if !error.contains("Permission denied") && !error.contains("not permitted") {
        return error;
    }
    format!(
        "{program} needs CAP_NET_RAW, which vigie-agent-helper.service has only when it was installed after the first \
         legacy rule: install the agent again"
    )
}

/// Whether the kernel has legacy tables of IPv4 and of IPv6 that forward or translate.
fn legacy_tables() -> (bool, bool) {
    let has = |path: &str| {
        let names = super::read_text(Path::new(path), 4096).unwrap_or_default();
        names.lines().any(|name| name == "nat" || name == "filter")
    };
    (has("/proc/net/ip_tables_names"), has("/proc/net/ip6_tables_names"))
}

/// The chains that packets can reach, from the hooks along the jumps.
///
/// # Errors
/// They have more rules than are told.
pub fn reachable(chains: Vec<Chain>) -> Result<Vec<Chain>, String> {
    let mut kept = BTreeSet::new();
    let mut next: Vec<usize> = (0..chains.len()).filter(|at| chains[*at].hook.is_some()).collect();
    while let Some(at) = next.pop() {
        if !kept.insert(at) {
            continue;
        }
        for rule in &chains[at].rules {
            let (Action::Jump(name) | Action::Goto(name)) = &rule.action else { continue };
            let is_it = |other: &&Chain| other.table == chains[at].table && other.name == *name;
            next.extend(chains.iter().position(|other| is_it(&other)));
        }
    }
    let mut at = 0..;
    let chains: Vec<Chain> = chains.into_iter().filter(|_| at.next().is_some_and(|at| kept.contains(&at))).collect();
    let rules: usize = chains.iter().map(|chain| chain.rules.len()).sum();
    if rules > MAX_RULES {
        return Err(format!("the firewall has {rules} rules for forwarded packets; at most {MAX_RULES} are read"));
    }
    Ok(chains)
}
