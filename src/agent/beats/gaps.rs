//! The times in which the operator did not hear the agent: kept on disk until a heartbeat that tells them was received.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::assess::Attempt;
use crate::agent::file::replace_unsynced;
use crate::api::{AgentGap, GapKind, MAX_GAPS};

/// Most ids of restarts whose outcome was received.
const MOST_TOLD: usize = 64;
/// An agent that was away for less was restarted.
const AWAY_AFTER: u64 = 90;
/// A silence is told when it is longer than the interval by this many seconds.
const SLACK: u64 = 15;

/// A point in time that survives the process: the wall clock, and the time since the host started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Identifies the start of the host.
    pub boot_id: String,
    /// Seconds since that start, time asleep included.
    pub uptime: u64,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Stamp {
    /// Seconds since `earlier`. Between two starts of the host only the wall clock tells.
    fn since(&self, earlier: &Self) -> u64 {
        match self.boot_id == earlier.boot_id {
            true => self.uptime.saturating_sub(earlier.uptime),
            false => u64::try_from(self.wall.as_second() - earlier.wall.as_second()).unwrap_or(0),
        }
    }
}

/// A gap that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    kind: GapKind,
    ended: Stamp,
    lasted: u64,
    #[serde(default)]
    why: Trouble,
}

/// The attempts that failed since the last heartbeat that was received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    attempts: u64,
    error_class: Option<String>,
    phase: Option<String>,
    #[serde(default)]
    failing: Vec<String>,
}

/// What the agent remembers from one process to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// When it was written last.
    written: Stamp,
    /// When a heartbeat was received last.
    #[serde(default)]
    heard: Option<Stamp>,
    #[serde(default)]
    trouble: Trouble,
    #[serde(default)]
    past: Vec<Past>,
    /// The ids of restarts whose outcome the operator has.
    #[serde(default)]
    told: Vec<String>,
}

impl Journal {
    /// The journal of a new process, from what the last one has left. `interval` is in seconds.
    pub fn resume(previous: Option<Self>, now: &Stamp, interval: u64) -> Self {
        let Some(mut journal) = previous else {
            return Self { written: now.clone(), ..Self::default() };
        };
        let away = now.since(&journal.written);
        let is_same_boot = now.boot_id == journal.written.boot_id;
        if !is_same_boot || away >= AWAY_AFTER {
            // It could not reach the operator before it ended, either.
            if let Some(open) = journal.open(&journal.written.clone(), interval) {
                journal.push(open);
            }
            let kind = if is_same_boot { GapKind::NotRunning } else { GapKind::HostDown };
            journal.push(Past { kind, ended: now.clone(), lasted: away, why: Trouble::default() });
            journal.heard = None;
            journal.trouble = Trouble::default();
        }
        journal.written = now.clone();
        journal
    }

    fn push(&mut self, gap: Past) {
        self.past.push(gap);
        let surplus = self.past.len().saturating_sub(MAX_GAPS);
        self.past.drain(..surplus);
    }

    /// A heartbeat was not received. True when that is the first since the last that was.
    pub fn failed(&mut self, attempt: &Attempt, failing: Vec<String>) -> bool {
        self.trouble.attempts = self.trouble.attempts.saturating_add(1);
        self.trouble.error_class = Some(attempt.class.clone());
        self.trouble.phase = Some(attempt.phase.clone());
        self.trouble.failing = failing;
        self.trouble.attempts == 1
    }

    /// The gap that lasts until now.
    fn open(&self, now: &Stamp, interval: u64) -> Option<Past> {
        let lasted = now.since(self.heard.as_ref()?);
        let is_gap = self.trouble.attempts > 0 && lasted > interval.saturating_add(SLACK);
        is_gap.then(|| Past { kind: GapKind::Unreachable, ended: now.clone(), lasted, why: self.trouble.clone() })
    }

    /// The gaps for the next heartbeat, the one that it ends included.
    pub fn gaps(&self, now: &Stamp, interval: u64) -> Vec<AgentGap> {
        let all = self.past.iter().cloned().chain(self.open(now, interval));
        let told = all.map(|Past { kind, ended, lasted, why }| AgentGap {
            kind,
            ended_seconds_ago: now.since(&ended),
            lasted_seconds: lasted,
            error_class: why.error_class,
            phase: why.phase,
            attempts: (why.attempts > 0).then_some(why.attempts),
            failing: why.failing,
        });
        let told: Vec<AgentGap> = told.collect();
        told[told.len().saturating_sub(MAX_GAPS)..].to_vec()
    }

    /// A heartbeat with all gaps and with the outcomes of these restarts was received. True when the file must be written.
    pub fn received(&mut self, now: &Stamp, told: &[String]) -> bool {
        let changes = !self.past.is_empty() || self.trouble.attempts > 0 || !told.is_empty() || self.heard.is_none();
        self.past.clear();
        self.trouble = Trouble::default();
        self.heard = Some(now.clone());
        for id in told.iter().filter(|id| !self.has_told(id)).cloned().collect::<Vec<_>>() {
            self.told.push(id);
        }
        self.told.drain(..self.told.len().saturating_sub(MOST_TOLD));
        changes
    }

