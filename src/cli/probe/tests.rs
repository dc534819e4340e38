use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::args::ProbeArgs;
use super::run::{ProbeRun, run};
use super::{options, report};
use crate::api::{BackendState, Cause, ErrorClass};
use crate::cli::args::{Cli, Command};
use crate::monitor::target;

fn args(line: &[&str]) -> ProbeArgs {
    let line = ["vigie", "probe"].iter().chain(line);
    match Cli::try_parse_from(line).unwrap().command {
        Command::Probe(args) => *args,
        other => panic!("{other:?}"),
    }
}

/// Answers each connection by what `answers` says of its path; 404 to others. Gives its port.
async fn serve(answers: &'static [(&'static str, &'static str, &'static str)]) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let found = answers.iter().find(|(at, ..)| *at == path);
            let (status, body) = found.map_or(("404 X", ""), |(_, status, body)| (status, body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    port
}

async fn seen(url: &str, flags: &[&str]) -> ProbeRun {
    let args = args(&[&[url], flags].concat());
    let (spec, secrets) = options::read(&args).unwrap();
    let target = target::of_url(&args.url).unwrap();
    run(&args, spec, target, &secrets).await.unwrap()
}

/// The report without its times.
fn timeless(run: &ProbeRun) -> String {
    let is_time = |word: &str| word.parse::<f64>().is_ok() && word.contains('.') && word.matches('.').count() == 1;
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let indent = &line[..line.len() - line.trim_start().len()];
        let words: Vec<&str> = words.iter().map(|word| if is_time(word) { "T" } else { *word }).collect();
        format!("{indent}{}\n", words.join(" "))
    };
    report::text(run).lines().map(line).collect()
}

#[tokio::test]
async fn a_probe_that_passes_is_told_phase_by_phase() {
    let port = serve(&[("/metrics", "200 OK\r\nContent-Type: text/plain", "# TYPE a counter\na 1\nb 2\n")]).await;
    let url = format!("http://127.0.0.1:{port}/metrics");
    let run = seen(&url, &["--metrics"]).await;
    assert!(run.passed());
    let expected = format!(
        "{url}

  Resolve T ms
  Policy T ms
  Connect T ms to 127.0.0.1:{port}
  FirstByte T ms status 200
  Body T ms 25 bytes, 2 samples
  in all T ms of 5 s

OK passed

The operator would say Up
"
    );
    assert_eq!(timeless(&run), expected);
    let json = report::json(&run);
    assert_eq!((json["passed"].as_bool(), json["state"].as_str()), (Some(true), Some("Up")));
    assert_eq!(json["page"], serde_json::json!({ "samples": 2, "brokenAt": null, "missing": [] }));
    assert_eq!(json["phases"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_broken_page_is_told_with_its_line_and_what_to_do() {
    let port = serve(&[
        ("/metrics", "200 OK\r\nContent-Type: text/plain", "a 1\nb{c=\"canary\"} x\n"),
        ("/actuator", "200 OK", r#"{"_links":{"self":{"href":"/actuator"},"prometheus":{"href":"/scrape"}}}"#),
        ("/actuator/health", "200 OK", r#"{"status":"UP"}"#),
    ])
    .await;
    let run = seen(&format!("http://127.0.0.1:{port}/metrics"), &["--metrics"]).await;
    assert!(!run.passed());
    assert_eq!(run.diagnosis.as_ref().map(|diagnosis| diagnosis.cause), Some(Cause::MalformedMetrics));
    let text = timeless(&run);
    for line in [
        "  Body T ms FAILED, 20 bytes, 1 sample\n",
        "FAILED Exposition in Body: the metrics page is broken in line 2, at byte 18: the value of the sample is no number\n",
        "         it said: b{c=\"canary\"} x\n",
        "/actuator (read because the probe failed)\n",
        "  links 200 prometheus at /scrape\n",
        "  health 200 UP\n",
        "  liveness 404 no health page\n",
        "The operator would say Down, after 3 such probes in a row\n",
        "  cause MalformedMetrics (Certain): ",
        "  restart would not help\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    let json = report::json(&run);
    assert_eq!(json["failure"]["errorClass"], "Exposition");
    assert_eq!(json["page"]["brokenAt"], serde_json::json!({ "line": 2, "byte": 18 }));
    assert_eq!(json["diagnosis"]["cause"], "MalformedMetrics");
}

#[tokio::test]
async fn an_actuator_that_is_asked_for_counts() {
    let port = serve(&[
        ("/", "200 OK", "fine"),
        ("/up/health", "200 OK", r#"{"status":"UP"}"#),
        ("/unknown/health", "200 OK", r#"{"status":"UNKNOWN"}"#),
        ("/down/health", "503 X", r#"{"status":"DOWN","components":{"db":{"status":"DOWN"}}}"#),
    ])
    .await;
    let url = format!("http://127.0.0.1:{port}/");
    for (base, state, cause) in [
        ("/up", BackendState::Up, None),
        ("/unknown", BackendState::Degraded, Some(Cause::HealthUnknown)),
        ("/down", BackendState::Down, Some(Cause::DependencyDown)),
    ] {
        let args = args(&[&url, "--actuator"]);
        let (mut spec, secrets) = options::read(&args).unwrap();
        spec.actuator.as_mut().unwrap().base_path = Some(base.to_owned());
        let run = run(&args, spec, target::of_url(&url).unwrap(), &secrets).await.unwrap();
        assert_eq!((run.state(), run.passed()), (state, state == BackendState::Up), "{base}");
        assert_eq!(run.diagnosis.as_ref().map(|diagnosis| diagnosis.cause), cause, "{base}");
    }
}

#[tokio::test]
async fn a_refusal_is_no_firewall_and_a_denied_network_is_not_dialled() {
    // Bound, so that nobody else takes it, and never listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let run = seen(&url, &[]).await;
    assert_eq!(run.outcome.result.as_ref().unwrap_err().class, ErrorClass::Refused);
    assert!(run.actuator.is_none());
    let told = report::text(&run);
    // A firewall that rejects comes last, after the process.
    assert!(told.find("ss -ltnp").is_some() && told.find("ss -ltnp") < told.find("firewall"), "{told}");
    let run = seen(&url, &["--deny-network", "127.0.0.0/8"]).await;
    assert_eq!(run.outcome.result.as_ref().unwrap_err().class, ErrorClass::Denied);
    assert_eq!(run.diagnosis.unwrap().cause, Cause::TargetDenied);
}

#[test]
fn flags_that_need_each_other_or_exclude_each_other_say_so() {
    let refused = |line: &[&str]| Cli::try_parse_from(["vigie", "probe"].iter().chain(line)).is_err();
    assert!(refused(&[]));
    assert!(refused(&["http://web.example.com", "--timeout", "0"]));
    assert!(refused(&["http://web.example.com", "--client-cert-file", "a"]));
    assert!(refused(&["http://web.example.com", "--bearer-token-file", "a", "--basic-auth-file", "b"]));
    assert!(!refused(&["http://web.example.com", "--client-cert-file", "a", "--client-key-file", "b"]));
}
