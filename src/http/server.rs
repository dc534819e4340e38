//! The accept loop of the public port: connections, their limits, TLS, and the end of it all.

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
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::connection::{ConnectionPhase, LingeringStream, Phase, PhaseStream};
use super::connection_limit::{ConnectionLimiter, Slot, WhenFull};
use super::tls::{LOOK_EVERY, TlsFiles};
use crate::heartbeat::routes::{BODY_TIMEOUT, Connection};

/// Longest head of a request, in bytes (api.md). hyper answers 431 to a longer one, and to more than 100 headers.
const MAX_HEAD: usize = 64 * 1024;
/// What is read ahead of a connection: a whole head, and room to find its end.
const MAX_READ_AHEAD: usize = MAX_HEAD + 8 * 1024;
/// How long an idle connection is kept when connections run out.
const IDLE_WHEN_SCARCE: Duration = Duration::from_secs(5);
/// After a failed accept. The usual reason, no file descriptors left, passes only when a connection ends.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Between two log lines about the same trouble.
const MINUTE: Duration = Duration::from_secs(60);

/// What a connection may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once.
    pub max_connections: usize,
    /// What becomes of more.
    pub when_full: WhenFull,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head, from its first byte; for the first request from the connection's start.
    pub header_timeout: Duration,
    /// For a request's body.
    pub body_timeout: Duration,
    /// Between two requests, while connections abound.
    pub idle_timeout: Duration,
    /// For the other end to take note that we close.
    pub linger: Duration,
    /// For the requests under way when we stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            when_full: WhenFull::Wait,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: BODY_TIMEOUT,
            // Longer than the longest interval (300 s) and than load balancers keep theirs (up to 600 s): who closes
            // first risks a request that is just on its way.
            idle_timeout: Duration::from_secs(620),
            linger: Duration::from_secs(1),
            drain: Duration::from_secs(2),
        }
    }
}

/// Serves `router` on `listener` until `stop`: over TLS with `tls`, whose files are read again when they change.
///
/// Returns when every request under way is answered, at the latest `limits.drain` after `stop`. The port is closed at
/// once. Nothing that a client does ends it.
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
        never = keep_fresh(tls) => match never {},
    };
    let finished = tokio::time::timeout(drain, async { while open.join_next().await.is_some_and(reaped) {} }).await;
    if finished.is_err() {
        tracing::warn!(connections = open.len(), "stopped with connections still busy");
    }
}

async fn keep_fresh(tls: Option<Arc<TlsFiles>>) -> Infallible {
    match tls {
        Some(files) => files.watch(LOOK_EVERY).await,
        None => std::future::pending().await,
    }
}

/// Always true. A panic is a bug of ours that took one connection with it.
fn reaped(ended: Result<(), JoinError>) -> bool {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
    true
}

/// What all connections share.
#[derive(Debug)]
struct Server {
    router: Router,
    tls: Option<Arc<TlsFiles>>,
    limits: Limits,
    http: http1::Builder,
    places: ConnectionLimiter,
    /// Whether the last accept failed.
    failing: AtomicBool,
    full: OnceAMinute,
    failed: OnceAMinute,
}

impl Server {
    fn new(router: Router, tls: Option<Arc<TlsFiles>>, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        // The head's time is ours to measure: see `patience`.
        http.header_read_timeout(None).max_header_size(MAX_HEAD).max_buf_size(MAX_READ_AHEAD);
        let places = ConnectionLimiter::new(limits.max_connections, limits.when_full);
        let (full, failed) = Default::default();
        Self { router, tls, limits, http, places, failing: AtomicBool::new(false), full, failed }
    }

