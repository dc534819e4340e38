//! The admin port, as Prometheus, a kubelet and `vigie get` read it. All of them get the same answers.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::beats::said;
use crate::support::http::{get, get_as};
use crate::support::operator::free_port;
use crate::support::process::run;
use crate::support::proxy::Way;
use crate::support::rights::rule;
use crate::support::world::SOON;
use crate::support::{Connector, Operator, World, eventually, never, quick, seconds, text, time};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_of_the_contract_are_there_with_help_and_units() {
    let world = World::new("metrics").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    world.connector("edge-2", json!({})).await;
    edge.beat_with(operator.beats(), &json!({"checks": [{"type": "Process", "status": "Pass"}]}));
    world.state(SOON, "edge-1", "Online").await;
    world.sees(SOON, "edge-2", "its token is delivered", |seen| said(seen, "Provisioned") == "True/Provisioned").await;
    // The operator learns of its own write a moment after the API server has stored it.
    let scrape = eventually(SOON, "edge-2 is known as delivered", async || {
        let scrape = operator.scrape();
        let known = scrape.sum("vigie_diagnosis_info", &["name=\"edge-2\"", "cause=\"NeverSeen\""]);
        if known == 1.0 { Ok(scrape) } else { Err(scrape.0) }
    })
    .await;
    let metrics = [
        "vigie_heartbeats_total",
        "vigie_connector_last_heartbeat_timestamp_seconds",
        "vigie_connector_state",
        "vigie_connector_check_status",
        "vigie_diagnosis_info",
        "vigie_paused",
        "vigie_transition_lag_seconds_count",
        "vigie_status_writes_total",
        "vigie_status_write_pending",
        "vigie_checkpoint_staleness_seconds",
        "vigie_leader",
        "vigie_listening_since_timestamp_seconds",
        "vigie_build_info",
        "vigie_connectors",
    ];
    for metric in metrics {
        assert!(!scrape.samples(metric).is_empty(), "{metric} is missing in:\n{}", scrape.0);
        let family = metric.trim_end_matches("_total").trim_end_matches("_info").trim_end_matches("_count");
        assert!(scrape.0.contains(&format!("# HELP {family} ")), "{metric} has no help");
        assert!(scrape.0.contains(&format!("# TYPE {family} ")), "{metric} has no type");
        assert!(
            !family.ends_with("_seconds") || scrape.0.contains(&format!("# UNIT {family} seconds")),
            "{metric} has no unit"
        );
    }
    assert_eq!(scrape.state_of("edge-1").as_deref(), Some("Online"));
    assert_eq!(scrape.state_of("edge-2").as_deref(), Some("Pending"));
    assert_eq!(scrape.sum("vigie_connectors", &[]), 2.0);
    assert_eq!(scrape.sum("vigie_heartbeats_total", &["result=\"heard\""]), 1.0);
    assert_eq!(scrape.sum("vigie_diagnosis_info", &["name=\"edge-2\"", "cause=\"NeverSeen\""]), 1.0);
    assert!(scrape.0.ends_with("# EOF\n"));
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(operator.admin(), path).unwrap().status, 200, "{path}");
    }
    assert_eq!(get(operator.admin(), "/nothing").unwrap().status, 404);
    assert_eq!(get(operator.admin(), "/api/v1/connectors?namespace=UPPER").unwrap().status, 400);
    let post = b"POST /api/v1/connectors HTTP/1.1\r\nHost: v\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(crate::support::http::exchange(operator.admin(), post).unwrap().status, 405, "only GET is allowed");
}

