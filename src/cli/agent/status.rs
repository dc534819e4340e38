//! `vigie agent status`: what the agent has written about itself.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;

use crate::agent::beats::body::RestartReport;
use crate::agent::beats::status::Status;
use crate::agent::layout::AGENT_UNIT;
use crate::cli::{Unwell, output};

/// A file that is older than this was left by an agent that does not run: it is written at each look.
const STALE_AFTER: i64 = 60;

/// Prints it.
///
/// # Errors
/// [`Unwell`] when the agent does not run or the operator does not hear it.
pub(super) fn print(folder: &Path) -> anyhow::Result<()> {
    let hint = || format!("the status in {}: is the agent running? systemctl status {AGENT_UNIT}", folder.display());
    let status = Status::read(folder).with_context(hint)?;
    let (text, is_well) = describe(&status, Timestamp::now());
    output::print(&text)?;
    if is_well { Ok(()) } else { Err(Unwell.into()) }
}

/// A line for each check, backend, gap and restart.
fn describe_lists(text: &mut String, status: &Status) {
    for check in &status.checks {
        let _ = writeln!(text, "check       {}  {}  {}", check.type_, check.status, check.message);
    }
    for backend in &status.backends {
        let said = backend.message.as_deref().unwrap_or_default();
        let _ = writeln!(text, "backend     {}  {}  {said}", backend.name, backend.state);
    }
    for gap in &status.gaps {
        let _ = writeln!(text, "not told    {} for {} s", gap.kind, gap.lasted_seconds);
    }
    for RestartReport { target, id, result, message } in &status.restarts {
        let _ = writeln!(text, "not told    restart of {target} ({id})  {result:?}  {message}");
    }
}

/// The text, and whether all is well with the agent itself.
pub(super) fn describe(status: &Status, now: Timestamp) -> (String, bool) {
    let ago = |at: Timestamp| now.duration_since(at).as_secs().max(0);
    let mut text = format!("connector   {} at {}, by agent {}\n", status.connector, status.url, status.version);
    let is_stale = ago(status.written_at) > STALE_AFTER;
    if is_stale {
        let seconds = ago(status.written_at);
        let _ =
            writeln!(text, "agent       does not run: it wrote this {seconds} s ago; systemctl status {AGENT_UNIT}");
    }
    let last = &status.last_beat;
    let _ = match (last.at, &last.state) {
        (Some(at), Some(state)) => writeln!(text, "heartbeat   received {} s ago, the connector is {state}", ago(at)),
        _ => writeln!(text, "heartbeat   none was received yet"),
    };
    if let Some(failure) = &last.failure {
        let _ = writeln!(text, "            since then: {failure}");
    }
    let _ = writeln!(text, "interval    {} s", status.interval_seconds);
    if let Some(fault) = &status.helper_fault {
        let _ = writeln!(text, "helper      {fault}");
    }
    if let Some(ahead) = status.clock_ahead_seconds.filter(|ahead| ahead.abs() > 30) {
        let way = if ahead < 0 { "ahead of" } else { "behind" };
        let _ = writeln!(text, "clock       {} s {way} the operator's", ahead.abs());
    }
    let of = match status.config_generation {
        0 => "the file and the defaults".to_owned(),
        generation => format!("the file, then spec.checks[] (generation {generation}), then the defaults"),
    };
    let _ = writeln!(text, "parameters  by {of}");
    describe_lists(&mut text, status);
    if let Some(paused) = &status.paused {
        let (by, reason) = (paused.by.as_deref().unwrap_or("?"), paused.reason.as_deref().unwrap_or("?"));
        let left = paused.seconds.map_or_else(String::new, |seconds| format!(", for {seconds} s more"));
        let _ = writeln!(text, "paused      by {by}: {reason}{left}; end it: vigie agent pause --end");
    }
    (text, !is_stale && last.at.is_some() && last.failure.is_none() && status.helper_fault.is_none())
}
