//! Every invalid request gets an answer in the 4xx with a sentence, and the process keeps working.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{Answer, Session, beat_request, exchange, get, post_beat};
use crate::support::world::SOON;
use crate::support::{Beater, Connector, Operator, World, never, quick, seconds, text, time};

/// Checks the code of a refusal and returns its sentence.
#[track_caller]
fn refusal(answer: &Answer, status: u16, case: &str) -> String {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    let body = answer.json();
    let message = text(&body, "/error/message");
    assert!(message.contains(' ') && !text(&body, "/error/code").is_empty(), "{case}: no sentence in {answer:?}");
    message.to_owned()
}

#[track_caller]
fn is_healthy(operator: &Operator, edge: &Connector, case: &str) {
    let answer = edge.try_beat(operator.beats(), &Value::Null);
    // This many beats a second exceed its rate limit; they still count.
    assert!([200, 429].contains(&answer.status), "after {case}: {answer:?}");
    assert_eq!(get(operator.admin(), "/livez").unwrap().status, 200, "after {case}");
}

/// Bodies that are not a valid beat, and the field that the sentence must name.
fn bad_bodies(edge: &Connector) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (id, token) = (&edge.id, &edge.token);
    let with = |more: &str| format!(r#"{{"connector_id":"{id}","token":"{token}",{more}}}"#).into_bytes();
    let nested = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    vec![
        ("an empty body", Vec::new(), ""),
        ("no JSON", b"connector_id=edge-1&token=x".to_vec(), ""),
        ("half of a beat", format!(r#"{{"connector_id":"{id}","tok"#).into_bytes(), ""),
        ("two values", [edge.body(&Value::Null), edge.body(&Value::Null)].concat(), ""),
        ("an array", b"[]".to_vec(), ""),
        ("a number", b"7".to_vec(), ""),
        ("null", b"null".to_vec(), ""),
        ("bad UTF-8", [b"{\"connector_id\":\"".as_slice(), &[0xff, 0xfe], b"\",\"token\":\"x\"}"].concat(), ""),
        ("a byte order mark in UTF-16", vec![0xff, 0xfe, b'{', 0, b'}', 0], ""),
        ("no connector_id", format!(r#"{{"token":"{token}"}}"#).into_bytes(), "connector_id"),
        ("no token", format!(r#"{{"connector_id":"{id}"}}"#).into_bytes(), "token"),
        ("a number as id", format!(r#"{{"connector_id":7,"token":"{token}"}}"#).into_bytes(), "connector_id"),
        ("an empty id", format!(r#"{{"connector_id":"","token":"{token}"}}"#).into_bytes(), "connector_id"),
        ("an id with a space", format!(r#"{{"connector_id":"a b","token":"{token}"}}"#).into_bytes(), "connector_id"),
        (
            "an id with a NUL",
            format!(r#"{{"connector_id":"a\u0000b","token":"{token}"}}"#).into_bytes(),
            "connector_id",
        ),
        (
            "an id that is a path",
            format!(r#"{{"connector_id":"../../{}","token":"{token}"}}"#, "é").into_bytes(),
            "connector_id",
        ),
        (
            "an id of 129",
            format!(r#"{{"connector_id":"{}","token":"{token}"}}"#, "a".repeat(129)).into_bytes(),
            "connector_id",
        ),
        ("a list as token", format!(r#"{{"connector_id":"{id}","token":["{token}"]}}"#).into_bytes(), "token"),
        ("a negative sequence", with(r#""sequence":-1"#), "sequence"),
        ("a sequence in text", with(r#""sequence":"7""#), "sequence"),
        ("a sequence with a fraction", with(r#""sequence":1.5"#), "sequence"),
        ("a time that is none", with(r#""sent_at":"yesterday""#), "sent_at"),
        ("checks that are no list", with(r#""checks":{}"#), "checks"),
        ("a check that is a text", with(r#""checks":["Process"]"#), "checks"),
        ("a check without a status", with(r#""checks":[{"type":"Process"}]"#), "status"),
        ("a check with an odd status", with(r#""checks":[{"type":"Process","status":"Perhaps"}]"#), "status"),
        ("a dry run in text", with(r#""dry_run":"yes""#), "dry_run"),
        (
            "the same key twice",
            format!(r#"{{"connector_id":"x","connector_id":"{id}","token":"{token}"}}"#).into_bytes(),
            "connector_id",
        ),
        (
            "the same key twice, once escaped",
            format!(r#"{{"connector_id":"{id}","token":"x","tok\u0065n":"{token}"}}"#).into_bytes(),
            "token",
        ),
        ("deep nesting", with(&format!(r#""future":{nested}"#)), ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_body_is_answered_400_with_a_sentence() {
    let world = World::new("badbodies").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    let good = edge.beat(operator.beats());
    for (case, body, names) in bad_bodies(&edge) {
        let answer = post_beat(operator.beats(), &body).unwrap_or_else(|error| panic!("{case}: {error}"));
        let sentence = refusal(&answer, 400, case);
        assert!(sentence.contains(names), "{case}: the sentence does not name {names}: {sentence}");
        assert!(!answer.body.contains(&edge.token), "{case}: {answer:?}");
    }
    let view = operator.view("edge-1").unwrap();
    assert!(good.is_at(time(&view, "/lastHeartbeatTime")), "a refused beat moves nothing: {view}");
    is_healthy(&operator, &edge, "all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_agent_says_is_no_mistake() {
    let world = World::new("newer").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    let more = json!({
        "version": "9.9.9", "hostname": "h\u{1F6A2}\n", "boot_id": null, "sequence": 1, "sent_at": null, "future": {"a": [1, 2, {"b": null}]},
        "checks": [{"type": "FromTheFuture", "status": "Pass", "more": 1}], "backends": [], "gaps": [],
    });
    edge.beat_with(operator.beats(), &more);
    let seen = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(text(&seen, "/status/agent/version"), "9.9.9");
    // The token in the header takes precedence over the one in the body.
    let body = format!(r#"{{"connector_id":"{}","token":"wrong"}}"#, edge.id);
    let header = format!("Authorization: Bearer {}\r\nConnection: close\r\n", edge.token);
    assert_eq!(exchange(operator.beats(), &beat_request(body.as_bytes(), &header)).unwrap().status, 200);
    let body = format!(r#"{{"connector_id":"{}"}}"#, edge.id);
    assert_eq!(exchange(operator.beats(), &beat_request(body.as_bytes(), &header)).unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_is_answered_and_is_no_contact() {
    let world = World::new("dryrun").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    world.state(SOON, "edge-1", "Pending").await;
    edge.beat_with(operator.beats(), &json!({"dry_run": true}));
    let wrong = edge.with_token("vgt_wrong-wrong-wrong").try_beat(operator.beats(), &json!({"dry_run": true}));
    assert_eq!(wrong.status, 401);
    never(seconds(3), "a dry run counts as contact", async || {
        let view = operator.view("edge-1").unwrap();
        (text(&view, "/state") != "Pending" || !view["lastHeartbeatTime"].is_null()).then(|| view.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_odd_request_is_answered_as_http_says() {
    let world = World::new("oddrequests").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({})).await;
    let to = operator.beats();
    let beat = "/api/connector/heartbeat";
    let head = |line: &str| format!("{line}\r\nHost: vigie\r\nConnection: close\r\n\r\n").into_bytes();
    let long_header = format!("X-Long: {}\r\nConnection: close\r\n", "a".repeat(70 * 1024));
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("GET instead of POST", head(&format!("GET {beat} HTTP/1.1")), &[405]),
        ("PUT", head(&format!("PUT {beat} HTTP/1.1")), &[405]),
        ("DELETE", head(&format!("DELETE {beat} HTTP/1.1")), &[405]),
        ("an unknown method", head(&format!("BREW {beat} HTTP/1.1")), &[400, 405]),
        ("another path", head("GET /nothing HTTP/1.1"), &[404]),
        ("the root", head("GET / HTTP/1.1"), &[404]),
        ("metrics on the public port", head("GET /metrics HTTP/1.1"), &[404]),
        ("dots in the path", head("GET /api/../api/v1/connectors HTTP/1.1"), &[404]),
        ("an odd version", head(&format!("GET {beat} HTTP/9.9")), &[400, 405]),
        ("no HTTP at all", b"hello\r\n\r\n".to_vec(), &[400]),
        ("a TLS greeting", vec![0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0, b'\r', b'\n', b'\r', b'\n'], &[400]),
        ("a body of 17 KiB", beat_request(&vec![b'x'; 17 * 1024], "Connection: close\r\n"), &[413]),
        (
            "a body that claims a gigabyte",
            b"POST /api/connector/heartbeat HTTP/1.1\r\nHost: v\r\nContent-Length: 1000000000\r\n\r\n{".to_vec(),
            &[413],
        ),
        (
            "a length that is no number",
            b"POST /api/connector/heartbeat HTTP/1.1\r\nHost: v\r\nContent-Length: x\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "two lengths",
            b"POST /api/connector/heartbeat HTTP/1.1\r\nHost: v\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"
                .to_vec(),
            &[400],
        ),
        ("headers of 70 KiB", beat_request(&edge.body(&Value::Null), &long_header), &[431]),
    ];
    for (case, bytes, allowed) in cases {
        let answer = exchange(to, &bytes).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(allowed.contains(&answer.status), "{case}: {answer:?}");
        if [404, 405, 413].contains(&answer.status) {
            refusal(&answer, answer.status, case);
        }
        is_healthy(&operator, &edge, case);
    }
    let absolute = format!(
        "POST http://vigie{beat} HTTP/1.1\r\nHost: vigie\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        edge.body(&Value::Null).len()
    );
    let answer = exchange(to, &[absolute.into_bytes(), edge.body(&Value::Null)].concat()).unwrap();
    assert!(
        [200, 429].contains(&answer.status),
        "an absolute-form URL is the same request (RFC 9112, 3.2.2): {answer:?}"
    );
    let chunked = b"POST /api/connector/heartbeat HTTP/1.1\r\nHost: v\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answer = exchange(to, chunked).unwrap();
    assert_eq!(answer.status, 400, "{answer:?}");
    is_healthy(&operator, &edge, "all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_senders_are_ended_and_hold_nobody_up() {
    const SLOW: usize = 200;
    let world = World::new("slow").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let beater = Beater::start(&[operator.beats()], &edge, seconds(1), Value::Null);
    let mut body = Session::open(operator.beats()).unwrap();
    body.send(b"POST /api/connector/heartbeat HTTP/1.1\r\nHost: v\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let mut headers: Vec<_> = (0..SLOW).map(|_| Session::open(operator.beats()).unwrap()).collect();
    for slow in &mut headers {
        slow.send(b"POST /api/connector/heartbeat HTTP/1.1\r\nHost: v\r\nX-Slow: ").unwrap();
    }
    let (body, headers) = tokio::task::spawn_blocking(move || {
        (body.receive(), headers.iter_mut().map(Session::receive).collect::<Vec<_>>())
    })
    .await
    .unwrap();
    refusal(&body.expect("a slow body is answered"), 408, "a slow body");
    for ended in headers {
        match ended {
            Ok(answer) => assert_eq!(answer.status, 408, "{answer:?}"),
            Err(error) => assert!(
                [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()),
                "{error}: it was not ended"
            ),
        }
    }
    let beats = beater.stop();
    let lost = beats.iter().find(|beat| beat.is_lost());
    assert!(lost.is_none(), "good beats are heard beside them: {lost:?}");
}

/// Upper limit of wrong tokens in a second: a slow machine takes longer for all of them.
const FLOOD: usize = 1_000;

/// Sends these bodies in turn, `count` of them and no faster than `per_second`, over one connection or each over its
/// own; returns the answers.
fn flood(to: SocketAddr, bodies: &[Vec<u8>], count: usize, per_second: usize, keep_alive: bool) -> Vec<Answer> {
    let mut session = Session::open(to).unwrap();
    let began = Instant::now();
    let mut answers = Vec::with_capacity(count);
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / per_second as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let body = &bodies[number % bodies.len()];
        answers.push(if keep_alive {
            session.send(&beat_request(body, "")).unwrap();
            session.receive().unwrap()
        } else {
            post_beat(to, body).unwrap()
        });
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_wrong_tokens_hurts_nobody_but_its_sender() {
    const GOOD: usize = 10;
    const SECONDS: usize = 10;
    let world = World::new("flood").await;
    let operator = world.operator(&[]).await;
    let silent = world.connector("silent-1", json!({})).await;
    let only = silent.beat(operator.beats());
    let mut good = Vec::new();
    for number in 0..GOOD {
        good.push(world.connector(&format!("edge-{number}"), quick()).await);
    }
    let to = operator.beats();
    let beaters: Vec<_> = good.iter().map(|edge| Beater::start(&[to], edge, seconds(1), Value::Null)).collect();
    for edge in &good {
        world.state(SOON, &edge.name, "Online").await;
    }
    // The existing ones, the silent one among them, and a thousand that never existed.
    let known = good.iter().chain([&silent]).map(|edge| edge.with_token("vgt_wrong-wrong-wrong-wrong"));
    let strangers = (0..1_000).map(|number| Connector { id: format!("no/body-{number}"), ..silent.clone() });
    let known: Vec<_> = known.map(|edge| edge.body(&Value::Null)).collect();
    let strange: Vec<_> = strangers.map(|edge| edge.body(&Value::Null)).collect();
    let before: Vec<_> = beaters.iter().map(|beater| beater.beats().len()).collect();
    let answers = tokio::task::spawn_blocking(move || {
        let all = [(&known, true), (&known, false), (&strange, true), (&strange, false)];
        std::thread::scope(|scope| {
            let senders =
                all.map(|(bodies, keep)| scope.spawn(move || flood(to, bodies, FLOOD * SECONDS / 4, FLOOD / 4, keep)));
            senders.map(|sender| sender.join().unwrap()).concat()
        })
    })
    .await
    .unwrap();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 401).collect();
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    let other = answers.iter().find(|answer| ![401, 429].contains(&answer.status) && !answer.is_frozen());
    assert!(other.is_none(), "nothing else is answered: {other:?}");
    assert!(refused.iter().all(|answer| answer.body == refused[0].body), "one and the same body, known or unknown");
    assert!(limited.iter().all(|answer| answer.header("retry-after").is_some()));
    // The known ones are allowed 20 failures a minute each; the flood lasts a minute, unless the machine is very slow.
    assert!(limited.len() >= FLOOD * SECONDS / 4, "{} refused, {} told to wait", refused.len(), limited.len());

    let beats: Vec<_> = beaters.into_iter().map(Beater::stop).collect();
    let lost = beats.iter().flatten().find(|beat| beat.is_lost());
    assert!(lost.is_none(), "a good token is never locked out by others' failures: {lost:?}");
    assert!(beats.iter().zip(before).all(|(beats, before)| beats.len() > before), "they beat all the time");
    let heard = operator.scrape().sum("vigie_heartbeats_total", &["result=\"heard\""]);
    let answered = beats.iter().flatten().filter(|beat| beat.status() == Some(200)).count();
    assert_eq!(heard, (1 + answered) as f64, "each of them counts");
    let view = operator.view("silent-1").unwrap();
    assert!(only.is_at(time(&view, "/lastHeartbeatTime")), "unmoved by wrong tokens: {view}");
    for edge in &good {
        let path = crate::beats::path(&world.get(&edge.name).await);
        assert!(path == ["Pending", "Online"] || operator.froze(), "{}: {path:?}", edge.name);
    }
    // One line a minute for each connector and reason, and one for all strangers; a slow machine may take more minutes.
    let lines = operator.log().lines().filter(|line| line.contains("refused a beat")).count();
    assert!((GOOD..=(GOOD + 2) * 2 * 4).contains(&lines), "{lines} lines of log for {} wrong beats", answers.len());
    let log = operator.log().len();
    assert!(log < 100 * 1024, "{log} bytes of log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_far_above_its_rate_is_told_so_and_still_heard() {
    let world = World::new("toooften").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({"heartbeat": {"intervalSeconds": 60}})).await;
    // 10 times its rate is 10 a minute.
    let answers: Vec<_> = (0..30).map(|_| edge.try_beat(operator.beats(), &Value::Null)).collect();
    let last = answers.last().unwrap();
    assert_eq!(answers[0].status, 200);
    assert_eq!(last.status, 429, "{last:?}");
    assert!(last.header("retry-after").is_some(), "{last:?}");
    let before = jiff::Timestamp::now();
    edge.try_beat(operator.beats(), &Value::Null);
    let view = operator.view("edge-1").unwrap();
    assert!(time(&view, "/lastHeartbeatTime") >= before - jiff::SignedDuration::from_millis(25));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_limit_of_open_files_does_not_bound_the_connections() {
    let world = World::new("files").await;
    let operator = world.replica(&[]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", operator.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("proc(5) has such a line");
    let [soft, hard] = [3, 4].map(|at| line.split_whitespace().nth(at).unwrap().parse().unwrap_or(u64::MAX));
    // The operator was started with a soft limit of 1,024.
    assert_eq!(soft, hard.min(65_536), "{line}");
    assert!(operator.log().contains("connections="), "the start line gives the connection limit: {}", operator.log());
}
