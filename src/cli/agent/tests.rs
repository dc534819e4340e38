use std::time::Duration;

use clap::Parser;
use jiff::Timestamp;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::agent::assess::{Attempt, CheckReport, Report};
use crate::agent::beats::link::Failure;
use crate::agent::beats::schedule::Setback;
use crate::agent::beats::status::Status;
use crate::api::{CheckOutcome, CheckType, Phase};
use crate::cli::args::{Cli, Command};

fn parsed(line: &str) -> Result<AgentArgs, clap::Error> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| match cli.command {
        Command::Agent(args) => *args,
        other => panic!("{other:?} is another command"),
    })
}

#[test]
fn a_pause_has_an_end_and_a_reason() {
    let args = parsed("vigie agent pause --for 2h --reason disk").unwrap();
    let Some(AgentCommand::Pause(pause)) = args.command else { panic!("it is a pause") };
    assert_eq!(pause.duration, Some(jiff::SignedDuration::from_hours(2)));
    assert!(parsed("vigie agent pause --end").is_ok());
    for line in [
        "vigie agent pause",
        "vigie agent pause --for 2h",
        "vigie agent pause --for 0s --reason x",
        "vigie agent pause --for 169h --reason x",
        "vigie agent pause --for 2h --reason x --end",
        "vigie agent logs sshd",
        "vigie agent logs a.service -n 0",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
    assert!(parsed("vigie agent --config /x").unwrap().command.is_none());
}

#[test]
fn a_pause_is_written_and_ended() {
    let folder = std::env::temp_dir().join(format!("vigie-pause-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let args = |end: bool| PauseArgs {
        duration: Some(jiff::SignedDuration::from_hours(1)).filter(|_| !end),
        reason: Some("disk".to_owned()),
        by: Some("ops".to_owned()),
        end,
        helper_state_dir: folder.clone(),
    };
    pause_restarts(args(false)).unwrap();
    let paused = pause::current(&pause::file(&folder), Timestamp::now()).unwrap();
    assert_eq!((paused.by.as_deref(), paused.reason.as_deref()), (Some("ops"), Some("disk")));
    pause_restarts(args(true)).unwrap();
    assert_eq!(pause::current(&pause::file(&folder), Timestamp::now()), None);
    pause_restarts(args(true)).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_is_replaced_keeps_its_rights() {
    let path = std::env::temp_dir().join(format!("vigie-agent-token-{}", std::process::id()));
    let mode = || std::fs::metadata(&path).unwrap().mode() & 0o7777;
    replace(&path, b"a").unwrap();
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
    replace(&path, b"b").unwrap();
    assert_eq!((mode(), std::fs::read(&path).unwrap()), (0o440, b"b".to_vec()));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_check_says_what_is_wrong_what_to_do_and_how_far_a_heartbeat_came() {
    let check = CheckReport {
        type_: CheckType::Process,
        outcome: CheckOutcome::Fail,
        message: "a.service failed".to_owned(),
        advice: Some("start it"),
    };
    let report = Report { checks: vec![check], ..Report::default() };
    let failure = Failure {
        attempt: Attempt { class: "Refused".into(), phase: "Connect".into() },
        message: "192.0.2.1:443: connection refused".into(),
        setback: Setback::Other,
    };
    let phases = vec![(Phase::Resolve, Duration::from_millis(3))];
    let text = check::text(&report, &check::Tried { result: Err(failure), phases });
    let expected = "Process  Fail     a.service failed\n                  → start it\nheartbeat  Resolve    3 ms\n\
        heartbeat  failed: Refused in phase Connect: 192.0.2.1:443: connection refused\n";
    assert_eq!(text, expected);
}

#[test]
fn a_status_says_whether_the_agent_runs_and_is_heard() {
    let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    let status = |written: &str, failure: Option<&str>| -> Status {
        serde_json::from_value(serde_json::json!({
            "written_at": written, "version": "1", "url": "https://vigie.example.com", "connector": "gateways/edge-1",
            "last_beat": {"at": "2026-01-31T11:59:50Z", "state": "Online", "failure": failure}, "interval_seconds": 30,
            "checks": [{"type": "Process", "status": "Pass", "message": "it runs"}], "backends": [], "config_generation": 7, "gaps": [],
            "restarts": [{"target": "a.service", "id": "r/1", "result": "Failed", "message": "too late"}], "clock_ahead_seconds": -90,
            "paused": {"by": "ops", "reason": "disk", "seconds": 60},
        }))
        .unwrap()
    };
    let (text, is_well) = status::describe(&status("2026-01-31T11:59:58Z", None), now);
    assert!(is_well);
    for line in [
        "heartbeat   received 10 s ago, the connector is Online\n",
        "clock       90 s ahead of the operator's\n",
        "parameters  by the file, then spec.checks[] (generation 7), then the defaults\n",
        "check       Process  Pass  it runs\n",
        "not told    restart of a.service (r/1)  Failed  too late\n",
        "paused      by ops: disk, for 60 s more; end it: vigie agent pause --end\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    let (text, is_well) = status::describe(&status("2026-01-31T11:59:58Z", Some("401")), now);
    assert!(!is_well && text.contains("since then: 401"));
    let (text, is_well) = status::describe(&status("2026-01-31T11:00:00Z", None), now);
    assert!(!is_well && text.contains("does not run"));
}
