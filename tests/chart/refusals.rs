//! The refused values, and the words of the refusals.

use crate::cases::{self, Case};
use crate::helm::{HELMS, args, chart, objects};

/// Values, and the words of the refusal.
const REFUSED: [(&str, &str); 41] = [
    // Typos, with their path.
    ("replicaCuont: 3", "additional properties 'replicaCuont' not allowed"),
    ("heartbeat: {ingres: {enabled: true}}", "at '/heartbeat': additional properties 'ingres' not allowed"),
    (
        "heartbeat: {ingress: {tls: {secret: x}}}",
        "at '/heartbeat/ingress/tls': additional properties 'secret' not allowed",
    ),
    ("resources: {request: {cpu: 1}}", "at '/resources': additional properties 'request' not allowed"),
    ("tolerations: [{opertor: Exists}]", "at '/tolerations/0': additional properties 'opertor' not allowed"),
    // Impossible values.
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
    (
        "heartbeat: {publicURL: 'https://a.example.com', ingress: {enabled: true, host: 'https://a.example.com', tls: {enabled: true}}}",
        "at '/heartbeat/ingress/host': 'https://a.example.com' does not match pattern",
    ),
    // Addresses in place of names.
    (
        "heartbeat: {publicURL: 'https://192.0.2.7:8443', ingress: {enabled: true, tls: {enabled: true}}}",
        "heartbeat.ingress needs a host name, and 192.0.2.7 is an address",
    ),
    (
        "heartbeat: {publicURL: 'https://[2001:db8::7]', route: {enabled: true, tls: true, parentRefs: [{name: public, port: 443}]}}",
        "heartbeat.route needs host names, and 2001:db8::7 is an address",
    ),
    (
        "heartbeat: {publicURL: 'https://192.0.2.7', tls: {certificate: {enabled: true, issuerRef: {name: internal}}}}",
        "heartbeat.tls.certificate needs DNS names, and 192.0.2.7 is an address",
    ),
    (
        "heartbeat: {tls: {certificate: {enabled: true, issuerRef: {name: internal}, dnsNames: [a.example.com, '2001:db8::7']}}}",
        "heartbeat.tls.certificate needs DNS names, and 2001:db8::7 is an address",
    ),
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
        "heartbeat: {publicURL: 'https://a.example.com', route: {enabled: true, parentRefs: [{name: public}]}}",
        "heartbeat.route.tls does not say that its listeners terminate TLS",
    ),
    (
        "heartbeat: {publicURL: 'https://a.example.com', route: {enabled: true, tls: true, parentRefs: [{name: public}]}}",
        "heartbeat.route.parentRefs names the Gateway public and none of its listeners",
    ),
    // Values that need another value.
    (
        "heartbeat: {ingress: {enabled: true, tls: {enabled: true}}}",
        "heartbeat.ingress needs a host: set heartbeat.publicURL, or heartbeat.ingress.host",
    ),
    ("heartbeat: {route: {enabled: true, tls: true}}", "heartbeat.route needs a Gateway"),
    (
        "heartbeat: {route: {enabled: true, tls: true, parentRefs: [{name: public, port: 443}]}}",
        "heartbeat.route needs hosts, or it would take every host of its listeners: set heartbeat.publicURL, or heartbeat.route.hostnames",
    ),
    (
        "heartbeat: {publicURL: 'https://a.example.com', tls: {certificate: {enabled: true}}}",
        "heartbeat.tls.certificate needs an issuer",
    ),
    (
        "{namespaces: [edge], remediation: {namespaces: [lab]}}",
        "remediation.namespaces names lab, which vigie does not look after: add it to namespaces",
    ),
    ("serviceMonitor: {scraper: {serviceAccount: prometheus}}", "set serviceMonitor.scraper.namespace"),
    ("pdb: {minAvailable: null}", "set pdb.minAvailable or pdb.maxUnavailable, or pdb.enabled: false"),
    // Strategies that would replace no pod.
    (
        "strategy: {rollingUpdate: {maxSurge: 0}}",
        "strategy.rollingUpdate has maxSurge 0 and maxUnavailable 0: no pod could be replaced",
    ),
    ("strategy: {rollingUpdate: {maxSurge: 0%, maxUnavailable: 0%}}", "has maxSurge 0 and maxUnavailable 0"),
    // Arguments that bypass a value.
    (
        "extraArgs: [--public-url=http://a.example.com]",
        "extraArgs names --public-url, which the chart gives itself: set heartbeat.publicURL",
    ),
    ("extraArgs: [--namespace=edge]", "extraArgs names --namespace, which the chart gives itself: set namespaces"),
    ("extraArgs: [--brake-min=5, --log]", "extraArgs names --log, which the chart gives itself: set log.level"),
    (
        "extraArgs: [--lease-namespace=edge]",
        "extraArgs names --lease-namespace, which the chart gives itself: install the release into that namespace",
    ),
    (
        "extraEnv: [{name: TZ, value: UTC}, {name: VIGIE_PUBLIC_URL, value: 'http://a.example.com'}]",
        "extraEnv names VIGIE_PUBLIC_URL, which the chart gives itself as --public-url: set heartbeat.publicURL",
    ),
    (
        "extraEnv: [{name: VIGIE_NAMESPACE, value: edge}]",
        "extraEnv names VIGIE_NAMESPACE, which the chart gives itself as --namespace: set namespaces",
    ),
    (
        "extraEnv: [{name: VIGIE_TLS_KEY_FILE, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
        "which the chart gives itself as --tls-key-file: set heartbeat.tls.secretName",
    ),
    ("extraEnv: [{name: POD_NAMESPACE, value: edge}]", "extraEnv names POD_NAMESPACE, which the chart sets itself"),
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

