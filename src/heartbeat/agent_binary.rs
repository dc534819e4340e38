//! The binary of `vigie agent`, for hosts: it is the operator's own executable, so agent and operator are of one version
//! and the host needs no other source.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Its path on the public port.
pub(super) const PATH: &str = "/api/agent/linux-x86_64";
/// Downloads at once: it is tens of megabytes, on a port whose heartbeats must not wait.
const DOWNLOADS: usize = 2;
/// How long one may take; then it gives its slot back, also when the client has stopped reading.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// Serves the binary.
pub(super) struct AgentBinary {
    path: PathBuf,
    slots: Arc<Semaphore>,
}

/// A download that does not begin.
#[derive(Debug)]
pub(super) enum NotServed {
    /// As many as may run are running.
    Busy,
    /// There is no file.
    Unreadable(io::Error),
}

impl AgentBinary {
    /// The executable of this process, also when its file was replaced since; `None` on other platforms.
    pub(super) fn of_this_process() -> Option<Self> {
        let is_wanted = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        is_wanted.then(|| Self::at("/proc/self/exe".into()))
    }

    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, slots: Arc::new(Semaphore::new(DOWNLOADS)) }
    }

    /// A body with the whole file, and its length.
    ///
    /// # Errors
    /// The slots are taken, or the file cannot be read.
    pub(super) async fn download(&self) -> Result<(Body, u64), NotServed> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| NotServed::Busy)?;
        let path = self.path.clone();
        let open = move || File::open(path).and_then(|file| file.metadata().map(|about| (file, about.len())));
        let opened = tokio::task::spawn_blocking(open).await.map_err(|error| NotServed::Unreadable(error.into()))?;
        let (file, length) = opened.map_err(NotServed::Unreadable)?;
        let ends = Instant::now() + TIME_LIMIT;
        // A client that has stopped reading has the body polled no more: the slot ends by itself.
        let slot = Slot(tokio::spawn(async move {
            tokio::time::sleep_until(ends).await;
            drop(permit);
        }));
        let from = Progress { file: Arc::new(file), at: 0, length, ends, _slot: slot };
        Ok((Body::from_stream(stream::try_unfold(from, Progress::next)), length))
    }
}

/// The slot of a download; it is free when this is dropped, or its time is over.
struct Slot(JoinHandle<()>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Progress {
    file: Arc<File>,
    at: u64,
    length: u64,
    ends: Instant,
    _slot: Slot,
}

impl Progress {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let left = self.length - self.at;
        if left == 0 {
            return Ok(None);
        }
        if Instant::now() >= self.ends {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the download takes too long"));
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
        let read = tokio::task::spawn_blocking(move || file.read_exact_at(&mut piece, at).map(|()| piece)).await;
        let piece = Bytes::from(read.map_err(io::Error::from)??);
        self.at += piece.len() as u64;
        Ok(Some((piece, self)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("vigie-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    #[tokio::test]
    async fn the_whole_file_arrives() {
        let content: Vec<u8> = (0..3 * PIECE + 17).map(|n| (n % 251) as u8).collect();
        let path = file("whole", &content);
        let (body, length) = AgentBinary::at(path.clone()).download().await.unwrap();
        assert_eq!(length, content.len() as u64);
        assert!(body.collect().await.unwrap().to_bytes() == content);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_third_download_waits_for_the_end_of_one_or_for_its_time_limit() {
        let path = file("slots", &[7; 3 * PIECE]);
        let binary = AgentBinary::at(path.clone());
        let (first, _) = binary.download().await.unwrap();
        let (second, _) = binary.download().await.unwrap();
        assert!(matches!(binary.download().await, Err(NotServed::Busy)));
        drop(first);
        tokio::task::yield_now().await;
        let (third, _) = binary.download().await.unwrap();
        assert!(matches!(binary.download().await, Err(NotServed::Busy)));
        // Neither of the two is read.
        tokio::time::sleep(TIME_LIMIT).await;
        tokio::task::yield_now().await;
        let (fourth, _) = binary.download().await.unwrap();
        assert!(second.collect().await.is_err(), "it is cut off, not complete");
        assert_eq!(fourth.collect().await.unwrap().to_bytes().len(), 3 * PIECE);
        drop(third);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_shrinks_is_an_error_and_not_a_short_download() {
        let path = file("shrinks", &[7; 2 * PIECE]);
        let (body, _) = AgentBinary::at(path.clone()).download().await.unwrap();
        std::fs::write(&path, [7; PIECE]).unwrap();
        assert!(body.collect().await.is_err());
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_missing_file_is_said() {
        let served = AgentBinary::at("/nonexistent/vigie".into()).download().await;
        assert!(matches!(served, Err(NotServed::Unreadable(_))));
    }
}
