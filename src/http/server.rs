//! The HTTP server of both ports: the accept loop, the limits of connections, TLS, and the shutdown.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::connection::{ConnectionPhase, LingeringStream, Phase, PhaseStream};
use super::connection_limit::{ConnectionLimiter, ConnectionSlot};
use super::tls::{RELOAD_INTERVAL, TlsFiles};

/// Longest head of a request, in bytes (`docs/design/api.md`). hyper answers 431 to a longer one, and to more than 100 headers.
const MAX_HEAD: usize = 16 * 1024;
/// Size of the read buffer of a connection, in bytes: a whole head, and room to find its end.
const MAX_READ_AHEAD: usize = MAX_HEAD + 1024;
/// How long the body of a request may take to arrive (`docs/design/api.md`).
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept when files run out.
const IDLE_WHEN_SCARCE: Duration = Duration::from_secs(5);
/// The pause after a failed accept. The usual reason, no file descriptors left, lasts until a connection ends.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// The time between two log lines about the same failure.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The most connections of a port, unless its limits say otherwise.
pub const MAX_CONNECTIONS: usize = 16_384;

/// The limits of one port.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The number of connections that are open at once. One more ends a connection of the client that has the most.
    pub max_connections: usize,
    /// Proxies whose connections are those of many clients.
    pub trusted_proxies: Vec<IpNet>,
    /// The limit of the TLS handshake.
    pub handshake_timeout: Duration,
    /// The limit of the head of a request, from its first byte; of the first request, from the start of the connection.
    pub header_timeout: Duration,
    /// The limit of the body of a request.
    pub body_timeout: Duration,
    /// The limit between two requests, unless files run out.
    pub idle_timeout: Duration,
    /// How long a closed connection still reads.
    pub linger: Duration,
    /// The limit of the requests in progress at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            trusted_proxies: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: BODY_TIMEOUT,
            // Longer than the longest interval (300 s) and than the idle timeout of load balancers (up to 600 s): the end
            // that closes first may lose a request that is on its way.
            idle_timeout: Duration::from_secs(620),
            linger: Duration::from_secs(1),
            drain: Duration::from_secs(2),
        }
    }
}

/// The connection of a request, which [`serve`] adds to the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    /// The address of the client, or of the last proxy.
    pub peer: SocketAddr,
    /// When the connection was accepted.
    pub opened: Instant,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
}

/// Serves `router` on `listener` until `stop`; with `tls` over TLS, whose files are read again when they change.
///
/// Closes the port at `stop`, and returns when every request in progress is answered, at the latest `limits.drain` later.
/// No client can end it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<TlsFiles>>,
    limits: Limits,
    stop: CancellationToken,
) {
    let drain = limits.drain;
    let server = Arc::new(Server::new(router, tls.clone(), limits));
    let mut open = tokio::select! {
        open = server.accept(listener, &stop) => open,
        never = watch_certificate(tls) => match never {},
    };
    let finished = tokio::time::timeout(drain, async { while open.join_next().await.is_some_and(reaped) {} }).await;
    if finished.is_err() {
        tracing::warn!(connections = open.len(), "stopped with connections still busy");
    }
}

async fn watch_certificate(tls: Option<Arc<TlsFiles>>) -> Infallible {
    match tls {
        Some(files) => files.watch(RELOAD_INTERVAL).await,
        None => std::future::pending().await,
    }
}

/// Logs a panic, which is a bug that ended one connection. Always true.
fn reaped(ended: Result<(), JoinError>) -> bool {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
    true
}

/// The state that all connections share.
#[derive(Debug)]
struct Server {
    router: Router,
    tls: Option<Arc<TlsFiles>>,
    limits: Limits,
    http: http1::Builder,
    slots: ConnectionLimiter,
    /// Whether the last accept failed.
    failing: AtomicBool,
    full: OnceAMinute,
    failed: OnceAMinute,
}

impl Server {
    fn new(router: Router, tls: Option<Arc<TlsFiles>>, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        // `ConnectionPhase` measures the time of the head.
        http.header_read_timeout(None).max_header_size(MAX_HEAD).max_buf_size(MAX_READ_AHEAD);
        let slots = ConnectionLimiter::new(limits.max_connections, limits.trusted_proxies.clone());
        let (full, failed) = Default::default();
        Self { router, tls, limits, http, slots, failing: AtomicBool::new(false), full, failed }
    }

