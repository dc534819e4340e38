//! The time limits of the phases of a connection.
//!
//! hyper has one timer for both the wait for the next request and the wait for the rest of its head. Here they differ by
//! two orders of magnitude: an agent sends a heartbeat every 30 s on a connection that it keeps, and a head that arrives
//! byte by byte is an attack.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// The phase of a connection, and when it began.
///
/// Shared by the stream, the service and the timer of the connection, which one task polls: the atomic only makes that
/// task `Send`.
#[derive(Clone, Debug)]
pub(super) struct ConnectionPhase {
    opened: Instant,
    /// Milliseconds since `opened`, times four, plus the phase.
    packed: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The head of a request has begun, or that of the first one is awaited.
    Head,
    /// A request is being answered; its body has its own limit.
    Busy,
    /// Between requests.
    Idle,
}

/// A request that has not been received and answered after this time stalls: an honest one takes as long as the slowest
/// network between, and one on which the bytes come singly much longer.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// How little a connection serves its client, compared when one of several has to end; the greatest ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Uselessness {
    /// A request is being received or answered, for so long.
    Working(Duration),
    /// No request since so long.
    Idle(Duration),
    /// A request that stalls for so long.
    Stalled(Duration),
}

impl ConnectionPhase {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), packed: Arc::new(AtomicU64::new(Phase::Head as u64)) }
    }

    /// A phase that was entered `ago`.
    #[cfg(test)]
    pub(super) fn entered(phase: Phase, ago: Duration) -> Self {
        let opened = Instant::now().checked_sub(ago).expect("the machine runs for longer");
        Self { opened, packed: Arc::new(AtomicU64::new(phase as u64)) }
    }

    /// How little the connection serves its client.
    pub(super) fn uselessness(&self) -> Uselessness {
        let since = Duration::from_millis(self.packed.load(Ordering::Relaxed) >> 2);
        let lasts = self.opened.elapsed().saturating_sub(since);
        match self.phase() {
            Phase::Idle => Uselessness::Idle(lasts),
            Phase::Head | Phase::Busy if lasts >= STALLED_AFTER => Uselessness::Stalled(lasts),
            Phase::Head | Phase::Busy => Uselessness::Working(lasts),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.packed.store(since << 2 | phase as u64, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        match self.packed.load(Ordering::Relaxed) & 3 {
            0 => Phase::Head,
            1 => Phase::Busy,
            _ => Phase::Idle,
        }
    }

    /// The time left for the client in this phase; zero when it is over.
    pub(super) fn time_left(&self, head: Duration, idle: Duration) -> Duration {
        let limit = match self.phase() {
            Phase::Head => head,
            Phase::Idle => idle,
            Phase::Busy => return head,
        };
        let since = Duration::from_millis(self.packed.load(Ordering::Relaxed) >> 2);
        let left = limit.saturating_sub(self.opened.elapsed().saturating_sub(since));
        // An idle connection may begin a head right after this check, so the next check is due after `head` at the latest.
        left.min(head)
    }
}

/// A stream that detects the begin of a request.
#[derive(Debug)]
pub(super) struct PhaseStream<S> {
    stream: S,
    phase: ConnectionPhase,
}

impl<S> PhaseStream<S> {
    pub(super) fn new(stream: S, phase: ConnectionPhase) -> Self {
        Self { stream, phase }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PhaseStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before && self.phase.phase() == Phase::Idle {
            self.phase.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PhaseStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A socket that, when it is closed, first reads and discards the bytes that the client still sends.
///
/// Closing a socket with unread bytes sends a reset, and a reset can overtake the response: the client of a body that is
/// too large would see "connection reset" instead of the 413 (RFC 9112, 9.6).
#[derive(Debug)]
pub(super) struct LingeringStream {
    socket: TcpStream,
    linger: Duration,
    at_end: bool,
    until: Option<Pin<Box<Sleep>>>,
}

impl LingeringStream {
    pub(super) fn new(socket: TcpStream, linger: Duration) -> Self {
        Self { socket, linger, at_end: false, until: None }
    }
}

impl AsyncRead for LingeringStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let free_slots = buf.remaining() > 0;
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.at_end |= free_slots && buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LingeringStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let until = match &mut this.until {
            Some(until) => until,
            until => {
                ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
                until.insert(Box::pin(tokio::time::sleep(this.linger)))
            }
        };
        let mut discarded = [0; 4096];
        // The timer is polled before the socket: a flood would keep the loop from the timer.
        while !this.at_end && until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => this.at_end = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(600);

    #[test]
    fn a_head_has_its_own_time_and_an_idle_connection_is_looked_at_as_often() {
        let phase = ConnectionPhase::new();
        assert!(phase.time_left(HEAD, IDLE) <= HEAD);
        assert_eq!(phase.time_left(Duration::ZERO, IDLE), Duration::ZERO);
        phase.enter(Phase::Idle);
        assert_eq!(phase.time_left(HEAD, IDLE), HEAD);
        assert_eq!(phase.time_left(HEAD, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_connection_that_is_being_answered_is_never_out_of_time() {
        let phase = ConnectionPhase::new();
        phase.enter(Phase::Busy);
        assert_eq!(phase.time_left(HEAD, Duration::ZERO), HEAD);
    }
}
