//! Faults that a restart cannot cure: nothing is changed, and the reason is reported.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{cared_for, patient, printed, settings};
use crate::app::{App, CONTROL, address, pods, post, running};
use crate::person::STARTED;
use crate::place;
use crate::support::http::exchange;
use crate::support::workloads::remediating;
use crate::support::world::SOON;
use crate::support::{Operator, World, eventually, never, seconds, text};

/// Waits until a restart is denied for this reason, with these words, and the cause is one of these.
async fn is_denied(world: &World, name: &str, causes: &[&str], reason: &str, says: &str) -> Value {
    let wanted = |found: &Value| {
        let denial = &found["status"]["remediation"]["lastDenial"];
        causes.contains(&text(found, "/status/diagnosis/cause"))
            && text(found, "/status/state") == "Down"
            && remediating(found) == ("False", reason)
            && text(denial, "/reason") == reason
            && text(denial, "/message").contains(says)
    };
    world.sees_backend(STARTED, name, &format!("{causes:?} denied: {reason} {says:?}"), wanted).await
}

/// Fails if anything was changed, or is within a while; or if anything reports a change.
async fn nothing_was_restarted(world: &World, operator: &Operator, names: &[&str], reasons: &[&str]) {
    never(seconds(10), "a workload is changed", async || {
        let touches = world.touches();
        (!touches.is_empty()).then(|| format!("{touches:?}"))
    })
    .await;
    for name in names {
        let remedies = world.get_backend(name).await["status"]["remediation"].clone();
        assert_eq!(remedies["restarts"], json!(0), "{name}: {remedies:#}");
        for field in ["current", "history", "ledger"] {
            assert_eq!(remedies.get(field), None, "{name}: {remedies:#}");
        }
        assert_eq!(printed(world, "monitoredbackend", name, "RESTARTS"), "0");
        assert!(world.attempts_of(name).await.is_empty(), "{name}");
        assert!(world.events(name, "RestartStarted").await.is_empty(), "{name}");
    }
    let scrape = operator.scrape();
    assert_eq!(scrape.sum("vigie_remedies_total", &[]), 0.0);
    for reason in reasons {
        assert!(scrape.sum("vigie_remedy_denials_total", &[&format!("reason=\"{reason}\"")]) >= 1.0, "{reason}");
    }
}

