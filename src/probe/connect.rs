//! Connects to the first of several addresses that accepts, as RFC 8305 ("Happy Eyeballs") defines.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::limits::CONNECT_STAGGER;
use super::outcome::Failure;
use crate::api::{ErrorClass, Phase};

/// The most addresses of a name that are tried: at the stagger, all of them within the default timeout of 5 s.
pub(super) const MAX_ADDRESSES: usize = 16;

/// The addresses in the order in which they are tried: the resolver's order, with the address families interleaved
/// (RFC 8305, section 4), and without duplicates.
pub(super) fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut once: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    let of_first = once.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = once.into_iter().partition(|address| address.is_ipv6() == of_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            break;
        }
        turns.extend(pair.into_iter().flatten());
    }
    turns.truncate(MAX_ADDRESSES);
    turns
}

/// Connects to the first of `addresses` that accepts; `None` when none does, or the list is empty. Adds each failed
/// address to `tried`, also when the future is dropped later.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    tried: &mut Vec<(SocketAddr, io::Error)>,
) -> Option<(SocketAddr, TcpStream)> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    attempts.push(attempt(waiting.next()?));
    let mut next_at = Instant::now() + CONNECT_STAGGER;
    loop {
        tokio::select! {
            Some((address, result)) = attempts.next() => match result {
                Ok(stream) => return Some((address, stream)),
                Err(error) => {
                    tried.push((address, error));
                    // The next attempt starts at once.
                    next_at = Instant::now();
                    if attempts.is_empty() && waiting.len() == 0 {
                        return None;
                    }
                }
            },
            () = sleep_until(next_at), if waiting.len() > 0 => {
                attempts.extend(waiting.next().map(attempt));
                next_at = Instant::now() + CONNECT_STAGGER;
            }
        }
    }
}

async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    (address, open(address).await)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A port in the ephemeral range of this machine can be connected to itself (TCP's simultaneous open), although
    // nothing listens there.
    if stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    // A probe sends one small request, which must not wait for more data.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Classifies an error of connecting.
fn class(error: &io::Error) -> ErrorClass {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => ErrorClass::Refused,
        Kind::TimedOut => ErrorClass::ConnectTimeout,
        Kind::ConnectionReset | Kind::ConnectionAborted => ErrorClass::Reset,
        // A local firewall that rejects outgoing packets gives "permission denied".
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown | Kind::PermissionDenied => {
            ErrorClass::Unreachable
        }
        // No descriptors, no memory, no local port.
        _ => ErrorClass::Internal,
    }
}

/// The failure when no address accepted a connection. Of different errors the most informative decides the class: an
/// answer of the host, then silence, then no route, then an error of this machine. With `within`, the timeout ended while
/// an address had not answered.
pub(super) fn failure(tried: &[(SocketAddr, io::Error)], within: Option<&str>) -> Failure {
    const ORDER: [ErrorClass; 5] = [
        ErrorClass::Refused,
        ErrorClass::Reset,
        ErrorClass::ConnectTimeout,
        ErrorClass::Unreachable,
        ErrorClass::Internal,
    ];
    let silence = within.map(|_| ErrorClass::ConnectTimeout);
    let seen: Vec<ErrorClass> = tried.iter().map(|(_, error)| class(error)).chain(silence).collect();
    let class = ORDER.into_iter().find(|class| seen.contains(class)).unwrap_or(ErrorClass::Internal);
    let mut parts: Vec<String> = tried.iter().map(|(address, error)| format!("{address}: {}", reason(error))).collect();
    if let Some(within) = within {
        let others = if tried.is_empty() { "" } else { "another address: " };
        parts.push(format!("{others}no answer to the attempt to connect {within}"));
    }
    Failure::new(class, Phase::Connect, parts.join("; "))
}

fn reason(error: &io::Error) -> String {
    match class(error) {
        ErrorClass::Refused => "connection refused".to_owned(),
        ErrorClass::ConnectTimeout => "no answer to the attempts to connect".to_owned(),
        ErrorClass::Reset => "connection reset".to_owned(),
        ErrorClass::Unreachable => "no route to it".to_owned(),
        // The message of the local system, which contains no byte of the far side.
        _ => format!("could not be dialled: {error}"),
    }
}
