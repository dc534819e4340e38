//! The peers of a WireGuard interface: of the kernel's by generic netlink, of a userspace one by its socket.
//!
//! Both answers hold the private key of the interface and the keys that it shares with peers. They are skipped while the
//! answer is taken apart, and are part of no value that leaves this file.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::netlink::{Netlink, attribute, attributes, dump, get, u16_at, u32_at, u64_at};
use crate::agent::facts::Peer;

/// The folder of the sockets of userspace implementations.
const SOCKETS: &str = "/run/wireguard";
/// Most peers of an interface that are told.
const MAX_PEERS: usize = 256;
/// Most bytes of a userspace answer.
const MAX_ANSWER: u64 = 4 << 20;

/// The socket of the userspace interface `name`, if there is one.
pub(super) fn socket_of(name: &str) -> Option<PathBuf> {
    let path = Path::new(SOCKETS).join(format!("{name}.sock"));
    path.exists().then_some(path)
}

/// The peers of the kernel's interface `name`.
pub(super) fn of_kernel(name: &str) -> Result<Vec<Peer>, String> {
    const GET_FAMILY: u8 = 3;
    const CONTROLLER: u16 = 16;
    let asked = [vec![GET_FAMILY, 1, 0, 0], attribute(2, b"wireguard\0")].concat();
    let answers = get(Netlink::Generic, CONTROLLER, &asked)?;
    let family = answers.iter().find_map(|answer| {
        attributes(answer.get(4..)?).find(|(kind, _)| *kind == 1).and_then(|(_, value)| u16_at(value, 0))
    });
    let family = family.ok_or("the kernel does not know WireGuard")?;
    // The command 0 is that which reads a device.
    let asked = [vec![0, 1, 0, 0], attribute(2, format!("{name}\0").as_bytes())].concat();
    Ok(device(&dump(Netlink::Generic, family, &asked)?))
}

/// The peers in the messages that describe a device of the kernel.
fn device(messages: &[Vec<u8>]) -> Vec<Peer> {
    const PEERS: u16 = 8;
    let mut peers: Vec<Peer> = Vec::new();
    for message in messages {
        let lists = attributes(message.get(4..).unwrap_or_default()).filter(|(kind, _)| *kind == PEERS);
        for peer in lists.flat_map(|(_, list)| attributes(list)).filter_map(|(_, peer)| peer_of(peer)) {
            // A peer with many networks goes on in the next message, which has nothing but more of them.
            if peers.len() < MAX_PEERS && peers.last().is_none_or(|last| last.key != peer.key) {
                peers.push(peer);
            }
        }
    }
    peers
}

fn peer_of(bytes: &[u8]) -> Option<Peer> {
    let mut peer = Peer::default();
    for (kind, value) in attributes(bytes) {
        match kind {
            1 => peer.key = BASE64_STANDARD.encode(value),
            4 => peer.endpoint = endpoint(value),
            5 => peer.keepalive = u16_at(value, 0)?,
            6 => peer.handshake = u64_at(value, 0).filter(|seconds| *seconds != 0),
            7 => peer.received = u64_at(value, 0)?,
            8 => peer.sent = u64_at(value, 0)?,
            _ => {}
        }
    }
    (!peer.key.is_empty()).then_some(peer)
}

/// The address in a `sockaddr_in` or `sockaddr_in6`.
fn endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match u16_at(bytes, 0)? {
        2 => Some((Ipv4Addr::from(u32_at(bytes, 4)?.to_ne_bytes()), port).into()),
        10 => Some((Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?), port).into()),
        _ => None,
    }
}

/// The peers of the userspace interface behind `socket`. A process that hangs never answers: the caller limits the time.
pub(super) async fn of_userspace(socket: &Path) -> Result<Vec<Peer>, String> {
    let said = |error: std::io::Error| format!("{}: {error}", socket.display());
    let mut stream = UnixStream::connect(socket).await.map_err(said)?;
    stream.write_all(b"get=1\n\n").await.map_err(said)?;
    let mut answer = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_ANSWER));
    // The far side keeps the connection open: the answer ends with an empty line.
    while reader.read_until(b'\n', &mut answer).await.map_err(said)? > 1 {}
    userspace(&String::from_utf8_lossy(&answer)).map_err(|error| format!("{}: {error}", socket.display()))
}

