//! Units of systemd, as restarts need them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::actions::{Run, Seen, State};
use crate::agent::look::command::output;

const PROPERTIES: &str =
    "--property=LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,InvocationID,Job,Type";
/// Bytes of its output that are read.
const MAX_OUTPUT: u64 = 64 << 10;
/// How long one call of `systemctl` may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The state of a unit.
pub(super) async fn observe(unit: &str) -> Result<Seen, String> {
    let printed = run(&["show", "--no-pager", PROPERTIES, "--", unit]).await?;
    Ok(parse(&String::from_utf8_lossy(&printed), unit))
}

/// Restarts a unit and does not wait for it. A unit that was started too often is refused until that is forgotten.
pub(super) async fn restart(unit: &str) -> Result<(), String> {
    // It fails for a unit that is not loaded, which the restart then loads.
    let _ = run(&["reset-failed", "--no-ask-password", "--", unit]).await;
    let arguments = ["restart", "--no-block", "--no-ask-password", "--", unit];
    match tokio::time::timeout(LIMIT, output("systemctl", &arguments, MAX_OUTPUT)).await {
        Ok(result) => result.map(|_| ()),
        // A busy systemd may do it later: whether it did is seen at the run.
        Err(_) => Ok(()),
    }
}

/// Whether a unit runs, starts or stops.
pub(super) async fn is_active(unit: &str) -> Result<bool, String> {
    let printed = run(&["show", "--no-pager", "--property=ActiveState", "--value", "--", unit]).await?;
    Ok(!matches!(String::from_utf8_lossy(&printed).trim(), "inactive" | "failed"))
}

/// Runs a command as the unit `unit` of its own, outside the limits of the helper, and waits for its end. The command goes on
/// when the helper ends, and is ended by systemd after `limit`.
pub(super) async fn run_apart(unit: &str, command: &[&str], limit: Duration) -> Result<(), String> {
    let (name, limit) = (format!("--unit={unit}"), format!("--property=RuntimeMaxSec={}", limit.as_secs()));
    let options = ["--quiet", "--collect", "--wait", "--setenv=HOME=/root", &limit, &name, "--"];
    let arguments: Vec<&str> = options.into_iter().chain(command.iter().copied()).collect();
    let Err(error) = output("systemd-run", &arguments, MAX_OUTPUT).await else { return Ok(()) };
    let of_unit = format!("_SYSTEMD_UNIT={unit}");
    let journal = ["--no-pager", "--quiet", "--output=cat", "--lines=20", "--since=-5min", &of_unit];
    let said = tokio::time::timeout(LIMIT, output("journalctl", &journal, MAX_OUTPUT)).await;
    let said = said.ok().and_then(Result::ok).unwrap_or_default();
    Err(last_line(&String::from_utf8_lossy(&said)).unwrap_or(error))
}

/// The last line that says something.
fn last_line(text: &str) -> Option<String> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

async fn run(arguments: &[&str]) -> Result<Vec<u8>, String> {
    let result = tokio::time::timeout(LIMIT, output("systemctl", arguments, MAX_OUTPUT)).await;
    result.unwrap_or_else(|_| Err(format!("systemctl did not answer within {} s", LIMIT.as_secs())))
}

fn parse(shown: &str, unit: &str) -> Seen {
    let properties: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let of = |name: &str| properties.get(name).copied().unwrap_or_default();
    let run = Some(of("InvocationID")).filter(|id| !id.is_empty());
    let is_done = of("Type") == "oneshot" && of("Result") == "success" && run.is_some();
    let state = match (of("LoadState"), of("ActiveState")) {
        ("not-found", _) => State::Absent { directory: None },
        ("masked", _) => State::Down { ended: format!("it is masked: systemctl unmask {unit}") },
        (_, "active" | "reloading") => State::Running,
        // The pause before systemd starts it again by itself: the run has ended.
        (_, "activating") if of("SubState") != "auto-restart" => State::Changing,
        (_, "deactivating") => State::Changing,
        (_, "inactive") if is_done => State::Running,
        _ => State::Down { ended: ended(of("Result"), of("ExecMainCode"), of("ExecMainStatus")) },
    };
    let run = run.map(|id| Run { id: id.to_owned(), started_at: String::new() });
    Seen { run, state, has_job: !matches!(of("Job"), "" | "0") }
}

/// How its last run ended. `code` is that of waitid: 1 = it exited, 2 and 3 = a signal.
fn ended(result: &str, code: &str, status: &str) -> String {
    match (code, status) {
        ("1", status) => format!("exit code {status} ({result})"),
        ("2" | "3", signal) => format!("signal {signal} ({result})"),
        _ => format!("result {result}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Seen {
        parse(&text.replace(' ', "\n"), "a.service")
    }

    #[test]
    fn the_last_line_that_a_command_printed_says_why_it_failed() {
        let printed = " Container orders-backend-1  Creating\nno configuration file provided: not found\n\n";
        assert_eq!(last_line(printed).as_deref(), Some("no configuration file provided: not found"));
        assert_eq!(last_line("\n \n"), None);
    }

    #[test]
    fn the_state_of_a_unit_is_read_from_its_properties() {
        let running = seen("LoadState=loaded ActiveState=active SubState=running InvocationID=ab Job=0 Type=simple");
        assert_eq!(running.state, State::Running);
        assert_eq!(running.run, Some(Run { id: "ab".to_owned(), started_at: String::new() }));
        assert!(!running.has_job);
        assert!(seen("LoadState=loaded ActiveState=activating SubState=start InvocationID=ab Job=71").has_job);
        for (text, expected) in [
            ("LoadState=not-found ActiveState=inactive", State::Absent { directory: None }),
            ("LoadState=loaded ActiveState=activating SubState=start", State::Changing),
            ("LoadState=loaded ActiveState=deactivating SubState=stop-sigterm", State::Changing),
            ("LoadState=loaded ActiveState=inactive Type=oneshot Result=success InvocationID=a", State::Running),
        ] {
            assert_eq!(seen(text).state, expected, "{text}");
        }
        for (text, expected) in [
            ("ActiveState=failed Result=exit-code ExecMainCode=1 ExecMainStatus=3", "exit code 3 (exit-code)"),
            ("ActiveState=failed Result=oom-kill ExecMainCode=2 ExecMainStatus=9", "signal 9 (oom-kill)"),
            (
                "ActiveState=activating SubState=auto-restart Result=exit-code ExecMainCode=1 ExecMainStatus=1",
                "exit code 1",
            ),
            ("ActiveState=inactive Type=simple Result=success InvocationID=a", "result success"),
            ("LoadState=masked ActiveState=inactive", "systemctl unmask a.service"),
            ("", "result"),
        ] {
            let State::Down { ended } = seen(text).state else { panic!("{text}: {:?}", seen(text)) };
            assert!(ended.contains(expected), "{text}: {ended}");
        }
    }
}
