//! The election. Only a leader writes, and only while it can prove that no other replica may (`docs/design/liveness.md`,
//! "Leader").
//!
//! A replica wins by replacing a Lease with the resourceVersion that it read, so of two that try only one succeeds. A
//! record is expired when *this* process' monotonic clock says that it has not changed for a term, so no two clocks are
//! ever compared. [`decide()`] and `election` decide, [`Elector`] calls the API server, [`PodLabel`] labels the leader's
//! pod for the Service.

mod decide;
mod election;
mod elector;
mod pod_label;
#[cfg(test)]
mod simulation;

use std::time::Duration;

pub use decide::{LeaseRecord, LeaseStep, ObservedLease, decide};
pub use elector::{Elector, ElectorConfig};
pub use pod_label::{LEADER_LABEL, PodLabel};

/// How long a record stays unchanged before another replica may take the Lease.
///
/// From the kill of a leader to the first heartbeat that the next one accepts, 20 s are allowed: a read interval, the
/// term, and the time for two calls and a relabelled pod fit.
pub const TERM: Duration = Duration::from_secs(12);

/// How long after the last renewal a leader writes: a third of the term is left for clocks that run at different rates and
/// for a write in progress.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(8);

/// The interval at which a leader renews and a follower reads the Lease: four renewals in each deadline.
pub const RETRY: Duration = Duration::from_secs(2);

/// The identity of this process in the Lease: `<pod or host>_<16 hex digits>`.
///
/// The random part is new in every process, so a restarted container does not mistake its predecessor's record for its
/// own.
pub fn identity(pod_name: Option<&str>) -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the kernel's random numbers never fail once the machine is up");
    let place = pod_name.map(str::to_owned).or_else(host).unwrap_or_else(|| "vigie".to_owned());
    format!("{place}_{:016x}", u64::from_ne_bytes(random))
}

fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_pod_is_somebody_else() {
        let (first, second) = (identity(Some("vigie-0")), identity(Some("vigie-0")));
        assert_ne!(first, second);
        assert!(first.starts_with("vigie-0_") && first.len() == "vigie-0_".len() + 16, "{first}");
        assert!(!identity(None).starts_with('_'));
    }

    #[test]
    fn the_time_to_write_ends_before_the_term() {
        assert!(RENEW_DEADLINE < TERM && RETRY * 3 < RENEW_DEADLINE);
    }
}
