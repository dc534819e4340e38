//! A machine outside the cluster with an agent on it: its view of the unit explains the failure.

use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::TargetState::{self, *};
use crate::api::{AgentProbe, AgentVariable, AgentView, Cause, ErrorClass, Time};
use crate::diagnosis::evidence::{Agent, Evidence, Lookup};
use crate::diagnosis::rules::{diagnose, findings};

const COMPOSE: &str = "compose:shop:orders";

/// The unit behind `http://198.51.100.20:8081` in this state, which our probe sees as `class`.
fn seen(class: ErrorClass, unit: &str, state: TargetState) -> Evidence {
    with(bad(class), |e| {
        (e.workload, e.pods, e.actuator) = (Lookup::NotLooked, Lookup::NotLooked, Lookup::NotLooked);
        (e.policies, e.events, e.nodes_not_ready) = (Lookup::NotLooked, Lookup::NotLooked, Lookup::NotLooked);
        e.prometheus = Lookup::NotLooked;
        (e.subject.workload, e.subject.has_agent) = (None, true);
        e.subject.host = "198.51.100.20".to_owned();
        e.subject.url = format!("http://198.51.100.20:8081{PAGE}");
        e.vantages[0].address = "198.51.100.20".parse().ok();
        e.vantages[0].source = "192.0.2.10".parse().ok();
        e.history.last_healthy = Some(ago(90));
        let view = AgentView {
            connector: "edge-1".to_owned(),
            host: Some("vm-7".to_owned()),
            unit: Some(unit.to_owned()),
            state,
            since: Some(Time(ago(60))),
            ..AgentView::default()
        };
        e.agent = Some(Agent { view: Some(view), ..Agent::default() });
    })
}

fn refused(state: TargetState) -> Evidence {
    seen(ErrorClass::Refused, COMPOSE, state)
}

fn view_of(e: &mut Evidence) -> &mut AgentView {
    e.agent.as_mut().unwrap().view.as_mut().unwrap()
}

fn local(ok: bool, class: Option<ErrorClass>, status: Option<i64>) -> Option<AgentProbe> {
    Some(AgentProbe { ok, error_class: class, phase: None, status })
}

fn set(name: &str, value: &str) -> Option<Vec<AgentVariable>> {
    Some(vec![AgentVariable { name: name.to_owned(), value: Some(value.to_owned()) }])
}

/// It runs for an hour and was healthy since.
fn runs(class: ErrorClass, unit: &str, probe: Option<AgentProbe>) -> Evidence {
    with(seen(class, unit, Running), |e| {
        view_of(e).since = Some(Time(ago(3600)));
        view_of(e).probe = probe;
    })
}

fn causes(e: &Evidence) -> Vec<Cause> {
    findings(e).into_iter().map(|finding| finding.cause).collect()
}

#[test]
fn a_container_that_has_ended_is_started_once() {
    let e = with(refused(Exited), |e| {
        let view = view_of(e);
        (view.exit_code, view.policy) = (Some(137), Some("no".to_owned()));
        view.words = Some("java.net.SocketException".to_owned());
    });
    let d = expect(&e, Cause::ContainerStopped, Certain, Once);
    says(
        &d.message,
        &["container of service orders (compose project shop) on vm-7", "exit 137", "09:59:00Z", "SocketException"],
    );
    says(
        &d.advice,
        &["`docker compose -p shop start orders`", "`ssh vm-7 vigie agent logs compose:shop:orders`", "unless-stopped"],
    );
    assert_eq!(causes(&e), [Cause::ContainerStopped], "nothing that is only seen from outside stands beside it");
    for (state, word) in [(Created, "never started"), (Paused, "docker compose -p shop unpause orders")] {
        let d = expect(&refused(state), Cause::ContainerStopped, Certain, Once);
        says(&format!("{} {}", d.message, d.advice), &[word]);
    }
}

