use super::ledger::{Disk, Ledger, MOST_RECORDS, StateFile};
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn record(id: &str, target: &str, recorded: i64) -> Record {
    Record {
        id: id.to_owned(),
        target: target.parse().unwrap(),
        not_after: at(recorded + 600),
        recorded_at: at(recorded),
        before: Some(run("a")),
        was_running: true,
        phase: Phase::Intent,
        is_ours: false,
    }
}

fn run(id: &str) -> Run {
    Run { id: id.to_owned(), started_at: String::new() }
}

fn seen(id: &str, state: State) -> Seen {
    Seen { run: Some(run(id)), state, has_job: false }
}

fn down() -> State {
    State::Down { ended: "exit code 137".to_owned() }
}

fn message(step: Step) -> String {
    match step {
        Step::Record(Phase::Done(outcome)) => outcome.message,
        other => panic!("{other:?} is no outcome"),
    }
}

#[test]
fn an_unchanged_run_is_restarted_only_while_the_operator_asks() {
    let unit = record("1", "a.service", 0);
    let idle = Progress::default();
    let asked = Progress { asked: Asked::At(at(10)), ..Progress::default() };
    let running = seen("a", State::Running);
    assert_eq!(next(&unit, &running, &asked, at(10)), Step::Restart);
    assert_eq!(next(&unit, &running, &idle, at(10)), Step::Rest);
    // Without the operator's clock an hour of slack passes before it is called late.
    assert_eq!(next(&unit, &running, &idle, at(4199)), Step::Rest);
    assert!(message(next(&unit, &running, &idle, at(4201))).starts_with("too late"));
    let late = Progress { asked: Asked::At(at(601)), ..Progress::default() };
    assert!(message(next(&unit, &running, &late, at(-3000))).starts_with("too late"));
    let superseded = Progress { asked: Asked::Superseded, ..Progress::default() };
    assert!(message(next(&unit, &running, &superseded, at(10))).contains("another restart of the same target"));
    let job = Seen { has_job: true, ..running };
    assert_eq!(next(&unit, &job, &asked, at(10)), Step::Wait, "a job of systemd is waited for");
}

#[test]
fn a_run_that_systemd_has_replaced_is_not_replaced_again() {
    let unit = record("1", "a.service", 0);
    let asked = Progress { asked: Asked::At(at(10)), ..Progress::default() };
    let step = next(&unit, &seen("b", State::Running), &asked, at(10));
    assert_eq!(step, Step::Record(Phase::Started { run: run("b"), by_us: false }));
    let gone = Seen { run: None, state: down(), has_job: false };
    assert!(message(next(&unit, &gone, &asked, at(10))).contains("not repeated"));
}

#[test]
fn a_container_is_stopped_and_started_in_two_recorded_steps() {
    let mut container = record("1", "container:a", 0);
    let asked = Progress { asked: Asked::At(at(10)), ..Progress::default() };
    let running = seen("a", State::Running);
    assert_eq!(next(&container, &running, &asked, at(10)), Step::Record(Phase::Stopping));
    container.phase = Phase::Stopping;
    assert_eq!(next(&container, &running, &asked, at(10)), Step::Stop);
    // From here on it is started, however late it is and without the operator.
    let idle = Progress::default();
    assert_eq!(next(&container, &seen("a", down()), &idle, at(1_000_000)), Step::Start);
    let unanswered = Progress { acted_for: Some(ACT_LIMIT), act_error: Some("timed out".into()), ..asked.clone() };
    assert_eq!(next(&container, &running, &unanswered, at(10)), Step::Wait, "the stop may be under way");
    let failed =
        Progress { acted_for: Some(Duration::ZERO), has_started: true, act_error: Some("port".into()), ..asked };
    assert_eq!(message(next(&container, &seen("a", down()), &failed, at(10))), "it could not be started: port");
    // A container that was down when it was asked for is only started.
    container.phase = Phase::Intent;
    container.was_running = false;
    let asked = Progress { asked: Asked::At(at(10)), ..Progress::default() };
    assert_eq!(next(&container, &seen("a", down()), &asked, at(10)), Step::Start);
}

#[test]
fn a_stop_that_an_earlier_helper_may_have_sent_is_waited_for_however_late_it_is() {
    let mut container = Record { phase: Phase::Stopping, ..record("1", "container:a", 0) };
    let running = seen("a", State::Running);
    let late = |watched| Progress {
        asked: Asked::At(at(601)),
        watched_for: Duration::from_secs(watched),
        ..Progress::default()
    };
    assert_eq!(next(&container, &running, &late(10), at(601)), Step::Wait);
    assert_eq!(next(&container, &seen("a", down()), &late(10), at(601)), Step::Start);
    assert!(message(next(&container, &running, &late(121), at(601))).starts_with("too late"));
    let superseded = Progress { asked: Asked::Superseded, ..Progress::default() };
    assert_eq!(next(&container, &running, &superseded, at(10)), Step::Wait);
    container.is_ours = true;
    assert!(message(next(&container, &running, &late(0), at(601))).starts_with("too late"), "nothing was sent");
}

