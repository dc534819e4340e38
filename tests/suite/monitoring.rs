//! The log, the alerts and the dashboards that people on call read, against an operator with failing objects.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::remedies::{healthy, tunnel};
use crate::support::backends::probed;
use crate::support::operator::{Operator, free_port};
use crate::support::prometheus::Prometheus;
use crate::support::workloads::outcome;
use crate::support::world::SOON;
use crate::support::{Beater, Misbehave, World, eventually, seconds, text};

fn chart(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/vigie/files").join(file)
}

/// The lines of an operator that logs JSON, without those about a stall of the machine.
fn lines(operator: &Operator) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let log = operator.log();
    log.lines().filter(|line| !line.contains("did not run for a while")).map(parse).collect()
}

/// The fields of the lines with this message about one object.
fn about(operator: &Operator, message: &str, name: &str) -> Vec<Value> {
    let fields = lines(operator).into_iter().map(|line| line["fields"].clone());
    fields.filter(|fields| text(fields, "/message") == message && text(fields, "/name") == name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_a_line_for_each_transition_and_step_of_an_attempt_and_none_for_a_beat() {
    let world = World::new("log-json").await;
    let target = Misbehave::start();
    let operator = world.operator(&["--log-format", "json", "--allow-network", "127.0.0.0/8"]).await;
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    is_restarted(&world, "paris").await;
    let up = Beater::start(&[operator.beats()], &connector, seconds(2), tunnel("Pass"));
    world.sees(SOON, "paris", "an outcome", |seen| !outcome(seen).is_empty()).await;
    world.backend("shop", probed(&target.url("/status/500"), json!({}))).await;
    world.backend_is(SOON, "shop", "Down", "ServerError").await;
    let moved = |name: &str| about(&operator, "transition", name);
    eventually(SOON, "the transitions are logged", async || {
        let (paris, shop) = (moved("paris"), moved("shop"));
        let is_down = shop.iter().any(|line| line["to"] == "Down");
        let ended = about(&operator, "attempt", "paris").iter().any(|step| step["step"] == "Ended");
        if paris.len() >= 3 && is_down && ended { Ok(()) } else { Err(format!("{paris:?} {shop:?}")) }
    })
    .await;
    let paris = moved("paris");
    let bad = paris.iter().find(|line| line["to"] == "Degraded").expect("it was Degraded");
    for (field, value) in
        [("kind", "Connector"), ("namespace", &world.ns), ("from", "Online"), ("cause", "WireGuardDown")]
    {
        assert_eq!(bad[field], value, "{field} of {bad}");
    }
    let shop = moved("shop");
    let shop = shop.iter().find(|line| line["to"] == "Down").expect("it was Down");
    let words = ["kind", "to", "cause"].map(|field| text(shop, &format!("/{field}")).to_owned());
    assert_eq!(words, ["MonitoredBackend", "Down", "ServerError"], "{shop}");
    let is_down = |line: &&Value| text(line, "/fields/name") == "shop" && text(line, "/fields/to") == "Down";
    assert_eq!(lines(&operator).iter().find(is_down).map(|line| line["level"].clone()), Some(json!("WARN")));

    let steps = about(&operator, "attempt", "paris");
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    assert_eq!(
        (text(first, "/step"), text(first, "/act"), text(first, "/cause")),
        ("Reserved", "Rollout", "WireGuardDown")
    );
    assert_eq!((text(last, "/step"), text(last, "/outcome")), ("Ended", "Succeeded"), "{steps:#?}");
    assert!(!text(last, "/reason").is_empty(), "{last}");
    assert!(steps.iter().all(|step| step["attempt"] == first["attempt"]), "{steps:#?}");
    assert!(steps.len() <= 4, "one line for each step: {steps:#?}");

    drop(up);
    drop(target);
    let often = json!({"heartbeat": {"intervalSeconds": 5}});
    let beating = [world.connector("rome", often.clone()).await, world.connector("oslo", often).await];
    for edge in &beating {
        edge.beat(operator.beats());
        world.state(SOON, &edge.name, "Online").await;
        let is_online = |line: &Value| line["to"] == "Online";
        eventually(SOON, "its transition is logged", async || {
            let told = moved(&edge.name);
            if told.iter().any(is_online) { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
    }
    let of_these =
        || lines(&operator).iter().filter(|line| ["rome", "oslo"].contains(&text(line, "/fields/name"))).count();
    let before = of_these();
    for _ in 0..50 {
        beating.iter().for_each(|edge| drop(edge.beat(operator.beats())));
    }
    assert_eq!(of_these(), before, "a beat is logged: {:#?}", lines(&operator));
    let said: Vec<_> = lines(&operator).iter().map(|line| line.to_string()).collect();
    assert!(!said.iter().any(|line| beating.iter().any(|edge| line.contains(&edge.token))), "a token is in the log");
}

/// Waits until the restart is done: an object that recovers before is not restarted.
async fn is_restarted(world: &World, name: &str) {
    eventually(SOON, &format!("{name} is restarted"), async || match world.attempts_of(name).await.len() {
        1 => Ok(()),
        other => Err(format!("{other} restarts")),
    })
    .await;
}

/// Every expression of a dashboard, with the title of its panel.
fn expressions(dashboard: &str) -> Vec<(String, String)> {
    expressions_of(dashboard, None)
}

/// The same, for panels of one type.
fn expressions_of(dashboard: &str, kind: Option<&str>) -> Vec<(String, String)> {
    let content = std::fs::read_to_string(chart("dashboards").join(dashboard)).expect("the dashboard is there");
    let board: Value = serde_json::from_str(&content).expect("it is JSON");
    let panels = board["panels"].as_array().cloned().unwrap_or_default();
    let wanted = panels.iter().filter(|panel| kind.is_none_or(|kind| text(panel, "/type") == kind));
    let targets = wanted.flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| (text(panel, "/title").to_owned(), text(&target, "/expr").to_owned()))
    });
    targets.collect()
}

/// One object for each condition: an attempt that helped, one object that is given up, a pending token, a backend that
/// is healthy and scraped, one with a certificate, and one that is Down.
async fn furnish(world: &World, operator: &Operator, targets: &[Misbehave; 2], prometheus: &Prometheus) -> Beater {
    let target = &targets[0];
    let paris = healthy(world, operator, "paris", json!({"maxAttempts": 1})).await;
    paris.beat_with(operator.beats(), &tunnel("Fail"));
    is_restarted(world, "paris").await;
    let cured = Beater::start(&[operator.beats()], &paris, seconds(2), tunnel("Pass"));
    world.sees(SOON, "paris", "an outcome", |seen| !outcome(seen).is_empty()).await;
    drop(cured);
    let beating = Beater::start(&[operator.beats()], &paris, seconds(5), tunnel("Fail"));
    let rome = world.connector("rome", json!({})).await;
    rome.beat(operator.beats());
    world.state(SOON, "rome", "Online").await;
    world.patch("rome", json!({"spec": {"token": {"rotationGeneration": 1}}})).await;
    let mut shop = probed(&target.url("/metrics"), json!({"metrics": {}}));
    shop["prometheus"] = json!({"url": prometheus.url()});
    world.backend("shop", shop).await;
    let secure = format!("https://{}/", targets[1].main);
    world.backend("safe", probed(&secure, json!({"http": {"tls": {"insecureSkipVerify": true}}}))).await;
    world.backend("sick", probed(&target.url("/status/500"), json!({}))).await;
    world.backend_is(SOON, "sick", "Down", "ServerError").await;
    world.remediating("paris", "GaveUp").await;
    beating
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_and_every_alert_is_answered_by_a_real_prometheus_that_scrapes_a_real_operator() {
    let world = World::new("dashboards").await;
    let secure = ["--listen", "127.0.0.1:0", "--tls", "self-signed", "--tls-names", "127.0.0.1"];
    let targets = [Misbehave::start(), Misbehave::with(&secure)];
    let [beats, admin] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let jobs = json!([
        // The operator's namespace differs from the objects': honor_labels keeps that of the objects.
        {"job_name": "vigie", "honor_labels": true,
         "static_configs": [{"targets": [admin], "labels": {"namespace": "vigie"}}]},
        {"job_name": "apps", "static_configs": [{"targets": [targets[0].main.to_string()]}]},
    ]);
    let prometheus = Prometheus::start(&world, jobs, &chart("alerts.yaml")).await;
    let url = format!("http://{beats}");
    let flags = ["--listen", &beats, "--admin", &admin, "--public-url", &url, "--allow-network", "127.0.0.0/8"];
    let mut operator = world.operator(&flags).await;
    // Prometheus scrapes before the first event, so counters are seen from zero.
    eventually(SOON, "Prometheus scrapes the operator", async || {
        let leaders = prometheus.values("vigie_leader == 1")?;
        if leaders.len() == 1 { Ok(()) } else { Err(format!("{leaders:?}")) }
    })
    .await;
    let _beating = furnish(&world, &operator, &targets, &prometheus).await;

    let objects = [
        ("Connector", "paris"),
        ("Connector", "rome"),
        ("MonitoredBackend", "shop"),
        ("MonitoredBackend", "sick"),
        ("MonitoredBackend", "safe"),
    ];
    for (title, expression) in ["fleet.json", "object.json"].iter().flat_map(|dashboard| expressions(dashboard)) {
        let asked = objects.map(|(kind, name)| {
            let asked = expression.replace("$__rate_interval", "5m").replace("$namespace", &world.ns);
            asked.replace("$kind", kind).replace("$name", name)
        });
        eventually(seconds(130), &format!("{title} has data"), async || {
            let answers = asked.iter().map(|asked| prometheus.values(asked)).collect::<Result<Vec<_>, _>>()?;
            let has_data = answers.iter().any(|values| !values.is_empty());
            if has_data { Ok(()) } else { Err(format!("nothing for {expression}")) }
        })
        .await;
    }
    every_alert_is_evaluated(&world, &prometheus).await;
    operator.kill();
    no_panel_keeps_the_last_value(&prometheus).await;
}

/// Without an operator every single value of the dashboard ends, and the leaders are zero.
async fn no_panel_keeps_the_last_value(prometheus: &Prometheus) {
    for (title, expression) in expressions_of("fleet.json", Some("stat")) {
        let expected: &[f64] = if title == "Leaders" { &[0.0] } else { &[] };
        eventually(SOON, &format!("{title} ends with the operator"), async || {
            let values = prometheus.values(&expression)?;
            if values == expected { Ok(()) } else { Err(format!("{expression}: {values:?}")) }
        })
        .await;
    }
}

async fn every_alert_is_evaluated(world: &World, prometheus: &Prometheus) {
    let rules = eventually(SOON, "every alert is evaluated", async || {
        let groups = prometheus.api("/api/v1/rules")?;
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        let pending = rules.iter().find(|rule| text(rule, "/health") != "ok");
        if rules.is_empty() || pending.is_some() { Err(format!("{pending:#?}")) } else { Ok(rules) }
    })
    .await;
    assert!(rules.len() > 18, "{}", rules.len());
    // The alerts carry the namespace of the objects, not the operator's.
    let found = eventually(SOON, "the alerts see what is wrong", async || {
        let alerts = prometheus.api("/api/v1/alerts")?;
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        let name = |alert: &Value| {
            ["alertname", "namespace", "name"]
                .map(|label| text(&alert["labels"], &format!("/{label}")).to_owned())
                .join(" ")
        };
        let named: Vec<String> = alerts.iter().map(name).collect();
        // An alert that is pending for the length of one slow scrape notifies no one.
        let firing = alerts.iter().filter(|alert| text(alert, "/state") == "firing").map(name).collect::<Vec<_>>();
        let wanted = [format!("GaveUp {} paris", world.ns), format!("BackendDown {} sick", world.ns)];
        if wanted.iter().all(|wanted| named.contains(wanted)) { Ok(firing) } else { Err(format!("{named:?}")) }
    })
    .await;
    let others = ["OperatorDown", "MassSilence", "ProbeBlind", "ConnectorOffline", "BeatPathBroken"];
    assert!(!found.iter().any(|alert| others.iter().any(|other| alert.starts_with(other))), "{found:?}");
}
