//! A rolling upgrade under load.

use crate::release::{Release, names, world};
use crate::senders::kinds;
use crate::support::beats::Beaten;
use crate::support::fleet::Fleet;
use crate::support::world::SOON;
use crate::support::{eventually, seconds};

/// The size of the fleet in the issue about rolling upgrades.
const FLEET: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_under_a_thousand_connectors_loses_no_beat_and_accuses_nobody() {
    let world = world("rolling").await;
    let release = Release::install(&world, &[]).await;
    let named: Vec<String> = (0..FLEET).map(|number| format!("edge-{number:04}")).collect();
    for name in &named {
        world.create(name, serde_json::json!({})).await;
    }
    let mut edges = Vec::new();
    for name in &named {
        edges.push(world.installed(name).await);
    }
    let to = release.beats().await;
    let senders = Fleet::reconnecting(to, &edges, seconds(10), 16);
    let history = world.history();
    eventually(seconds(180), "all of them are Online", async || {
        let online = named.iter().filter(|name| history.of_connector(name).last().is_some_and(|last| last == "Online"));
        let online = online.count();
        if online == FLEET { Ok(()) } else { Err(format!("{online} of {FLEET}")) }
    })
    .await;
    let first: Vec<_> = senders.stop().into_iter().filter(Beaten::is_lost).collect();
    assert_eq!(kinds(&first), [], "before anything happens every beat is heard once its token is known");

    let senders = Fleet::reconnecting(to, &edges, seconds(10), 16);
    let before = names(&release.pods().await);
    release.upgrade(&["log.level=debug", "extraEnv[0].name=UPGRADED", "extraEnv[0].value=yes"]);
    let after = eventually(SOON, "all pods are new", async || {
        let after = names(&release.pods().await);
        if after.len() == 2 && after.iter().all(|pod| !before.contains(pod)) {
            Ok(after)
        } else {
            Err(format!("{after:?}"))
        }
    })
    .await;
    // Another whole round of the fleet's beats, so that the new leader heard each.
    let (so_far, round) = (senders.heard(), FLEET as u64);
    eventually(SOON, "another round of beats", async || {
        let more = senders.heard() - so_far;
        if more >= 2 * round { Ok(()) } else { Err(format!("{more}")) }
    })
    .await;
    let heard = senders.heard();
    let put_off = senders.stop();
    println!("{heard} beats heard during and after the upgrade {before:?} -> {after:?}; others: {:?}", kinds(&put_off));
    if let (Some(first), Some(last)) = (put_off.first(), put_off.last()) {
        println!("the first of those at {}, the last at {}", first.sent, last.sent);
    }
    for beat in &put_off {
        let answer = beat.answer.as_ref().unwrap_or_else(|error| panic!("at {}: {error}", beat.sent));
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok()), "{answer:?}");
    }
    for name in &named {
        let states = history.of_connector(name);
        let expected = states.iter().skip_while(|state| *state != "Online").all(|state| state == "Online");
        assert!(expected, "{name} was seen as {states:?}");
    }
    release.had_one_writer_at_a_time();
}
