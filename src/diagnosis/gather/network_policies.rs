//! NetworkPolicies as evidence: which ones select the pods, and which peers they admit.
//!
//! Semantics follow networking/v1: a policy selects pods and lists the admitted peers; a pod that any policy selects
//! for ingress accepts the union of their peers, and nothing else. An unknown result is `None`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::diagnosis::evidence::{Pod, PodNetworkPolicy};

/// The label that holds the name of every namespace.
const NAME_OF_NAMESPACE: &str = "kubernetes.io/metadata.name";

/// Yes, no, or unknown.
type Tristate = Option<bool>;

/// The source of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// The labels of that namespace; `None` when they could not be read.
        namespace_labels: Option<BTreeMap<String, String>>,
        /// Its labels; `None` when they could not be read.
        labels: Option<BTreeMap<String, String>>,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// A network outside the cluster.
    Network(IpNet),
}

/// The destination port in a pod; `None` when its number is unknown.
pub(super) type Port = Option<u16>;

/// Peers, and the destination port in each pod.
pub(super) type PeersAndPort<'a> = (&'a [Peer], &'a dyn Fn(&Pod) -> Port);

/// The policies that select any of `pods`, and whether each admits `prometheus` and `us` to the port that each of the
/// two dials.
pub(super) fn policies(
    all: &[NetworkPolicy],
    pods: &[Pod],
    (prometheus, prometheus_port): PeersAndPort<'_>,
    (us, our_port): PeersAndPort<'_>,
) -> Vec<PodNetworkPolicy> {
    let mut seen = Vec::new();
    for policy in all {
        let selected: Vec<&Pod> = pods.iter().filter(|pod| selects(policy, pod)).collect();
        if selected.is_empty() {
            continue;
        }
        let admits = |peers: &[Peer], port: &dyn Fn(&Pod) -> Port| {
            let cases = selected.iter().flat_map(|pod| peers.iter().map(|peer| (*pod, peer)));
            unanimous(cases.map(|(pod, peer)| admits(policy, peer, pod, port(pod))))
        };
        seen.push(PodNetworkPolicy {
            name: policy.metadata.name.clone().unwrap_or_default(),
            ingress: restricts_ingress(policy),
            admits_prometheus: admits(prometheus, prometheus_port),
            admits_us: admits(us, our_port),
        });
    }
    seen
}

/// Whether any policy selects namespaces by labels other than the name.
pub(super) fn need_namespace_labels(all: &[NetworkPolicy]) -> bool {
    let rules = all.iter().filter_map(|policy| policy.spec.as_ref()).flat_map(|spec| spec.ingress.iter().flatten());
    let peers = rules.flat_map(|rule| rule.from.iter().flatten());
    peers.filter_map(|peer| peer.namespace_selector.as_ref()).any(|selector| {
        let labels = selector.match_labels.iter().flatten().map(|(key, _)| key);
        let expressions = selector.match_expressions.iter().flatten().map(|one| &one.key);
        labels.chain(expressions).any(|key| key != NAME_OF_NAMESPACE)
    })
}

fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    // An absent selector selects every pod of the namespace.
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.clone()).unwrap_or_default();
    // NetworkPolicies do not apply to pods in the host network.
    !pod.host_network && matches(&selector, &|key| Some(pod.labels.get(key))) == Some(true)
}

/// An absent list means ingress (networking/v1, policyTypes).
fn restricts_ingress(policy: &NetworkPolicy) -> bool {
    let types = policy.spec.as_ref().and_then(|spec| spec.policy_types.as_ref());
    types.is_none_or(|types| types.is_empty() || types.iter().any(|type_| type_ == "Ingress"))
}

fn admits(policy: &NetworkPolicy, peer: &Peer, pod: &Pod, port: Port) -> Tristate {
    if !restricts_ingress(policy) {
        return Some(true);
    }
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let rules = policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten());
    any(rules.map(|rule| both(admits_peer(rule, peer, namespace), admits_port(rule, pod, port))))
}

fn admits_peer(rule: &NetworkPolicyIngressRule, peer: &Peer, namespace: &str) -> Tristate {
    match rule.from.as_deref().unwrap_or_default() {
        [] => Some(true),
        peers => any(peers.iter().map(|described| is_described(peer, described, namespace))),
    }
}