    /// Accepts until `stop`, then closes the port and returns the open connections.
    async fn accept(self: &Arc<Self>, listener: TcpListener, stop: &CancellationToken) -> JoinSet<()> {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return open,
                accepted = self.next(&listener) => accepted,
            };
            while open.try_join_next().is_some_and(reaped) {}
            self.failing.store(accepted.as_ref().is_err_and(is_own_failure), Ordering::Relaxed);
            match accepted {
                Ok((socket, peer, held)) => {
                    // A child token, because all connections would contend for the lock of one token.
                    let stop = stop.child_token();
                    open.spawn(Arc::clone(self).connection(socket, peer, stop, held));
                }
                Err(error) if is_own_failure(&error) => {
                    if self.failed.due() {
                        tracing::error!(%error, "cannot accept connections; trying again");
                    }
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
                Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
            }
        }
    }

    /// The next connection, its phase and its slot.
    async fn next(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, Held)> {
        let (socket, peer) = listener.accept().await?;
        if self.slots.is_full() && self.full.due() {
            let max = self.limits.max_connections;
            tracing::warn!(
                max,
                "the maximum number of connections is open; each new one ends one of the address that has the most"
            );
        }
        let phase = ConnectionPhase::new();
        let slot = self.slots.of(peer.ip(), phase.clone()).await;
        Ok((socket, peer, Held { phase, slot }))
    }

    /// The limit between two requests: shorter when connections cannot be accepted. One that is accepted gets a slot at
    /// once, and needs no shorter limit.
    fn idle_timeout(&self) -> Duration {
        if self.failing.load(Ordering::Relaxed) {
            self.limits.idle_timeout.min(IDLE_WHEN_SCARCE)
        } else {
            self.limits.idle_timeout
        }
    }

    async fn connection(self: Arc<Self>, socket: TcpStream, peer: SocketAddr, stop: CancellationToken, held: Held) {
        tokio::select! {
            () = held.slot.evicted() => tracing::debug!(%peer, "ended a connection for a new one"),
            () = self.serve(socket, peer, &held.phase, stop) => {}
        }
    }

    async fn serve(&self, socket: TcpStream, peer: SocketAddr, phase: &ConnectionPhase, stop: CancellationToken) {
        // A response is one small write; waiting to fill a packet would only delay it.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
        }
        let socket = LingeringStream::new(socket, self.limits.linger);
        let Some(files) = &self.tls else { return self.serve_http(socket, peer, phase, stop).await };
        let handshake = TlsAcceptor::from(files.config()).accept(socket);
        match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => self.serve_http(stream, peer, phase, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        }
    }

    /// Answers the requests of one connection until either end closes it.
    async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: SocketAddr,
        phase: &ConnectionPhase,
        stop: CancellationToken,
    ) {
        phase.enter(Phase::Head);
        let context = ConnectionInfo { peer, opened: Instant::now(), body_timeout: self.limits.body_timeout };
        let service = service_fn(|mut request: hyper::Request<Incoming>| {
            phase.enter(Phase::Busy);
            request.extensions_mut().insert(context);
            let answer = self.router.clone().call(request);
            async {
                let answer = answer.await;
                phase.enter(Phase::Idle);
                answer
            }
        });
        let stream = TokioIo::new(PhaseStream::new(stream, phase.clone()));
        let mut http = pin!(self.http.serve_connection(stream, service));
        let mut stopped = pin!(stop.cancelled());
        let mut stopping = false;
        let mut check = pin!(tokio::time::sleep(self.limits.header_timeout));
        loop {
            tokio::select! {
                biased;
                ended = &mut http => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, %peer, "a connection ended badly");
                    }
                    return;
                }
                () = &mut stopped, if !stopping => {
                    stopping = true;
                    http.as_mut().graceful_shutdown();
                }
                () = &mut check => {
                    let time_left = phase.time_left(self.limits.header_timeout, self.idle_timeout());
                    if time_left.is_zero() {
                        return;
                    }
                    check.as_mut().reset(tokio::time::Instant::now() + time_left);
                }
            }
        }
    }
}

/// The slot of a connection, and the phase by which it is compared with others.
struct Held {
    phase: ConnectionPhase,
    slot: ConnectionSlot,
}

/// Whether an accept failed because of this process, not because of the connection.
fn is_own_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Allows one log line a minute.
#[derive(Debug, Default)]
struct OnceAMinute(Mutex<Option<Instant>>);

impl OnceAMinute {
    fn due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|at| at.elapsed() >= LOG_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests;
