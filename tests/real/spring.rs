//! A real Spring Boot application with every fault of the founding incident, and the diagnoses.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::app::{App, merge, pods, post, running};
use crate::person::{STARTED, blames_nobody_between, explained, obey};
use crate::place;
use crate::support::world::SOON;
use crate::support::{World, text, time};

const DATABASE: (&str, &str) = ("SPRING_DATASOURCE_URL", "jdbc:h2:mem:backend");
const EXPOSED: (&str, &str) = ("MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE", "health,prometheus");
const PAGE: &str = "/actuator/prometheus";

/// Deploys the application, and a backend of the same name that probes this path of its Service.
async fn deployed(world: &World, app: &App, path: &str, probe: Value) {
    app.deploy(world).await;
    world.backend(&app.name, app.backend(app.at_service(path), probe)).await;
}

/// The time at which a pod became Ready.
fn ready_since(pod: &Pod) -> Option<jiff::Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_not_exposed_is_up_within_two_intervals_of_what_the_advice_says() {
    // The old and the new pod run side by side.
    let _jvms = place::jvms(2).await;
    let world = place::world("spring-exposure").await;
    let _operator = world.operator(&[]).await;
    let asks =
        json!({"httpGet": {"path": "/actuator/health", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5});
    let app = App::spring("shop", &[DATABASE]).container(json!({"readinessProbe": asks}));
    app.deploy(&world).await;
    // With the default interval: every 15 seconds.
    let mut spec = app.backend(app.at_service(PAGE), json!({}));
    spec["probe"] = json!({"metrics": {}});
    world.backend("shop", spec).await;
    let before = running(&world, "shop", 1).await;
    let set = format!("set env deployment/shop -c app {}={}", EXPOSED.0, EXPOSED.1);
    let says = ["404", "lists only health", "is not set, and should be health,prometheus", &set];
    let down = explained(&world, "shop", "Down", "EndpointNotExposed", &says).await;
    assert_eq!(text(&down, "/status/diagnosis/confidence"), "Likely", "{down:#}");
    // From outside the cluster the result is the same, by the status that the operator wrote.
    let ran = world.vigie(&["diagnose", "backend", "shop", "-n", &world.ns]);
    assert_eq!(ran.code, 3, "{ran:?}");
    for part in ["shop is Down: EndpointNotExposed", "health,prometheus", "RUN NEXT", "set env deployment/shop --list"]
    {
        assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
    }

    obey(&world, &down);
    let up = world.backend_is(STARTED, "shop", "Up", "").await;
    let after = pods(&world, "shop").await.into_iter().find(|pod| pod.name_any() != before[0].name_any());
    let ready = ready_since(&after.expect("a new pod answers")).expect("and is Ready");
    let took = time(&up, "/status/stateSince").duration_since(ready);
    println!("Up {took:#} after its pod was Ready");
    // The first scrape of a cold JVM may hit its timeout, and costs another interval.
    assert!(took.as_secs() <= 30 + 15, "two intervals of 15 s: it took {took:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_endpoint_is_told_by_its_variable_and_a_hang_as_one() {
    let _jvm = place::jvms(1).await;
    let world = place::world("spring-access").await;
    let _operator = world.operator(&[]).await;
    let app = App::spring("shop", &[DATABASE, EXPOSED, ("MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS", "NONE")]);
    deployed(&world, &app, PAGE, json!({"metrics": {}})).await;
    let set = "set env deployment/shop -c app MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS=read-only`";
    let says = ["MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS=NONE in container app", set, "Spring Boot 3.4 and later"];
    explained(&world, "shop", "Down", "EndpointDisabled", &says).await;

    world.backend("health", app.backend(app.at_service("/actuator/health"), json!({}))).await;
    world.backend_is(STARTED, "health", "Up", "").await;
    post(&running(&world, "shop", 1).await[0], 8080, "/hang");
    let hung = explained(&world, "health", "Down", "Hung", &["sends no byte", "jcmd 1 Thread.print"]).await;
    assert_eq!(text(&hung, "/status/diagnosis/restartHelps"), "Once", "{hung:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_moved_is_told_with_the_one_that_answers() {
    let _jvm = place::jvms(1).await;
    let world = place::world("spring-path").await;
    let _operator = world.operator(&[]).await;
    let app = App::spring("shop", &[DATABASE, EXPOSED, ("MANAGEMENT_ENDPOINTS_WEB_BASE_PATH", "/manage")]);
    deployed(&world, &app, PAGE, json!({"metrics": {}})).await;
    let says = ["/actuator/prometheus answers 404", "under /manage/prometheus", "the actuator answers under /manage"];
    explained(&world, "shop", "Down", "WrongPath", &says).await;
    let right = json!({"spec": {"target": {"service": {"path": "/manage/prometheus"}}}});
    world.kubectl(&["patch", "monitoredbackend", "shop", "--type", "merge", "-p", &right.to_string()]).ok();
    world.backend_is(SOON, "shop", "Up", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_management_port_of_its_own_is_named_and_outlives_the_main_one() {
    let _jvm = place::jvms(1).await;
    let world = place::world("spring-port").await;
    let _operator = world.operator(&[]).await;
    let main = json!({"name": "http", "port": 80, "targetPort": "http"});
    let management = json!({"name": "management", "port": 8081, "targetPort": 8081});
    let app = App::spring("shop", &[DATABASE, EXPOSED, ("MANAGEMENT_SERVER_PORT", "8081")])
        .service(json!({"ports": [main, management]}));
    deployed(&world, &app, PAGE, json!({"metrics": {}})).await;
    world.backend("main", app.backend(app.at_service("/"), json!({"actuator": {"port": 8081}}))).await;
    let says = ["port 8080 answers 404", "on port 8081 (MANAGEMENT_SERVER_PORT=8081", "Service shop", "leads to 8081"];
    explained(&world, "shop", "Down", "WrongPort", &says).await;
    world.backend_is(STARTED, "main", "Up", "").await;

    let pods = running(&world, "shop", 1).await;
    post(&pods[0], 8080, "/hang");
    let says = ["its management port is UP while its main port 8080 does not answer", "jcmd 1 Thread.print"];
    let dead = explained(&world, "main", "Down", "MainPortDead", &says).await;
    assert_eq!(text(&dead, "/status/diagnosis/restartHelps"), "Once", "{dead:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_loopback_is_told_by_the_setting_that_binds_it() {
    let _jvm = place::jvms(1).await;
    let world = place::world("spring-loopback").await;
    let _operator = world.operator(&[]).await;
    let app = App::spring("shop", &[DATABASE, EXPOSED, ("SERVER_ADDRESS", "127.0.0.1")]);
    deployed(&world, &app, PAGE, json!({"metrics": {}})).await;
    let says =
        ["port 8080 is refused", "SERVER_ADDRESS=127.0.0.1", "set env deployment/shop -c app SERVER_ADDRESS=0.0.0.0`"];
    let down = explained(&world, "shop", "Down", "BoundToLoopback", &says).await;
    blames_nobody_between(&down["status"].to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_named_once_the_advice_is_followed() {
    // During a rollout, two run.
    let _jvms = place::jvms(2).await;
    let world = place::world("spring-database").await;
    let _operator = world.operator(&[]).await;
    // Connections to it are never answered, as behind a firewall rule that drops them.
    let postgres = json!({"name": "postgres", "port": 5432, "targetPort": 5432});
    let database = App::misbehave("orders-db", &["--blackhole", "0.0.0.0:5432"]);
    database.service(json!({"ports": [postgres]})).deploy(&world).await;
    running(&world, "orders-db", 1).await;
    let app = App::spring("shop", &[("SPRING_DATASOURCE_URL", "jdbc:postgresql://orders-db:5432/orders")]);
    // The pool gives up within two of its timeouts.
    let patient = json!({"actuator": {}, "intervalSeconds": 5, "timeoutSeconds": 5});
    deployed(&world, &app, "/actuator/health", patient).await;
    // With Spring Boot's defaults: the driver and the pool wait longer than any probe.
    let says = ["nothing within 5 s while its actuator answers", "its database", "HIKARI_CONNECTIONTIMEOUT=1000`"];
    let waits = explained(&world, "shop", "Down", "DependencyDown", &says).await;
    assert_eq!(text(&waits, "/status/diagnosis/restartHelps"), "No", "{waits:#}");

    obey(&world, &waits);
    assert!(text(&waits, "/status/diagnosis/advice").contains("a connectTimeout in the JDBC URL"), "{waits:#}");
    let url = "SPRING_DATASOURCE_URL=jdbc:postgresql://orders-db:5432/orders?connectTimeout=1";
    world.kubectl(&["set", "env", "deployment/shop", url]).ok();
    let says = ["without saying which component", "MANAGEMENT_ENDPOINT_HEALTH_SHOW_COMPONENTS=always`"];
    let unnamed = explained(&world, "shop", "Down", "DependencyDown", &says).await;

    obey(&world, &unnamed);
    let says = ["its health is DOWN because of component db (its database)", "Restarting the backend cures nothing"];
    let named = explained(&world, "shop", "Down", "DependencyDown", &says).await;
    assert_eq!(text(&named, "/status/diagnosis/restartHelps"), "No", "{named:#}");
    assert!(!named["status"].to_string().contains("orders-db"), "the page's text about it is not reported: {named:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_is_quoted_and_so_is_what_it_advises() {
    let _jvm = place::jvms(1).await;
    let world = place::world("spring-start").await;
    let _operator = world.operator(&[]).await;
    let app = App::spring("shop", &[]).container(json!({"terminationMessagePolicy": "FallbackToLogsOnError"}));
    deployed(&world, &app, PAGE, json!({"metrics": {}})).await;
    let says = [
        "ends at start, its configuration is wrong",
        "Failed to configure a DataSource: 'url' attribute is not specified",
        "It advises itself: \"Consider the following",
    ];
    explained(&world, "shop", "Down", "CrashLoopConfig", &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_too_small_is_named_with_what_to_raise() {
    let _jvm = place::jvms(1).await;
    let world = place::world("spring-memory").await;
    let _operator = world.operator(&[]).await;
    let mut app = App::spring("shop", &[DATABASE, EXPOSED]);
    let small = json!({"memory": "20Mi"});
    let container = &mut app.deployment["spec"]["template"]["spec"]["containers"][0];
    merge(container, json!({"resources": {"limits": small, "requests": small}}));
    deployed(&world, &app, PAGE, json!({"metrics": {}})).await;
    let says = [
        "was killed for memory (OOMKilled, exit 137)",
        "its limit is 20Mi",
        "resources.limits.memory of container app",
    ];
    let down = explained(&world, "shop", "Down", "OutOfMemory", &says).await;
    assert_eq!(down.pointer("/status/diagnosis/alternatives"), None, "it is not starting, too: {down:#}");
}
