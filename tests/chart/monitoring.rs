//! The alerts, the dashboards and the scrape configuration for Prometheus and Grafana.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cases::{self, Case};
use crate::helm::{Scratch, chart, objects, objects_of, of_kind, only};

/// A rule file with words that Helm would interpret as its own, and one rule that is no alert.
const ALERTS: &str = r#"
groups:
- name: vigie.test
  interval: 30s
  rules:
  - alert: ConnectorOffline
    expr: vigie_connector_state{state="Offline"} == 1
    for: 1m
    labels: {severity: critical, team: nobody}
    annotations:
      summary: '{{ $labels.namespace }}/{{ $labels.name }} is silent since {{ $value | humanizeDuration }}'
      runbook_url: https://vigie.example.com/runbooks/ConnectorOffline
  - record: vigie:connectors:sum
    expr: sum(vigie_connectors)
"#;

const DASHBOARD: &str = "{\n  \"title\": \"fleet\",\n  \"legend\": \"{{ state }} $__interval\",\n  \"n\": 1e9\n}\n";

/// The chart with these files in place of its own.
fn with_files(scratch: &Scratch) -> std::path::PathBuf {
    let copied = Command::new("cp").arg("-R").arg(chart()).arg(&scratch.0).status().expect("cp can be started");
    assert!(copied.success());
    let chart = scratch.0.join("vigie");
    let dashboards = chart.join("files/dashboards");
    let _ = fs::remove_dir_all(&dashboards);
    fs::create_dir_all(&dashboards).unwrap();
    fs::write(chart.join("files/alerts.yaml"), ALERTS).unwrap();
    fs::write(dashboards.join("fleet.json"), DASHBOARD).unwrap();
    chart
}

fn rule(chart: &Path, values: &'static str) -> Value {
    only(&objects_of(chart, &Case { values, ..cases::DEFAULT }), "PrometheusRule").clone()
}

#[test]
fn what_is_absent_is_looked_for_among_the_series_of_the_release_where_a_selector_says_which() {
    let expressions = |values: &'static str| {
        let rendered = rule(&chart(), values);
        let rules =
            rendered["spec"]["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .map(|rule| {
                (rule["alert"].as_str().unwrap_or_default().to_owned(), rule["expr"].as_str().unwrap().to_owned())
            })
            .collect::<Vec<_>>()
    };
    let all = expressions("prometheusRule: {enabled: true}");
    let narrowed = expressions("prometheusRule: {enabled: true, selector: 'job=\"vigie\",namespace=\"gw\"'}");
    let of = |name: &str| narrowed.iter().find(|(alert, _)| alert == name).unwrap().1.replace('\n', " ");
    let ours = r#"{job="vigie",namespace="gw"}"#;
    let absent = format!("absent(vigie_leader{ours} == 1) unless on () vigie_listening_since_timestamp_seconds{ours}");
    assert_eq!(of("OperatorDown"), absent);
    assert_eq!(
        of("WritesPending"),
        format!(
            "max by (job) (last_over_time(vigie_status_write_pending{ours}[2m])) > 0 or on () (absent(vigie_leader{ours} == 1) \
             and on () vigie_listening_since_timestamp_seconds{ours})"
        )
    );
    let is_other = |(alert, _): &&(String, String)| !["OperatorDown", "WritesPending"].contains(&&**alert);
    assert!(all.iter().filter(is_other).eq(narrowed.iter().filter(is_other)), "the others go by their own labels");
}

