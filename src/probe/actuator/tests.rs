use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::probe::{MetricsOptions, Policy, Scheme, Target, TlsOptions};

fn target(url: &str) -> Target {
    let uri: hyper::Uri = url.parse().unwrap();
    let scheme = if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let port = uri.port_u16().or(scheme.default_port()).unwrap();
    let host = uri.host().unwrap().trim_start_matches('[').trim_end_matches(']').to_owned();
    Target { scheme, host, port, path: uri.path().to_owned(), address: None, is_own: false }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[track_caller]
fn says(body: &str, status: Option<&str>, components: Option<&[(&str, &str)]>) {
    let health = HealthPage::read(body.as_bytes()).unwrap();
    assert_eq!(health, HealthPage { status: status.map(str::to_owned), components: components.map(map) }, "{body}");
}

#[test]
fn a_page_without_components_says_its_status_alone() {
    says(r#"{"status":"UP"}"#, Some("UP"), None);
    says(r#"{"status":"DOWN","groups":["liveness","readiness"]}"#, Some("DOWN"), None);
    says(r#"{"status":{"code":"UP","description":""}}"#, Some("UP"), None);
    says(r#"{"status":"two words"}"#, None, None);
    // The application's own word, which is not for showing.
    says(r#"{"status":"OWN_word-1"}"#, None, None);
}

#[test]
fn components_are_read_in_the_shapes_of_all_versions() {
    says(
        r#"{"status":"DOWN","components":{"db":{"status":"DOWN","details":{"error":"x","inner":{"status":"UP"}}},
            "dbs":{"status":"UP","components":{"first":{"status":"UP"},"second":{"status":"UNKNOWN"}}}}}"#,
        Some("DOWN"),
        Some(&[("db", "DOWN"), ("dbs", "UP"), ("dbs/first", "UP"), ("dbs/second", "UNKNOWN")]),
    );
    says(
        r#"{"status":"DOWN","details":{"db":{"status":"DOWN","details":{"error":"x","hello":1}},
            "dbs":{"status":"UP","details":{"first":{"status":"UP","details":{}}}}}}"#,
        Some("DOWN"),
        Some(&[("db", "DOWN"), ("dbs", "UP"), ("dbs/first", "UP")]),
    );
    says(
        r#"{"status":"DOWN","diskSpace":{"status":"UP","total":1},"db":{"status":"DOWN","error":"x"}}"#,
        Some("DOWN"),
        Some(&[("db", "DOWN"), ("diskSpace", "UP")]),
    );
    says(r#"{"status":"UP","components":{}}"#, Some("UP"), Some(&[]));
}

#[test]
fn what_is_no_health_page_is_none() {
    for body in ["", "<html>", "[]", "\"UP\"", "{}", "{\"status\":1}", "{\"status\":\"UP\"", "{\"state\":\"UP\"}"] {
        assert_eq!(HealthPage::read(body.as_bytes()), None, "{body}");
    }
    let deep = format!("{}{}", "{\"status\":".repeat(5_000), "}".repeat(5_000));
    assert_eq!(HealthPage::read(deep.as_bytes()), None);
}

#[test]
fn names_and_words_that_may_not_be_shown_are_left_out() {
    let long = "x".repeat(65);
    let body = format!(
        r#"{{"status":"DOWN","components":{{"jdbc:mysql://root@db":{{"status":"DOWN"}},"{long}":{{"status":"DOWN"}},
            "a":{{"status":"some words"}},"b":{{"status":"DOWN","components":{{"é":{{"status":"UP"}}}}}}}}}}"#
    );
    says(&body, Some("DOWN"), Some(&[("b", "DOWN")]));
}

#[test]
fn components_are_bounded_and_the_bad_ones_are_kept() {
    let component = |n: usize| format!("\"c{n}\":{{\"status\":\"{}\"}}", if n == 999 { "DOWN" } else { "UP" });
    let body = format!(
        "{{\"status\":\"DOWN\",\"components\":{{{}}}}}",
        (0..1_000).map(component).collect::<Vec<_>>().join(",")
    );
    let components = HealthPage::read(body.as_bytes()).unwrap().components.unwrap();
    assert_eq!(components.len(), 64);
    assert_eq!(components["c999"], "DOWN");
    let mut nested = "{\"status\":\"UP\"}".to_owned();
    for name in ["f", "e", "d", "c", "b", "a"] {
        nested = format!("{{\"status\":\"UP\",\"components\":{{\"{name}\":{nested}}}}}");
    }
    let components = HealthPage::read(nested.as_bytes()).unwrap().components.unwrap();
    assert_eq!(components.into_keys().collect::<Vec<_>>(), ["a", "a/b", "a/b/c", "a/b/c/d"]);
}

