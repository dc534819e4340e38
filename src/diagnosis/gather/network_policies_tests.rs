//! NetworkPolicies as `kubectl get -o json` prints them.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::network_policies::{Peer, need_namespace_labels, policies};
use crate::diagnosis::evidence::{Container, Pod, PodNetworkPolicy};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn web() -> Pod {
    let ports = vec![(Some("http".to_owned()), 8080), (Some("management".to_owned()), 8081)];
    Pod {
        name: "web-1".to_owned(),
        labels: labels(&[("app", "web")]),
        containers: vec![Container { ports, ..Default::default() }],
        ..Default::default()
    }
}

/// Prometheus in its own namespace.
fn prometheus() -> Peer {
    Peer::Pod {
        namespace: "monitoring".to_owned(),
        namespace_labels: Some(labels(&[("team", "sre")])),
        labels: Some(labels(&[("app", "prometheus")])),
        addresses: vec!["192.0.2.7".parse().unwrap()],
    }
}

fn policy(spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec})).unwrap()
}

fn seen(spec: Value, peer: Peer, port: Option<u16>) -> Option<PodNetworkPolicy> {
    let port = move |_: &Pod| port;
    policies(&[policy(spec)], &[web()], (&[peer], &port), (&[], &port)).into_iter().next()
}

/// Whether one rule admits Prometheus to port 8081.
fn lets_in(rule: Value) -> Option<bool> {
    admits(rule, prometheus(), Some(8081))
}

fn admits(rule: Value, peer: Peer, port: Option<u16>) -> Option<bool> {
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [rule]});
    let policy = seen(spec, peer, port).unwrap();
    assert!(policy.ingress && policy.admits_us.is_none(), "{policy:?}");
    policy.admits_prometheus
}

fn of_namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

#[test]
fn only_policies_that_select_a_pod_count() {
    let none = json!({"podSelector": {"matchLabels": {"app": "other"}}});
    assert_eq!(seen(none, prometheus(), None), None);
    let all = seen(json!({"podSelector": {}}), prometheus(), None).unwrap();
    assert_eq!((all.name.as_str(), all.ingress, all.admits_prometheus), ("p", true, Some(false)));
    let by_expression = json!({"podSelector": {"matchExpressions": [
        {"key": "app", "operator": "In", "values": ["web", "api"]}, {"key": "canary", "operator": "DoesNotExist"},
    ]}});
    assert!(seen(by_expression, prometheus(), None).is_some());
    let mut on_the_host = web();
    on_the_host.host_network = true;
    let port = |_: &Pod| None;
    assert_eq!(policies(&[policy(json!({}))], &[on_the_host], (&[], &port), (&[], &port)), []);
}

#[test]
fn a_policy_for_egress_alone_lets_everybody_in() {
    let egress = seen(json!({"podSelector": {}, "policyTypes": ["Egress"]}), prometheus(), Some(8081)).unwrap();
    assert_eq!((egress.ingress, egress.admits_prometheus), (false, Some(true)));
    let both = seen(json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}), prometheus(), None).unwrap();
    assert_eq!((both.ingress, both.admits_prometheus), (true, Some(false)));
}

#[test]
fn an_empty_rule_admits_everybody() {
    assert_eq!(lets_in(json!({})), Some(true));
    assert_eq!(lets_in(json!({"from": []})), Some(true));
}

#[test]
fn pods_are_selected_in_their_own_namespace_unless_another_is_named() {
    let by_labels = json!({"matchLabels": {"app": "prometheus"}});
    assert_eq!(lets_in(json!({"from": [{"podSelector": by_labels}]})), Some(false));
    assert_eq!(lets_in(json!({"from": [of_namespace("monitoring")]})), Some(true));
    assert_eq!(lets_in(json!({"from": [of_namespace("other")]})), Some(false));
    assert_eq!(lets_in(json!({"from": [{"namespaceSelector": {}, "podSelector": by_labels}]})), Some(true));
    let mut both = of_namespace("monitoring");
    both["podSelector"] = json!({"matchLabels": {"app": "grafana"}});
    assert_eq!(lets_in(json!({"from": [both]})), Some(false));
    // Two entries are alternatives; two selectors in one entry must both match.
    assert_eq!(lets_in(json!({"from": [of_namespace("other"), of_namespace("monitoring")]})), Some(true));
}