    /// Accepts until `stop`, then closes the port and hands over what is still open.
    async fn accept(self: &Arc<Self>, listener: TcpListener, stop: &CancellationToken) -> JoinSet<()> {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return open,
                accepted = self.next(&listener) => accepted,
            };
            while open.try_join_next().is_some_and(reaped) {}
            self.failing.store(accepted.as_ref().is_err_and(is_ours), Ordering::Relaxed);
            match accepted {
                Ok((socket, peer, place)) => {
                    // A token of its own: all polling one would meet at its lock.
                    let stop = stop.child_token();
                    open.spawn(Arc::clone(self).connection(socket, peer, stop, place));
                }
                Err(error) if is_ours(&error) => {
                    if self.failed.due() {
                        tracing::error!(%error, "cannot accept connections; trying again");
                    }
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
                Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
            }
        }
    }

    /// The next connection, with its place.
    async fn next(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, Slot)> {
        if self.places.come_first() {
            self.say_when_full("more wait until one ends");
            let place = self.places.any().await;
            let (socket, peer) = listener.accept().await?;
            return Ok((socket, peer, place));
        }
        let (socket, peer) = listener.accept().await?;
        self.say_when_full("who has the most loses its oldest to each that comes");
        let place = self.places.of(peer.ip()).await;
        Ok((socket, peer, place))
    }

    fn say_when_full(&self, consequence: &str) {
        if self.places.are_taken() && self.full.due() {
            let max = self.limits.max_connections;
            tracing::warn!(max, "as many connections as may be are open; {consequence}");
        }
    }

    /// How long an idle connection is kept: less when others may be waiting for its place.
    fn idle_timeout(&self) -> Duration {
        // Where newcomers get a place anyhow nobody has to hurry for them.
        let scarce = self.places.come_first() && self.places.are_scarce();
        if scarce || self.failing.load(Ordering::Relaxed) {
            self.limits.idle_timeout.min(IDLE_WHEN_SCARCE)
        } else {
            self.limits.idle_timeout
        }
    }

    async fn connection(self: Arc<Self>, socket: TcpStream, peer: SocketAddr, stop: CancellationToken, place: Slot) {
        tokio::select! {
            () = place.lost() => tracing::debug!(%peer, "a connection gave up its place to another"),
            () = self.serve(socket, peer, stop) => {}
        }
    }

    async fn serve(&self, socket: TcpStream, peer: SocketAddr, stop: CancellationToken) {
        // An answer is one small write; waiting to fill a packet would only delay it.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
        }
        let socket = LingeringStream::new(socket, self.limits.linger);
        let Some(files) = &self.tls else { return self.talk(socket, peer, stop).await };
        let handshake = TlsAcceptor::from(files.config()).accept(socket);
        match tokio::time::timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => self.talk(stream, peer, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        }
    }

    /// Answers the requests of one connection until either end has had enough.
    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr, stop: CancellationToken) {
        let pulse = ConnectionPhase::new();
        let context = Connection { peer, opened: Instant::now(), body_timeout: self.limits.body_timeout };
        let service = service_fn(|mut request: hyper::Request<Incoming>| {
            pulse.is_now(Phase::Busy);
            request.extensions_mut().insert(context);
            let answer = self.router.clone().call(request);
            async {
                let answer = answer.await;
                pulse.is_now(Phase::Idle);
                answer
            }
        });
        let stream = TokioIo::new(PhaseStream::new(stream, pulse.clone()));
        let mut talk = pin!(self.http.serve_connection(stream, service));
        let mut stopped = pin!(stop.cancelled());
        let mut stopping = false;
        let mut look = pin!(tokio::time::sleep(self.limits.header_timeout));
        loop {
            tokio::select! {
                biased;
                ended = &mut talk => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, %peer, "a connection ended badly");
                    }
                    return;
                }
                () = &mut stopped, if !stopping => {
                    stopping = true;
                    talk.as_mut().graceful_shutdown();
                }
                () = &mut look => {
                    let patience = pulse.patience(self.limits.header_timeout, self.idle_timeout());
                    if patience.is_zero() {
                        return;
                    }
                    look.as_mut().reset(tokio::time::Instant::now() + patience);
                }
            }
        }
    }
}

/// Whether a failed accept is about us, not about the connection that was to be accepted.
fn is_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Lets one log line a minute through.
#[derive(Debug, Default)]
struct OnceAMinute(Mutex<Option<Instant>>);

impl OnceAMinute {
    fn due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|at| at.elapsed() >= MINUTE);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests;
