//! Prometheus' answers as version 2.42 gives them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::{Value, json};

use super::list::Fit;
use super::targets::{Active, Matched, TargetMatcher};
use super::url::without_secrets;
use super::{PrometheusSource, ask, service_of};
use crate::diagnosis::evidence::Lookup;
use crate::probe::{Policy, Prober};

fn entry(url: &str, job: &str, health: &str) -> Value {
    let instance = url.split('/').nth(2).unwrap();
    json!({
        "discoveredLabels": {"__address__": instance, "__metrics_path__": "/metrics", "__scheme__": "http", "job": job},
        "labels": {"instance": instance, "job": job},
        "scrapePool": job, "scrapeUrl": url, "globalUrl": url,
        "lastError": format!("Get \"{url}\": dial tcp {instance}: connect: connection refused"),
        "lastScrape": "2026-11-22T12:00:00.123456789+01:00", "lastScrapeDuration": 0.002149, "health": health,
        "scrapeInterval": "1m30s", "scrapeTimeout": "10s",
    })
}

fn read(entries: &[Value]) -> Vec<Active> {
    serde_json::from_value(entries.into()).unwrap()
}

fn matcher() -> TargetMatcher {
    TargetMatcher {
        backend: ("shop".to_owned(), "web".to_owned()),
        names: ["web.example.com".to_owned()].into(),
        port: 8081,
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        pods: BTreeMap::from([("192.0.2.50".parse().unwrap(), Some(9081))]),
        is_complete: true,
        job: None,
        instance: None,
    }
}

fn urls(entries: &[&Active]) -> Vec<String> {
    entries.iter().map(|entry| entry.to_evidence(false).url).collect()
}

fn choose(matcher: &TargetMatcher, entries: &[Value]) -> (Vec<String>, Vec<String>) {
    let entries = read(entries);
    let Matched { active, stale } = matcher.select(&entries, &BTreeMap::new());
    (urls(&active), urls(&stale))
}

#[test]
fn an_entry_is_read_with_its_own_interval() {
    let seen = read(&[entry("http://192.0.2.1:8081/metrics", "apps", "down")])[0].to_evidence(true);
    assert_eq!((seen.interval_milliseconds, seen.timeout_milliseconds), (90_000, 10_000));
    assert_eq!((seen.job.as_str(), seen.health.as_str(), seen.samples), ("apps", "down", Some(0)));
    assert_eq!(seen.last_scrape, "2026-11-22T11:00:00.123456789Z".parse().ok());
    assert_eq!(seen.last_milliseconds, 2);
    assert!(seen.last_error.ends_with("connect: connection refused"));
    let mut never = entry("http://192.0.2.1:8081/metrics", "apps", "unknown");
    never["lastScrape"] = "0001-01-01T00:00:00Z".into();
    never.as_object_mut().unwrap().remove("scrapeInterval");
    let seen = read(&[never])[0].to_evidence(false);
    assert_eq!((seen.last_scrape, seen.interval_milliseconds), (None, 0));
}

#[test]
fn without_labels_host_and_port_decide() {
    let entries = [
        entry("http://192.0.2.1:8081/metrics", "a", "up"),
        entry("http://WEB.example.com:8081/metrics", "b", "up"),
        entry("http://192.0.2.50:9081/metrics", "c", "up"),
        entry("http://192.0.2.1:8080/metrics", "wrong-port", "up"),
        entry("http://192.0.2.50:8081/metrics", "not-the-pods-port", "up"),
        entry("http://192.0.2.99:8081/metrics", "stranger", "up"),
    ];
    let (active, stale) = choose(&matcher(), &entries);
    let expected =
        ["http://192.0.2.1:8081/metrics", "http://WEB.example.com:8081/metrics", "http://192.0.2.50:9081/metrics"];
    assert_eq!(active, expected);
    assert_eq!(stale, Vec::<String>::new());
    // If no entry has the port, Prometheus may scrape the pod at another one.
    assert_eq!(choose(&matcher(), &entries[3..]).0, ["http://192.0.2.50:8081/metrics"]);
}

