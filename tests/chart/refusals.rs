//! What is refused, and in which words.

use crate::cases::{self, Case};
use crate::helm::{HELMS, chart};

/// Values, and the words of the refusal.
const REFUSED: [(&str, &str); 24] = [
    // Typos, with the path that they stand at.
    ("replicaCuont: 3", "additional properties 'replicaCuont' not allowed"),
    ("heartbeat: {ingres: {enabled: true}}", "at '/heartbeat': additional properties 'ingres' not allowed"),
    (
        "heartbeat: {ingress: {tls: {secret: x}}}",
        "at '/heartbeat/ingress/tls': additional properties 'secret' not allowed",
    ),
    ("resources: {request: {cpu: 1}}", "at '/resources': additional properties 'request' not allowed"),
    ("tolerations: [{opertor: Exists}]", "at '/tolerations/0': additional properties 'opertor' not allowed"),
    // Values that cannot be.
    ("replicaCount: two", "at '/replicaCount': got string, want integer"),
    ("namespaces: [Edge]", "at '/namespaces/0': 'Edge' does not match pattern"),
    ("namespaces: edge", "at '/namespaces': got string, want array"),
    ("adminAuth: kubernets", "at '/adminAuth': value must be one of 'kubernetes', 'off'"),
    (
        "heartbeat: {publicURL: vigie.example.com}",
        "at '/heartbeat/publicURL': 'vigie.example.com' does not match pattern",
    ),
    ("image: {digest: latest}", "at '/image/digest': 'latest' does not match pattern"),
    ("extraArgs: [log=debug]", "at '/extraArgs/0': 'log=debug' does not match pattern"),
    ("terminationGracePeriodSeconds: 5", "at '/terminationGracePeriodSeconds': minimum: got 5, want 10"),
    // Tokens in clear.
    (
        "heartbeat: {publicURL: http://vigie.example.com}",
        "heartbeat.publicURL is http://vigie.example.com: tokens would travel in clear",
    ),
    (
        "heartbeat: {service: {type: LoadBalancer}}",
        "heartbeat.service.type is LoadBalancer and the heartbeat port has no TLS: tokens would travel in clear",
    ),
    ("heartbeat: {service: {type: NodePort}}", "heartbeat.service.type is NodePort and the heartbeat port has no TLS"),
    (
        "heartbeat: {publicURL: 'https://a.example.com', ingress: {enabled: true}}",
        "heartbeat.ingress is enabled without TLS: tokens would travel in clear",
    ),
    (
        "heartbeat: {route: {enabled: true, parentRefs: [{name: public}]}}",
        "heartbeat.route.tls does not say that its listeners terminate TLS",
    ),
    (
        "heartbeat: {route: {enabled: true, tls: true, parentRefs: [{name: public}]}}",
        "heartbeat.route.parentRefs names the Gateway public and none of its listeners",
    ),
    // What lacks its other half.
    (
        "heartbeat: {ingress: {enabled: true, tls: {enabled: true}}}",
        "heartbeat.ingress needs a host: set heartbeat.publicURL, or heartbeat.ingress.host",
    ),
    ("heartbeat: {route: {enabled: true, tls: true}}", "heartbeat.route needs a Gateway"),
    (
        "heartbeat: {publicURL: 'https://a.example.com', tls: {certificate: {enabled: true}}}",
        "heartbeat.tls.certificate needs an issuer",
    ),
    (
        "{namespaces: [edge], remediation: {namespaces: [lab]}}",
        "remediation.namespaces names lab, which vigie does not look after: add it to namespaces",
    ),
    ("serviceMonitor: {scraper: {serviceAccount: prometheus}}", "set serviceMonitor.scraper.namespace"),
];

#[test]
fn typos_and_what_would_send_tokens_in_clear_are_refused_in_words_that_say_where() {
    for helm in HELMS.iter() {
        for (values, words) in REFUSED {
            let refusal = helm.render(&chart(), &Case { values, ..cases::DEFAULT }, &[]);
            let refusal = refusal.expect_err(values);
            assert!(refusal.contains(words), "helm {} says of {values}: {refusal}", helm.version);
        }
    }
}

#[test]
fn what_is_insecure_renders_when_it_is_asked_for() {
    for helm in HELMS.iter() {
        for (values, _) in
            REFUSED.iter().filter(|(_, words)| words.contains("in clear") || words.contains("none of its"))
        {
            let case = Case { values, ..cases::DEFAULT };
            let rendered = helm.render(&chart(), &case, &["--set", "heartbeat.allowInsecure=true"]);
            assert!(rendered.is_ok(), "helm {}: {values}: {rendered:?}", helm.version);
        }
    }
}
