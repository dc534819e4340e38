//! Units of systemd: their state by `systemctl show`, and the cause in their journal.

use std::collections::BTreeMap;

use super::environment;
use crate::agent::facts::{Exit, UnitFacts};
use crate::api::one_line;

/// The properties that are asked for. MainPID, the process whose listeners are told, comes on top of the facts.
const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts,\
    InvocationID,StateChangeTimestampMonotonic,Job,Restart,UnitFileState,MainPID,Environment";
const MAX_OUTPUT: u64 = 256 << 10;
/// Bytes of a journal that are read, and its lines.
const MAX_JOURNAL: u64 = 1 << 20;
const LINES: &str = "--lines=200";

/// One unit as `systemctl show` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its facts, without listeners and words.
    pub facts: UnitFacts,
    /// The process id of its main process; 0 = none.
    pub main_pid: u32,
}

/// The units `names`, in their order.
pub(super) async fn show(names: &[&str], monotonic_micros: u64) -> Result<Vec<Shown>, String> {
    let arguments: Vec<&str> = ["show", "--no-pager", PROPERTIES, "--"].iter().chain(names).copied().collect();
    let printed = super::command::output("systemctl", &arguments, MAX_OUTPUT).await?;
    let shown = parse(&String::from_utf8_lossy(&printed), monotonic_micros);
    if shown.len() != names.len() {
        return Err(format!("systemctl shows {} units instead of {}", shown.len(), names.len()));
    }
    Ok(shown)
}

/// The tail of the journal of a unit.
pub(super) async fn journal(name: &str) -> Result<String, String> {
    let unit = format!("--unit={name}");
    let arguments = ["--no-pager", "--quiet", "--output=cat", LINES, &unit];
    let printed = super::command::output("journalctl", &arguments, MAX_JOURNAL).await?;
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

/// Reads the output of `systemctl show`: a block of lines `Name=value` for each unit, with an empty line between them.
pub fn parse(text: &str, monotonic_micros: u64) -> Vec<Shown> {
    let mut blocks: Vec<BTreeMap<&str, &str>> = Vec::new();
    let mut is_new = true;
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else {
            is_new |= line.is_empty();
            continue;
        };
        if std::mem::take(&mut is_new) {
            blocks.push(BTreeMap::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.insert(name, value);
        }
    }
    blocks.iter().map(|block| unit(block, monotonic_micros)).collect()
}

fn unit(block: &BTreeMap<&str, &str>, monotonic_micros: u64) -> Shown {
    let text = |name: &str| one_line(block.get(name).copied().unwrap_or_default(), 64);
    let number = |name: &str| block.get(name).and_then(|value| value.parse::<u64>().ok());
    let status = number("ExecMainStatus").and_then(|status| u32::try_from(status).ok());
    let exit = match (number("ExecMainCode"), status) {
        // CLD_EXITED, CLD_KILLED and CLD_DUMPED.
        (Some(1), Some(code)) => Some(Exit::Code(code)),
        (Some(2 | 3), Some(signal)) => Some(Exit::Signal(signal)),
        _ => None,
    };
    let changed = number("StateChangeTimestampMonotonic").filter(|micros| *micros != 0);
    let facts = UnitFacts {
        load: text("LoadState"),
        active: text("ActiveState"),
        sub: text("SubState"),
        result: text("Result"),
        exit,
        restarts: number("NRestarts").unwrap_or_default(),
        invocation: text("InvocationID"),
        since_seconds: changed.map(|micros| monotonic_micros.saturating_sub(micros) / 1_000_000),
        has_job: block.get("Job").is_some_and(|job| !job.is_empty() && *job != "0"),
        policy: text("Restart"),
        file_state: text("UnitFileState"),
        listens: Vec::new(),
        environment: environment::of(environment::split(block.get("Environment").copied().unwrap_or_default())),
        words: None,
    };
    let main_pid = number("MainPID").and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    Shown { facts, main_pid }
}

/// Whether the unit runs so that its journal has nothing to tell.
pub(super) fn runs_well(facts: &UnitFacts) -> bool {
    facts.active == "active" && facts.restarts == 0
}
