use proptest::prelude::*;

use super::*;

const TIMING: Timing =
    Timing { interval: Duration::from_secs(30), late: Duration::from_secs(90), offline: Duration::from_secs(300) };

fn at(seconds: i64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn heard(contact: i64, listening_since: i64) -> Known {
    Known {
        last_contact: Some(at(contact)),
        previous: PreviousVerdict { presence: Presence::Online, since: at(contact.min(listening_since)) },
        listening: Listening { since: Some(at(listening_since)), gap: Gap::Restarted },
    }
}

fn written(presence: Presence, since: i64, known: Known) -> Known {
    Known { previous: PreviousVerdict { presence, since: at(since) }, ..known }
}

#[track_caller]
fn expect(known: Known, now: i64, presence: Presence, since: i64, again: Option<i64>) {
    let verdict = judge(&TIMING, &known, at(now));
    assert_eq!((verdict.presence, verdict.since, verdict.next_check_at), (presence, at(since), again.map(at)));
}

#[test]
fn what_was_never_heard_is_never_seen_however_long_we_listen() {
    let known = Known { last_contact: None, previous: PreviousVerdict::default(), listening: heard(0, 0).listening };
    expect(known, 1_000_000, Presence::NeverSeen, 0, None);
}

#[test]
fn silence_turns_late_then_offline_each_dated_at_its_deadline() {
    let known = heard(100, 0);
    expect(known, 101, Presence::Online, 0, Some(190));
    expect(known, 190, Presence::Late, 190, Some(400));
    expect(known, 195, Presence::Late, 190, Some(400));
    expect(known, 400, Presence::Offline, 400, None);
    expect(known, 7300, Presence::Offline, 400, None);
}

#[test]
fn the_last_microsecond_before_the_deadline_is_not_offline() {
    let before = Moment::from_micros(at(400).as_micros() - 1);
    assert_eq!(judge(&TIMING, &heard(100, 0), before).presence, Presence::Late);
}

#[test]
fn an_online_that_outlived_our_absence_is_unknown_until_the_deadline_of_our_own_listening() {
    // Last heard at -600; we listen since 0.
    let known = heard(-600, 0);
    expect(known, 0, Presence::Unknown, -300, Some(300));
    expect(known, 299, Presence::Unknown, -300, Some(300));
    expect(known, 300, Presence::Offline, 300, None);
}

#[test]
fn a_short_absence_changes_nothing_and_silence_before_it_does_not_count() {
    // Heard 80 s before we began: late only after 90 s of our own listening, vouched for until 220.
    let known = heard(-80, 0);
    expect(known, 15, Presence::Online, -80, Some(90));
    expect(known, 90, Presence::Late, 90, Some(220));
    expect(known, 220, Presence::Unknown, 220, Some(300));
    expect(known, 300, Presence::Offline, 300, None);
}

#[test]
fn a_written_offline_stays_over_a_restart() {
    let known = written(Presence::Offline, -300, heard(-600, 0));
    expect(known, 1, Presence::Offline, -300, None);
}

#[test]
fn a_written_late_stays_late_over_a_restart() {
    let known = written(Presence::Late, -10, heard(-100, 0));
    expect(known, 1, Presence::Late, -10, Some(200));
}

#[test]
fn an_offline_that_was_contradicted_by_a_beat_does_not_come_back_through_a_gap() {
    // Established Offline at 400, heard at 500, then a gap until 2000.
    let known = written(Presence::Offline, 400, heard(500, 2000));
    expect(known, 2001, Presence::Unknown, 800, Some(2300));
}

#[test]
fn a_grown_deadline_brings_an_offline_back_without_a_beat() {
    let known = written(Presence::Offline, 400, heard(100, 0));
    let longer = Timing { offline: Duration::from_secs(3600), ..TIMING };
    let verdict = judge(&longer, &known, at(500));
    assert_eq!((verdict.presence, verdict.since), (Presence::Late, at(400)));
    let all_longer = Timing { late: Duration::from_secs(1800), ..longer };
    let verdict = judge(&all_longer, &known, at(500));
    assert_eq!((verdict.presence, verdict.since), (Presence::Online, at(500)));
}

#[test]
fn a_shrunk_deadline_is_dated_at_contact_plus_the_new_value_but_never_before_the_previous_transition() {
    let short = Timing { late: Duration::from_secs(40), offline: Duration::from_secs(60), ..TIMING };
    let verdict = judge(&short, &heard(100, 0), at(200));
    assert_eq!((verdict.presence, verdict.since), (Presence::Offline, at(160)));
    let after_late = written(Presence::Late, 190, heard(100, 0));
    let verdict = judge(&short, &after_late, at(200));
    assert_eq!((verdict.presence, verdict.since), (Presence::Offline, at(190)));
}

#[test]
fn while_nobody_can_reach_us_nothing_turns_late_or_offline() {
    let deaf = Known { listening: Listening { since: None, gap: Gap::Unreachable }, ..heard(100, 0) };
    expect(deaf, 250, Presence::Online, 0, Some(400));
    let verdict = judge(&TIMING, &deaf, at(400));
    assert_eq!((verdict.presence, verdict.reason), (Presence::Unknown, Reason::ObserverUnreachable));
    assert_eq!(judge(&TIMING, &deaf, at(1_000_000)).presence, Presence::Unknown);
}

#[test]
fn the_next_beat_is_the_interval_until_we_are_overloaded_and_never_makes_anybody_late() {
    assert_eq!(next_heartbeat(&TIMING, 0.3, 7), 30);
    assert_eq!(next_heartbeat(&TIMING, 1.0, 999), 30);
    assert_eq!(next_heartbeat(&TIMING, 2.0, 0), 60);
    assert_eq!(next_heartbeat(&TIMING, 50.0, 999), 80);
    let tight =
        Timing { interval: Duration::from_secs(5), late: Duration::from_secs(15), offline: Duration::from_secs(30) };
    assert_eq!(next_heartbeat(&tight, 50.0, 999), 5);
}

fn timing() -> impl Strategy<Value = Timing> {
    (5u64..300, 1u64..300, 1u64..600).prop_map(|(interval, more, most)| Timing {
        interval: Duration::from_secs(interval),
        late: Duration::from_secs(interval + more),
        offline: Duration::from_secs((interval * 3).max(interval + more) + most),
    })
}

fn presence() -> impl Strategy<Value = Presence> {
    prop::sample::select(vec![
        Presence::NeverSeen,
        Presence::Online,
        Presence::Late,
        Presence::Unknown,
        Presence::Offline,
    ])
}

prop_compose! {
    fn any_known()(contact in prop::option::weighted(0.95, -2000i64..2000), presence in presence(),
        since in -2000i64..2000, listening in prop::option::of(-2000i64..2000), deaf in any::<bool>()) -> Known {
        Known {
            last_contact: contact.map(at),
            previous: PreviousVerdict { presence, since: at(since) },
            listening: Listening { since: listening.map(at), gap: if deaf { Gap::Unreachable } else { Gap::Restarted } },
        }
    }
}

proptest! {
    /// Time alone moves a connector only forward: Online, Late, then Unknown or Offline, and Offline is final.
    #[test]
    fn without_a_beat_time_only_makes_it_worse(timing in timing(), known in any_known(), start in 2000i64..4000,
        steps in prop::collection::vec(0i64..400, 1..12)) {
        let mut known = known;
        let mut now = start;
        let mut last = judge(&timing, &known, at(now));
        for step in steps {
            known.previous = PreviousVerdict { presence: last.presence, since: last.since };
            now += step;
            let next = judge(&timing, &known, at(now));
            prop_assert!(next.presence >= last.presence, "{last:?} became {next:?}");
            prop_assert!(next.since >= last.since && next.since <= at(now));
            last = next;
        }
    }

    /// Promise 1: Online and Late mean heard within `offlineAfterSeconds`. Promise 3: Offline needs listened silence.
    #[test]
    fn no_state_without_evidence(timing in timing(), known in any_known(), now in 2000i64..6000) {
        let verdict = judge(&timing, &known, at(now));
        match (verdict.presence, known.last_contact) {
            (Presence::NeverSeen, contact) => prop_assert!(contact.is_none()),
            (Presence::Online | Presence::Late, Some(contact)) => prop_assert!(at(now) < contact + timing.offline),
            (Presence::Offline, Some(contact)) => {
                let listened = known.listening.since.is_some_and(|since| at(now) >= since.max(contact) + timing.offline);
                let stood = known.previous.presence == Presence::Offline && contact <= known.previous.since;
                prop_assert!(listened || stood);
                prop_assert!(at(now) >= contact + timing.offline);
            }
            (Presence::Unknown, Some(contact)) => prop_assert!(at(now) >= contact + timing.offline),
            (_, None) => prop_assert!(false, "a state without any contact"),
        }
    }

    /// Waking at `next_check_at` is enough: in between, nothing changes.
    #[test]
    fn nothing_changes_before_the_moment_it_asks_for(timing in timing(), known in any_known(), now in 2000i64..6000,
        part in 0.0f64..1.0) {
        let verdict = judge(&timing, &known, at(now));
        let previous = Known { previous: PreviousVerdict { presence: verdict.presence, since: verdict.since }, ..known };
        let between = match verdict.next_check_at {
            Some(again) => {
                prop_assert!(again > at(now));
                let gap = (again.as_micros() - at(now).as_micros() - 1) as f64 * part;
                Moment::from_micros(at(now).as_micros() + gap as i64)
            }
            None => at(now + 100_000),
        };
        prop_assert_eq!(judge(&timing, &previous, between).presence, verdict.presence);
        if let Some(again) = verdict.next_check_at {
            prop_assert!(judge(&timing, &previous, again).presence > verdict.presence);
        }
    }
}
