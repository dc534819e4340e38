//! Every transition of one contender.

use super::super::terms;
use super::*;

const TERMS: Terms = Terms { term: terms::TERM, renew_deadline: terms::RENEW_DEADLINE, retry: terms::RETRY };

fn at(seconds: i64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn now(seconds: i64) -> Now {
    Now { moment: at(seconds), wall: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds) }
}

fn held_by(holder: Option<&str>) -> LeaseRecord {
    let holder = holder.map(str::to_owned);
    LeaseRecord { holder, acquired_at: None, renewed_at: None, transitions: 4, lasts_for: TERMS.term }
}

fn contender() -> Election {
    Election::new("me".to_owned(), TERMS, at(100))
}

fn claims(election: &mut Election, seconds: i64, want: LeaseStep) -> LeaseRecord {
    match election.next(now(seconds)) {
        Ask::Claim(step, record) if step == want => record,
        other => panic!("wanted to {want:?}, got {other:?}"),
    }
}

/// One that found no Lease at 100 s, and made it.
fn leader() -> Election {
    let mut election = contender();
    assert_eq!(election.next(now(100)), Ask::Read);
    election.saw(None, at(100));
    let record = claims(&mut election, 100, LeaseStep::Create);
    election.claimed(LeaseStep::Create, record, at(100), at(101));
    election
}

/// One whose renewals failed until the deadline.
fn uncertain() -> Election {
    let mut election = leader();
    claims(&mut election, 102, LeaseStep::Renew);
    election.failed(at(102), at(105));
    assert_eq!(election.next(now(105)), Ask::Read);
    election.failed(at(105), at(108));
    election.tick(at(108));
    assert_eq!(role(&election), (Role::Uncertain, 1));
    election
}

fn role(election: &Election) -> (Role, u64) {
    (election.leadership().role, election.leadership().epoch)
}

fn ours(election: &Election) -> LeaseRecord {
    election.observed.as_ref().unwrap().record.clone().unwrap()
}

#[test]
fn the_first_lease_is_ours_and_renewed_every_retry() {
    let mut election = leader();
    let leadership = election.leadership();
    assert_eq!(leadership.write_until, at(108), "counted from before the request was sent");
    assert_eq!((leadership.acquired_at, leadership.holder.as_deref()), (Some(at(101)), Some("me")));
    assert_eq!(election.next(now(101)), Ask::Sleep(at(102)));
    let first = ours(&election);
    let renewed = claims(&mut election, 102, LeaseStep::Renew);
    assert_eq!((renewed.acquired_at, renewed.transitions), (first.acquired_at, 0));
    assert_eq!(renewed.renewed_at, Some(now(102).wall));
    election.claimed(LeaseStep::Renew, renewed, at(102), at(102));
    assert_eq!((role(&election), election.leadership().write_until), ((Role::Leader, 1), at(110)));
}

#[test]
fn taking_over_counts_a_transition_and_dates_it() {
    for holder in [None, Some("other")] {
        let mut election = contender();
        election.saw(Some(held_by(holder)), at(100));
        if holder.is_some() {
            assert_eq!(election.next(now(100)), Ask::Sleep(at(102)));
            assert_eq!(election.next(now(102)), Ask::Read);
            election.saw(Some(held_by(holder)), at(106));
            election.saw(Some(held_by(holder)), at(112));
        }
        let record = claims(&mut election, 112, LeaseStep::Acquire);
        assert_eq!((record.transitions, record.acquired_at), (5, Some(now(112).wall)));
        assert_eq!(record.lasts_for, TERMS.term);
    }
}

#[test]
fn a_follower_wakes_at_the_very_end_of_the_term() {
    let mut election = contender();
    election.saw(Some(held_by(Some("other"))), at(100));
    election.next(now(100));
    election.saw(Some(held_by(Some("other"))), at(106));
    election.next(now(106));
    assert_eq!(election.next(now(111)), Ask::Read);
    election.saw(Some(held_by(Some("other"))), at(111));
    assert_eq!(election.next(now(111)), Ask::Sleep(at(112)));
    assert_eq!(election.leadership().holder.as_deref(), Some("other"));
}

#[test]
fn a_leader_that_cannot_renew_is_uncertain_for_as_long_as_it_lasts() {
    let mut election = leader();
    claims(&mut election, 102, LeaseStep::Renew);
    election.failed(at(102), at(105));
    assert_eq!(role(&election), (Role::Leader, 1));
    assert_eq!(election.overdue_at(), Some(at(108)));
    for hour in 1..5 {
        assert_eq!(election.next(now(3600 * hour)), Ask::Read);
        election.failed(at(3600 * hour), at(3600 * hour + 3));
        assert_eq!(role(&election), (Role::Uncertain, 1));
        assert!(election.leadership().accepts_heartbeats());
        assert!(election.leadership().permit(at(3600 * hour)).is_none());
    }
}

#[test]
fn a_record_that_is_still_ours_makes_us_lead_on_in_the_same_epoch() {
    let mut election = uncertain();
    let record = ours(&election);
    assert_eq!(election.next(now(5000)), Ask::Read);
    election.saw(Some(record), at(5000));
    assert_eq!(role(&election), (Role::Uncertain, 1), "until it is renewed");
    let record = claims(&mut election, 5000, LeaseStep::Renew);
    election.claimed(LeaseStep::Renew, record, at(5000), at(5001));
    assert_eq!(role(&election), (Role::Leader, 1));
    assert_eq!(election.leadership().acquired_at, Some(at(101)));
}

