//! How many files the process may have open. Every connection is one, and so is every probe under way.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as are asked for, where the hard limit lets us: containers often begin with a soft one of 1,024, which is for
/// programs that wait by `select`.
const WANTED: u64 = 65_536;
/// Connections of the public port where files abound.
const CONNECTIONS: usize = 16_384;
/// What the admin port, the API server, Prometheus, look-ups and files take at most.
const OTHERS: u64 = 512;

/// Raises the soft limit as far as the hard one lets us, and gives how many files may be open.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // None is without a limit.
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

/// How many connections the public port keeps at once, so that `files` are enough for `probes` at once and everything
/// else, too: without one left nobody renews the Lease. Half of them at least.
pub(super) fn connections(files: u64, probes: u32) -> usize {
    let left = files.saturating_sub(OTHERS + u64::from(probes)).max(files / 2);
    usize::try_from(left).unwrap_or(usize::MAX).min(CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (files, probes, expected) in [
            (u64::MAX, 256, CONNECTIONS),
            (WANTED, 10_000, CONNECTIONS),
            (17_152, 256, CONNECTIONS),
            (17_151, 256, CONNECTIONS - 1),
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