#[test]
fn with_labels_the_address_must_be_the_backends_too() {
    let labelled = TargetMatcher { job: Some("apps".to_owned()), ..matcher() };
    let entries = [
        entry("http://192.0.2.1:9999/metrics", "apps", "up"),
        entry("http://192.0.2.99:8081/metrics", "apps", "down"),
        entry("http://192.0.2.1:8081/metrics", "others", "up"),
    ];
    let expected =
        (vec!["http://192.0.2.1:9999/metrics".to_owned()], vec!["http://192.0.2.99:8081/metrics".to_owned()]);
    assert_eq!(choose(&labelled, &entries), expected);
    // While its addresses are incomplete, no entry is stale.
    let blurred = TargetMatcher { is_complete: false, ..labelled.clone() };
    assert_eq!(choose(&blurred, &entries).0.len(), 2);
    let instance = TargetMatcher { instance: Some("192.0.2.99:8081".to_owned()), ..labelled };
    assert_eq!(choose(&instance, &entries).1, ["http://192.0.2.99:8081/metrics"]);
}

#[test]
fn another_name_for_the_same_address_is_the_same() {
    let labelled = TargetMatcher { job: Some("apps".to_owned()), ..matcher() };
    let entries = [
        entry("http://alias.example.com:8081/metrics", "apps", "up"),
        entry("http://old.example.com:8081/metrics", "apps", "up"),
        entry("http://unheard-of.example.com:8081/metrics", "apps", "up"),
    ];
    let unresolved_hosts: Vec<String> = labelled.unresolved_hosts(&read(&entries)).into_iter().collect();
    assert_eq!(unresolved_hosts, ["alias.example.com", "old.example.com", "unheard-of.example.com"]);
    let address = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
    let resolved = BTreeMap::from([
        ("alias.example.com".to_owned(), address("192.0.2.1")),
        ("old.example.com".to_owned(), address("192.0.2.99")),
    ]);
    let entries = read(&entries);
    let matched = labelled.select(&entries, &resolved);
    assert_eq!(urls(&matched.active), ["http://alias.example.com:8081/metrics"], "others of the job are others");
    assert_eq!(urls(&matched.stale), ["http://old.example.com:8081/metrics"]);
    let alone = labelled.select(&entries[2..], &resolved);
    assert_eq!(alone.active.len(), 1, "what cannot be resolved is believed by its labels");
    assert!(matcher().unresolved_hosts(&entries).is_empty(), "without labels no name needs resolving");
}

#[test]
fn a_dropped_target_is_known_by_its_address() {
    let fit = |address: &str| {
        let dropped = json!({"discoveredLabels": {"__address__": address, "job": "apps"}});
        matcher().fit_dropped(&serde_json::from_value(dropped).unwrap())
    };
    assert_eq!(fit("192.0.2.1:8081"), Fit::Sure);
    assert_eq!(fit("192.0.2.1:8080"), Fit::No);
    assert_eq!(fit("192.0.2.99:8081"), Fit::No);
}

#[test]
fn users_and_queries_are_cut_out_of_urls() {
    for (text, expected) in [
        ("http://user:pass@192.0.2.1:8081/m?token=x#y", "http://192.0.2.1:8081/m"),
        (
            "Get \"http://h:1/m?token=x\": dial tcp 192.0.2.1:1: i/o timeout",
            "Get \"http://h:1/m\": dial tcp 192.0.2.1:1: i/o timeout",
        ),
        ("http://h?token=x and http://a@b/c", "http://h and http://b/c"),
        ("server returned HTTP status 404 Not Found", "server returned HTTP status 404 Not Found"),
    ] {
        assert_eq!(without_secrets(text), expected);
    }
}

#[test]
fn a_service_of_the_cluster_is_known_by_its_name() {
    let of = |url: &str| service_of(url).map(|(name, namespace)| format!("{namespace}/{name}"));
    assert_eq!(of("http://prometheus.monitoring.svc:9090").as_deref(), Some("monitoring/prometheus"));
    assert_eq!(of("http://p.m.svc.cluster.local/prometheus").as_deref(), Some("m/p"));
    assert_eq!(of("http://prometheus.example.com"), None);
    assert_eq!(of("http://192.0.2.1:9090"), None);
}

