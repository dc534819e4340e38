//! One check with the facts that it looks at, and its parameters with their defaults.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use super::finding::Finding;
use crate::agent::config::{CheckConfig, Config};
use crate::agent::facts::{Facts, Link, Network};
use crate::api::CheckType;

/// The overlay where nothing else is said: the addresses of carrier-grade NAT.
const OVERLAY: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
/// The interface where nothing else is said.
const INTERFACE: &str = "wg0";
/// How old a handshake may be where nothing else is said, in seconds: WireGuard gives a session up after 180, the next
/// keepalive is sent 25 later as most are set, and a handshake that got lost is asked for again after 5.
const HANDSHAKE_AGE: u32 = 210;

/// One check and what it looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host<'a> {
    pub(super) config: &'a Config,
    pub(super) check: &'a CheckConfig,
    pub(super) facts: &'a Facts,
}

impl<'a> Host<'a> {
    /// The interface of the tunnel: of this check, else of another one.
    pub(super) fn interface(&self) -> &'a str {
        let own = self.check.interface_name.as_deref();
        // These two are about the tunnel without naming it in the custom resource.
        let borrows = matches!(self.check.type_, CheckType::IPForwarding | CheckType::NATRules);
        let others = self.config.checks.iter().filter(|_| borrows).find_map(|check| check.interface_name.as_deref());
        own.or(others).unwrap_or(INTERFACE)
    }

    /// The networks behind the tunnel: of this check, else of another one.
    pub(super) fn overlays(&self) -> Vec<IpNet> {
        let all = std::iter::once(self.check).chain(&self.config.checks);
        let given = all.map(|check| &check.overlay_cidrs).find(|networks| !networks.is_empty());
        given.cloned().unwrap_or_else(|| vec![OVERLAY.into()])
    }

    pub(super) fn handshake_age(&self) -> u64 {
        self.check.max_handshake_age_seconds.unwrap_or(HANDSHAKE_AGE).into()
    }

    /// The interfaces and routes.
    pub(super) fn network(&self) -> Result<&'a Network, Finding> {
        seen(self.facts.network.as_ref(), "the network")
    }

    /// The interface of the tunnel as it is.
    pub(super) fn link(&self) -> Result<Option<&'a Link>, Finding> {
        let name = self.interface();
        Ok(self.network()?.links.iter().find(|link| link.name == name))
    }
}

/// What a look saw, or the finding that it could not look.
pub(super) fn seen<'a, T>(look: Option<&'a crate::agent::facts::Look<T>>, at: &str) -> Result<&'a T, Finding> {
    let look = look.ok_or_else(|| Finding::unknown(format!("the helper did not look at {at}")))?;
    look.seen().map_err(|why| Finding::unknown(format!("could not look: {why}")))
}