#[test]
fn a_unit_that_is_gone_is_said_although_it_came_and_went_before() {
    for (state, cause) in [(Exited, Cause::ContainerStopped), (Absent, Cause::ContainerAbsent)] {
        let e = with(refused(state), |e| e.history.flapping = Some((6, 300)));
        assert_eq!(causes(&e)[..2], [cause, Cause::Flapping]);
    }
    let unit = with(seen(ErrorClass::Refused, "orders.service", Failed), |e| e.history.flapping = Some((6, 300)));
    assert_eq!(causes(&unit)[..2], [Cause::ProcessStopped, Cause::Flapping]);
}

#[test]
fn a_stop_on_purpose_is_said_and_still_ends() {
    let e = with(refused(Exited), |e| {
        (view_of(e).stopped_on_purpose, view_of(e).exit_code) = (true, Some(143));
        view_of(e).words = Some("\"Web server failed to start.\"; Action: \"Free the port.\"".to_owned());
    });
    let d = expect(&e, Cause::ContainerStopped, Certain, Once);
    says(&d.message, &["stopped on purpose"]);
    says(&d.advice, &["spec.paused", "600 s"]);
    let unit = with(seen(ErrorClass::Refused, "orders.service", Inactive), |e| view_of(e).stopped_on_purpose = true);
    says(&expect(&unit, Cause::ProcessStopped, Certain, Once).message, &["unit orders.service on vm-7", "on purpose"]);
}

#[test]
fn a_unit_that_failed_says_that_systemd_gave_up() {
    let e = with(seen(ErrorClass::Refused, "orders.service", Failed), |e| {
        (view_of(e).exit_code, view_of(e).restarts) = (Some(1), Some(5));
    });
    let d = expect(&e, Cause::ProcessStopped, Certain, Once);
    says(&d.message, &["has failed (exit 1)", "restarted it 5 times and gave up"]);
    says(&d.advice, &["`systemctl start orders.service`", "vigie agent logs orders.service"]);
    let gone = seen(ErrorClass::Refused, "orders.service", Absent);
    says(&expect(&gone, Cause::ProcessStopped, Certain, No).advice, &["spec.agentRef.unit"]);
}

#[test]
fn a_container_that_does_not_exist_is_created_by_a_person() {
    let d = expect(&refused(Absent), Cause::ContainerAbsent, Certain, No);
    says(&d.advice, &["`docker compose -p shop up -d orders`"]);
    let told = with(refused(Absent), |e| {
        view_of(e).message = Some("cd /srv/shop && docker compose up -d orders".to_owned());
    });
    says(&diagnosis(&told).advice, &["cd /srv/shop && docker compose up -d orders"]);
    let single = seen(ErrorClass::ConnectTimeout, "container:orders", Absent);
    expect(&single, Cause::ContainerAbsent, Certain, No);
}

#[test]
fn what_its_host_restarts_is_left_to_its_host() {
    let once = with(refused(Restarting), |e| (view_of(e).restarts, view_of(e).exit_code) = (Some(1), Some(1)));
    says(&expect(&once, Cause::RestartingLocally, Certain, No).advice, &["Wait"]);
    let many = with(once, |e| view_of(e).restarts = Some(7));
    says(&expect(&many, Cause::CrashLoop, Likely, No).message, &["exit 1", "7 restarts"]);
    // Between two crashes it runs for a moment.
    let between = with(many, |e| {
        view_of(e).state = Running;
        view_of(e).since = Some(Time(ago(3)));
    });
    expect(&between, Cause::CrashLoop, Likely, No);
    let long_ago = with(between, |e| view_of(e).since = Some(Time(ago(200))));
    assert_ne!(diagnosis(&long_ago).cause, Cause::CrashLoop);
}