fn is_described(peer: &Peer, described: &NetworkPolicyPeer, own_namespace: &str) -> Tristate {
    if let Some(block) = &described.ip_block {
        return is_within(peer, block);
    }
    let Peer::Pod { namespace, namespace_labels, labels, .. } = peer else { return Some(false) };
    let by_namespace = match &described.namespace_selector {
        None => Some(namespace == own_namespace),
        Some(selector) => matches(selector, &|key| match (key, namespace_labels) {
            (NAME_OF_NAMESPACE, _) => Some(Some(namespace)),
            (_, Some(labels)) => Some(labels.get(key)),
            (_, None) => None,
        }),
    };
    let by_labels = match &described.pod_selector {
        None => Some(true),
        Some(selector) => matches(selector, &|key| labels.as_ref().map(|labels| labels.get(key))),
    };
    both(by_namespace, by_labels)
}

fn is_within(peer: &Peer, block: &IPBlock) -> Tristate {
    let cidr: IpNet = block.cidr.parse().ok()?;
    let except: Vec<IpNet> = block.except.iter().flatten().filter_map(|text| text.parse().ok()).collect();
    let of = |network: &IpNet| {
        if cidr.contains(network) && !except.iter().any(|hole| overlaps(hole, network)) {
            Some(true)
        } else if !overlaps(&cidr, network) || except.iter().any(|hole| hole.contains(network)) {
            Some(false)
        } else {
            None
        }
    };
    match peer {
        Peer::Network(network) => of(network),
        // With two address families the source may be either address.
        Peer::Pod { addresses, .. } => any_or_unknown(addresses.iter().map(|address| of(&IpNet::from(*address)))),
    }
}

fn overlaps(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn admits_port(rule: &NetworkPolicyIngressRule, pod: &Pod, port: Port) -> Tristate {
    match rule.ports.as_deref().unwrap_or_default() {
        [] => Some(true),
        ports => any(ports.iter().map(|described| is_port(described, pod, port))),
    }
}

fn is_port(described: &NetworkPolicyPort, pod: &Pod, port: Port) -> Tristate {
    if described.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return Some(false);
    }
    let first = match &described.port {
        None => return Some(true),
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => match super::service::port_of(pod, name) {
            Some(number) => i32::from(number),
            // A port name that no container declares admits nothing.
            None => return Some(false),
        },
    };
    let last = described.end_port.unwrap_or(first);
    port.map(|port| (first..=last).contains(&i32::from(port)))
}

/// Whether labels match a selector; `label` returns the value of a label, and `None` when it is unknown.
fn matches<'a>(selector: &LabelSelector, label: &dyn Fn(&str) -> Option<Option<&'a String>>) -> Tristate {
    let equal = selector.match_labels.iter().flatten().map(|(key, wanted)| Some(label(key)? == Some(wanted)));
    let expressions = selector.match_expressions.iter().flatten().map(|one| fits(one, label));
    equal.chain(expressions).fold(Some(true), both)
}

fn fits<'a>(expression: &LabelSelectorRequirement, label: &dyn Fn(&str) -> Option<Option<&'a String>>) -> Tristate {
    let value = label(&expression.key)?;
    let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|wanted| wanted == value));
    match expression.operator.as_str() {
        "In" => Some(listed),
        "NotIn" => Some(!listed),
        "Exists" => Some(value.is_some()),
        "DoesNotExist" => Some(value.is_none()),
        _ => None,
    }
}

fn both(one: Tristate, other: Tristate) -> Tristate {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// Yes if any case is yes; no if all are no.
fn any(cases: impl Iterator<Item = Tristate>) -> Tristate {
    let mut so_far = Some(false);
    for case in cases {
        so_far = match (so_far, case) {
            (Some(true), _) | (_, Some(true)) => return Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
    }
    so_far
}

/// As [`any`], but unknown without any case.
fn any_or_unknown(cases: impl Iterator<Item = Tristate>) -> Tristate {
    let mut cases = cases.peekable();
    cases.peek()?;
    any(cases)
}

/// The common result of all cases; unknown when they differ, or without any case.
fn unanimous(mut cases: impl Iterator<Item = Tristate>) -> Tristate {
    let first = cases.next()?;
    if cases.all(|case| case == first) { first } else { None }
}