/// The state of one connector by each of the five interfaces that give it.
async fn states(world: &World, operator: &Operator, name: &str) -> [String; 5] {
    let cli = |more: &[&str]| {
        let args = [&["get", name, "-n", &world.ns, "-o", "json"], more].concat();
        let said: Value = serde_json::from_str(&world.vigie(&args).ok()).unwrap();
        text(&said, "/state").to_owned()
    };
    [
        text(&world.get(name).await, "/status/state").to_owned(),
        operator.view(name).map(|view| text(&view, "/state").to_owned()).unwrap_or_default(),
        operator.scrape().state_of(name).unwrap_or_default(),
        cli(&["--operator", &operator.url()]),
        cli(&["--operator", "http://127.0.0.1:9"]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_api_metric_and_command_line_say_the_same_in_every_state() {
    let world = World::new("agree").await;
    let mut operator = world.operator(&[]).await;
    let patient = json!({"heartbeat": {"intervalSeconds": 5, "lateAfterSeconds": 1000, "offlineAfterSeconds": 3000}});
    let late = json!({"heartbeat": {"intervalSeconds": 5, "lateAfterSeconds": 15, "offlineAfterSeconds": 3000}});
    world.connector("pending", json!({})).await;
    let [online, degraded] =
        [world.connector("online", patient.clone()).await, world.connector("degraded", patient).await];
    let [late, offline] = [world.connector("late", late).await, world.connector("offline", quick()).await];
    let unknown = world.connector("unknown", quick()).await;
    let beat = |edge: &Connector, more: Value| edge.beat_with(operator.beats(), &more);
    beat(&online, Value::Null);
    beat(&degraded, json!({"checks": [{"type": "Process", "status": "Fail"}]}));
    beat(&late, Value::Null);
    beat(&offline, Value::Null);
    world.state(seconds(180), "offline", "Offline").await;
    world.state(SOON, "late", "Late").await;
    let last = beat(&unknown, Value::Null);
    world.state(SOON, "unknown", "Online").await;
    operator.kill();
    eventually(seconds(60), "its limit passes while no operator listens", async || {
        let silence = jiff::Timestamp::now().duration_since(last.answered);
        if silence.as_secs() > 31 { Ok(()) } else { Err(format!("{silence:?}")) }
    })
    .await;
    operator.restart().await;
    operator.hearing().await;
    for (name, state) in [
        ("unknown", "Unknown"),
        ("pending", "Pending"),
        ("online", "Online"),
        ("degraded", "Degraded"),
        ("late", "Late"),
        ("offline", "Offline"),
    ] {
        eventually(SOON, &format!("all interfaces report {state} of {name}"), async || {
            let said = states(&world, &operator, name).await;
            if said.iter().all(|one| one == state) {
                Ok(())
            } else {
                Err(format!("status, API, metric, get, get from status: {said:?}"))
            }
        })
        .await;
    }
    let view = operator.view("offline").unwrap();
    let seen = world.get("offline").await;
    for (in_view, in_status) in
        [("/stateSince", "/status/stateSince"), ("/lastHeartbeatTime", "/status/lastHeartbeatTime")]
    {
        // Kubernetes writes all six fractional digits; the operator omits trailing zeros.
        assert_eq!(time(&view, in_view), time(&seen, in_status), "{in_view}");
    }
    for (in_view, in_status) in [
        ("/cause", "/status/diagnosis/cause"),
        ("/message", "/status/diagnosis/message"),
        ("/advice", "/status/diagnosis/advice"),
    ] {
        assert_eq!(text(&view, in_view), text(&seen, in_status), "{in_view}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_admin_auth_only_those_read_whom_the_api_server_lets() {
    let world = World::new("auth").await;
    let kubectl = |args: &[&str]| world.cluster.kubectl(args).ok();
    let (ask, read) = (format!("{}-ask", world.ns), format!("{}-read", world.ns));
    let account = |name: &str| format!("--serviceaccount={}:{name}", world.ns);
    kubectl(&["create", "serviceaccount", "reader", "-n", &world.ns]);
    kubectl(&["create", "serviceaccount", "stranger", "-n", &world.ns]);
    kubectl(&["create", "clusterrolebinding", &ask, "--clusterrole=system:auth-delegator", &account("vigie")]);
    kubectl(&["create", "clusterrole", &read, "--verb=get", "--non-resource-url=/metrics,/vigie/api/v1/connectors"]);
    kubectl(&["create", "clusterrolebinding", &read, &format!("--clusterrole={read}"), &account("reader")]);
    let review =
        json!({"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]});
    world.heeded("vigie", &rule(review)).await;
    world.heeded("reader", &rule(json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}))).await;
    let operator = world.operator(&["--admin-auth", "kubernetes"]).await;
    let (reader, stranger) = (world.account_token("reader").await, world.account_token("stranger").await);
    for path in ["/metrics", "/api/v1/connectors"] {
        assert_eq!(get(operator.admin(), path).unwrap().status, 401, "{path} without a token");
        assert_eq!(get_as(operator.admin(), path, Some("nonsense")).unwrap().status, 401, "{path} for nonsense");
        assert_eq!(get_as(operator.admin(), path, Some(&stranger)).unwrap().status, 403, "{path} for a stranger");
        assert_eq!(get_as(operator.admin(), path, Some(&reader)).unwrap().status, 200, "{path} for the reader");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(operator.admin(), path).unwrap().status, 200, "{path} is for the kubelet");
    }
    let file = world.file("token", &reader);
    let args = [
        "get",
        "-n",
        &world.ns,
        "--operator",
        &operator.url(),
        "--operator-token-file",
        file.to_str().unwrap(),
        "-o",
        "json",
    ];
    let said: Value = serde_json::from_str(&world.vigie(&args).ok()).unwrap();
    assert_eq!(text(&said, "/source"), "operator");
    assert!(
        !operator.log().contains(&reader) && !operator.log().contains(&stranger),
        "their tokens are not in the log"
    );
    // While the API server cannot be asked, the caller that was allowed last stays allowed, longer than an answer is
    // cached: the metrics must be readable during an outage of the API server.
    operator.proxy.set(Way::Cut);
    never(seconds(65), "Prometheus is not let in during an outage", async || {
        let answer = get_as(operator.admin(), "/metrics", Some(&reader)).unwrap();
        (answer.status != 200).then(|| format!("{answer:?}"))
    })
    .await;
    assert_eq!(
        get_as(operator.admin(), "/metrics", Some("another")).unwrap().status,
        503,
        "a caller that was never allowed"
    );
    operator.proxy.set(Way::Open);
    kubectl(&["delete", "clusterrolebinding", &ask, &read]);
    kubectl(&["delete", "clusterrole", &read]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_audience_a_token_for_the_api_server_is_none_for_vigie() {
    let world = World::new("audience").await;
    let kubectl = |args: &[&str]| world.cluster.kubectl(args).ok();
    let ask = format!("{}-ask", world.ns);
    let account = format!("--serviceaccount={}:vigie", world.ns);
    kubectl(&["create", "serviceaccount", "reader", "-n", &world.ns]);
    kubectl(&["create", "clusterrolebinding", &ask, "--clusterrole=system:auth-delegator", &account]);
    let review =
        json!({"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]});
    world.heeded("vigie", &rule(review)).await;
    let operator = world.operator(&["--admin-auth", "kubernetes", "--admin-auth-audience", "vigie"]).await;
    let token = |audience: &str| {
        let created = kubectl(&["create", "token", "reader", "-n", &world.ns, "--audience", audience]);
        created.trim().to_owned()
    };
    // 403: the API server knows the caller, which has no right to read.
    for (audience, expected) in [("vigie", 403), ("https://kubernetes.default.svc", 401), ("vault", 401)] {
        let answer = get_as(operator.admin(), "/metrics", Some(&token(audience))).unwrap();
        assert_eq!(answer.status, expected, "{audience}: {answer:?}");
    }
    assert_eq!(get_as(operator.admin(), "/metrics", Some(&world.account_token("reader").await)).unwrap().status, 401);
    // Wrong tokens become no more than a few reviews.
    let before = reviews(&world);
    let answers =
        (0..200).map(|number| get_as(operator.admin(), "/metrics", Some(&format!("wrong-{number}"))).unwrap());
    let refused = answers.filter(|answer| answer.status == 429 && answer.header("retry-after").is_some()).count();
    let asked = reviews(&world) - before;
    assert!(asked + refused >= 200 && refused > 100, "{asked} reviews, {refused} refusals");
    kubectl(&["delete", "clusterrolebinding", &ask]);
}

/// The TokenReviews of this test's operator so far.
fn reviews(world: &World) -> usize {
    world.requests().iter().filter(|request| request.resource == "tokenreviews").count()
}

/// Kills its process when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of the Prometheus binary; None when there is none. Under CI a missing binary is a failure.
fn prometheus() -> Option<String> {
    let found = run(Command::new("sh").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/prometheus.sh")));
    if found.code == 0 {
        return Some(found.stdout.trim().to_owned());
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no Prometheus, and CI skips nothing: {}", found.stderr);
    eprintln!("NOT CHECKED, there is no Prometheus on this machine: {}", found.stderr);
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_scrapes_it_without_an_error() {
    let Some(binary) = prometheus() else { return };
    let world = World::new("prometheus").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    edge.beat_with(operator.beats(), &json!({"checks": [{"type": "Process", "status": "Fail"}]}));
    world.connector("edge-2", json!({})).await;
    world.state(SOON, "edge-1", "Degraded").await;
    let target = json!({"job_name": "vigie", "scrape_interval": "1s", "static_configs": [{"targets": [operator.admin().to_string()]}]});
    let config = world.file("prometheus.yml", &json!({"scrape_configs": [target]}).to_string());
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let log = std::fs::File::create(config.with_extension("log")).unwrap();
    let mut command = Command::new(&binary);
    command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address={to}"));
    command.arg(format!("--storage.tsdb.path={}", config.with_file_name("tsdb").display()));
    let _prometheus = Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let ask = |query: &str| {
        let answer = get(to, query).map_err(|error| error.to_string())?;
        // Prometheus listens before it is ready.
        if answer.status == 200 { Ok(answer.json()) } else { Err(format!("{answer:?}")) }
    };
    eventually(seconds(60), "a scrape without an error", async || {
        let targets = ask("/api/v1/targets")?;
        let target = targets.pointer("/data/activeTargets/0").cloned().unwrap_or_default();
        if text(&target, "/health") == "up" && text(&target, "/lastError").is_empty() {
            Ok(())
        } else {
            Err(target.to_string())
        }
    })
    .await;
    let state = eventually(SOON, "the state is in Prometheus", async || {
        let found = ask("/api/v1/query?query=vigie_connector_state==1")?;
        let results = found.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default();
        if results.len() == 2 { Ok(results) } else { Err(found.to_string()) }
    })
    .await;
    let said = |name: &str| {
        let of = state.iter().find(|result| text(result, "/metric/name") == name).unwrap();
        text(of, "/metric/state").to_owned()
    };
    assert_eq!((said("edge-1").as_str(), said("edge-2").as_str()), ("Degraded", "Pending"));
    let metadata = get(to, "/api/v1/metadata?metric=vigie_transition_lag_seconds").unwrap().json();
    assert!(!text(&metadata, "/data/vigie_transition_lag_seconds/0/help").is_empty(), "{metadata}");
}