#[test]
fn last_words_name_what_no_restart_cures() {
    let said = |state, restarts, words: &str| {
        with(refused(state), |e| {
            (view_of(e).restarts, view_of(e).exit_code) = (Some(restarts), Some(1));
            view_of(e).words = Some(words.to_owned());
        })
    };
    let port =
        "\"Web server failed to start. Port 8081 was already in use.\"; Action: \"Identify and stop the process.\"";
    says(
        &expect(&said(Exited, 0, port), Cause::CrashLoopConfig, Certain, No).message,
        &["port 8081 is in use already"],
    );
    let bind = "\"Failed to bind properties under 'a.b' to int\"; Action: \"Update your application's configuration\"";
    expect(&said(Restarting, 4, bind), Cause::CrashLoopConfig, Certain, No);
    let unreachable = "org.postgresql.util.PSQLException: Connection to db.example.com:5432 refused";
    expect(&said(Restarting, 4, unreachable), Cause::CrashLoopDatabase, Certain, No);
    // It ended and nothing starts it again: the database may be back by now.
    expect(&said(Exited, 0, unreachable), Cause::ContainerStopped, Certain, Once);
    let refuses = "org.postgresql.util.PSQLException: FATAL: sorry, too many clients already";
    says(&expect(&said(Restarting, 1, refuses), Cause::CrashLoopDatabase, Certain, No).advice, &["max_connections"]);
}

#[test]
fn a_kill_for_memory_is_not_answered_by_a_restart() {
    for state in [Exited, Restarting, Failed] {
        let e = with(refused(state), |e| (view_of(e).oom_killed, view_of(e).exit_code) = (true, Some(137)));
        says(&expect(&e, Cause::OutOfMemory, Certain, No).advice, &["mem_limit", "-Xmx"]);
    }
    let unit = with(seen(ErrorClass::Refused, "orders.service", Failed), |e| view_of(e).oom_killed = true);
    says(&expect(&unit, Cause::OutOfMemory, Certain, No).advice, &["MemoryMax="]);
    let long_ago = with(runs(ErrorClass::Refused, COMPOSE, None), |e| view_of(e).oom_killed = true);
    assert_ne!(diagnosis(&long_ago).cause, Cause::OutOfMemory, "it has run for an hour since");
}

#[test]
fn what_is_published_or_listens_on_loopback_only_is_bound_there() {
    let ok = local(true, None, None);
    for (published, listens, word) in [
        (vec!["127.0.0.1:8081->8081/tcp"], vec![], "published on loopback only"),
        (vec!["0.0.0.0:8081->8081/tcp"], vec!["127.0.0.1:8081"], "inside its container only"),
    ] {
        for class in [ErrorClass::Refused, ErrorClass::Reset] {
            let e = with(runs(class, COMPOSE, ok.clone()), |e| {
                view_of(e).published = published.iter().map(|text| (*text).to_owned()).collect();
                view_of(e).listens = listens.iter().map(|text: &&str| (*text).to_owned()).collect();
            });
            says(&expect(&e, Cause::BoundToLoopback, Certain, No).message, &[word]);
        }
    }
    let unit = with(runs(ErrorClass::Refused, "orders.service", ok), |e| {
        view_of(e).listens = vec!["127.0.0.1:8081".to_owned()]
    });
    says(&expect(&unit, Cause::BoundToLoopback, Certain, No).advice, &["SERVER_ADDRESS"]);
    let environment = with(runs(ErrorClass::Refused, COMPOSE, None), |e| {
        view_of(e).environment = set("SERVER_ADDRESS", "127.0.0.1");
    });
    let d = expect(&environment, Cause::BoundToLoopback, Likely, No);
    says(&d.advice, &["SERVER_ADDRESS=0.0.0.0", "compose file", "docker compose up -d orders"]);
}