#[test]
fn a_record_that_another_holds_or_gave_back_ends_our_leadership() {
    for (mut election, holder) in
        [(leader(), Some("other")), (leader(), None), (uncertain(), Some("other")), (uncertain(), None)]
    {
        election.saw(Some(held_by(holder)), at(109));
        assert_eq!(role(&election), (Role::Follower, 1));
        assert_eq!(election.leadership().acquired_at, None);
        assert_eq!(election.leadership().holder.as_deref(), holder);
        assert!(!election.may_hold());
    }
}

#[test]
fn leading_again_after_another_did_is_a_new_epoch() {
    let mut election = leader();
    election.saw(Some(held_by(None)), at(102));
    let record = claims(&mut election, 102, LeaseStep::Acquire);
    election.claimed(LeaseStep::Acquire, record, at(102), at(103));
    assert_eq!((role(&election), election.leadership().acquired_at), ((Role::Leader, 2), Some(at(103))));
}

#[test]
fn a_lease_deleted_under_us_is_made_anew_and_only_within_our_term_in_the_same_epoch() {
    for (mut election, epoch) in [(leader(), 1), (uncertain(), 2)] {
        let seconds = if epoch == 1 { 102 } else { 109 };
        if epoch == 1 {
            claims(&mut election, seconds, LeaseStep::Renew);
            election.refused(at(seconds));
            assert_eq!(election.next(now(seconds)), Ask::Read);
        }
        election.saw(None, at(seconds));
        assert_ne!(role(&election).0, Role::Follower);
        let record = claims(&mut election, seconds, LeaseStep::Create);
        election.claimed(LeaseStep::Create, record, at(seconds), at(seconds));
        assert_eq!(role(&election), (Role::Leader, epoch));
    }
}

#[test]
fn who_loses_the_race_for_the_first_lease_follows() {
    let mut election = contender();
    election.saw(None, at(100));
    claims(&mut election, 100, LeaseStep::Create);
    election.refused(at(100));
    assert_eq!(election.next(now(100)), Ask::Read);
    election.saw(Some(held_by(Some("other"))), at(100));
    assert_eq!(role(&election), (Role::Follower, 0));
    assert_eq!(election.next(now(100)), Ask::Sleep(at(102)));
}

#[test]
fn a_claim_whose_answer_was_lost_is_found_and_renewed_before_anything_is_written() {
    let mut election = contender();
    election.saw(None, at(100));
    let record = claims(&mut election, 100, LeaseStep::Create);
    election.failed(at(100), at(103));
    assert_eq!(election.next(now(103)), Ask::Read);
    election.saw(Some(record), at(103));
    assert_eq!(role(&election), (Role::Follower, 0));
    let record = claims(&mut election, 103, LeaseStep::Renew);
    election.claimed(LeaseStep::Renew, record, at(103), at(103));
    assert_eq!((role(&election), election.leadership().write_until), ((Role::Leader, 1), at(111)));
}

#[test]
fn refusals_do_not_make_a_busy_loop() {
    let mut election = leader();
    let record = ours(&election);
    let mut tries = 0;
    while let Ask::Claim(..) = election.next(now(102)) {
        election.refused(at(102));
        assert_eq!(election.next(now(102)), Ask::Read);
        election.saw(Some(record.clone()), at(102));
        tries += 1;
    }
    assert_eq!(tries, 2);
    assert_eq!(election.next(now(102)), Ask::Sleep(at(104)));
}

#[test]
fn after_a_freeze_nothing_is_believed_until_the_lease_was_read() {
    let mut election = leader();
    let record = ours(&election);
    election.froze(at(103));
    assert!(!election.leadership().accepts_heartbeats() && election.leadership().permit(at(103)).is_none());
    assert_eq!(election.next(now(103)), Ask::Read);
    election.saw(Some(record), at(103));
    assert!(
        election.leadership().accepts_heartbeats() && election.leadership().permit(at(103)).is_some(),
        "a short one"
    );

    election.froze(at(200));
    assert_eq!((role(&election), election.leadership().accepts_heartbeats()), ((Role::Unconfirmed, 1), false));
    election.saw(Some(held_by(Some("other"))), at(200));
    assert_eq!(role(&election), (Role::Follower, 1));
}

#[test]
fn a_wall_clock_that_stands_still_or_steps_back_repeats_no_record() {
    let mut election = leader();
    let mut seen = vec![ours(&election)];
    for wall in [100, 100, 50, 50, 101] {
        let Ask::Claim(_, record) = election.next(Now { moment: at(500), wall: now(wall).wall }) else { panic!() };
        assert!(!seen.contains(&record), "{record:?}");
        seen.push(record.clone());
        election.claimed(LeaseStep::Renew, record, at(498), at(499));
    }
}

#[test]
fn who_never_led_follows_through_an_outage() {
    let mut election = contender();
    election.failed(at(100), at(103));
    assert_eq!(role(&election), (Role::Follower, 0));
    assert_eq!(election.next(now(103)), Ask::Read);
    election.failed(at(103), at(103));
    assert_eq!(election.next(now(103)), Ask::Sleep(at(105)), "a quick refusal waits for the next read");
}
