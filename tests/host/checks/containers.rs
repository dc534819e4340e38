//! Containers of Docker.

use super::{FORWARD, NOWHERE, VIGIE, break_and_repair, configure, fault, is_told, look_by, told};
use crate::machine::Machine;

/// A service of compose, by the labels that compose sets.
const APP: &str = "docker run -d --name app --restart unless-stopped --health-cmd 'test ! -e /tmp/ill' \
    --health-interval 1s --health-retries 1 \
    --label com.docker.compose.project=orders --label com.docker.compose.service=app \
    --label com.docker.compose.project.working_dir=/srv/orders busybox:1";
const DB: &str = "docker run -d --name db --label com.docker.compose.project=orders \
    --label com.docker.compose.service=db --label com.docker.compose.project.working_dir=/srv/orders busybox:1";

#[test]
fn a_container_is_told_as_it_is() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    // Docker drops what it does not forward only where it turned forwarding on; a machine begins as its host is.
    machine.run("sysctl -q -w net.ipv4.ip_forward=0").ok();
    machine.docker();
    machine.run(&format!("{APP} sleep 9999 && {DB} sleep 9999")).ok();
    let anew = format!("docker rm -f app && {APP} sleep 9999");
    configure(&machine, NOWHERE, "unit: compose:orders:app\nchecks: [{type: Process}]\n");
    let fault = |cause, status, words, cure| fault("Process", cause, status, words, cure);
    let faults = [
        fault(
            "docker stop -t 0 app",
            "Fail",
            &["compose:orders:app is stopped on purpose since", "docker start app"],
            "docker start app",
        ),
        fault(
            "docker update --restart no app && kill -9 $(docker inspect -f '{{.State.Pid}}' app)",
            "Fail",
            &["compose:orders:app ended (exit 137) since"],
            "docker start app && docker update --restart always app",
        ),
        fault(
            "docker update --restart no app",
            "Warn",
            &["nothing restarts it while vigie cannot be reached: docker update --restart unless-stopped app"],
            "docker update --restart unless-stopped app",
        ),
        fault("docker pause app", "Fail", &["is paused", "docker unpause app"], "docker unpause app"),
        fault(
            "docker exec app sh -c 'echo >/tmp/ill'",
            "Fail",
            &["runs, and its own health check fails: docker inspect app"],
            &anew,
        ),
        fault(
            "docker rm -f app",
            "Fail",
            &["compose:orders:app has no container: cd /srv/orders && docker compose up -d app"],
            &anew,
        ),
        fault(
            "docker rm -f app db",
            "Fail",
            &["compose:orders:app has no container: docker compose -p orders up -d app, in the directory"],
            &anew,
        ),
        fault(
            "systemctl stop docker.socket docker",
            "Unknown",
            &["could not look: /var/run/docker.sock: "],
            "systemctl start docker",
        ),
    ];
    break_and_repair(&machine, &faults);

    let crash = "sh -c 'echo java.net.ConnectException: db: Connection refused; exit 3'";
    machine.run(&format!("docker rm -f app && {APP} {crash}")).ok();
    machine.eventually("Docker restarts it", || {
        let words = ["compose:orders:app ended (exit 3), and Docker restarts it by itself: java.net.ConnectException"];
        is_told(&told(&look_by(&machine, "").0["checks"]), "Process", "Warn", &words)
    });
    machine.run(&format!("docker rm -f app && {} sleep 9999", APP.replace("docker run -d", "docker create"))).ok();
    let created = told(&look_by(&machine, "").0["checks"]);
    is_told(&created, "Process", "Fail", &["compose:orders:app was never started: docker start app"]).unwrap();

    // Docker forwards nothing from a tunnel by itself, and the advice ends that.
    machine.run(&format!("{FORWARD} && ip link add wg0 type veth && ip link set wg0 up")).ok();
    configure(&machine, NOWHERE, "checks: [{type: IPForwarding}]\n");
    let is_forwarding =
        |status, words| is_told(&told(&look_by(&machine, "").0["checks"]), "IPForwarding", status, words);
    let words = ["ip filter FORWARD drops what it does not name", "from wg0", "(with Docker: DOCKER-USER)"];
    is_forwarding("Warn", &words).unwrap();
    machine.run("iptables -I DOCKER-USER -i wg0 -j ACCEPT").ok();
    is_forwarding("Pass", &[]).unwrap();
}