#[test]
fn what_answers_on_its_host_is_blocked_before_it() {
    for (class, restart) in [(ErrorClass::ConnectTimeout, No), (ErrorClass::Unreachable, No)] {
        for probe in [local(true, None, None), local(false, Some(ErrorClass::HTTPStatus), Some(503))] {
            let d = expect(&runs(class, COMPOSE, probe), Cause::BlockedBeforeHost, Certain, restart);
            says(&d.message, &["runs and answers there"]);
            says(&d.advice, &["Allow TCP 8081 from 192.0.2.10/32", "vm-7"]);
        }
    }
    let d = expect(&runs(ErrorClass::Refused, COMPOSE, local(true, None, None)), Cause::BlockedBeforeHost, Likely, No);
    says(&d.message, &["published on another address or port"]);
    assert!(!d.message.contains("firewall") && !d.advice.contains("firewall"), "never a firewall first: {}", d.advice);
    let elsewhere = with(runs(ErrorClass::Refused, COMPOSE, local(true, None, None)), |e| {
        view_of(e).published = vec!["0.0.0.0:9081->8081/tcp".to_owned()];
    });
    let d = expect(&elsewhere, Cause::BlockedBeforeHost, Certain, No);
    says(&d.message, &["0.0.0.0:9081->8081/tcp"]);
    // Without a probe of its own, an open socket is a weaker word.
    let open = with(runs(ErrorClass::ConnectTimeout, "orders.service", None), |e| {
        view_of(e).listens = vec!["*:8081".to_owned()]
    });
    expect(&open, Cause::BlockedBeforeHost, Likely, No);
}

#[test]
fn what_an_agent_saw_before_a_refusal_says_nothing_about_it() {
    let told = |class, seconds: i64| {
        with(runs(class, COMPOSE, local(true, None, None)), |e| {
            e.history.bad_since = Some(ago(60));
            e.agent.as_mut().unwrap().confirmed_at = Some(ago(60 - seconds));
        })
    };
    for seconds in [-20, 0, 4] {
        let e = told(ErrorClass::Refused, seconds);
        assert!(!causes(&e).contains(&Cause::BlockedBeforeHost), "{seconds}: {:?}", causes(&e));
    }
    expect(&told(ErrorClass::Refused, 5), Cause::BlockedBeforeHost, Likely, No);
    expect(&told(ErrorClass::ConnectTimeout, -20), Cause::BlockedBeforeHost, Certain, No);
}

#[test]
fn a_unit_that_runs_and_does_not_listen_is_restarted_once() {
    let dead = local(false, Some(ErrorClass::Refused), None);
    expect(&runs(ErrorClass::Refused, COMPOSE, dead.clone()), Cause::MainPortDead, Likely, Once);
    let never = with(runs(ErrorClass::Refused, COMPOSE, dead.clone()), |e| e.history.last_healthy = None);
    expect(&never, Cause::NeverStartedListening, Certain, Once);
    let elsewhere = with(runs(ErrorClass::Refused, "orders.service", dead.clone()), |e| {
        view_of(e).listens = vec!["*:8080".to_owned()]
    });
    says(&expect(&elsewhere, Cause::WrongPort, Likely, No).message, &["*:8080"]);
    // The agent says no more than that it runs.
    let d = expect(&runs(ErrorClass::Refused, COMPOSE, None), Cause::NothingListens, Likely, Once);
    says(&d.message, &["while the container of service orders"]);
    let young = with(runs(ErrorClass::Refused, COMPOSE, dead), |e| {
        (view_of(e).since, e.history.last_healthy) = (Some(Time(ago(30))), Some(ago(90)));
    });
    says(
        &expect(&young, Cause::StillStarting, Likely, No).message,
        &["is starting since", "it has until 2026-11-05T10:04:30Z"],
    );
    expect(&seen(ErrorClass::Refused, "orders.service", Activating), Cause::StillStarting, Likely, No);
}

#[test]
fn silence_of_a_machine_whose_agent_is_heard_is_the_path() {
    let d = expect(&runs(ErrorClass::ConnectTimeout, COMPOSE, None), Cause::HostSilent, Likely, No);
    says(&d.message, &["while its agent is heard"]);
    says(&d.advice, &["Allow TCP 8081 from 192.0.2.10/32"]);
}

