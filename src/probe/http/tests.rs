use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::probe::fake::*;
use crate::probe::{Outcome, Pattern, Policy, Scheme};

async fn probe(request: Request) -> Outcome {
    prober().probe(&request).await
}

async fn with(address: std::net::SocketAddr, change: impl FnOnce(&mut HttpOptions)) -> Outcome {
    let mut request = get(address);
    change(&mut request.http);
    probe(request).await
}

#[tokio::test]
async fn any_status_of_success_passes_unless_a_list_says_otherwise() {
    for (code, listed, passes) in [
        (200, &[][..], true),
        (201, &[], true),
        (299, &[], true),
        (300, &[], false),
        (404, &[], false),
        (503, &[], false),
        (200, &[404], false),
        (404, &[404, 410], true),
        (302, &[302], true),
    ] {
        let address = answers(status(code, CANARY)).await;
        let outcome = with(address, |http| http.expected_status = listed.to_vec()).await;
        assert_eq!(outcome.seen.http_status, Some(code));
        assert!(outcome.seen.any_byte);
        assert_eq!(outcome.seen.address, Some(address));
        if passes {
            passed(&outcome);
            continue;
        }
        let failure = failed(&outcome, ErrorClass::HTTPStatus, Phase::Body);
        assert!(failure.message.starts_with(&format!("the status is {code}, expected ")), "{failure:?}");
        assert!(failure.detail.unwrap().contains("s3cret"), "what it says is shown where it may be");
    }
}

#[tokio::test]
async fn every_phase_that_was_entered_has_its_time() {
    let outcome = probe(get(answers(status(200, "")).await)).await;
    passed(&outcome);
    let phases: Vec<Phase> = outcome.spent.iter().map(|(phase, _)| phase).collect();
    assert_eq!(phases, [Phase::Resolve, Phase::Policy, Phase::Connect, Phase::FirstByte, Phase::Body]);
    assert_eq!(outcome.spent.iter().map(|(_, took)| took).sum::<std::time::Duration>(), outcome.took);
}

