//! What a disk, a clock and a host that was restarted may do to a restart.

use super::*;

#[test]
fn a_container_is_not_stopped_when_the_disk_has_no_room_for_the_promise_to_start_it() {
    let world = World { is_running: true, room: Some(1), ..World::default() };
    let world = Shared(Arc::new(Mutex::new(world)));
    let now = Timestamp::now();
    let outcome = live(&world, &request(false, now + SignedDuration::from_mins(10), now)).expect("it does not die");
    assert!(!outcome.succeeded && !outcome.acted && outcome.message.contains("os error 28"), "{outcome:?}");
    let world = world.0.lock();
    assert!(world.is_running && world.runs == 0, "it was touched");
}

#[test]
fn a_unit_without_a_run_is_not_started_twice() {
    for death in 0..16 {
        let world = World { is_unit: true, forgets: true, dies_at: Some(death), ..World::default() };
        let world = Shared(Arc::new(Mutex::new(world)));
        let now = Timestamp::now();
        let request = request(true, now + SignedDuration::from_mins(10), now);
        let Some(first) = live(&world, &request) else {
            let has_intent = {
                let mut world = world.0.lock();
                // The helper died, and then the host: what the restart has started runs no more.
                world.seen();
                while world.job.is_some() {
                    world.seen();
                }
                (world.dies_at, world.is_dead, world.is_running) = (None, false, false);
                world.disk.is_some()
            };
            let outcome = live(&world, &request).expect("it does not die");
            let runs = world.0.lock().runs;
            assert!(runs <= 1, "death at {death}: {runs} runs, {outcome:?}");
            assert_eq!(outcome.succeeded, !has_intent, "death at {death}: {outcome:?}");
            continue;
        };
        assert!(first.succeeded && world.0.lock().runs == 1);
    }
}

/// Asks again every second until it is over, as the clock of the operator goes on.
async fn ended(engine: &Arc<Engine<Shared, Shared>>, request: &Request) -> Outcome {
    loop {
        match engine.ask(request.clone()).await {
            Answer::Settled(outcome) => return outcome,
            Answer::Pending | Answer::Busy => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn nothing_begins_after_its_last_moment_where_the_host_answers_slowly() {
    for is_unit in [true, false] {
        let world = World { is_unit, is_running: true, look_takes: Duration::from_secs(6), ..World::default() };
        let world = Shared(Arc::new(Mutex::new(world)));
        let now = Timestamp::now();
        let request = request(is_unit, now + SignedDuration::from_secs(10), now);
        let outcome = paused().block_on(async {
            let engine = Engine::new(world.clone(), Ledger::open(world.clone()), config(), Clock::default());
            ended(&engine, &request).await
        });
        assert!(outcome.message.starts_with("too late") && !outcome.acted, "{outcome:?}");
        assert_eq!(world.0.lock().runs, 0);
    }
}

#[test]
fn a_host_whose_clock_is_days_ahead_forgets_no_id_that_can_come_again() {
    let world = Shared(Arc::new(Mutex::new(World { is_unit: true, is_running: true, ..World::default() })));
    let now = Timestamp::now() - SignedDuration::from_hours(48);
    let first = request(true, now + SignedDuration::from_mins(10), now);
    paused().block_on(async {
        let engine = Engine::new(world.clone(), Ledger::open(world.clone()), config(), Clock::default());
        let told = ended(&engine, &first).await;
        assert!(ended(&engine, &Request { id: "r-2".to_owned(), ..first.clone() }).await.succeeded);
        assert_eq!(ended(&engine, &first).await, told);
    });
    assert_eq!(world.0.lock().runs, 2);
}

#[test]
fn records_that_were_repaired_are_read_without_a_restart_of_the_helper() {
    let damaged = World { is_unit: true, is_running: true, disk: Some(b"{".to_vec()), ..World::default() };
    let world = Shared(Arc::new(Mutex::new(damaged)));
    let now = Timestamp::now();
    let request = request(true, now + SignedDuration::from_mins(10), now);
    paused().block_on(async {
        let engine = Engine::new(world.clone(), Ledger::open(world.clone()), config(), Clock::default());
        assert!(ended(&engine, &request).await.message.contains("is damaged"));
        world.0.lock().disk = Some(b"{\"records\":[]}".to_vec());
        assert!(ended(&engine, &request).await.succeeded);
    });
    assert_eq!(world.0.lock().runs, 1);
}