#[test]
fn a_container_that_compose_has_created_and_not_started_is_started() {
    let absent = Record { before: None, was_running: false, ..record("1", "compose:a:b", 0) };
    let created = Run { id: "c".to_owned(), started_at: "0001-01-01T00:00:00Z".to_owned() };
    let created = Seen { run: Some(created), state: down(), has_job: false };
    let idle = Progress::default();
    assert_eq!(next(&absent, &Seen { has_job: true, ..created.clone() }, &idle, at(10)), Step::Wait, "compose runs");
    assert_eq!(next(&absent, &created, &idle, at(10)), Step::Start);
    let refused = Progress {
        acted_for: Some(Duration::ZERO),
        has_started: true,
        act_error: Some("port is already allocated".to_owned()),
        ..idle
    };
    assert_eq!(
        message(next(&absent, &created, &refused, at(10))),
        "it could not be started: port is already allocated"
    );
}

#[test]
fn the_time_in_which_a_restart_waited_counts() {
    let later = |asked: Asked| asked.after(Duration::from_secs(30));
    assert_eq!(later(Asked::At(at(10))), Asked::At(at(40)));
    assert_eq!(later(Asked::At(Timestamp::MAX)), Asked::At(Timestamp::MAX));
    assert_eq!((later(Asked::No), later(Asked::Superseded)), (Asked::No, Asked::Superseded));
}

#[test]
fn a_new_run_is_proven_by_five_seconds() {
    let mut unit = record("1", "a.service", 0);
    unit.phase = Phase::Started { run: run("b"), by_us: true };
    let after = |seconds| Progress { proven_for: Duration::from_secs(seconds), ..Progress::default() };
    let running = seen("b", State::Running);
    assert_eq!(next(&unit, &running, &after(4), at(10)), Step::Wait);
    assert_eq!(message(next(&unit, &running, &after(5), at(10))), "restarted, and running for 5 s");
    assert!(message(next(&unit, &seen("b", down()), &after(4), at(10))).contains("exit code 137"));
    assert!(message(next(&unit, &seen("c", State::Running), &after(4), at(10))).contains("before it had run"));
    let starting = seen("b", State::Changing);
    assert_eq!(next(&unit, &starting, &after(0), at(10)), Step::Wait);
    let long = Progress { watched_for: ACT_LIMIT + Duration::from_secs(1), ..Progress::default() };
    assert_eq!(message(next(&unit, &starting, &long, at(10))), "still starting after 120 s");
    unit.phase = Phase::Started { run: run("b"), by_us: false };
    assert!(message(next(&unit, &running, &after(5), at(10))).contains("not repeated"));
}

/// A disk in memory that takes everything.
struct Memory;

impl Disk for Memory {
    fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn save(&self, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_target_is_restarted_three_times_in_ten_minutes_and_ten_times_in_an_hour() {
    let mut ledger = Ledger::open(Memory);
    let target: Target = "a.service".parse().unwrap();
    for at_minute in [0, 1, 2] {
        assert_eq!(ledger.refusal(&target, at(at_minute * 60)), None);
        ledger.add(record(&at_minute.to_string(), "a.service", at_minute * 60), at(0)).unwrap();
    }
    assert!(ledger.refusal(&target, at(180)).unwrap().message.contains("3 times in 10 minutes"));
    assert_eq!(ledger.refusal(&"b.service".parse().unwrap(), at(180)), None);
    // A clock that was set back does not open the limit, and an untouched target does not count.
    assert!(ledger.refusal(&target, at(-90_000)).is_some());
    assert_eq!(ledger.refusal(&target, at(601)), None);
    ledger.set("1", Phase::Done(Outcome::refused("x"))).unwrap();
    assert_eq!(ledger.refusal(&target, at(180)), None);
    for more in 10..18 {
        ledger.add(record(&more.to_string(), "a.service", (more - 8) * 300), at(0)).unwrap();
    }
    assert!(ledger.refusal(&target, at(3500)).unwrap().message.contains("10 times in an hour"));
}

#[test]
fn sixty_four_young_ids_are_remembered_and_a_further_one_is_refused() {
    let mut ledger = Ledger::open(Memory);
    for index in 0..MOST_RECORDS {
        assert_eq!(ledger.is_full(at(0)), None);
        ledger.add(record(&index.to_string(), "a.service", 0), at(0)).unwrap();
    }
    assert!(ledger.is_full(at(0)).is_some());
    let done = Outcome { succeeded: true, acted: true, message: String::new() };
    for index in 0..MOST_RECORDS {
        ledger.set(&index.to_string(), Phase::Done(done.clone())).unwrap();
    }
    let day = 86_400 + 600;
    assert!(ledger.is_full(at(day)).is_some(), "each is kept for 24 h after its last moment");
    assert_eq!(ledger.is_full(at(day + 1)), None);
    ledger.add(record("new", "a.service", day + 1), at(day + 1)).unwrap();
    assert!(ledger.find("0").is_none() && ledger.find("new").is_some());
}

#[test]
fn the_file_is_replaced_whole_and_a_damaged_one_says_so() {
    let folder = std::env::temp_dir().join(format!("vigie-ledger-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("actions.json");
    let mut ledger = Ledger::open(StateFile(path.clone()));
    assert_eq!(ledger.fault(), None);
    ledger.add(record("1", "compose:orders:backend", 0), at(0)).unwrap();
    let again = Ledger::open(StateFile(path.clone()));
    assert_eq!(again.find("1"), Some(&record("1", "compose:orders:backend", 0)));
    assert_eq!(again.latest().len(), 1);
    let bytes = std::fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(Ledger::open(StateFile(path.clone())).fault().is_some(), "cut at {cut}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let fault = Ledger::open(StateFile(path)).fault().unwrap();
    assert!(fault.message.contains("Is a directory"), "{fault:?}");
    std::fs::remove_dir_all(folder).unwrap();
}
