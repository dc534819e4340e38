use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::api::MAX_BEAT;
use crate::heartbeat::fake::{BEAT, Served, body, post, post_and_stay, read_all, read_one, start, status};

const SHORT: Duration = Duration::from_millis(50);

fn raw(head: &str, body: &str) -> Vec<u8> {
    let head = head.replace('\n', "\r\n");
    format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

fn chunked(chunks: &[&str]) -> Vec<u8> {
    let head = "POST /api/connector/heartbeat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n").into()
}

async fn connect(served: &Served) -> TcpStream {
    TcpStream::connect(served.address).await.unwrap()
}

const BEAT_AT: &str = "POST /api/connector/heartbeat HTTP/1.1";

/// What is sent, by what it is; the status that it gets, and what stands in the answer.
type Case = (&'static str, Vec<u8>, &'static str, &'static str);

async fn check(cases: impl IntoIterator<Item = Case>) {
    let served = start(Limits::default(), None).await;
    for (name, request, expected, contains) in cases {
        let answer = served.ask(&request).await;
        assert_eq!(status(&answer), expected, "{name}: {answer}");
        assert!(answer.contains(contains), "{name}: {answer}");
        assert!(!request.starts_with(b"HEAD") || body(&answer).is_empty(), "{name}: {answer}");
        let is_json = body(&answer).is_empty() || serde_json::from_str::<serde_json::Value>(body(&answer)).is_ok();
        assert!(is_json, "{name}: {answer}");
    }
    // And it still works.
    assert_eq!(status(&served.ask(&post(BEAT)).await), "200");
}

/// The beat with an `x` that makes it as long as that.
fn of_length(length: usize) -> String {
    let empty = BEAT.replace('}', r#","x":""}"#);
    empty.replace(r#""x":""#, &format!(r#""x":"{}"#, "x".repeat(length - empty.len())))
}

fn with_header(size: usize) -> Vec<u8> {
    raw(&format!("{BEAT_AT}\nCookie: {}", "x".repeat(size)), BEAT)
}

/// With `count` headers, and the three that each request here has.
fn with_headers(count: usize) -> Vec<u8> {
    raw(&format!("{BEAT_AT}{}", "\nX-Y: z".repeat(count - 3)), BEAT)
}

/// The beat, with another length than it has.
fn lying(length: &str) -> Vec<u8> {
    let truth = format!("Content-Length: {}", BEAT.len());
    edited(raw(BEAT_AT, BEAT), &truth, &format!("Content-Length: {length}"))
}

fn edited(request: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    String::from_utf8(request).unwrap().replace(from, to).into()
}

#[tokio::test]
async fn what_the_contract_allows_is_heard() {
    check([
        ("the founding beat", post(BEAT), "200", r#""state":"Online""#),
        (
            "as a form, like curl -d",
            raw(&format!("{BEAT_AT}\nContent-Type: application/x-www-form-urlencoded"), BEAT),
            "200",
            "",
        ),
        ("in chunks", chunked(&[&BEAT[..9], &BEAT[9..]]), "200", ""),
        ("an absolute URL", raw("POST http://vigie/api/connector/heartbeat HTTP/1.1", BEAT), "200", ""),
        ("HTTP/1.0", raw("POST /api/connector/heartbeat HTTP/1.0", BEAT), "200", ""),
        ("a query", raw("POST /api/connector/heartbeat?a=b HTTP/1.1", BEAT), "200", ""),
        ("15 KiB of headers", with_header(15 * 1024), "200", ""),
        ("100 headers", with_headers(100), "200", ""),
        ("a body that just fits", post(&of_length(MAX_BEAT)), "200", ""),
        ("health", raw("GET /api/health HTTP/1.1", ""), "200", r#""status":"ok""#),
        ("HEAD of health", raw("HEAD /api/health HTTP/1.1", ""), "200", "content-length: 30\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn what_is_too_large_is_told_so() {
    check([
        ("17 KiB of headers", with_header(17 * 1024), "431", ""),
        ("a megabyte of headers", with_header(1024 * 1024), "431", ""),
        ("101 headers", with_headers(101), "431", ""),
        ("a body over 16 KiB", post(&of_length(MAX_BEAT + 1)), "413", "too_large"),
        ("10 MiB", post(&"x".repeat(10 * 1024 * 1024)), "413", "too_large"),
        ("over 16 KiB in chunks", chunked(&vec![&*"x".repeat(1024); 17]), "413", "too_large"),
        ("over 16 KiB in one chunk", chunked(&[&of_length(MAX_BEAT + 1)]), "413", "too_large"),
        ("too much, asking first", edited(lying("20000\r\nExpect: 100-continue"), BEAT, ""), "413", "too_large"),
        ("a length that says too much", lying("16385"), "413", "too_large"),
    ])
    .await;
}

#[tokio::test]
async fn what_is_no_beat_is_told_so() {
    let no_length = edited(raw("POST /api/connector/heartbeat HTTP/1.0", BEAT), "Content-Length", "X-Length");
    let broken_utf8 = [edited(post(""), "Length: 0", "Length: 1"), b"\xff".to_vec()].concat();
    check([
        ("a length that says too little", lying("10"), "400", "not_json"),
        ("a length that is none", lying("x"), "400", ""),
        ("a negative length", lying("-1"), "400", ""),
        ("two lengths", lying("41\r\nContent-Length: 40"), "400", ""),
        ("HTTP/1.0 without a length", no_length, "400", "empty"),
        ("nothing", post(""), "400", "empty"),
        ("no JSON", post("connector_id=a"), "400", "not_json"),
        ("a list", post("[]"), "400", "not a JSON object"),
        ("bad UTF-8", broken_utf8, "400", "UTF-8"),
        ("deep nesting", post(&BEAT.replace("\"right\"", &"[".repeat(8_000))), "400", "not_json"),
        ("a field twice", post(&BEAT.replace("token", "connector_id")), "400", "connector_id"),
        ("garbage behind", post(&format!("{BEAT}x")), "400", "not_json"),
        ("a bad id", post(&BEAT.replace("known", "a b")), "400", "connector_id"),
        ("a wrong token", post(&BEAT.replace("right", "wrong")), "401", "unauthorized"),
        ("an odd version", raw("GET /api/health HTTP/3.7", ""), "400", ""),
        ("no version", b"GET /api/health\r\n\r\n".to_vec(), "400", ""),
        ("a method that is none", raw("G(T /api/health HTTP/1.1", ""), "400", ""),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n".to_vec(), "400", ""),
        ("an encoding that is none", raw(&format!("{BEAT_AT}\nTransfer-Encoding: gzip"), BEAT), "400", ""),
        ("a chunk that is none", edited(chunked(&[]), "0\r\n\r\n", "zz\r\n\r\n"), "400", ""),
    ])
    .await;
}

#[tokio::test]
async fn a_wrong_path_or_method_is_told_so() {
    check([
        ("another path", raw("POST /api/connector HTTP/1.1", BEAT), "404", "not_found"),
        ("a path with a slash", raw("POST /api/connector/heartbeat/ HTTP/1.1", BEAT), "404", "not_found"),
        ("the root", raw("GET / HTTP/1.1", ""), "404", "not_found"),
        ("a star", raw("OPTIONS * HTTP/1.1", ""), "404", "not_found"),
        ("GET", raw("GET /api/connector/heartbeat HTTP/1.1", ""), "405", "allow: POST"),
        ("HEAD", raw("HEAD /api/connector/heartbeat HTTP/1.1", ""), "405", "allow: POST"),
        ("an odd method", raw("BREW /api/connector/heartbeat HTTP/1.1", ""), "405", "allow: POST"),
        ("CONNECT", raw("CONNECT vigie:80 HTTP/1.1", ""), "404", ""),
        ("POST to health", raw("POST /api/health HTTP/1.1", BEAT), "405", "allow: GET, HEAD"),
    ])
    .await;
}

#[tokio::test]
async fn one_connection_carries_many_beats() {
    let served = start(Limits::default(), None).await;
    let mut stream = connect(&served).await;
    for _ in 0..3 {
        stream.write_all(&post_and_stay(BEAT)).await.unwrap();
        assert_eq!(status(&read_one(&mut stream).await), "200");
    }
    stream.write_all(&[post_and_stay(BEAT), post(BEAT)].concat()).await.unwrap();
    assert_eq!(read_all(&mut stream).await.matches("HTTP/1.1 200").count(), 2);
    assert_eq!(served.fake.heard.lock().len(), 5);
    assert!(served.fake.heard.lock().iter().all(|(_, from)| from.to_string() == "127.0.0.1"));
}

#[tokio::test]
async fn a_sender_that_closes_its_half_is_answered() {
    let served = start(Limits::default(), None).await;
    let mut stream = connect(&served).await;
    stream.write_all(&post_and_stay(BEAT)).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), "200");
}

#[tokio::test]
async fn a_sender_of_far_too_much_can_finish_and_then_read_why() {
    let served = start(Limits::default(), None).await;
    let mut stream = connect(&served).await;
    // More than the kernel buffers for both ends: a reset would break the sending off.
    stream.write_all(&post(&"x".repeat(16 * 1024 * 1024))).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(status(&answer), "413", "{answer}");
    assert!(!answer.ends_with(']'), "{answer}");
}

#[tokio::test]
async fn slow_heads_are_closed_and_slow_bodies_told_so() {
    let limits = Limits { header_timeout: SHORT, body_timeout: SHORT, ..Limits::default() };
    let served = start(limits, None).await;
    for head in ["", "P", "POST /api/connector/heartbeat HTTP/1.1\r\nHost: "] {
        let mut stream = connect(&served).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(read_all(&mut stream).await, "", "{head:?}");
    }
    let (whole, chunked) = (post(BEAT), chunked(&[BEAT]));
    for request in [&whole[..whole.len() - 1], &chunked[..chunked.len() - 3]] {
        let mut stream = connect(&served).await;
        stream.write_all(request).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert_eq!(status(&answer), "408", "{answer}");
        assert!(answer.contains("too_slow") && answer.contains("connection: close"), "{answer}");
    }
    assert!(served.fake.heard.lock().is_empty());
}

#[tokio::test]
async fn a_head_that_drips_on_a_used_connection_is_closed_too() {
    let served = start(Limits { header_timeout: SHORT, ..Limits::default() }, None).await;
    let mut stream = connect(&served).await;
    stream.write_all(&post_and_stay(BEAT)).await.unwrap();
    read_one(&mut stream).await;
    stream.write_all(b"POST /api").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_of_a_head_but_not_its_own() {
    let served = start(Limits { header_timeout: SHORT, ..Limits::default() }, None).await;
    let mut agent = connect(&served).await;
    agent.write_all(&post_and_stay(BEAT)).await.unwrap();
    read_one(&mut agent).await;
    // Twice the time of a head passes.
    for _ in 0..2 {
        assert_eq!(read_all(&mut connect(&served).await).await, "");
    }
    agent.write_all(&post_and_stay(BEAT)).await.unwrap();
    assert_eq!(status(&read_one(&mut agent).await), "200");

    let served = start(Limits { header_timeout: SHORT, idle_timeout: SHORT, ..Limits::default() }, None).await;
    let mut agent = connect(&served).await;
    agent.write_all(&post_and_stay(BEAT)).await.unwrap();
    read_one(&mut agent).await;
    assert_eq!(read_all(&mut agent).await, "");
}

/// A connection from this address of loopback.
async fn connect_from(address: &str, served: &Served) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(served.address).await.unwrap()
}

#[tokio::test]
async fn one_address_that_fills_all_places_shuts_nobody_else_out() {
    let served = start(Limits { max_connections: 4, ..Limits::default() }, None).await;
    let mut kept = connect_from("127.0.0.2", &served).await;
    kept.write_all(&post_and_stay(BEAT)).await.unwrap();
    read_one(&mut kept).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect_from("127.0.0.3", &served).await);
    }
    // Another's is answered at once, whose own stay, and what was there before is there still.
    for _ in 0..3 {
        let mut other = connect_from("127.0.0.4", &served).await;
        other.write_all(&post(BEAT)).await.unwrap();
        assert_eq!(status(&read_all(&mut other).await), "200");
    }
    kept.write_all(&post_and_stay(BEAT)).await.unwrap();
    assert_eq!(status(&read_one(&mut kept).await), "200");
    for mut lost in silent.drain(..17) {
        read_all(&mut lost).await;
    }
}

#[tokio::test]
async fn a_stop_closes_the_port_ends_the_idle_and_waits_for_the_busy() {
    let served = start(Limits::default(), None).await;
    let mut idle = connect(&served).await;
    idle.write_all(&post_and_stay(BEAT)).await.unwrap();
    read_one(&mut idle).await;
    let mut busy = connect(&served).await;
    let request = String::from_utf8(post(BEAT)).unwrap().replace("Host: x", "Host: x\r\nExpect: 100-continue");
    let (head, rest) = request.split_at(request.len() - 5);
    busy.write_all(head.as_bytes()).await.unwrap();
    let mut expected = [0; 25];
    busy.read_exact(&mut expected).await.unwrap();
    assert!(expected.starts_with(b"HTTP/1.1 100 "));

    served.stop.cancel();
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(served.address).await.is_err());
    busy.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut busy).await), "200");
    drop((idle, busy));
    served.server.await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let served = start(Limits { drain: SHORT, ..Limits::default() }, None).await;
    let mut stuck = connect(&served).await;
    let request = String::from_utf8(post(BEAT)).unwrap().replace("Host: x", "Host: x\r\nExpect: 100-continue");
    stuck.write_all(&request.as_bytes()[..request.len() - 5]).await.unwrap();
    stuck.read_exact(&mut [0; 25]).await.unwrap();
    served.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), served.server).await.expect("it should have given up").unwrap();
}

#[test]
fn only_our_own_trouble_makes_accepting_pause() {
    assert!(!is_own_failure(&io::ErrorKind::ConnectionAborted.into()));
    assert!(!is_own_failure(&io::ErrorKind::ConnectionReset.into()));
    // EMFILE and ENFILE.
    assert!(is_own_failure(&io::Error::from_raw_os_error(24)));
    assert!(is_own_failure(&io::Error::from_raw_os_error(23)));
}

#[tokio::test]
async fn idle_connections_are_kept_for_less_when_files_run_out() {
    let server = Server::new(Router::new(), None, Limits { max_connections: 4, ..Limits::default() });
    assert_eq!(server.idle_timeout(), Limits::default().idle_timeout);
    server.failing.store(true, Ordering::Relaxed);
    assert_eq!(server.idle_timeout(), IDLE_WHEN_SCARCE);
}
