use std::time::Duration;

use super::*;
use crate::api::{HeaderSource, HeaderSpec, SecretKeyRef, TlsSpec};

fn target() -> Target {
    target_of_url("https://web.example.com/actuator?x=1").unwrap()
}

fn spec(yaml: &str) -> ProbeSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn a_url_names_a_target() {
    let named = |url: &str| {
        let Target { scheme, host, port, path, address, is_own } = target_of_url(url).unwrap();
        assert_eq!((address, is_own), (None, false));
        (scheme, host, port, path)
    };
    let web = || "web.example.com".to_owned();
    assert_eq!(named("http://web.example.com"), (Scheme::Http, web(), 80, "/".to_owned()));
    assert_eq!(named("http://web.example.com?a=b"), (Scheme::Http, web(), 80, "/?a=b".to_owned()));
    assert_eq!(named("https://web.example.com:8443/a/b?c"), (Scheme::Https, web(), 8443, "/a/b?c".to_owned()));
    assert_eq!(named("tcp://web.example.com:5432/ignored"), (Scheme::Tcp, web(), 5432, String::new()));
    assert_eq!(named("grpc://web.example.com:50051"), (Scheme::Grpc, web(), 50051, String::new()));
    assert_eq!(named("grpcs://web.example.com:1/a.B"), (Scheme::Grpcs, web(), 1, "a.B".to_owned()));
    assert_eq!(named("http://[2001:db8::1]:8080/").1, "2001:db8::1");
}

#[test]
fn a_url_that_names_none_is_refused_in_words_without_its_secrets() {
    for (url, why) in [
        ("", "this is no URL: empty string"),
        ("web.example.com", "the URL must begin with http://, https://, tcp://, grpc:// or grpcs://"),
        ("/metrics", "the URL must begin with http://, https://, tcp://, grpc:// or grpcs://"),
        ("ftp://web.example.com/", "\"ftp\" is no scheme of a target: http, https, tcp, grpc, grpcs are"),
        ("http://user:pass@web.example.com/", "the URL may hold no user and no password"),
        ("http://web.example.com/#a", "the URL has a fragment (#…), which is not sent to a server"),
        ("tcp://web.example.com", "a tcp URL needs a port: there is no usual one"),
        ("http://web.example.com:0/", "the URL's port is none of 1 to 65535"),
        ("http://web.example.com:/", "the URL's port is none of 1 to 65535"),
        ("http://web.example.com:65536/", "the URL's port is none of 1 to 65535"),
    ] {
        assert_eq!(target_of_url(url).unwrap_err(), why, "{url}");
    }
    assert!(target_of_url("http://web.example.com/a b").is_err());
    assert!(target_of_url("http://:80/").is_err());
}

#[test]
fn every_option_of_a_probe_is_asked_for() {
    let spec = spec(
        "intervalSeconds: 30
timeoutSeconds: 7
http:
  method: HEAD
  headers: [{name: X-One, value: '1'}]
  expectedStatus: [204, 301]
  bodyMatches: 'a+'
  bodyNotMatches: b
  followRedirects: false
  tls: {serverName: other.example.com, insecureSkipVerify: true}
metrics: {required: [up]}
",
    );
    let request = request(&spec, target(), &Resolved::default()).unwrap();
    assert_eq!(request.target, target());
    assert_eq!(request.timeout, Duration::from_secs(7));
    assert_eq!(request.http.method, Method::Head);
    assert_eq!(request.http.headers, [("X-One".to_owned(), "1".to_owned())]);
    assert_eq!(request.http.expected_status, [204, 301]);
    assert_eq!(request.http.body_matches.unwrap().as_str(), "a+");
    assert_eq!(request.http.body_not_matches.unwrap().as_str(), "b");
    assert!(!request.http.follow_redirects);
    assert_eq!(request.tls.server_name.as_deref(), Some("other.example.com"));
    assert!(request.tls.insecure_skip_verify);
    assert_eq!(request.metrics.unwrap().required, ["up"]);
    let usual = super::request(&ProbeSpec::default(), target(), &Resolved::default()).unwrap();
    assert_eq!(usual.timeout, Duration::from_secs(5));
    assert!(usual.metrics.is_none() && usual.http.follow_redirects);
}