#[test]
fn what_is_not_known_is_neither_yes_nor_no() {
    let team = json!({"from": [{"namespaceSelector": {"matchLabels": {"team": "sre"}}}]});
    assert_eq!(lets_in(team.clone()), Some(true));
    let unknown = |namespace_labels, labels| Peer::Pod {
        namespace: "monitoring".to_owned(),
        namespace_labels,
        labels,
        addresses: Vec::new(),
    };
    assert_eq!(admits(team.clone(), unknown(None, None), Some(8081)), None);
    // Its name is known anyway, and one wrong label is enough for a no.
    let named = json!({"from": [of_namespace("monitoring")]});
    assert_eq!(admits(named, unknown(None, None), Some(8081)), Some(true));
    let elsewhere = json!({"from": [{"namespaceSelector": {
        "matchLabels": {"team": "sre", "kubernetes.io/metadata.name": "other"},
    }}]});
    assert_eq!(admits(elsewhere, unknown(None, None), Some(8081)), Some(false));
    assert!(need_namespace_labels(&[policy(json!({"ingress": [team]}))]));
    assert!(!need_namespace_labels(&[policy(json!({"ingress": [{"from": [of_namespace("x")]}]}))]));
}

#[test]
fn blocks_have_holes() {
    let block = |cidr: &str, except: &[&str]| json!({"from": [{"ipBlock": {"cidr": cidr, "except": except}}]});
    let network = |text: &str| Peer::Network(text.parse().unwrap());
    let of = |rule: Value, text: &str| admits(rule, network(text), Some(8081));
    assert_eq!(of(block("192.0.2.0/24", &[]), "192.0.2.128/25"), Some(true));
    assert_eq!(of(block("192.0.2.0/24", &["192.0.2.128/25"]), "192.0.2.200/32"), Some(false));
    assert_eq!(of(block("192.0.2.0/24", &["192.0.2.200/32"]), "192.0.2.128/25"), None);
    assert_eq!(of(block("192.0.2.0/24", &[]), "198.51.100.0/24"), Some(false));
    assert_eq!(of(block("192.0.2.0/24", &[]), "192.0.0.0/16"), None);
    assert_eq!(of(json!({"from": [{"podSelector": {}}]}), "192.0.2.1/32"), Some(false));
    assert_eq!(lets_in(block("192.0.2.0/24", &[])), Some(true));
    assert_eq!(lets_in(block("192.0.2.0/24", &["192.0.2.7/32"])), Some(false));
}

#[test]
fn ports_are_numbers_names_and_ranges() {
    let ports = |ports: Value| json!({"ports": ports});
    assert_eq!(lets_in(ports(json!([{"port": 8081}]))), Some(true));
    assert_eq!(lets_in(ports(json!([{"port": 8080}, {"port": "management"}]))), Some(true));
    assert_eq!(lets_in(ports(json!([{"port": "http"}]))), Some(false));
    assert_eq!(lets_in(ports(json!([{"port": "metrics"}]))), Some(false));
    assert_eq!(lets_in(ports(json!([{"port": 8000, "endPort": 8100}]))), Some(true));
    assert_eq!(lets_in(ports(json!([{"port": 8000, "endPort": 8080}]))), Some(false));
    assert_eq!(lets_in(ports(json!([{"port": 8081, "protocol": "UDP"}]))), Some(false));
    assert_eq!(lets_in(ports(json!([{"protocol": "TCP"}]))), Some(true));
    // An unknown port is admitted only where all ports are.
    assert_eq!(admits(ports(json!([{"port": 8081}])), prometheus(), None), None);
    assert_eq!(admits(json!({}), prometheus(), None), Some(true));
}

#[test]
fn peers_and_ports_must_both_fit_and_one_rule_is_enough() {
    let spec = |rules: Value| json!({"podSelector": {}, "ingress": rules});
    let of = |rules: Value| seen(spec(rules), prometheus(), Some(8081)).unwrap().admits_prometheus;
    let wrong_port = json!({"from": [of_namespace("monitoring")], "ports": [{"port": 8080}]});
    let wrong_peer = json!({"from": [of_namespace("other")], "ports": [{"port": 8081}]});
    assert_eq!(of(json!([wrong_port, wrong_peer])), Some(false));
    let right = json!({"from": [of_namespace("monitoring")], "ports": [{"port": 8081}]});
    assert_eq!(of(json!([wrong_port, right])), Some(true));
    assert_eq!(of(json!([])), Some(false));
}
