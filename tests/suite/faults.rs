//! A request fails in the middle of a transition: the transition is still written once, and its date is the deadline.

use serde_json::{Value, json};

use crate::beats::path;
use crate::support::backends::probed;
use crate::support::beats::Beaten;
use crate::support::faults::{Fault, Faults, Write};
use crate::support::history::History;
use crate::support::world::SOON;
use crate::support::{Beater, Misbehave, Operator, World, eventually, never, quick, seconds, text, time};

/// One connector for each fault, and the fault.
const CASES: [(&str, Option<Fault>); 8] = [
    ("nothing", None),
    ("conflict", Some(Fault::Refused(409, "Conflict"))),
    ("overtaken", Some(Fault::Overtaken)),
    ("throttled", Some(Fault::Refused(429, "TooManyRequests"))),
    ("broken", Some(Fault::Refused(500, "InternalError"))),
    ("withheld", Some(Fault::Withheld)),
    ("lost", Some(Fault::Lost)),
    ("done-and-withheld", Some(Fault::DoneAndWithheld)),
];

/// The status writes of `name` with this `state`.
fn writes(faults: &Faults, name: &str, state: &str) -> Vec<Write> {
    faults.writes().into_iter().filter(|write| write.name == name && write.state == state).collect()
}

/// The transition to `state` was written once in effect, and its event was published once; returns the status.
async fn turned_once(world: &World, faults: &Faults, history: &History, name: &str, state: &str) -> Value {
    let seen = world.state(seconds(180), name, state).await;
    world.event(SOON, name, state).await;
    let times = |states: &[String]| states.iter().filter(|told| *told == state).count();
    let told = path(&seen);
    assert_eq!(times(&told), 1, "{name}: {told:?}");
    let states = history.of_connector(name);
    assert!(times(&states) <= 1, "{name} was seen as {states:?}");
    eventually(SOON, &format!("{name}: {state} was written once"), async || {
        let writes = writes(faults, name, state);
        let done = writes.iter().filter(|write| write.code == Some(200)).count();
        if done == 1 { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await;
    seen
}

/// Every request that was sent is counted, whatever its outcome.
async fn all_are_counted(faults: &Faults, operator: &Operator) {
    eventually(SOON, "vigie_status_writes_total counts every request", async || {
        let (sent, counted) = (faults.writes().len(), operator.scrape().sum("vigie_status_writes_total", &[]));
        if counted == sent as f64 { Ok(()) } else { Err(format!("{sent} were sent, {counted} are counted")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_its_write_a_transition_is_written_once_and_told_once() {
    let world = World::new("faults").await;
    let history = world.history();
    let faults = Faults::before(&world).await;
    let operator = world.operator_through(&faults, &["--checkpoint-seconds", "3600"]).await;
    let mut edges = Vec::new();
    for (name, _) in CASES {
        // A site of its own for each: in one site their silence would be a mass silence.
        let spec = json!({"site": name, "heartbeat": quick()["heartbeat"]});
        edges.push(world.connector(name, spec).await);
    }
    let lasts: Vec<Beaten> = edges.iter().map(|edge| edge.beat(operator.beats())).collect();
    for (name, _) in CASES {
        world.state(SOON, name, "Online").await;
    }
    for (name, fault) in CASES {
        fault.into_iter().for_each(|fault| faults.plan(name, "Offline", fault));
    }
    for ((name, fault), last) in CASES.into_iter().zip(&lasts) {
        let gone = turned_once(&world, &faults, &history, name, "Offline").await;
        let contact = time(&gone, "/status/lastHeartbeatTime");
        assert!(last.is_at(contact), "{name}: {last:?} {gone:#}");
        let since = time(&gone, "/status/stateSince");
        operator.has_dated(since, contact + seconds(30));
        let latest = gone.pointer("/status/transitions/0").unwrap();
        assert_eq!((text(latest, "/to"), time(latest, "/time")), ("Offline", since), "{name}");
        let wanted = match fault {
            None => None,
            Some(Fault::Refused(..) | Fault::Withheld | Fault::Held | Fault::Reset | Fault::Varies) => Some(None),
            Some(Fault::Overtaken) => Some(Some(409)),
            Some(Fault::Lost | Fault::DoneAndWithheld) => Some(Some(200)),
        };
        // The API server's result may be known a moment after the operator has tried again.
        eventually(SOON, &format!("{name} suffered what was planned"), async || {
            let sent = writes(&faults, name, "Offline");
            let is_so = wanted.is_none_or(|wanted| sent[0].code == wanted);
            if is_so { Ok(()) } else { Err(format!("{sent:?}")) }
        })
        .await;
    }
    let scrape = operator.scrape();
    for result in ["conflict", "throttled", "timeout", "unavailable"] {
        let label = format!("result=\"{result}\"");
        assert!(scrape.sum("vigie_status_writes_total", &["reason=\"transition\"", &label]) >= 1.0, "{result}");
    }
    assert_eq!(scrape.sum("vigie_status_write_pending", &[]), 0.0);
    // No write loop, and no event is repeated.
    let sent = faults.writes().len();
    never(seconds(5), "something is written while nothing changes", async || {
        let now = faults.writes();
        (now.len() != sent).then(|| format!("{:?}", &now[sent..]))
    })
    .await;
    for (name, _) in CASES {
        assert_eq!(world.events(name, "Offline").await.len(), 1, "{name}");
    }
    all_are_counted(&faults, &operator).await;

    // The transition back, whose date is the beat.
    for (name, fault) in CASES {
        fault.into_iter().for_each(|fault| faults.plan(name, "Online", fault));
    }
    let backs: Vec<Beaten> = edges.iter().map(|edge| edge.beat(operator.beats())).collect();
    // Checking all of them may take longer than their limit, so they keep beating.
    let _on: Vec<_> =
        edges.iter().map(|edge| Beater::start(&[operator.beats()], edge, seconds(3), Value::Null)).collect();
    for ((name, _), back) in CASES.into_iter().zip(&backs) {
        let online = world.state(SOON, name, "Online").await;
        assert!(back.is_at(time(&online, "/status/stateSince")), "{name}: {back:?} {online:#}");
        eventually(SOON, &format!("an event says that {name} is back"), async || {
            match world.events(name, "Online").await.len() {
                2 => Ok(()),
                other => Err(format!("{other}")),
            }
        })
        .await;
        let done = writes(&faults, name, "Online").iter().filter(|write| write.code == Some(200)).count();
        assert_eq!(done, 2, "{name}: the first time and now; {:?}", writes(&faults, name, "Online"));
    }
    all_are_counted(&faults, &operator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_event_of_a_backends_transition_comes_also_when_the_answer_to_its_write_is_lost() {
    let world = World::new("faults-backend").await;
    let faults = Faults::before(&world).await;
    let target = Misbehave::start();
    let _operator =
        world.operator_through(&faults, &["--allow-network", "127.0.0.0/8", "--checkpoint-seconds", "3600"]).await;
    let cases = [("nothing", None), ("lost", Some(Fault::Lost)), ("done-and-withheld", Some(Fault::DoneAndWithheld))];
    for (name, fault) in cases {
        world.backend(name, probed(&target.url("/metrics"), json!({"metrics": {}}))).await;
        fault.into_iter().for_each(|fault| faults.plan(name, "Down", fault));
    }
    for (name, _) in cases {
        world.backend_is(SOON, name, "Up", "").await;
    }
    target.set("hang");
    for (name, fault) in cases {
        world.backend_is(SOON, name, "Down", "Hung").await;
        world.event(SOON, name, "Down").await;
        let done = writes(&faults, name, "Down").iter().filter(|write| write.code == Some(200)).count();
        assert!(done >= 1, "{name}: {:?}", writes(&faults, name, "Down"));
        assert_eq!(world.events(name, "Down").await.len(), 1, "{name}: one outage, one event");
        fault.into_iter().for_each(|fault| faults.plan(name, "Up", fault));
    }
    target.set("ok");
    for (name, _) in cases {
        world.backend_is(SOON, name, "Up", "").await;
        eventually(SOON, &format!("an event says that {name} is back"), async || {
            match world.events(name, "Up").await.len() {
                2 => Ok(()),
                other => Err(format!("{other}")),
            }
        })
        .await;
    }
}
