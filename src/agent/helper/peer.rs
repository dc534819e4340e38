//! Which process asks: the agent's unit, root, or another one.

use tokio::net::UnixStream;

use crate::agent::layout::AGENT_UNIT;

/// A process that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// The agent.
    Agent,
    /// A process of root: it may do all of this without the helper.
    Root,
    /// Another process.
    Stranger,
}

/// Identifies the process at the other end. `agent_user` names the agent where no systemd starts it.
pub(super) fn identify(stream: &UnixStream, agent_user: Option<u32>) -> Peer {
    let Ok(credentials) = stream.peer_cred() else { return Peer::Stranger };
    let read = |process: &str| std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let is_agent = match agent_user {
        Some(user) => credentials.uid() == user,
        None => credentials.pid().is_some_and(|pid| is_of_agent(&read("self"), &read(&pid.to_string()))),
    };
    match (is_agent, credentials.uid()) {
        (true, _) => Peer::Agent,
        (false, 0) => Peer::Root,
        (false, _) => Peer::Stranger,
    }
}

/// Whether a process is in the unit beside our own. The whole path is compared: a user may own a part of the tree, and call a
/// group in it as he likes.
fn is_of_agent(ours: &str, theirs: &str) -> bool {
    ["name=systemd:", ":"].into_iter().any(|hierarchy| {
        let (Some(ours), Some(theirs)) = (path_in(hierarchy, ours), path_in(hierarchy, theirs)) else { return false };
        // In a hierarchy that systemd does not keep we are in no unit.
        let slice = ours.strip_suffix(".service").and_then(|unit| unit.rsplit_once('/')).map(|(slice, _)| slice);
        slice.is_some_and(|slice| theirs.strip_prefix(slice) == Some(&format!("/{AGENT_UNIT}")))
    })
}

/// The path of a process in the hierarchy that systemd has named, or in that of version 2.
fn path_in<'a>(hierarchy: &str, cgroup: &'a str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(hierarchy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_the_unit_beside_the_helper() {
        let helper = "0::/system.slice/vigie-agent-helper.service\n";
        for (theirs, expected) in [
            ("0::/system.slice/vigie-agent.service\n", true),
            ("4:memory:/x\n0::/system.slice/vigie-agent.service\n", true),
            ("0::/system.slice/other.service\n", false),
            ("0::/system.slice/vigie-agent.service/inner\n", false),
            ("0::/user.slice/user-1000.slice/user@1000.service/system.slice/vigie-agent.service\n", false),
            ("4:memory:/system.slice/vigie-agent.service\n0::/user.slice\n", false),
            ("", false),
        ] {
            assert_eq!(is_of_agent(helper, theirs), expected, "{theirs}");
        }
        let both = |unit: &str| format!("4:memory:/x\n1:name=systemd:/system.slice/{unit}\n0::/system.slice/{unit}\n");
        assert!(is_of_agent(&both("vigie-agent-helper.service"), &both("vigie-agent.service")));
        let nested = "1:name=systemd:/lxc/a/system.slice/vigie-agent-helper.service\n";
        assert!(is_of_agent(nested, "1:name=systemd:/lxc/a/system.slice/vigie-agent.service\n"));
        assert!(!is_of_agent(nested, "1:name=systemd:/lxc/b/system.slice/vigie-agent.service\n"));
        assert!(!is_of_agent("", "") && !is_of_agent("", helper));
        // A container on a host with both versions: its systemd keeps the second, the first is that of the host.
        let hybrid = |unit: &str| format!("1:name=systemd:/\n0::/system.slice/{unit}\n");
        assert!(is_of_agent(&hybrid("vigie-agent-helper.service"), &hybrid("vigie-agent.service")));
        assert!(!is_of_agent("1:name=systemd:/\n", "1:name=systemd:/vigie-agent.service\n"));
    }
}