#[test]
fn alerts_keep_the_words_that_prometheus_fills_in_and_get_the_values_labels_and_links() {
    let scratch = Scratch::new();
    let chart = with_files(&scratch);
    let plain: Value = serde_saphyr::from_str(ALERTS).unwrap();
    let mut expected = plain["groups"].clone();
    let page = |expected: &mut Value, url: &str| expected[0]["rules"][0]["annotations"]["runbook_url"] = json!(url);

    let rendered = rule(&chart, "prometheusRule: {enabled: true}");
    page(&mut expected, "docs/runbooks/ConnectorOffline.md");
    assert_eq!(rendered["spec"], json!({"groups": expected}));

    let values = "prometheusRule: {enabled: true, alertLabels: {team: network}, labels: {release: prometheus}, runbookURL: 'https://docs.example.com/r/'}";
    let rendered = rule(&chart, values);
    page(&mut expected, "https://docs.example.com/r/ConnectorOffline");
    expected[0]["rules"][0]["labels"] = json!({"severity": "critical", "team": "network"});
    assert_eq!(rendered["spec"], json!({"groups": expected}));
    assert_eq!(rendered["metadata"]["labels"]["release"], "prometheus");

    let rendered = rule(&chart, "prometheusRule: {enabled: true, runbookURL: 'https://git.example.com/{alert}.md'}");
    let url = &rendered["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"];
    assert_eq!(url, "https://git.example.com/ConnectorOffline.md");
}

#[test]
fn each_dashboard_is_a_config_map_byte_by_byte() {
    let scratch = Scratch::new();
    let chart = with_files(&scratch);
    let objects = objects_of(&chart, &Case { values: "dashboards: {enabled: true}", ..cases::DEFAULT });
    let map = only(&objects, "ConfigMap");
    assert_eq!(map["data"], json!({"fleet.json": DASHBOARD}));
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
}

#[test]
fn the_shipped_files_are_all_rendered() {
    let values = "{prometheusRule: {enabled: true}, dashboards: {enabled: true}}";
    let objects = objects(&Case { values, ..cases::DEFAULT });
    let files = |directory: &str| fs::read_dir(chart().join(directory)).map_or(0, Iterator::count);
    assert_eq!(of_kind(&objects, "ConfigMap").len(), files("files/dashboards"));
    let alerts = fs::read_to_string(chart().join("files/alerts.yaml")).unwrap_or_default();
    let count = only(&objects, "PrometheusRule").to_string().matches("\"alert\":").count();
    assert_eq!(count, alerts.lines().filter(|line| line.trim_start().starts_with("- alert:")).count());
}

#[test]
fn prometheus_scrapes_every_pod_with_its_own_token_and_keeps_our_labels() {
    let monitor = |values| {
        let objects = objects(&Case { values, ..cases::DEFAULT });
        only(&objects, "ServiceMonitor")["spec"]["endpoints"][0].clone()
    };
    let own = monitor("serviceMonitor: {enabled: true}");
    assert_eq!(own["honorLabels"], true, "namespace is that of the connector");
    assert_eq!(own["bearerTokenFile"], "/var/run/secrets/kubernetes.io/serviceaccount/token");
    let given = monitor("serviceMonitor: {enabled: true, tokenSecret: {name: scraper}}");
    assert_eq!(given["authorization"]["credentials"], json!({"name": "scraper", "key": "token"}));
    assert!(given["bearerTokenFile"].is_null());
    assert!(monitor("{serviceMonitor: {enabled: true}, adminAuth: 'off'}")["bearerTokenFile"].is_null());
}

#[test]
fn the_scraper_that_is_named_may_get_the_metrics_and_nothing_else() {
    let scraper = "serviceMonitor: {scraper: {serviceAccount: prometheus, namespace: chart-monitoring}}";
    let objects = objects(&Case { values: scraper, ..cases::DEFAULT });
    let name = "chart-home:vigie:scrape";
    let of = |kind| of_kind(&objects, kind).into_iter().find(|one| one["metadata"]["name"] == name).unwrap();
    assert_eq!(
        of("ClusterRole")["rules"],
        json!([{"nonResourceURLs": ["/metrics", "/sd/prometheus"], "verbs": ["get"]}])
    );
    let subjects = &of("ClusterRoleBinding")["subjects"];
    assert_eq!(*subjects, json!([{"kind": "ServiceAccount", "name": "prometheus", "namespace": "chart-monitoring"}]));
}
