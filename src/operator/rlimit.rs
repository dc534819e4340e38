//! The limit of open files. Each connection and each running probe takes one file.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::server::MAX_CONNECTIONS;

/// The soft limit that is requested, up to the hard limit. Containers often start with a soft limit of 1,024, which is
/// meant for programs that use `select`.
const WANTED: u64 = 65_536;
/// The files that are reserved for the admin port, the API server, Prometheus, name look-ups and regular files.
const OTHERS: u64 = 512;

/// Raises the soft limit up to the hard limit and returns the number of files that may be open.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // `None` means unlimited.
    let [soft, hard] = [limit.current, limit.maximum].map(|limit| limit.unwrap_or(u64::MAX));
    let wanted = WANTED.min(hard);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, soft, wanted, "cannot raise the limit of open files");
            soft
        }
    }
}

/// The share of the memory that the connections of the heartbeat port may take at most, as a divisor: the rest is for the
/// objects, the probes and the reconciles.
const MEMORY_SHARE: u64 = 3;
/// The memory of one connection in bytes at its worst: a request whose head and body are as long as they may be and do not
/// arrive completely (`docs/performance.md` has the measurements).
const PER_CONNECTION: u64 = 80 * 1024;
/// The fewest connections, however little memory there is.
const MIN_CONNECTIONS: u64 = 256;

/// The number of connections that the heartbeat port keeps at once, at most [`MAX_CONNECTIONS`].
///
/// Of `files`, enough are left for `probes` at once and for the rest: without a free file the operator cannot renew the
/// Lease; at least half are for connections. Of `memory` in bytes, they take a third at most: otherwise a client that opens
/// connections and never completes a request could end the process.
pub(super) fn connections(files: u64, probes: u32, memory: Option<u64>) -> usize {
    let by_files = files.saturating_sub(OTHERS + u64::from(probes)).max(files / 2);
    let by_memory = memory.map_or(u64::MAX, |bytes| (bytes / MEMORY_SHARE / PER_CONNECTION).max(MIN_CONNECTIONS));
    usize::try_from(by_files.min(by_memory)).unwrap_or(usize::MAX).min(MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI_B: u64 = 1024 * 1024;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (files, probes, expected) in [
            (u64::MAX, 256, MAX_CONNECTIONS),
            (WANTED, 10_000, MAX_CONNECTIONS),
            (17_152, 256, MAX_CONNECTIONS),
            (17_151, 256, MAX_CONNECTIONS - 1),
            (4_096, 256, 3_328),
            (1_024, 256, 512),
            (64, 10_000, 32),
        ] {
            assert_eq!(connections(files, probes, None), expected, "{files} files, {probes} probes");
        }
    }

    #[test]
    fn connections_leave_memory_for_everything_else() {
        for (memory, expected) in [
            (1, 256),
            (32 * MI_B, 256),
            (64 * MI_B, 273),
            (512 * MI_B, 2_184),
            (1024 * MI_B, 4_369),
            (4096 * MI_B, MAX_CONNECTIONS),
            (u64::MAX, MAX_CONNECTIONS),
        ] {
            assert_eq!(connections(WANTED, 256, Some(memory)), expected, "{memory} bytes");
        }
        assert_eq!(connections(512, 256, Some(u64::MAX)), 256, "files are as scarce as before");
    }

    #[test]
    fn the_soft_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        let raised = raise();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current.unwrap_or(u64::MAX), raised);
        assert!(raised >= before.current.unwrap_or(u64::MAX).min(WANTED), "{before:?} {after:?}");
        assert_eq!(after.maximum, before.maximum);
    }
}
