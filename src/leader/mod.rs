//! The election. Only a leader writes, and only while it can prove that no other replica may (`docs/design/liveness.md`,
//! "Leader").
//!
//! A replica wins by replacing a Lease with the resourceVersion that it read, so of two that try only one succeeds. A
//! record is expired when *this* process' monotonic clock says that it has not changed for a term, so no two clocks are
//! ever compared. `terms` has the durations, [`decide()`] and `election` decide, [`Elector`] calls the API server, [`PodLabel`] labels the leader's
//! pod for the Service.

mod decide;
mod election;
mod elector;
mod failure_log;
mod pod_label;
#[cfg(test)]
mod pod_label_tests;
mod restore;
#[cfg(test)]
mod simulation;
mod terms;

pub use decide::{LeaseRecord, LeaseStep, ObservedLease, decide};
pub use elector::{Elector, ElectorConfig};
pub use pod_label::{LEADER_LABEL, PodLabel};
pub use terms::{RENEW_DEADLINE, RETRY, TERM};

/// The identity of this process in the Lease: `<pod or host>_<16 hex digits>`.
///
/// The random part is new in every process, so a restarted container does not mistake its predecessor's record for its
/// own.
pub fn identity(pod_name: Option<&str>) -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the kernel's random numbers never fail once the machine is up");
    let host = pod_name.map(str::to_owned).or_else(host).unwrap_or_else(|| "vigie".to_owned());
    format!("{host}_{:016x}", u64::from_ne_bytes(random))
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
}