/// Calls a control page of an app's pod as often as needed until `is_so`.
async fn provoked(world: &World, app: &str, page: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(2 * SOON, what, async || {
        for at in pods(world, app).await.iter().filter_map(address) {
            let request = format!("POST {page} HTTP/1.1\r\nHost: it\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // It may not run at the moment.
            let _ = exchange((at, CONTROL).into(), request.as_bytes());
        }
        let found = world.get_backend(app).await;
        if is_so(&found) { Ok(found) } else { Err(format!("{:#}", found["status"])) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_again_and_again_or_cannot_start_is_not_restarted() {
    let world = place::world("remedy-loops").await;
    let operator = world.operator(&["--breaker-min", "1000"]).await;
    settings(&world, "crash", json!({"after": "0s"})).await;
    let crash = App::misbehave("crash", &["--exit", "3"]).setting("MISBEHAVE_CRASH_AFTER", "crash", "after");
    let small = json!({"memory": "48Mi"});
    let memory = App::misbehave("memory", &[]).container(json!({"resources": {"limits": small, "requests": small}}));
    let image = App::misbehave("image", &[])
        .spec(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}, "progressDeadlineSeconds": 5}));
    for app in [&crash, &memory, &image] {
        app.deploy(&world).await;
        let mut spec = cared_for(app, app.at_service("/metrics"), json!({"metrics": {}}));
        // The kubelet reports a container's end a moment after the port closes: until then the cause is a dead port.
        spec["remediation"]["unhealthyForSeconds"] = json!(10);
        world.backend(&app.name, spec).await;
    }
    for app in [&crash, &memory, &image] {
        world.backend_is(SOON, &app.name, "Up", "").await;
    }

    settings(&world, "crash", json!({"after": "-1s"})).await;
    world.kubectl(&["set", "image", "deployment/image", "app=registry.example.com/shop:9"]).ok();
    let is_denied_for = |cause: &'static str| {
        move |found: &Value| {
            text(found, "/status/diagnosis/cause") == cause && remediating(found) == ("False", "RestartCannotHelp")
        }
    };
    let crashes = provoked(&world, "crash", "/_/crash?code=3", "a crash loop", is_denied_for("CrashLoop"));
    let leaks = provoked(&world, "memory", "/_/leak", "an OOM loop", is_denied_for("OutOfMemory"));
    tokio::join!(crashes, leaks);
    is_denied(&world, "image", &["ImagePullFailed"], "RestartCannotHelp", "").await;
    nothing_was_restarted(&world, &operator, &["crash", "memory", "image"], &["RestartCannotHelp"]).await;
}

/// Replaces the pod of the application: the new one has the current settings and the same template.
async fn replaced(world: &World, app: &str) {
    let pod = running(world, app, 1).await.remove(0);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    world.api::<Pod>().delete(&pod.name_any(), &at_once).await.expect("a pod is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spring_application_without_its_database_or_with_a_wrong_configuration_is_not_restarted() {
    let _jvm = place::jvms(1).await;
    let world = place::world("remedy-spring-no").await;
    let operator = world.operator(&[]).await;
    settings(&world, "shop", json!({"url": "jdbc:h2:mem:backend"})).await;
    let show = ("MANAGEMENT_ENDPOINT_HEALTH_SHOW_COMPONENTS", "always");
    let app = App::spring("shop", &[show, ("SPRING_DATASOURCE_HIKARI_CONNECTIONTIMEOUT", "1000")])
        .setting("SPRING_DATASOURCE_URL", "shop", "url")
        .container(json!({"terminationMessagePolicy": "FallbackToLogsOnError"}));
    app.deploy(&world).await;
    world.backend("shop", patient(&app)).await;
    world.backend_is(STARTED, "shop", "Up", "").await;

    // Nothing listens on this address: the application runs, and answers 503.
    settings(&world, "shop", json!({"url": "jdbc:postgresql://127.0.0.1:5432/orders?connectTimeout=1"})).await;
    replaced(&world, "shop").await;
    is_denied(&world, "shop", &["DependencyDown"], "RestartCannotHelp", "component db").await;
    nothing_was_restarted(&world, &operator, &["shop"], &["RestartCannotHelp"]).await;

    settings(&world, "shop", json!({"url": null})).await;
    replaced(&world, "shop").await;
    is_denied(&world, "shop", &["CrashLoopConfig"], "RestartCannotHelp", "Failed to configure a DataSource").await;
    nothing_was_restarted(&world, &operator, &["shop"], &["RestartCannotHelp"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_way_in_front_of_healthy_pods_restarts_nothing() {
    let world = place::world("remedy-way").await;
    let operator = world.operator(&["--breaker-min", "1000"]).await;
    let ready = json!({"readinessProbe": {"periodSeconds": 1, "httpGet": {"path": "/_/ready", "port": CONTROL}}});
    let [port, refused, hung] = ["port", "refused", "hung"].map(|name| App::misbehave(name, &[]));
    let ways = ["way-refused", "way-hung"].map(|name| App::misbehave(name, &[]).container(ready.clone()));
    for app in [&port, &refused, &hung, &ways[0], &ways[1]] {
        app.deploy(&world).await;
    }
    world.backend("port", cared_for(&port, port.at_service("/metrics"), json!({"metrics": {}}))).await;
    // A person's URL from outside, like an Ingress; the pods behind it are healthy.
    let mut pods = Vec::new();
    for (app, way) in [&refused, &hung].into_iter().zip(&ways) {
        let pod = running(&world, &way.name, 1).await.remove(0);
        let url = format!("http://{}:8080/metrics", address(&pod).expect("it runs"));
        world.backend(&app.name, cared_for(app, json!({"url": url}), json!({"metrics": {}}))).await;
        pods.push(pod);
    }
    for name in ["port", "refused", "hung"] {
        world.backend_is(SOON, name, "Up", "").await;
    }

    let wrong = json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8081}]}});
    world.kubectl(&["patch", "service", "port", "--type", "merge", "-p", &wrong.to_string()]).ok();
    post(&pods[0], CONTROL, "/_/refuse?port=main");
    post(&pods[1], CONTROL, "/_/hang?port=main");
    is_denied(&world, "port", &["ServicePortMismatch"], "RestartCannotHelp", "targetPort 8081").await;
    let held = |found: &Value| {
        text(found, "/status/state") == "Down" && ["PodsHealthy", "RestartCannotHelp"].contains(&remediating(found).1)
    };
    for name in ["refused", "hung"] {
        world.sees_backend(SOON, name, "it is left alone", held).await;
    }
    nothing_was_restarted(&world, &operator, &["port", "refused", "hung"], &["RestartCannotHelp"]).await;
}