#[test]
fn an_agent_that_could_not_look_or_is_silent_explains_nothing() {
    let blind = with(refused(Unknown), |e| {
        let view = view_of(e);
        (view.message, view.exit_code, view.oom_killed) =
            (Some("no permission for docker.sock".to_owned()), Some(137), true);
    });
    let d = expect(&blind, Cause::NothingListens, Likely, Once);
    says(&d.evidence.join("\n"), &["could not look", "docker.sock"]);
    let silent = with(refused(Exited), |e| {
        let missing = Some("its agent on vm-7 has been silent since 2026-11-05T09:00:00Z".to_owned());
        e.agent = Some(Agent { missing, ..Agent::default() });
    });
    let d = expect(&silent, Cause::NothingListens, Likely, Once);
    says(&d.evidence.join("\n"), &["silent since"]);
}

#[test]
fn contradictions_are_never_acted_upon() {
    // Gone, and answered: another process has its port.
    for (state, cause) in [(Exited, Cause::ContainerStopped), (Absent, Cause::ContainerAbsent)] {
        let e = with(refused(state), |e| view_of(e).probe = local(true, None, None));
        assert_eq!((diagnosis(&e).cause, diagnosis(&e).confidence), (cause, Possible));
    }
    // The agent's word against a probe that passes.
    for state in [Exited, Absent, Failed, Restarting, Unknown] {
        let well = with(refused(state), |e| e.vantages = vec![passing("target")]);
        assert_eq!(diagnose(&well), None, "{state}");
    }
    // Other failures keep their own causes: the process answered.
    let e = with(runs(ErrorClass::Refused, COMPOSE, local(true, None, None)), |e| {
        e.vantages = vec![answered("target", 503)]
    });
    assert!(!causes(&e).contains(&Cause::BlockedBeforeHost), "{:?}", causes(&e));
}

#[test]
fn the_environment_of_the_unit_explains_its_metrics_page() {
    let e = with(runs(ErrorClass::Refused, COMPOSE, local(true, None, None)), |e| {
        e.vantages = vec![answered("target", 404)];
        e.actuator = Lookup::Found(actuator());
        actuator_of(e).links = links(&[("self", "/actuator"), ("health", "/actuator/health")]);
        view_of(e).environment = set("MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE", "health");
    });
    let d = expect(&e, Cause::EndpointNotExposed, Certain, No);
    says(&d.advice, &["MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE", "compose file"]);
    let unread = with(e, |e| view_of(e).environment = None);
    assert_ne!(diagnosis(&unread).confidence, Certain, "an environment that was not read proves no absence");
}

#[test]
fn names_of_hosts_are_no_commands() {
    let e = with(refused(Exited), |e| view_of(e).host = Some("vm; reboot".to_owned()));
    let d = diagnosis(&e);
    assert!(!d.advice.contains("reboot") && d.advice.contains("ssh HOST vigie"), "{}", d.advice);
}

#[test]
fn restarts_of_long_ago_are_no_crash_loop() {
    let ended = |recent: Option<i64>| {
        with(refused(Restarting), |e| {
            let view = view_of(e);
            (view.exit_code, view.restarts, view.recent_restarts) = (Some(1), Some(10), recent);
        })
    };
    assert_eq!(causes(&ended(Some(1)))[0], Cause::RestartingLocally);
    assert_eq!(causes(&ended(Some(2)))[0], Cause::RestartingLocally);
    let looping = expect(&ended(Some(3)), Cause::CrashLoop, Likely, No);
    says(&looping.message, &["3 restarts in the last 15 min"]);
    assert_eq!(causes(&ended(None))[0], Cause::CrashLoop, "evidence that was saved before has only the total");
    // One that just started, after ten restarts in a year, is starting.
    let started = with(refused(Running), |e| {
        let view = view_of(e);
        (view.since, view.restarts, view.recent_restarts) = (Some(Time(ago(5))), Some(10), Some(1));
    });
    assert_eq!(causes(&started)[0], Cause::StillStarting);
    let started = with(started, |e| view_of(e).recent_restarts = Some(5));
    assert_eq!(causes(&started)[0], Cause::CrashLoop);
}