/// Repeated, they add to the values.
const REPEATABLE: [&str; 4] = ["--trusted-proxy", "--cluster-network", "--allow-network", "--deny-network"];

/// A flag that the chart gives once is refused as an argument and as an environment variable; a repeatable flag is
/// allowed.
#[test]
fn every_flag_that_the_chart_gives_is_its_own_unless_it_may_repeat() {
    let mut flags: Vec<String> = Vec::new();
    let given = [cases::NAMESPACED, cases::EVERYTHING].map(|case| args(&objects(&case)));
    // The last ones of EVERYTHING are extraArgs.
    for arg in given.iter().flatten().filter(|arg| !arg.starts_with("--brake-percent") && !arg.starts_with("--listen"))
    {
        let flag = arg.split_once('=').map(|(flag, _)| flag.to_owned());
        flags.extend(flag.filter(|flag| !flags.contains(flag)));
    }
    assert_eq!(flags.len(), 16, "{flags:?}");
    let render = |values: &str| HELMS[1].render(&chart(), &cases::DEFAULT, &["--set-json", values]);
    for flag in flags {
        let (arg, variable) = (format!("{flag}=x"), format!("VIGIE_{}", flag[2..].replace('-', "_").to_uppercase()));
        let by_arg = render(&format!("extraArgs=[{arg:?}]"));
        if REPEATABLE.contains(&flag.as_str()) {
            assert!(by_arg.is_ok(), "{flag}: {by_arg:?}");
            continue;
        }
        let refusal = by_arg.expect_err(&flag);
        assert!(refusal.contains(&format!("extraArgs names {flag}, which")), "{refusal}");
        let refusal = render(&format!(r#"extraEnv=[{{"name": {variable:?}, "value": "x"}}]"#)).expect_err(&variable);
        assert!(refusal.contains(&format!("extraEnv names {variable}, which")), "{refusal}");
    }
}

#[test]
fn a_release_whose_objects_would_begin_with_a_digit_is_refused_unless_they_are_called_otherwise() {
    for helm in HELMS.iter() {
        let render = |more: &[&str]| helm.render(&chart(), &Case { release: "7", ..cases::DEFAULT }, more);
        let refusal = render(&[]).unwrap_err();
        assert!(refusal.contains("the objects would be called 7-vigie"), "helm {}: {refusal}", helm.version);
        assert!(render(&["--set", "fullnameOverride=vigie"]).is_ok(), "helm {}", helm.version);
    }
}