/// A Prometheus with one target that requires a token and serves under a path prefix.
async fn prometheus() -> (String, tokio::task::JoinHandle<std::io::Result<()>>) {
    let targets = async |headers: HeaderMap, RawQuery(query): RawQuery| {
        assert_eq!(headers["authorization"], "Bearer t0ken");
        let entries = match query.as_deref() {
            Some("state=active") => json!({"activeTargets": [entry("http://192.0.2.1:8081/metrics", "a", "up")]}),
            Some("state=dropped") => {
                json!({"droppedTargets": [{"discoveredLabels": {"__address__": "192.0.2.7:8081"}}]})
            }
            other => panic!("{other:?}"),
        };
        axum::Json(json!({"status": "success", "data": entries}))
    };
    let query = async |RawQuery(query): RawQuery| {
        assert_eq!(query.as_deref(), Some("query=scrape_samples_scraped%20%3D%3D%200"));
        let metric = json!({"__name__": "scrape_samples_scraped", "job": "a", "instance": "192.0.2.1:8081"});
        let result = json!([{"metric": metric, "value": [1795348800.123, "0"]}]);
        axum::Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}}))
    };
    let router =
        axum::Router::new().route("/base/api/v1/targets", get(targets)).route("/base/api/v1/query", get(query));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { axum::serve(listener, router).await }))
}

#[tokio::test]
async fn prometheus_is_asked_with_its_token_and_under_the_policy() {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    // An address, because a name would be resolved.
    let matcher = || TargetMatcher { names: Default::default(), ..matcher() };
    let (url, server) = prometheus().await;
    let source = PrometheusSource { url, bearer_token: Some("t0ken".to_owned()), ..Default::default() };
    assert!(!format!("{source:?}").contains("t0ken"));
    let loopback = Prober::new(Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() });
    let Lookup::Found(seen) = ask(&loopback, &source, &matcher(), now).await else { panic!("not found") };
    assert_eq!((seen.targets.len(), seen.dropped, seen.asked_at), (1, false, Some(now)));
    assert_eq!(seen.targets[0].samples, Some(0));
    let other = TargetMatcher { addresses: ["192.0.2.7".parse().unwrap()].into(), ..matcher() };
    let Lookup::Found(seen) = ask(&loopback, &source, &other, now).await else { panic!("not found") };
    assert_eq!((seen.targets.len(), seen.dropped), (0, true));
    let anew = PrometheusSource { cache: Default::default(), ..source.clone() };
    let Lookup::Failed(why) = ask(&Prober::new(Policy::default()), &anew, &matcher(), now).await else {
        panic!("found")
    };
    assert!(why.starts_with("asking Prometheus at http://127.0.0.1:"), "{why}");
    let wrong = PrometheusSource { url: source.url.replace("/base/", "/other"), ..source };
    let Lookup::Failed(why) = ask(&loopback, &wrong, &matcher(), now).await else { panic!("found") };
    assert!(why.contains("404"), "{why}");
    server.abort();
}

#[test]
fn what_our_own_list_gave_for_another_backend_is_not_this_ones_whatever_its_job() {
    let labelled = TargetMatcher { job: Some("vigie".to_owned()), is_complete: false, ..matcher() };
    let listed = |url: &str, name: &str| {
        let mut entry = entry(url, "vigie", "down");
        let from = "http://vigie.example.com:9090/sd/prometheus?namespace=shop";
        entry["discoveredLabels"] = json!({"__meta_url": from, "namespace": "shop", "name": name});
        entry
    };
    let entries = [
        listed("http://192.0.2.70:8081/metrics", "other"),
        listed("http://other.example.com:8081/metrics", "other"),
        listed("http://192.0.2.71:8081/metrics", "web"),
    ];
    assert_eq!(choose(&labelled, &entries), (vec!["http://192.0.2.71:8081/metrics".to_owned()], Vec::new()));
    let complete = TargetMatcher { is_complete: true, ..labelled };
    assert_eq!(choose(&complete, &entries), (Vec::new(), vec!["http://192.0.2.71:8081/metrics".to_owned()]));
    assert!(complete.unresolved_hosts(&read(&entries)).is_empty(), "a name of another's needs no resolving");
    // Two backends may have one address.
    let shared = [listed("http://192.0.2.1:8081/metrics", "other")];
    assert_eq!(choose(&complete, &shared).0.len(), 1);
    let [written, found] = [entry("http://192.0.2.1:8081/", "a", "up"), listed("http://192.0.2.1:8081/", "web")];
    let discovered: Vec<bool> =
        read(&[written, found]).iter().map(|one| one.to_evidence(false).is_discovered).collect();
    assert_eq!(discovered, [false, true]);
}
