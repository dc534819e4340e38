use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use serde_json::{Value, json};

use super::*;
use crate::api::backend::{ActuatorProbe, HttpMethod, HttpProbe, MetricsProbe, TargetScheme, TlsSpec};

fn read(spec: Value) -> MonitoredBackendSpec {
    serde_json::from_value(spec).unwrap()
}

fn probe(probe: Value) -> ProbeSpec {
    serde_json::from_value(probe).unwrap()
}

#[test]
fn a_target_alone_has_every_default() {
    let spec = read(json!({"target": {"url": "http://example.com/"}}));
    assert_eq!(spec.probe, ProbeSpec::default());
    assert_eq!((spec.probe.interval_seconds, spec.probe.timeout_seconds), (15, None));
    assert_eq!((spec.probe.failure_threshold, spec.probe.success_threshold), (3, 1));
    assert_eq!((spec.probe.http.method, spec.probe.http.follow_redirects), (HttpMethod::GET, true));
    assert_eq!((spec.probe.metrics, spec.probe.actuator), (None, None));
    let target = spec.target;
    assert_eq!((target.url.as_deref(), target.service, target.pods), (Some("http://example.com/"), None, None));
    let others = (spec.prometheus, spec.startup_seconds, spec.workload_ref, spec.agent_ref);
    assert_eq!(others, (None, None, None, None));
}

#[test]
fn a_target_is_never_assumed() {
    let error = serde_json::from_value::<MonitoredBackendSpec>(json!({})).unwrap_err();
    assert!(error.to_string().contains("target"), "{error}");
}

#[test]
fn an_absent_block_means_what_an_empty_one_means() {
    assert_eq!(probe(json!({})), ProbeSpec::default());
    assert_eq!(probe(json!({"http": {}})), ProbeSpec::default());
    assert_eq!(serde_json::from_value::<TlsSpec>(json!({})).unwrap(), TlsSpec::default());
    assert_eq!(serde_json::from_value::<PrometheusSpec>(json!({})).unwrap(), PrometheusSpec::default());
}

#[test]
fn metrics_and_the_actuator_are_asked_for_by_an_empty_block() {
    let asked = probe(json!({"metrics": {}, "actuator": {}}));
    assert_eq!(asked.metrics, Some(MetricsProbe::default()));
    assert_eq!(asked.actuator, Some(ActuatorProbe::default()));
    assert_eq!(asked.actuator.unwrap().base_path(), "/actuator");
    let elsewhere = probe(json!({"actuator": {"basePath": "/manage", "port": 8081}})).actuator.unwrap();
    assert_eq!((elsewhere.base_path(), elsewhere.port), ("/manage", Some(8081)));
}

#[test]
fn a_probe_takes_five_seconds_at_most_and_never_more_than_its_interval_unless_it_says_so() {
    for (interval, given, expected) in [
        (15, None, 5),
        (5, None, 5),
        (4, None, 4),
        (1, None, 1),
        (3600, None, 5),
        (30, Some(20), 20),
        (3, Some(1), 1),
        (3600, Some(3600), 60),
        (90, Some(61), 60),
    ] {
        let probe = ProbeSpec { interval_seconds: interval, timeout_seconds: given, ..ProbeSpec::default() };
        assert_eq!(probe.timeout(), Duration::from_secs(expected), "{interval} {given:?}");
        assert_eq!(probe.interval(), Duration::from_secs(u64::try_from(interval).unwrap()));
    }
}

#[test]
fn no_stored_spec_makes_probes_without_a_pause_or_without_time() {
    for odd in [i32::MIN, -1, 0] {
        let probe = ProbeSpec { interval_seconds: odd, timeout_seconds: Some(odd), ..ProbeSpec::default() };
        assert_eq!((probe.interval(), probe.timeout()), (Duration::from_secs(1), Duration::from_secs(1)));
    }
}

#[test]
fn a_certificate_is_warned_about_for_two_weeks_unless_the_spec_says_otherwise() {
    let warned = |http: Value| serde_json::from_value::<HttpProbe>(http).unwrap().warn_before_expiry_seconds();
    assert_eq!(warned(json!({})), 14 * 86_400);
    assert_eq!(warned(json!({"tls": {"insecureSkipVerify": true}})), 14 * 86_400);
    assert_eq!(warned(json!({"tls": {"warnBeforeExpirySeconds": 60}})), 60);
}

