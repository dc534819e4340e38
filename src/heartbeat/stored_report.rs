//! A sender's report about itself as it is kept for each connector: small, and read seldom.

use std::net::IpAddr;

use super::agent_report::AgentReport;
use super::compact::CompactId;

/// Stands for a clock skew that is not known: no two clocks differ by this many seconds.
const NO_SKEW: i64 = i64::MIN;

/// An [`AgentReport`] in 80 bytes and its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredReport {
    /// Version, host name and UID of the pod, one after the other. An absent one is empty: no report has an empty text.
    texts: Box<str>,
    /// Where each of them ends. The parser cuts them to a few hundred bytes.
    ends: [u16; 3],
    boot_id: Option<CompactId>,
    pub(super) address: Option<IpAddr>,
    clock_skew_seconds: i64,
    pub(super) is_unnamed: bool,
}

impl Default for StoredReport {
    fn default() -> Self {
        Self::of(&AgentReport::default())
    }
}

impl StoredReport {
    pub(super) fn of(report: &AgentReport) -> Self {
        let AgentReport { version, hostname, boot_id, pod_uid, address, clock_skew_seconds, is_unnamed } = report;
        let (mut texts, mut ends) = (String::new(), [0; 3]);
        for (text, end) in [version, hostname, pod_uid].into_iter().zip(&mut ends) {
            texts.push_str(text.as_deref().unwrap_or_default());
            *end = u16::try_from(texts.len()).unwrap_or(u16::MAX);
        }
        Self {
            texts: texts.into(),
            ends,
            boot_id: boot_id.as_deref().map(Into::into),
            address: *address,
            clock_skew_seconds: clock_skew_seconds.unwrap_or(NO_SKEW),
            is_unnamed: *is_unnamed,
        }
    }

    /// The report as it was.
    pub(super) fn report(&self) -> AgentReport {
        AgentReport {
            version: self.version().map(Into::into),
            hostname: self.hostname().map(Into::into),
            boot_id: self.boot_id.as_ref().map(|id| id.to_string().into()),
            pod_uid: self.pod_uid().map(Into::into),
            address: self.address,
            clock_skew_seconds: self.clock_skew_seconds(),
            is_unnamed: self.is_unnamed,
        }
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.text(0, self.ends[0])
    }

    pub(super) fn hostname(&self) -> Option<&str> {
        self.text(self.ends[0], self.ends[1])
    }

    pub(super) fn pod_uid(&self) -> Option<&str> {
        self.text(self.ends[1], self.ends[2])
    }

    fn text(&self, from: u16, to: u16) -> Option<&str> {
        self.texts.get(usize::from(from)..usize::from(to)).filter(|text| !text.is_empty())
    }

    /// Whether the boot id is this one.
    pub(super) fn has_boot_id(&self, boot_id: &str) -> bool {
        self.boot_id.as_ref().is_some_and(|known| known.is(boot_id))
    }

    pub(super) fn clock_skew_seconds(&self) -> Option<i64> {
        Some(self.clock_skew_seconds).filter(|seconds| *seconds != NO_SKEW)
    }

    pub(super) fn set_clock_skew_seconds(&mut self, seconds: i64) {
        self.clock_skew_seconds = seconds;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_report_comes_back_as_it_was_with_and_without_each_text() {
        let full = AgentReport {
            version: Some("1.4.2".into()),
            hostname: Some("edge-1.example.net".into()),
            boot_id: Some("00000000-0000-4000-9000-000000000001".into()),
            pod_uid: Some("0000-é".into()),
            address: Some(Ipv6Addr::LOCALHOST.into()),
            clock_skew_seconds: Some(-3),
            is_unnamed: false,
        };
        let spoils: [fn(&mut AgentReport); 7] = [
            |report| report.version = None,
            |report| report.hostname = None,
            |report| report.boot_id = Some("boot-7".into()),
            |report| report.pod_uid = None,
            |report| report.address = None,
            |report| report.clock_skew_seconds = None,
            |report| *report = AgentReport { is_unnamed: true, ..AgentReport::default() },
        ];
        assert_eq!(StoredReport::of(&full).report(), full);
        for spoil in spoils {
            let mut report = full.clone();
            spoil(&mut report);
            assert_eq!(StoredReport::of(&report).report(), report);
        }
        assert!(StoredReport::of(&full).has_boot_id("00000000-0000-4000-9000-000000000001"));
        assert!(!StoredReport::default().has_boot_id(""));
        assert!(size_of::<StoredReport>() <= 80);
    }
}