#[test]
fn the_innermost_bad_components_are_named() {
    let words = |body: &str| HealthPage::read(body.as_bytes()).unwrap().describe();
    assert_eq!(words(r#"{"status":"DOWN"}"#), "DOWN");
    assert_eq!(words(r#"{"status":"Â"}"#), "a status of its own");
    assert_eq!(
        words(
            r#"{"status":"DOWN","components":{"dbs":{"status":"DOWN","components":{"a":{"status":"DOWN"},
                "b":{"status":"UP"}}},"ping":{"status":"UP"}}}"#
        ),
        "DOWN: dbs/a is DOWN"
    );
    let many: Vec<_> = (0..6).map(|n| format!("\"c{n}\":{{\"status\":\"DOWN\"}}")).collect();
    let many = format!("{{\"status\":\"DOWN\",\"components\":{{{}}}}}", many.join(","));
    assert!(words(&many).ends_with("c3 is DOWN, and 2 more"));
}

#[test]
fn links_are_paths_at_the_origin_that_was_asked() {
    let body = r#"{"_links":{
        "self":{"href":"http://web.example.com:8081/actuator","templated":false},
        "health":{"href":"http://WEB.example.com:8081/actuator/health?token=x#y"},
        "health-path":{"href":"http://web.example.com:8081/actuator/health/{*path}","templated":true},
        "relative":{"href":"/actuator/info"},
        "braces":{"href":"/actuator/{x}"},
        "network":{"href":"//other.example.com/a"},
        "slashes":{"href":"http://web.example.com:8081//other.example.com/a"},
        "other-host":{"href":"http://other.example.com:8081/actuator"},
        "other-port":{"href":"http://web.example.com/actuator"},
        "other-scheme":{"href":"https://web.example.com:8081/actuator"},
        "user":{"href":"http://user:word@web.example.com:8081/actuator"},
        "up":{"href":"/actuator/../etc"},
        "java":{"href":"javascript:alert(1)"},
        "two words":{"href":"/actuator/words"},
        "no-href":{},"no-text":{"href":1}}}"#;
    let links = Links::read(body.as_bytes(), &target("http://web.example.com:8081/")).unwrap();
    let expected = [("self", "/actuator"), ("health", "/actuator/health"), ("relative", "/actuator/info")];
    assert_eq!(links, Links(map(&expected)));
    let self_at = |href: &str, url: &str| {
        let body = format!("{{\"_links\":{{\"self\":{{\"href\":\"{href}\"}}}}}}");
        Links::read(body.as_bytes(), &target(url)).unwrap().0.len()
    };
    assert_eq!(self_at("http://[2001:DB8::0:1]:8081/a", "http://[2001:db8::1]:8081/"), 1);
    assert_eq!(self_at("https://web.example.com/a", "https://web.example.com:443/"), 1);
    assert_eq!(self_at("http://192.0.2.1/a", "http://192.0.2.10:80/"), 0);
}

#[test]
fn what_is_no_list_of_links_is_none_and_a_long_one_is_bounded() {
    let target = target("http://web.example.com:8081/");
    for body in ["", "{}", "{\"_links\":[]}", "<html>", "{\"links\":{}}"] {
        assert_eq!(Links::read(body.as_bytes(), &target), None, "{body}");
    }
    let link = |n: usize| format!("\"l{n}\":{{\"href\":\"/{n}\"}}");
    let body = format!("{{\"_links\":{{{}}}}}", (0..1_000).map(link).collect::<Vec<_>>().join(","));
    assert_eq!(Links::read(body.as_bytes(), &target).unwrap().0.len(), 64);
}

/// Answers each connection by what `answers` says of its path, and gives the requests that came.
async fn serve(
    answers: &'static [(&'static str, &'static str)],
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let found = answers.iter().find(|(at, _)| *at == path);
            let (status, body) = found.map_or(("404", "{}"), |(_, answer)| answer.split_once(' ').unwrap());
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            sender.send(request).unwrap();
        }
    });
    (port, received)
}

async fn reading(
    answers: &'static [(&'static str, &'static str)],
    base: &str,
    liveness: bool,
) -> (Reading, Vec<String>) {
    let (port, mut received) = serve(answers).await;
    let prober = Prober::new(Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() });
    let http = HttpOptions {
        headers: vec![("authorization".to_owned(), "Bearer right".to_owned())],
        expected_status: vec![418],
        body_matches: Some(crate::probe::Pattern::new("never").unwrap()),
        ..HttpOptions::default()
    };
    let like = Request {
        target: target(&format!("http://127.0.0.1:{port}/metrics")),
        timeout: Duration::from_secs(20),
        http,
        tls: TlsOptions::default(),
        metrics: Some(MetricsOptions::default()),
    };
    let reading = read(&prober, &like, base, liveness).await;
    let mut asked = Vec::new();
    while let Ok(request) = received.try_recv() {
        asked.push(request);
    }
    asked.sort();
    (reading, asked)
}