    /// Whether the operator has the outcome of this restart.
    pub fn has_told(&self, id: &str) -> bool {
        self.told.iter().any(|told| told == id)
    }

    /// Reads the file. One that is damaged is as good as none: it holds nothing that a restart depends on.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Writes the file, in one step and without waiting for the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, path: &Path, now: &Stamp) -> std::io::Result<()> {
        self.written = now.clone();
        replace_unsynced(path, &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(boot: &str, uptime: u64) -> Stamp {
        let wall = Timestamp::from_second(1_800_000_000 + i64::try_from(uptime).unwrap()).unwrap();
        Stamp { boot_id: boot.to_owned(), uptime, wall }
    }

    fn refused() -> Attempt {
        Attempt { class: "ConnectTimeout".to_owned(), phase: "Connect".to_owned() }
    }

    #[test]
    fn an_outage_is_told_by_the_heartbeat_that_ends_it_and_no_more_once_it_was_received() {
        let mut journal = Journal::resume(None, &stamp("a", 0), 30);
        journal.received(&stamp("a", 10), &[]);
        assert!(journal.gaps(&stamp("a", 40), 30).is_empty());
        assert!(journal.failed(&refused(), vec!["Process".to_owned()]));
        assert!(!journal.failed(&refused(), vec!["Process".to_owned()]));
        assert!(journal.gaps(&stamp("a", 50), 30).is_empty(), "one attempt of two is no gap");
        let [gap] = &journal.gaps(&stamp("a", 422), 30)[..] else { panic!("one gap") };
        let expected = AgentGap {
            kind: GapKind::Unreachable,
            ended_seconds_ago: 0,
            lasted_seconds: 412,
            error_class: Some("ConnectTimeout".to_owned()),
            phase: Some("Connect".to_owned()),
            attempts: Some(2),
            failing: vec!["Process".to_owned()],
        };
        assert_eq!(*gap, expected);
        assert!(journal.received(&stamp("a", 422), &[]));
        assert!(journal.gaps(&stamp("a", 440), 30).is_empty());
        assert!(!journal.received(&stamp("a", 450), &[]), "nothing new is to be written");
    }

    #[test]
    fn a_process_that_was_away_says_whether_its_host_was_up() {
        let mut left = Journal::resume(None, &stamp("a", 0), 30);
        left.received(&stamp("a", 100), &[]);
        left.written = stamp("a", 100);
        let told = |now: &Stamp| Journal::resume(Some(left.clone()), now, 30).gaps(now, 30);
        assert!(told(&stamp("a", 150)).is_empty(), "it was restarted");
        let [gap] = &told(&stamp("a", 7300))[..] else { panic!("one gap") };
        assert_eq!((gap.kind, gap.lasted_seconds, gap.ended_seconds_ago), (GapKind::NotRunning, 7200, 0));
        let rebooted = Stamp { uptime: 5, ..stamp("b", 700) };
        let [gap] = &told(&rebooted)[..] else { panic!("one gap") };
        assert_eq!((gap.kind, gap.lasted_seconds), (GapKind::HostDown, 600));
        // The clock of the host stood in the past after its start.
        let past = Stamp { wall: Timestamp::UNIX_EPOCH, ..rebooted };
        assert_eq!(told(&past)[0].lasted_seconds, 0);
    }

    #[test]
    fn a_host_that_went_down_during_an_outage_tells_both() {
        let mut journal = Journal::resume(None, &stamp("a", 0), 30);
        journal.received(&stamp("a", 10), &[]);
        journal.failed(&refused(), Vec::new());
        journal.written = stamp("a", 300);
        let mut journal = Journal::resume(Some(journal), &Stamp { uptime: 3, ..stamp("b", 900) }, 30);
        let now = Stamp { uptime: 13, ..stamp("b", 910) };
        let told = journal.gaps(&now, 30);
        let told: Vec<_> = told.iter().map(|gap| (gap.kind, gap.lasted_seconds, gap.ended_seconds_ago)).collect();
        assert_eq!(told, [(GapKind::Unreachable, 290, 610), (GapKind::HostDown, 600, 10)]);
        for _ in 0..20 {
            journal.push(Past { kind: GapKind::NotRunning, ended: now.clone(), lasted: 1, why: Trouble::default() });
        }
        assert_eq!(journal.gaps(&now, 30).len(), MAX_GAPS);
    }

    #[test]
    fn the_clock_may_be_set_and_the_file_may_be_damaged() {
        let mut journal = Journal::resume(None, &stamp("a", 0), 30);
        journal.received(&stamp("a", 10), &[]);
        journal.failed(&refused(), Vec::new());
        let set = Stamp { wall: Timestamp::UNIX_EPOCH, ..stamp("a", 110) };
        assert_eq!(journal.gaps(&set, 30)[0].lasted_seconds, 100);
        let path = std::env::temp_dir().join(format!("vigie-journal-{}.json", std::process::id()));
        journal.received(&set, &["r/1".to_owned()]);
        journal.write(&path, &set).unwrap();
        let read = Journal::read(&path).unwrap();
        assert!(read.has_told("r/1") && read == journal);
        std::fs::write(&path, b"{\"written\":").unwrap();
        assert_eq!(Journal::read(&path), None);
        std::fs::remove_file(path).unwrap();
    }
}
