//! The addresses on which TCP connections are accepted, as `/proc/PID/net/tcp` and `tcp6` list them.
//!
//! For a container these are its own: `127.0.0.1` there means that nothing outside of it can connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Most addresses that are told.
const MAX_LISTENERS: usize = 16;
/// Bytes of one list that are read: a busy host has many connections.
const MAX_LIST: u64 = 4 << 20;

/// The listeners in the network namespace of the process `pid`. `owner`: only those of this user, because a process of the
/// host shares its namespace with all others.
pub(super) fn of_process(pid: u32, owner: Option<u32>) -> Vec<String> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for list in ["tcp", "tcp6"] {
        let path = format!("/proc/{pid}/net/{list}");
        found.extend(super::read_text(Path::new(&path), MAX_LIST).map(|text| parse(&text, owner)).unwrap_or_default());
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_LISTENERS);
    found.iter().map(ToString::to_string).collect()
}

/// The user that owns the process `pid`.
pub(super) fn owner_of(pid: u32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}")).ok().map(|metadata| metadata.uid())
}

/// The listeners in a list of the kernel, of one owner or of all.
pub fn parse(text: &str, owner: Option<u32>) -> Vec<SocketAddr> {
    const LISTEN: &str = "0A";
    let listener = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        let [_, address, _, LISTEN, _, _, _, user] = fields[..] else { return None };
        let is_asked = owner.is_none_or(|owner| user.parse() == Ok(owner));
        address_of(address).filter(|_| is_asked)
    };
    text.lines().skip(1).filter_map(listener).collect()
}

/// `0100007F:1F90`: words of 32 bits in the order of the host, and the port.
fn address_of(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}
