//! A TCP proxy that can be cut and restored: from one operator to the API server, or from connectors to an operator.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The treatment of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Connections end at once.
    Cut,
    /// Connections open, and no data ever arrives.
    Blackhole,
}

/// One proxy. TLS passes through: the server's certificate is valid for 127.0.0.1 and any port.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    /// From a free port to `server`.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::from(SocketAddr::from(([127, 0, 0, 1], 0)), server).await
    }

    /// From `address` to `server`.
    pub(crate) async fn from(address: SocketAddr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, seen) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, seen.clone()));
            }
        });
        Self { address, way }
    }

    /// Changes the treatment of the bytes, also for open connections.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut way: watch::Receiver<Way>) {
    if *way.borrow_and_update() == Way::Cut {
        return;
    }
    let Some(server) = connect(server, &mut way).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, way.clone()) => {}
        () = pass(from_server, to_client, way) => {}
    }
}

async fn connect(server: SocketAddr, way: &mut watch::Receiver<Way>) -> Option<TcpStream> {
    open(way).await?;
    TcpStream::connect(server).await.ok()
}

/// Returns when bytes may pass; `None` when the proxy is cut.
async fn open(way: &mut watch::Receiver<Way>) -> Option<()> {
    match *way.wait_for(|way| *way != Way::Blackhole).await.ok()? {
        Way::Open => Some(()),
        Way::Cut | Way::Blackhole => None,
    }
}

/// Copies one direction until its end, or until the cut.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut cut = way.clone();
    let carrying = async {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if open(&mut way).await.is_none() || to.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = carrying => {}
        _ = cut.wait_for(|way| *way == Way::Cut) => {}
    }
}
