//! Restarts of containers and of services of compose, as a real Docker and a real `docker compose` carry them out.

use std::path::Path;
use std::process::Command;

use crate::agent_machine::{self, Asker, HELPER, ask, restart_line};
use crate::machine::{Machine, tool};
use crate::stand_in::StandIn;
use crate::support::process::run;

/// In the home of a user, with a file that is not called as compose expects, and a dependency that is stopped.
const PROJECT: &str = "/home/alice/shop";
const SHOP: &str = "
services:
  db: {image: 'busybox:1', command: ['sleep', '1000000'], stop_signal: KILL}
  web: {image: 'busybox:1', command: ['sleep', '1000000'], stop_signal: KILL, depends_on: [db]}
";

fn machine() -> Machine {
    let machine = Machine::start();
    machine.docker();
    let compose = run(&mut Command::new(tool("compose.sh"))).ok();
    machine.copy(Path::new(compose.trim()), "/usr/libexec/docker/cli-plugins/docker-compose");
    machine.write(&format!("{PROJECT}/prod.yml"), SHOP);
    machine.run("useradd --uid 1000 alice && chown -R alice /home/alice && chmod -R go= /home/alice").ok();
    machine.run(&format!("docker compose --file {PROJECT}/prod.yml up --detach")).ok();
    machine
}

/// The id and the start of a container, or a word that there is none.
fn started(machine: &Machine, name: &str) -> String {
    let seen =
        machine.run(&format!("docker inspect -f '{{{{.Id}}}} {{{{.State.StartedAt}}}} {{{{.State.Running}}}}' {name}"));
    if seen.code == 0 { seen.stdout.trim().to_owned() } else { "absent".to_owned() }
}

#[track_caller]
fn restarts(machine: &Machine, operator: &StandIn, id: &str, target: &str) {
    let told = operator.restart(id, target);
    assert!(told.succeeded, "{told:?}\n{}", machine.journal(HELPER));
}

#[test]
fn a_container_and_a_service_of_compose_are_restarted_and_nothing_beside_them() {
    let (machine, operator) = (machine(), StandIn::start());
    machine.run("docker run --detach --name app --stop-signal KILL busybox:1 sleep 1000000").ok();
    machine.run("docker run --detach --name web --stop-signal KILL busybox:1 sleep 1000000").ok();
    machine.run("docker run --detach --name loop busybox:1 sh -c 'sleep 1; exit 3'").ok();
    let keys = "checks: []\nrestart: ['container:app', 'container:loop', 'compose:shop:web']\n";
    agent_machine::start(&machine, &operator, keys);
    let others = || ["web", "shop-db-1"].map(|name| started(&machine, name));
    let before = others();

    let app = started(&machine, "app");
    restarts(&machine, &operator, "1", "container:app");
    let restarted = started(&machine, "app");
    let id = |started: &str| started.split(' ').next().map(str::to_owned);
    assert!(restarted != app && id(&restarted) == id(&app), "{app}, then {restarted}");
    assert!(restarted.ends_with("true"), "{restarted}");

    machine.run("docker stop shop-web-1").ok();
    restarts(&machine, &operator, "2", "compose:shop:web");
    assert!(started(&machine, "shop-web-1").ends_with("true"));

    // The name of a service is no name of a container, and neither is listed for the other.
    for (id, target) in [("3", "container:web"), ("4", "compose:shop:db"), ("5", "compose:other:web")] {
        let told = operator.restart(id, target);
        assert!(!told.succeeded && told.message.contains("not allowed by restart:"), "{told:?}");
    }
    machine.run("docker rm --force shop-web-1").ok();
    let told = operator.restart("6", "compose:shop:web");
    let command = format!("cd {PROJECT} && docker compose up -d web");
    assert!(!told.succeeded && told.message.contains(&command), "{told:?}");
    assert_eq!(started(&machine, "shop-web-1"), "absent");
    assert_eq!(others(), before);

    // One that ends again and again.
    for at in 0..4 {
        let line = restart_line(&format!("loop/{at}"), "container:loop");
        let answer = machine.eventually("its outcome", || {
            let answer = ask(&machine, Asker::Agent, &line);
            if answer.contains("settled") { Ok(answer) } else { Err(answer) }
        });
        let is_refused = answer.contains("at most 3 times in 10 minutes");
        assert!(answer.contains("\"succeeded\":false") && is_refused == (at == 3), "{at}: {answer}");
    }
    assert_eq!(operator.contradictions(), Vec::<String>::new());
}

#[test]
fn an_absent_service_is_created_from_the_files_of_its_project_where_the_configuration_allows_it() {
    let (machine, operator) = (machine(), StandIn::start());
    agent_machine::start(&machine, &operator, "checks: []\ncomposeUp: true\nrestart: ['compose:shop:web']\n");
    machine.run("docker stop shop-db-1 && docker rm --force shop-web-1").ok();
    let db = started(&machine, "shop-db-1");
    restarts(&machine, &operator, "1", "compose:shop:web");
    let created = started(&machine, "shop-web-1");
    assert!(created.ends_with("true"), "{created}");
    assert_eq!(started(&machine, "shop-db-1"), db, "its dependency was stopped, and is not listed");
    assert_eq!(machine.property(HELPER, "NRestarts"), "0", "{}", machine.journal(HELPER));

    // The helper dies while compose is at work.
    machine.run("docker rm --force shop-web-1").ok();
    operator.offer("2", "compose:shop:web", jiff::SignedDuration::from_mins(10));
    machine.eventually("compose is at work", || {
        let units = machine.run("systemctl list-units --plain --no-legend 'vigie-agent-compose:*'");
        if units.stdout.contains("compose:shop:web") { Ok(()) } else { Err(format!("{units:?}")) }
    });
    agent_machine::kill(&machine, HELPER);
    let told = operator.outcome("2");
    assert!(told.succeeded, "{told:?}\n{}", machine.journal(HELPER));
    let events = "docker events --since 10m --until 0s --filter event=create --filter container=shop-web-1";
    let events = machine.run(events).ok();
    // Those of the first up, of the first restart and of the second.
    assert_eq!(events.lines().count(), 3, "{events}");

    // Its image is gone: nothing is pulled, and the reason is compose's own.
    machine.run("docker rm --force shop-web-1").ok();
    machine.run(&format!("sed -i 's/web: {{image: .busybox:1./web: {{image: nothing:9/' {PROJECT}/prod.yml")).ok();
    let told = operator.restart("3", "compose:shop:web");
    assert!(!told.succeeded && told.message.contains("nothing:9"), "{told:?}");
    assert_eq!(started(&machine, "shop-web-1"), "absent");
    assert_eq!(operator.contradictions(), Vec::<String>::new());
}