/// The peers in the answer of a userspace implementation: lines `name=value`, ended by an empty one.
///
/// # Errors
/// It is no such answer, or says that it failed.
pub fn userspace(answer: &str) -> Result<Vec<Peer>, String> {
    let mut peers: Vec<Peer> = Vec::new();
    let mut is_left_out = false;
    for line in answer.lines() {
        let Some((name, value)) = line.split_once('=') else {
            return if line.is_empty() { Ok(peers) } else { Err("a line without =".to_owned()) };
        };
        match (name, peers.last_mut().filter(|_| !is_left_out)) {
            ("public_key", _) => {
                is_left_out = peers.len() >= MAX_PEERS;
                if !is_left_out {
                    peers.push(Peer { key: key(value)?, ..Peer::default() });
                }
            }
            ("errno", _) if value != "0" => return Err(format!("errno {}", value.escape_debug())),
            ("endpoint", Some(peer)) => peer.endpoint = value.parse().ok(),
            ("last_handshake_time_sec", Some(peer)) => peer.handshake = Some(number(value)?).filter(|time| *time != 0),
            ("rx_bytes", Some(peer)) => peer.received = number(value)?,
            ("tx_bytes", Some(peer)) => peer.sent = number(value)?,
            ("persistent_keepalive_interval", Some(peer)) => {
                peer.keepalive = u16::try_from(number(value)?).unwrap_or(u16::MAX);
            }
            _ => {}
        }
    }
    Err("the answer is cut off".to_owned())
}

fn number(value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| "a number is none".to_owned())
}

/// The key in base64, as `wg` shows it; the socket writes it in hexadecimal digits.
fn key(hexadecimal: &str) -> Result<String, String> {
    let wrong = || "a public key is none".to_owned();
    if hexadecimal.len() != 64 || !hexadecimal.is_ascii() {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).map_err(|_| wrong());
    let bytes = (0..64).step_by(2).map(byte).collect::<Result<Vec<u8>, _>>()?;
    Ok(BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device as the kernel describes it, with two peers, of which the first goes on in a second message.
    fn messages() -> Vec<Vec<u8>> {
        let secret = attribute(2, &[0xaa; 32]);
        let endpoint = [&2_u16.to_ne_bytes()[..], &51_820_u16.to_be_bytes(), &[192, 0, 2, 2], &[0; 8]].concat();
        let six = [&10_u16.to_ne_bytes()[..], &443_u16.to_be_bytes(), &[0; 4], &[0; 15], &[1], &[0; 4]].concat();
        let peer = |key: u8, endpoint: &[u8], handshake: u64| {
            let time = [handshake.to_ne_bytes(), [0; 8]].concat();
            let parts = [attribute(4, endpoint), attribute(5, &25_u16.to_ne_bytes()), attribute(6, &time)];
            let counters = [attribute(7, &1_000_u64.to_ne_bytes()), attribute(8, &2_000_u64.to_ne_bytes())];
            attribute(0x8000, &[attribute(1, &[key; 32]), secret.clone(), parts.concat(), counters.concat()].concat())
        };
        let more = attribute(0x8000, &[attribute(1, &[7; 32]), attribute(0x8009, &[0; 8])].concat());
        let private = attribute(3, &[0xbb; 32]);
        let list = |peers: &[Vec<u8>]| attribute(0x8008, &peers.concat());
        let head = vec![0, 1, 0, 0];
        let first = [head.clone(), private, list(&[peer(7, &endpoint, 1_800_000_000)])].concat();
        vec![first, [head, list(&[more, peer(9, &six, 0)])].concat()]
    }

    #[test]
    fn the_kernel_tells_its_peers_and_their_secrets_are_left_out() {
        let peers = device(&messages());
        let [first, second] = &peers[..] else { panic!("{peers:?}") };
        assert_eq!(
            (first.handshake, first.keepalive, first.received, first.sent),
            (Some(1_800_000_000), 25, 1_000, 2_000)
        );
        assert_eq!(first.endpoint.unwrap().to_string(), "192.0.2.2:51820");
        assert_eq!((second.handshake, second.endpoint.unwrap().to_string()), (None, "[::1]:443".to_owned()));
        let written = serde_json::to_string(&peers).unwrap();
        assert!(
            !written.contains(&BASE64_STANDARD.encode([0xaa; 32]))
                && !written.contains(&BASE64_STANDARD.encode([0xbb; 32]))
        );
    }

    #[test]
    fn a_cut_off_answer_is_less_and_no_panic() {
        for message in messages() {
            for end in 0..message.len() {
                let mut changed = message.clone();
                changed[end] ^= 0xff;
                assert!(device(&[message[..end].to_vec(), changed]).len() <= 4);
            }
        }
    }
}
