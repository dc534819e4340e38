//! Opens the ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// The connections that the kernel keeps until they are accepted; it bounds this by `net.core.somaxconn`, 4096 by default.
/// A shorter queue drops connections when a large fleet reconnects at once, and each is repeated only after a second.
const BACKLOG: i32 = 4096;

/// The bytes that the kernel keeps of a connection before they are read: a whole request. Without a limit it grows the buffer
/// of a client that sends on to megabytes, which count as memory of the container.
const RECEIVE_BUFFER: usize = 32 * 1024;

/// Opens `address`, which `flag` names. `[::]` is every address of both families, and every IPv4 address on a machine
/// without IPv6.
pub(super) fn listen(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let opened = match open(address) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && is_without_ipv6(&error) => {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        opened => opened,
    };
    opened.with_context(|| format!("opening {address} ({flag})"))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    // A port whose last connections are not quite closed can be opened again.
    socket.set_reuse_address(true)?;
    // Inherited by every connection.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether an IPv6 socket could not be made or bound because this machine has no IPv6.
fn is_without_ipv6(error: &io::Error) -> bool {
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_ipv6_is_told_from_a_port_in_use() {
        assert!(is_without_ipv6(&rustix::io::Errno::AFNOSUPPORT.into()));
        assert!(is_without_ipv6(&rustix::io::Errno::ADDRNOTAVAIL.into()));
        assert!(!is_without_ipv6(&rustix::io::Errno::ADDRINUSE.into()));
        assert!(!is_without_ipv6(&rustix::io::Errno::ACCESS.into()));
    }

    #[tokio::test]
    async fn every_address_of_both_families_is_one_port() {
        let listener = listen("--listen", "[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connected, accepted) =
            tokio::join!(tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)), listener.accept());
        connected.unwrap();
        assert_eq!(accepted.unwrap().1.ip().to_canonical(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let taken = format!("{:#}", listen("--listen", SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).unwrap_err());
        assert!(taken.contains(&format!("[::]:{port} (--listen)")), "{taken}");
    }
}
