//! The records of restarts on disk, and the limits that follow from them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Outcome, Phase, Record};
use crate::agent::file::{Rights, replace};
use crate::api::Target;

/// Most records that are kept.
pub const MOST_RECORDS: usize = 64;
/// How long after its last moment an id is remembered.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Most restarts of one target in ten minutes, and of one target in an hour.
const MOST_IN_TEN_MINUTES: usize = 3;
const MOST_IN_AN_HOUR: usize = 10;
const TEN_MINUTES: SignedDuration = SignedDuration::from_mins(10);
const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The place of the records.
pub trait Disk {
    /// The bytes of the last successful [`Disk::save`]; `None` = there was none.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;

    /// Replaces them. After a success they survive a crash of the host; after a failure either version does.
    ///
    /// # Errors
    /// It cannot be written.
    fn save(&self, bytes: &[u8]) -> io::Result<()>;
}

/// A file that is replaced in one step.
#[derive(Clone, Debug)]
pub struct StateFile(pub PathBuf);

impl Disk for StateFile {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.0) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        replace(&self.0, bytes, Rights::own(0o600))?;
        File::open(self.0.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

/// The file, as it is written.
#[derive(Serialize, Deserialize)]
struct Saved {
    records: Vec<Record>,
}

/// All records, in memory and on disk.
#[derive(Debug)]
pub struct Ledger<D> {
    disk: D,
    records: Vec<Record>,
    /// Why the records on disk are not known: nothing is restarted then.
    fault: Option<String>,
    /// Something in memory is not on disk.
    is_behind: bool,
}

impl<D: Disk> Ledger<D> {
    /// Reads the records. When they cannot be read, every restart is refused with the reason.
    pub fn open(disk: D) -> Self {
        let mut ledger = Self { disk, records: Vec::new(), fault: None, is_behind: false };
        ledger.read();
        ledger
    }

    fn read(&mut self) {
        let parse = |bytes: Option<Vec<u8>>| match bytes {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("it is damaged: {error}")),
            None => Ok(Saved { records: Vec::new() }),
        };
        (self.records, self.fault) = match self.disk.load().map_err(|error| error.to_string()).and_then(parse) {
            Ok(Saved { records }) => (records, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
    }

    /// Why nothing is restarted at all.
    pub fn fault(&self) -> Option<Outcome> {
        let fault = self.fault.as_ref()?;
        Some(Outcome::refused(format!(
            "the record of earlier restarts (actions.json) cannot be read, so that nothing is restarted: {fault}; repair or \
             remove that file"
        )))
    }

    /// The record of this id.
    pub fn find(&self, id: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.id == id)
    }

    /// The restarts that are not over.
    pub fn open_records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| !matches!(record.phase, Phase::Done(_)))
    }

    /// The last record of each target.
    pub fn latest(&self) -> Vec<&Record> {
        let is_last = |&(at, record): &(usize, &Record)| {
            !self.records[at + 1..].iter().any(|later| later.target == record.target)
        };
        self.records.iter().enumerate().filter(is_last).map(|(_, record)| record).collect()
    }

    /// Why a further restart of `target` is refused, by what is recorded.
    pub fn refusal(&self, target: &Target, now: Timestamp) -> Option<Outcome> {
        let acted = |record: &&Record| {
            let is_over_untouched = matches!(&record.phase, Phase::Done(outcome) if !outcome.acted);
            record.target == *target && !is_over_untouched
        };
        // A record of the future is recent: the clock was set back.
        let count = |within: SignedDuration| {
            self.records.iter().filter(acted).filter(|record| now.duration_since(record.recorded_at) < within).count()
        };
        if count(TEN_MINUTES) >= MOST_IN_TEN_MINUTES {
            return Some(Outcome::refused("the helper restarts one target at most 3 times in 10 minutes"));
        }
        if count(AN_HOUR) >= MOST_IN_AN_HOUR {
            return Some(Outcome::refused("the helper restarts one target at most 10 times in an hour"));
        }
        None
    }

    /// Why no record can be added.
    pub fn is_full(&self, now: Timestamp) -> Option<Outcome> {
        let kept = self.records.iter().filter(|record| !is_forgettable(record, now)).count();
        let message = "the helper remembers 64 restarts for 24 h each, and has no room for another one";
        (kept >= MOST_RECORDS).then(|| Outcome::refused(message))
    }

    /// Adds a record and writes it to disk. A record that could not be written is not kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, record: Record, now: Timestamp) -> io::Result<()> {
        self.records.retain(|record| !is_forgettable(record, now));
        self.records.push(record);
        let written = self.write();
        if written.is_err() {
            self.records.pop();
        }
        written
    }

    /// Moves a record to `phase`, in memory in any case: what happened is not undone by a full disk.
    ///
    /// # Errors
    /// It is in memory alone.
    pub fn set(&mut self, id: &str, phase: Phase) -> io::Result<()> {
        let Some(record) = self.records.iter_mut().find(|record| record.id == id) else { return Ok(()) };
        record.phase = phase;
        self.write()
    }

    /// Tries again to read what could not be read, and to write what is in memory alone.
    pub fn catch_up(&mut self) {
        if self.fault.is_some() {
            self.read();
            if self.fault.is_none() {
                tracing::info!(records = self.records.len(), "the record of earlier restarts can be read again");
            }
        } else if self.is_behind {
            let _ = self.write();
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(fault) = &self.fault {
            return Err(io::Error::other(fault.clone()));
        }
        let saved = Saved { records: self.records.clone() };
        let bytes = serde_json::to_vec(&saved).map_err(io::Error::other)?;
        let written = self.disk.save(&bytes);
        self.is_behind = written.is_err();
        written
    }
}

/// Whether no answer of the operator can bring this id again. The moment of an untouched one counts for an hour at most.
fn is_forgettable(record: &Record, now: Timestamp) -> bool {
    let Phase::Done(outcome) = &record.phase else { return false };
    let latest = record.recorded_at.saturating_add(AN_HOUR).unwrap_or(Timestamp::MAX);
    let until = if outcome.acted {
        record.not_after.saturating_add(KEPT_FOR)
    } else {
        record.not_after.min(latest).saturating_add(AN_HOUR)
    };
    until.is_ok_and(|until| until < now)
}
