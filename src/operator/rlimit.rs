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

/// The number of connections that the heartbeat port keeps at once, so that of `files` enough are left for `probes` at once
/// and for the rest: without a free file the operator cannot renew the Lease. At least half of `files`, at most
/// [`MAX_CONNECTIONS`].
pub(super) fn connections(files: u64, probes: u32) -> usize {
    let left = files.saturating_sub(OTHERS + u64::from(probes)).max(files / 2);
    usize::try_from(left).unwrap_or(usize::MAX).min(MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(connections(files, probes), expected, "{files} files, {probes} probes");
        }
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
