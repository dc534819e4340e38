//! A stream that notes what came over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many of the first bytes are remembered: enough to tell TLS, HTTP/2 and text apart, and to quote a banner.
const REMEMBERED: usize = 64;

/// What came.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    received: u64,
    first_at: Option<Instant>,
    first: Vec<u8>,
}

impl Watch {
    /// How many bytes came.
    pub(super) fn received(&self) -> u64 {
        self.0.lock().received
    }

    /// When the first one came.
    pub(super) fn first_at(&self) -> Option<Instant> {
        self.0.lock().first_at
    }

    /// The first ones, at most [`REMEMBERED`].
    pub(super) fn first(&self) -> Vec<u8> {
        self.0.lock().first.clone()
    }

    pub(super) fn note(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut noted = self.0.lock();
        if noted.first_at.is_none() {
            noted.first_at = Some(Instant::now());
        }
        noted.received += bytes.len() as u64;
        let wanted = REMEMBERED - noted.first.len();
        noted.first.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
    }
}

/// A stream, and what came over it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S) -> (Self, Arc<Watch>) {
        let watch = Arc::<Watch>::default();
        (Self { inner, watch: watch.clone() }, watch)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.watch.note(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// What HTTP is spoken over: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
