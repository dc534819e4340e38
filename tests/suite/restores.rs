//! etcd is restored from an older copy while the operator runs: its versions go backwards, and objects are as they were.

use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;

use crate::beats::said;
use crate::support::cluster::Cluster;
use crate::support::process::run;
use crate::support::world::SOON;
use crate::support::{Beater, World, eventually, quick, seconds, text, time};

/// Stops etcd and the API server, copies the data of etcd, and starts both again.
fn with_etcd_stopped(cluster: &Cluster, copy: impl Fn(&str, &str)) {
    let data = cluster.dir().join("data/etcd").display().to_string();
    let kept = cluster.dir().join("etcd.kept").display().to_string();
    cluster.command(&["stop-component", "apiserver", "etcd"]).ok();
    copy(&data, &kept);
    cluster.command(&["start-component", "etcd", "apiserver"]).ok();
}

fn replace(from: &str, to: &str) {
    run(Command::new("rm").args(["-rf", to])).ok();
    run(Command::new("cp").args(["-a", from, to])).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_etcd_is_read_anew_and_nothing_of_the_time_after_the_copy_is_remembered() {
    let cluster = Cluster::private("restored");
    let world = World::on(cluster.clone(), "restored").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let silent = world.connector("silent-1", quick()).await;
    let beater = Beater::start(&[operator.beats()], &edge, seconds(2), Value::Null);
    let mut dying = Some(Beater::start(&[operator.beats()], &silent, seconds(2), Value::Null));
    world.state(SOON, "edge-1", "Online").await;
    world.state(SOON, "silent-1", "Online").await;

    with_etcd_stopped(&cluster, replace);
    eventually(seconds(120), "the API server answers again", async || {
        let ran = world.kubectl(&["annotate", "connector", "edge-1", "--overwrite", "example.com/round=1"]);
        if ran.code == 0 { Ok(()) } else { Err(ran.stderr) }
    })
    .await;
    // The versions move on, and so does the fleet.
    let later = world.connector("later-1", quick()).await;
    assert_eq!(later.status(operator.beats()), 200);
    for round in 2..40 {
        let round = format!("example.com/round={round}");
        world.kubectl(&["annotate", "connector", "edge-1", "--overwrite", &round]).ok();
    }
    dying.take();
    with_etcd_stopped(&cluster, |data, kept| replace(kept, data));
    let restored = Timestamp::now();

    eventually(seconds(120), "the connector that the copy does not have is forgotten", async || {
        // The port is closed for a moment while everything is read anew.
        match operator.try_view("later-1") {
            Ok(None) if operator.log().contains("etcd was restored from a copy") => Ok(()),
            other => Err(format!("{other:?}: {}", operator.log())),
        }
    })
    .await;
    operator.hearing().await;
    assert_eq!(later.status(operator.beats()), 401, "its token is unknown, too");
    world
        .sees(seconds(120), "edge-1", "its last contact after the restore is written", |seen| {
            text(seen, "/status/state") == "Online" && time(seen, "/status/lastHeartbeatTime") > restored
        })
        .await;
    // The copy has it Online, and it was not heard since.
    world.state(seconds(180), "silent-1", "Offline").await;
    // Changes are seen: a new connector gets its token.
    let fresh = world.connector("fresh-1", quick()).await;
    assert_eq!(fresh.status(operator.beats()), 200);
    beater.stop();
    // A token that is revoked now is not heard, although its hash was read with a higher version before.
    assert_eq!(edge.status(operator.beats()), 200);
    world.vigie(&["token", "revoke", "edge-1", "-n", &world.ns, "--yes"]).ok();
    eventually(SOON, "the revoked token is refused", async || match edge.status(operator.beats()) {
        401 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    let seen = world.sees(SOON, "edge-1", "a new token", |seen| said(seen, "Provisioned") == "True/Provisioned").await;
    assert_ne!(world.installed("edge-1").await.token, edge.token, "{seen:#}");
}
