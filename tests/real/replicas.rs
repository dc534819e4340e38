//! One replica of three is bad.

use serde_json::json;

use crate::app::{App, CONTROL, post, running};
use crate::person::explained;
use crate::place;
use crate::support::world::SOON;
use crate::support::{eventually, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_of_three_is_named_by_the_pods_and_by_the_service() {
    let world = place::world("real-replica").await;
    let _operator = world.operator(&[]).await;
    let app = App::misbehave("shop", &[]).spec(json!({"replicas": 3}));
    app.deploy(&world).await;
    for (name, target) in [("pods", app.at_pods("/metrics")), ("service", app.at_service("/metrics"))] {
        let mut spec = app.backend(target, json!({"metrics": {}}));
        // A pod that has answered at its own address is not starting any more, however young it is. Behind the Service
        // only its age says so.
        if name == "service" {
            spec["startupSeconds"] = json!(2);
        }
        world.backend(name, spec).await;
    }
    let pods = running(&world, "shop", 3).await;
    for name in ["pods", "service"] {
        world.backend_is(SOON, name, "Up", "").await;
    }

    let bad = pods[1].metadata.name.as_deref().unwrap();
    post(&pods[1], CONTROL, "/_/hang?port=main");
    let only = format!("`kubectl -n {} delete pod {bad}`", world.ns);
    let says = [bad, "(FirstByteTimeout)", "2 of 3 pass", &only];
    let seen = explained(&world, "pods", "Degraded", "OneReplicaBad", &says).await;
    assert_eq!(text(&seen, "/status/diagnosis/restartHelps"), "Once", "{seen:#}");
    // Probes through the Service reach it now and then; the first that does has every pod probed.
    let says = [bad, "(FirstByteTimeout)", "2 of 3 pass", &only];
    let named = |found: &serde_json::Value| {
        let diagnosis = &found["status"]["diagnosis"];
        let told = format!("{}\n{}", text(diagnosis, "/message"), text(diagnosis, "/advice"));
        text(diagnosis, "/cause") == "OneReplicaBad" && says.iter().all(|word| told.contains(word))
    };
    world.sees_backend(5 * SOON, "service", "OneReplicaBad", named).await;

    // The advice cures it.
    crate::person::obey(&world, &seen);
    running(&world, "shop", 3).await;
    eventually(SOON, "the bad one is gone", async || {
        let names: Vec<_> =
            crate::app::pods(&world, "shop").await.into_iter().filter_map(|pod| pod.metadata.name).collect();
        if names.iter().any(|name| name == bad) { Err(format!("{names:?}")) } else { Ok(()) }
    })
    .await;
    for name in ["pods", "service"] {
        world.backend_is(SOON, name, "Up", "").await;
    }
}
