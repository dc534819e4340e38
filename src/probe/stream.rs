//! Records the bytes that a stream receives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many of the first bytes are kept: enough to distinguish TLS, HTTP/2 and text, and to quote a banner.
const KEPT_BYTES: usize = 64;

/// The record of the received bytes.
#[derive(Debug, Default)]
pub(super) struct Received(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    total: u64,
    first_at: Option<Instant>,
    first: Vec<u8>,
}

impl Received {
    /// The number of bytes received.
    pub(super) fn total(&self) -> u64 {
        self.0.lock().total
    }

    /// The time of the first byte.
    pub(super) fn first_at(&self) -> Option<Instant> {
        self.0.lock().first_at
    }

    /// The first bytes, at most [`KEPT_BYTES`].
    pub(super) fn first(&self) -> Vec<u8> {
        self.0.lock().first.clone()
    }

    pub(super) fn record(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        if state.first_at.is_none() {
            state.first_at = Some(Instant::now());
        }
        state.total += bytes.len() as u64;
        let wanted = KEPT_BYTES - state.first.len();
        state.first.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
    }
}

/// A stream that records what it receives. It reads only after the first write: some servers answer before they were
/// asked, and hyper takes bytes that come before the request as a broken protocol. Go's and curl's clients read them as the
/// answer.
#[derive(Debug)]
pub(super) struct RecordedStream<S> {
    inner: S,
    received: Arc<Received>,
    has_written: bool,
    /// The reader that waits for the first write.
    reader: Option<Waker>,
}

impl<S> RecordedStream<S> {
    pub(super) fn new(inner: S) -> (Self, Arc<Received>) {
        let received = Arc::<Received>::default();
        (Self { inner, received: received.clone(), has_written: false, reader: None }, received)
    }
}

impl<S> RecordedStream<S> {
    fn begin_reading(&mut self) {
        self.has_written = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RecordedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.has_written {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = buf.filled().len();
        match ready!(Pin::new(&mut self.inner).poll_read(cx, buf)) {
            // The connection ended without the last message of TLS (close_notify), which many servers leave out. Go's and
            // curl's clients take it as the end of the answer; HTTP itself notices an answer that is cut off before the
            // length that it announced, or before its last chunk.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
            result => result?,
        }
        self.received.record(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RecordedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.begin_reading();
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_reading();
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// A transport of HTTP: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