#[test]
fn secrets_are_sent_and_a_reference_without_its_secret_is_refused() {
    let key = || SecretKeyRef { name: "probe".to_owned(), key: "key".to_owned() };
    let header = HeaderSpec {
        name: "X-Key".to_owned(),
        value: None,
        value_from: Some(HeaderSource { secret_ref: key() }),
    };
    let bare = || ProbeSpec::default().http;
    let lacks = |http: HttpProbe| {
        request(&ProbeSpec { http, ..ProbeSpec::default() }, target(), &Resolved::default()).unwrap_err()
    };
    let said = |field: &str| format!("spec.probe.http.{field} refers to a Secret that was not read");
    let with_header = HttpProbe { headers: vec![header], ..bare() };
    assert_eq!(lacks(with_header.clone()), said("headers[X-Key].valueFrom"));
    assert_eq!(lacks(HttpProbe { bearer_token_secret_ref: Some(key()), ..bare() }), said("bearerTokenSecretRef"));
    let basic = HttpProbe { basic_auth_secret_name: Some("probe".to_owned()), ..bare() };
    assert_eq!(lacks(basic), said("basicAuthSecretName"));
    let ca = TlsSpec { ca_secret_ref: Some(key()), ..TlsSpec::default() };
    assert_eq!(lacks(HttpProbe { tls: Some(ca), ..bare() }), said("tls.caSecretRef"));
    let client = TlsSpec { client_certificate_secret_name: Some("probe".to_owned()), ..TlsSpec::default() };
    assert_eq!(lacks(HttpProbe { tls: Some(client), ..bare() }), said("tls.clientCertificateSecretName"));

    let pem = |text: &str| -> Arc<[u8]> { text.as_bytes().into() };
    let secrets = Resolved {
        headers: vec![("x-key".to_owned(), "sesame".to_owned())],
        bearer_token: Some("token".to_owned()),
        basic_auth: None,
        ca: Some(pem("ca")),
        client: Some((pem("chain"), pem("key"))),
    };
    let spec = ProbeSpec { http: with_header, ..ProbeSpec::default() };
    let made = request(&spec, target(), &secrets).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(made.http.headers, [pair("X-Key", "sesame"), pair("Authorization", "Bearer token")]);
    assert_eq!((made.tls.ca, made.tls.client), (secrets.ca.clone(), secrets.client.clone()));
    assert!(!format!("{secrets:?}").contains("token"));
    let basic = Resolved { basic_auth: Some(pair("user", "word")), ..Resolved::default() };
    let made = request(&ProbeSpec::default(), target(), &basic).unwrap();
    assert_eq!(made.http.headers, [pair("Authorization", "Basic dXNlcjp3b3Jk")]);
}

#[test]
fn a_pattern_that_cannot_be_compiled_is_said_in_one_line() {
    let refused = |pattern: &str| {
        let http = HttpProbe { body_matches: Some(pattern.to_owned()), ..ProbeSpec::default().http };
        request(&ProbeSpec { http, ..ProbeSpec::default() }, target(), &Resolved::default()).unwrap_err()
    };
    assert_eq!(refused("a("), "spec.probe.http.bodyMatches cannot be compiled: unclosed group");
    let large = refused("(?:a{1000}){1000}");
    assert!(large.starts_with("spec.probe.http.bodyMatches cannot be compiled: ") && !large.contains('\n'), "{large}");
}

#[test]
fn an_actuator_of_its_own_port_is_asked_over_http() {
    let grpc = target_of_url("grpc://web.example.com:50051/a.B").unwrap();
    let like = request(&ProbeSpec::default(), grpc, &Resolved::default()).unwrap();
    let asked = actuator_request(&like, &ActuatorProbe { base_path: None, port: Some(8081) });
    assert_eq!((asked.target.scheme, asked.target.port), (Scheme::Http, 8081));
    let like = request(&ProbeSpec::default(), target(), &Resolved::default()).unwrap();
    let asked = actuator_request(&like, &ActuatorProbe::default());
    assert_eq!((asked.target.scheme, asked.target.port), (Scheme::Https, 443));
}