#[test]
fn a_scheme_is_written_as_in_a_url_and_is_http_by_default() {
    for scheme in TargetScheme::ALL {
        assert_eq!(serde_json::to_value(scheme).unwrap(), scheme.as_str());
        assert_eq!(scheme.as_str().parse(), Ok(*scheme));
    }
    assert_eq!(
        "ftp".parse::<TargetScheme>(),
        Err("\"ftp\" is no scheme of a target: http, https, tcp, grpc, grpcs are".to_owned())
    );
    let spec = read(json!({"target": {"service": {"name": "shop", "port": "web"}}}));
    let service = spec.target.service.unwrap();
    assert_eq!((service.scheme, service.port), (TargetScheme::Http, IntOrString::String("web".to_owned())));
}

#[test]
fn a_site_is_never_another_tenants() {
    let mut backend = MonitoredBackend::new("shop", read(json!({"target": {"url": "http://example.com"}})));
    backend.meta_mut().namespace = Some("edge".to_owned());
    assert_eq!(backend.domain(), "edge/");
    backend.spec.site = Some("west".to_owned());
    assert_eq!(backend.domain(), "edge/west");
}

/// The API server prunes what is null.
fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(|field| *field = without_nulls(field.take()));
    }
    value
}

#[test]
fn whatever_the_api_server_admits_can_be_read() {
    let cases: Vec<Value> = serde_saphyr::from_str(include_str!("../../../tests/api/backend-cases.yaml")).unwrap();
    let admitted: Vec<_> = cases.into_iter().filter(|case| case.get("refused").is_none()).collect();
    assert!(admitted.len() > 50, "{} cases", admitted.len());
    for case in admitted {
        for step in ["create", "update"].iter().filter_map(|step| case.get(step)) {
            let spec = serde_json::from_value::<MonitoredBackendSpec>(without_nulls(step.clone()));
            assert!(spec.is_ok(), "{}: {spec:?}", case["name"]);
        }
    }
}

#[test]
fn a_spec_is_written_as_it_was_read() {
    let secret = |key: &str| json!({"name": "shop-probe", "key": key});
    let full = json!({
        "target": {"url": "grpcs://example.com:443/shop", "service": {"name": "shop", "port": 8080, "scheme": "https",
                   "path": "/health?deep=1"}, "pods": {"port": "web", "scheme": "tcp", "path": "/"}},
        "probe": {
            "intervalSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 2, "successThreshold": 4,
            "degradedLatencyMilliseconds": 800,
            "http": {
                "method": "HEAD",
                "headers": [{"name": "X-Tenant", "value": "a"}, {"name": "X-Key", "valueFrom": {"secretRef": secret("k")}}],
                "expectedStatus": [200, 204], "bodyMatches": "UP", "bodyNotMatches": "DOWN", "followRedirects": false,
                "tls": {"caSecretRef": secret("ca"), "serverName": "shop.example.com", "insecureSkipVerify": true,
                        "clientCertificateSecretName": "shop-client", "warnBeforeExpirySeconds": 60},
                "bearerTokenSecretRef": secret("token"), "basicAuthSecretName": "shop-login",
            },
            "metrics": {"required": ["http_server_requests_seconds_count"]},
            "actuator": {"basePath": "/manage", "port": 8081},
        },
        "prometheus": {"url": "http://192.0.2.9:9090/prom", "job": "shop", "instance": "shop:8080",
                       "bearerTokenSecretRef": secret("prometheus"), "sourceCIDR": "192.0.2.0/24"},
        "startupSeconds": 120,
        "workloadRef": {"kind": "Deployment", "name": "shop"},
        "agentRef": {"unit": "shop.service"},
        "remediation": {"mode": "Restart", "unhealthyForSeconds": 1, "maxAttempts": 2, "backoffSeconds": 3,
                        "resetAfterSeconds": 4, "verifyWithinSeconds": 10, "strategy": "Pod"},
        "paused": {"by": "ops", "reason": "maintenance", "until": "2030-01-01T00:00:00Z"},
        "site": "west",
    });
    assert_eq!(serde_json::to_value(read(full.clone())).unwrap(), full);
}