#[tokio::test]
async fn an_actuator_is_read_with_the_credentials_and_without_the_demands_of_the_probe() {
    let (reading, asked) = reading(
        &[
            ("/actuator", r#"200 {"_links":{"self":{"href":"/actuator"}}}"#),
            ("/actuator/health", r#"503 {"status":"DOWN","components":{"db":{"status":"DOWN"}}}"#),
            ("/actuator/health/liveness", r#"200 {"status":"UP"}"#),
        ],
        "/actuator",
        true,
    )
    .await;
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|request| request.contains("authorization: Bearer right\r\n")), "{asked:?}");
    assert!(reading.base.ends_with("/actuator") && reading.base.starts_with("http://127.0.0.1:"));
    assert_eq!(reading.links.content, Some(Links(map(&[("self", "/actuator")]))));
    assert_eq!((reading.links.status(), reading.links.error()), (Some(200), None));
    assert_eq!((reading.health.status(), reading.health.error()), (Some(503), None));
    assert_eq!(reading.health.outcome.seen.body, None);
    assert_eq!(reading.liveness.as_ref().unwrap().status_or_error(), Ok(200));
    let failure = reading.verdict().unwrap_err();
    assert_eq!((failure.class, failure.phase), (ErrorClass::HTTPStatus, Phase::Body));
    assert_eq!(failure.message, "the health page answers 503 and says DOWN: db is DOWN");
    assert_eq!(failure.detail, None);
}

#[tokio::test]
async fn only_up_is_healthy() {
    let verdict = |(reading, _): (Reading, Vec<String>)| reading.verdict();
    assert_eq!(verdict(reading(&[("/manage/health", "200 {\"status\":\"UP\"}")], "/manage/", false).await), Ok(()));
    let unknown = verdict(reading(&[("/health", "200 {\"status\":\"UNKNOWN\"}")], "/", false).await).unwrap_err();
    assert_eq!((unknown.class, unknown.message.as_str()), (ErrorClass::Assertion, "the health page says UNKNOWN"));
    let other = verdict(reading(&[("/health", "200 <html>")], "/", false).await).unwrap_err();
    assert_eq!(other.message, "what the health page answered says nothing of health");
    let gone = verdict(reading(&[], "/actuator", false).await).unwrap_err();
    assert_eq!(gone.message, "the health page: the status is 404, expected 200 to 299");
}

/// What the real application answered.
fn golden(folder: &str) -> Vec<(String, Vec<u8>)> {
    let root = format!("{}/tests/golden/spring-3.5/{folder}", env!("CARGO_MANIFEST_DIR"));
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name.trim_end_matches(".json").to_owned(), std::fs::read(entry.path()).unwrap())
    };
    let files: Vec<_> = std::fs::read_dir(root).unwrap().map(file).collect();
    assert!(files.len() > 8, "the recordings were not found");
    files
}

#[test]
fn health_pages_of_a_real_spring_application_are_read() {
    let expected = [
        ("up", "UP"),
        ("up-components", "UP"),
        ("up-details", "UP"),
        ("db-refused", "DOWN"),
        ("db-refused-components", "DOWN: db is DOWN"),
        ("db-refused-details", "DOWN: db is DOWN"),
        ("liveness-broken", "DOWN"),
        ("liveness-broken-whole", "DOWN: livenessState is DOWN"),
        ("out-of-service", "OUT_OF_SERVICE: readinessState is OUT_OF_SERVICE"),
    ];
    let recorded = golden("health");
    for (name, words) in expected {
        let (_, body) = recorded.iter().find(|(file, _)| file == name).unwrap();
        assert_eq!(HealthPage::read(body).unwrap().describe(), words, "{name}");
    }
    assert!(recorded.iter().all(|(_, body)| HealthPage::read(body).is_some_and(|health| health.status.is_some())));
}

#[test]
fn lists_of_links_of_a_real_spring_application_are_read() {
    let recorded = golden("links");
    let listed = |name: &str, port: u16| {
        let (_, body) = recorded.iter().find(|(file, _)| file == name).unwrap();
        Links::read(body, &target(&format!("http://192.0.2.10:{port}/"))).unwrap().0
    };
    assert_eq!(listed("health-only", 8081), map(&[("health", "/actuator/health"), ("self", "/actuator")]));
    assert_eq!(listed("access-default-none", 8081), map(&[("self", "/actuator")]));
    assert_eq!(listed("base-path", 8080)["prometheus"], "/manage/prometheus");
    assert_eq!(listed("context-path", 8080)["prometheus"], "/orders/actuator/prometheus");
    // Recorded at the other port: another origin.
    assert!(listed("base-path", 8081).is_empty());
}