#[tokio::test]
async fn older_and_shorter_answers_are_answers() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </c4n4ry>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (answer, body) in [("HTTP/1.0 200 OK\r\n\r\nfour", 4), ("HTTP/1.1 204 No Content\r\n\r\n", 0), (early, 0)] {
        let outcome = probe(get(answers(answer).await)).await;
        passed(&outcome);
        assert_eq!(outcome.seen.body_bytes, body);
    }
    failed(
        &probe(get(answers("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await)).await,
        ErrorClass::HTTPStatus,
        Phase::Body,
    );
}

#[tokio::test]
async fn redirects_on_the_same_host_and_port_are_followed_each_over_a_new_connection() {
    let hop = |to: &str| answer_with(302, &format!("Location: {to}\r\n"), "");
    let address = pages(&[("/", hop("/a?b")), ("/a?b", hop("c")), ("/c", status(200, "well"))]).await;
    let outcome = probe(get(address)).await;
    passed(&outcome);
    assert_eq!((outcome.seen.redirects, outcome.seen.http_status), (2, Some(200)));
    let outcome = with(address, |http| http.follow_redirects = false).await;
    assert_eq!(failed(&outcome, ErrorClass::HTTPStatus, Phase::Body).message, "the status is 302, expected 200 to 299");
    assert_eq!(outcome.seen.redirects, 0);
}

#[tokio::test]
async fn a_loop_of_redirects_ends_at_the_limit() {
    let address = answers(answer_with(307, "Location: /again\r\n", "")).await;
    let outcome = probe(get(address)).await;
    failed(&outcome, ErrorClass::RedirectLimit, Phase::Body);
    assert_eq!(outcome.seen.redirects, HttpOptions::MOST_REDIRECTS);
}

#[tokio::test]
async fn redirects_elsewhere_are_not_followed_and_say_what_they_are() {
    let other = answers(status(200, "")).await;
    for (location, what) in [
        ("http://c4n4ry.example.com/s3cret".to_owned(), "another host"),
        (format!("http://{other}/"), "another port of this host"),
        ("https://127.0.0.1/".to_owned(), "https on this host"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "another host"),
        ("http://2852039166/".to_owned(), "another host"),
    ] {
        let address = answers(answer_with(302, &format!("Location: {location}\r\n"), "")).await;
        let outcome = probe(get(address)).await;
        let failure = failed(&outcome, ErrorClass::HTTPStatus, Phase::Body);
        assert!(failure.message.contains(what), "{failure:?}");
        assert_eq!(failure.detail, Some(location));
        assert_eq!(outcome.seen.address, Some(address), "nothing else was dialled");
    }
}

#[tokio::test]
async fn a_redirect_to_a_login_page_is_seen_whether_it_is_followed_or_not() {
    let login = answer_with(302, "Location: /login?next=%2F\r\n", "");
    let address = pages(&[("/", login), ("/login?next=%2F", status(200, "<form>"))]).await;
    for follow in [true, false] {
        let outcome = with(address, |http| http.follow_redirects = follow).await;
        assert!(outcome.seen.redirects_to_login, "{outcome:?}");
    }
}

/// Where requests are written down.
type Heads = Arc<Mutex<Vec<String>>>;

async fn listening() -> (std::net::SocketAddr, Heads) {
    let heads = Heads::default();
    let written = heads.clone();
    let address = serve(move |mut stream| {
        let heads = written.clone();
        async move {
            let head = head(&mut stream).await;
            let first = heads.lock().is_empty();
            heads.lock().push(head);
            let hop = answer_with(302, "Location: /next\r\nContent-Type: text/plain\r\n", "");
            let end = answer_with(200, "Content-Type: text/plain\r\n", "");
            let _ = stream.write_all(if first { hop } else { end }.as_bytes()).await;
        }
    })
    .await;
    (address, heads)
}

#[tokio::test]
async fn a_request_says_who_asks_and_what_the_user_has_it_say() {
    let (address, heads) = listening().await;
    let outcome = with(address, |http| {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        http.headers =
            vec![header("Authorization", "Bearer x"), header("Accept", "a/b"), header("X-A", "1"), header("x-a", "2")];
    })
    .await;
    passed(&outcome);
    let heads = heads.lock().clone();
    assert_eq!(heads.len(), 2);
    for (head, path) in heads.iter().zip(["/", "/next"]) {
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with(&format!("get {path} http/1.1\r\n")), "{head}");
        let user_agent = format!("user-agent: {USER_AGENT}");
        let host = format!("host: {address}");
        for line in
            [&user_agent, &host, "authorization: bearer x", "accept: a/b", "x-a: 1", "x-a: 2", "connection: close"]
        {
            assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
        }
        assert!(!head.contains("accept-encoding"), "{head}");
    }
}

#[tokio::test]
async fn a_scrape_asks_as_prometheus_does_whatever_the_options_say() {
    let (address, heads) = listening().await;
    let mut request = scrape(address);
    request.http.method = Method::Head;
    request.http.headers = vec![("Accept".to_owned(), "a/b".to_owned())];
    passed(&probe(request.clone()).await);
    let head = heads.lock()[1].to_ascii_lowercase();
    assert!(head.starts_with("get /next "), "{head}");
    for (name, value) in page::accept_headers(request.timeout) {
        assert!(head.contains(&format!("\r\n{name}: {}\r\n", value.to_ascii_lowercase())), "{head}");
    }
    assert!(head.contains("\r\naccept-encoding: gzip\r\n"), "{head}");
}

#[tokio::test]
async fn headers_that_cannot_or_must_not_be_sent_are_our_own_fault_and_keep_their_value() {
    let address = answers(status(200, "")).await;
    for (name, value) in
        [("A b", "s3cret"), ("X", "s3cret\r\nY: z"), ("Host", "s3cret"), ("transfer-encoding", "chunked")]
    {
        let outcome = with(address, |http| http.headers = vec![(name.to_owned(), value.to_owned())]).await;
        failed(&outcome, ErrorClass::Internal, Phase::FirstByte);
    }
    let mut request = get(address);
    request.target.path = "/a b".to_owned();
    failed(&probe(request).await, ErrorClass::Internal, Phase::FirstByte);
}

#[tokio::test]
async fn the_head_alone_is_asked_for_when_that_is_the_method() {
    let address = answers("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n").await;
    let outcome = with(address, |http| http.method = Method::Head).await;
    passed(&outcome);
    assert_eq!(outcome.seen.body_bytes, 0);
}

#[tokio::test]
async fn bodies_must_match_and_must_not_match() {
    let regex = |text: &str| Some(Pattern::new(text).unwrap());
    let long = format!("{}needle", "hay ".repeat(50_000));
    for body in ["a needle", &long] {
        let plain = answers(status(200, body)).await;
        let gzip = answers(gzipped("", body.as_bytes())).await;
        for address in [plain, gzip] {
            passed(&with(address, |http| http.body_matches = regex("needle$")).await);
            passed(&with(address, |http| http.body_not_matches = regex("thread")).await);
            let outcome = with(address, |http| http.body_matches = regex("thread")).await;
            failed(&outcome, ErrorClass::Assertion, Phase::Body);
            let outcome = with(address, |http| http.body_not_matches = regex("n.{4}e")).await;
            let failure = failed(&outcome, ErrorClass::Assertion, Phase::Body);
            assert!(failure.message.ends_with(&format!("up to byte {}", body.len())), "{failure:?}");
            assert_eq!(outcome.seen.body_bytes, body.len() as u64, "uncompressed");
        }
    }
    let address = answers(status(200, CANARY)).await;
    let outcome = with(address, |http| http.body_not_matches = regex("s3cret")).await;
    assert!(failed(&outcome, ErrorClass::Assertion, Phase::Body).detail.unwrap().ends_with("s3cret"));
}

#[tokio::test]
async fn an_expression_that_costs_too_much_on_a_body_fails_the_probe_and_says_so() {
    // Bits of a linear congruential generator: no prefix of the body is like another.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 'a' } else { 'b' }
    };
    let body: String = (0..200_000).map(|_| next()).collect();
    let address = answers(status(200, &body)).await;
    let costly = || Some(Pattern::new("[ab]*a[ab]{1000}c").unwrap());
    let outcome = with(address, |http| http.body_matches = costly()).await;
    let failure = failed(&outcome, ErrorClass::Assertion, Phase::Body);
    assert!(failure.message.starts_with("bodyMatches was given up at byte "), "{failure:?}");
    let outcome = with(address, |http| http.body_not_matches = costly()).await;
    let failure = failed(&outcome, ErrorClass::Assertion, Phase::Body);
    assert!(failure.message.starts_with("bodyNotMatches was given up at byte "), "{failure:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An answer whose body is declared as gzip, and ends with the connection.
fn declared_as_gzip(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Encoding: gzip\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn gzipped(headers: &str, body: &[u8]) -> Vec<u8> {
    declared_as_gzip(headers, &gzip(body))
}

#[tokio::test]
async fn a_body_ends_at_its_limit_announced_or_not_compressed_or_not() {
    let body = vec![b'a'; 3000];
    let announced = status(200, &"a".repeat(3000)).into_bytes();
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), body.clone()].concat();
    let chunked =
        [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n"[..], &body, b"\r\n0\r\n\r\n"].concat();
    for answer in [announced, endless, chunked, gzipped("", &body)] {
        let address = answers(answer).await;
        let outcome = with(address, |http| http.most_body = 2999).await;
        let failure = failed(&outcome, ErrorClass::BodyTooLarge, Phase::Body);
        assert_eq!(failure.message, "the body is larger than 2999 bytes");
        assert!(outcome.seen.body_bytes <= 2999);
        let outcome = with(address, |http| http.most_body = 3000).await;
        passed(&outcome);
        assert_eq!(outcome.seen.body_bytes, 3000);
    }
}

#[tokio::test]
async fn a_gzip_bomb_ends_at_the_limit_counted_uncompressed() {
    let bomb = gzip(&vec![0; 4 << 20]);
    assert!(bomb.len() < 8 << 10);
    let address = answers(declared_as_gzip("Content-Type: text/plain\r\n", &bomb)).await;
    let outcome = probe(get(address)).await;
    failed(&outcome, ErrorClass::BodyTooLarge, Phase::Body);
    assert_eq!(outcome.seen.body_bytes, HttpOptions::MOST_BODY);
    let mut request = scrape(address);
    request.metrics.as_mut().unwrap().most_bytes = 5000;
    let outcome = probe(request).await;
    failed(&outcome, ErrorClass::BodyTooLarge, Phase::Body);
    assert_eq!(outcome.seen.body_bytes, 5000);
}

#[tokio::test]
async fn gzip_that_is_none_or_ends_too_early_is_named() {
    let whole = gzip(b"well, well, well");
    for (body, what) in [
        (CANARY.as_bytes(), "is not"),
        (&whole[..whole.len() - 9], "ends too early"),
        (&whole[..4], "ends too early"),
        (&[whole.clone(), CANARY.into()].concat(), "is not"),
    ] {
        let outcome = probe(get(answers(declared_as_gzip("", body)).await)).await;
        let failure = failed(&outcome, ErrorClass::NotHTTP, Phase::Body);
        assert!(failure.message.contains(what), "{failure:?}");
    }
    passed(&probe(get(answers(declared_as_gzip("", b"")).await)).await);
    let twice = [whole.clone(), whole].concat();
    let outcome = probe(get(answers(declared_as_gzip("", &twice)).await)).await;
    passed(&outcome);
    assert_eq!(outcome.seen.body_bytes, 32, "members one after the other are one body");
}

#[tokio::test]
async fn a_body_is_kept_when_asked_for_whatever_the_status() {
    for code in [200, 503] {
        let address = answers(status(code, "0123456789")).await;
        let outcome = with(address, |http| http.keep_body = true).await;
        assert_eq!(outcome.seen.body.as_deref(), Some(&b"0123456789"[..]));
        let outcome = with(address, |http| (http.keep_body, http.most_kept) = (true, 4)).await;
        assert_eq!(outcome.seen.body.as_deref(), Some(&b"0123"[..]));
        assert_eq!(with(address, |_| ()).await.seen.body, None);
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_are_told_from_an_end_without_any() {
    for (answer, words) in [
        (&b"SSH-2.0-c4n4ry\r\n"[..], "does not speak HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "the port speaks TLS"),
        (b"HTTP/1.1 2", "ended within its head"),
        (b"HTTP/1.1 abc c4n4ry\r\n\r\n", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nc4n4ry s3cret\r\n\r\n", "no valid HTTP"),
        (b"\0", "does not speak HTTP"),
    ] {
        let outcome = probe(get(answers(answer).await)).await;
        let failure = failed(&outcome, ErrorClass::NotHTTP, Phase::Body);
        assert!(failure.message.contains(words), "{failure:?}");
        assert!(outcome.seen.any_byte);
    }
    let outcome = probe(get(answers("").await)).await;
    failed(&outcome, ErrorClass::Reset, Phase::FirstByte);
    assert!(!outcome.seen.any_byte);
    let banner = serve(|mut stream| async move {
        let _ = stream.write_all(b"220 c4n4ry ESMTP\r\n").await;
        head(&mut stream).await;
    });
    failed(&probe(get(banner.await)).await, ErrorClass::NotHTTP, Phase::Body);
}

#[tokio::test]
async fn a_reset_is_one_whenever_it_comes() {
    let reset = serve(|mut stream| async move {
        head(&mut stream).await;
        stream.set_zero_linger().unwrap();
    });
    failed(&probe(get(reset.await)).await, ErrorClass::Reset, Phase::FirstByte);
    let at_once = serve(|stream| async move { stream.set_zero_linger().unwrap() });
    failed(&probe(get(at_once.await)).await, ErrorClass::Reset, Phase::FirstByte);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345",
    ] {
        let outcome = probe(get(answers(answer).await)).await;
        let failure = failed(&outcome, ErrorClass::Reset, Phase::Body);
        assert!(failure.message.contains("after 5 bytes"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_body_in_broken_chunks_is_no_http() {
    let address = answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc4n4ry\r\n").await;
    failed(&probe(get(address)).await, ErrorClass::NotHTTP, Phase::Body);
}

#[tokio::test]
async fn the_head_of_an_answer_has_a_limit() {
    let many: String = (0..1200).map(|at| format!("X-{at}: c4n4ry\r\n")).collect();
    let long = format!("X: {}\r\n", "s3cret".repeat(20_000));
    for headers in [many, long] {
        let outcome = probe(get(answers(answer_with(200, &headers, "")).await)).await;
        let failure = failed(&outcome, ErrorClass::BodyTooLarge, Phase::Body);
        assert_eq!(failure.message, "the head of the answer has more than 1024 header lines, or more than 65536 bytes");
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_by_what_common_servers_say() {
    for saying in [
        "Client sent an HTTP request to an HTTPS server.\n",
        "<center>The plain HTTP request was sent to HTTPS port</center>",
        "Bad Request\r\nThis combination of host and port requires TLS.\r\n",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ] {
        let outcome = probe(get(answers(status(400, saying)).await)).await;
        failed(&outcome, ErrorClass::NotHTTP, Phase::Body);
        assert_eq!(outcome.seen.http_status, Some(400));
    }
    failed(&probe(get(answers(status(400, CANARY)).await)).await, ErrorClass::HTTPStatus, Phase::Body);
}

#[tokio::test]
async fn a_page_is_fed_as_it_comes_and_what_was_read_is_known_when_it_fails() {
    let page = answers(gzipped("Content-Type: text/plain\r\n", b"a 1\nb 2\n")).await;
    let outcome = probe(scrape(page)).await;
    passed(&outcome);
    assert_eq!(outcome.seen.page.unwrap().samples, 2);
    let exactly_200 = answers(answer_with(201, "Content-Type: text/plain\r\n", "a 1\n")).await;
    let failure = failed(&probe(scrape(exactly_200)).await, ErrorClass::HTTPStatus, Phase::Body);
    assert_eq!(failure.message, "the status is 201, expected exactly 200");
    let html = answers(answer_with(200, "Content-Type: text/html\r\n", CANARY)).await;
    failed(&probe(scrape(html)).await, ErrorClass::ContentType, Phase::Body);
    let broken = answers(answer_with(200, "Content-Type: text/plain\r\n", "- c4n4ry\n")).await;
    let outcome = probe(scrape(broken)).await;
    failed(&outcome, ErrorClass::Exposition, Phase::Body);
    assert_eq!(outcome.seen.page.unwrap().broken_at, Some((1, 0)));
    let cut = answers("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\na 1\n").await;
    let outcome = probe(scrape(cut)).await;
    failed(&outcome, ErrorClass::Reset, Phase::Body);
    assert_eq!(outcome.seen.page.unwrap().samples, 1);
}

#[tokio::test]
async fn a_slow_answer_fails_where_it_is_slow() {
    let silent = says_and_hangs(b"").await;
    let in_the_head = says_and_hangs(b"HTTP/1.1 200 OK\r\nX: ").await;
    let in_the_body = says_and_hangs(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\na 1\nb").await;
    let wrong = says_and_hangs(b"HTTP/1.1 503 c4n4ry\r\n\r\ns3cret").await;
    let (silent, in_the_head, in_the_body, in_the_page, wrong) = tokio::join!(
        probe(within(get(silent), SHORT)),
        probe(within(get(in_the_head), ENOUGH)),
        probe(within(get(in_the_body), ENOUGH)),
        probe(within(scrape(in_the_body), ENOUGH)),
        probe(within(get(wrong), ENOUGH)),
    );
    failed(&silent, ErrorClass::FirstByteTimeout, Phase::FirstByte);
    assert!(!silent.seen.any_byte);
    failed(&in_the_head, ErrorClass::BodyTimeout, Phase::Body);
    let failure = failed(&in_the_body, ErrorClass::BodyTimeout, Phase::Body);
    assert!(failure.message.contains("5 bytes of its body came"), "{failure:?}");
    failed(&in_the_page, ErrorClass::BodyTimeout, Phase::Body);
    assert_eq!(in_the_page.seen.page.unwrap().samples, 1);
    // What is wrong already is not made another failure by a body that hangs.
    failed(&wrong, ErrorClass::HTTPStatus, Phase::Body);
}

#[tokio::test]
async fn every_hop_is_judged_again() {
    let prober = Arc::new(prober());
    let changed = prober.clone();
    let address = serve(move |mut stream| {
        let prober = changed.clone();
        async move {
            head(&mut stream).await;
            prober.set_policy(Policy::default());
            let _ = stream.write_all(answer_with(302, "Location: /next\r\n", "").as_bytes()).await;
        }
    })
    .await;
    let outcome = prober.probe(&get(address)).await;
    failed(&outcome, ErrorClass::Denied, Phase::Policy);
    assert_eq!(outcome.seen.redirects, 1);
}

#[test]
fn the_authority_names_the_port_only_where_it_is_not_the_usual_one() {
    let target = |scheme, host: &str, port| {
        let (path, address, is_own) = ("/".to_owned(), None, false);
        Target { scheme, host: host.to_owned(), port, path, address, is_own }
    };
    for (target, expected) in [
        (target(Scheme::Http, "example.com", 80), "example.com"),
        (target(Scheme::Http, "example.com", 443), "example.com:443"),
        (target(Scheme::Https, "example.com", 443), "example.com"),
        (target(Scheme::Http, "::1", 80), "[::1]"),
        (target(Scheme::Grpc, "2001:db8::1", 80), "[2001:db8::1]:80"),
    ] {
        assert_eq!(authority(&target), expected);
    }
}
