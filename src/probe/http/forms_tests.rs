//! Unusual forms of answers: what Go's and curl's clients accept passes, and what fails says why.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::probe::fake::*;
use crate::probe::{Outcome, Scheme};

const PAGE: &str = "# TYPE up_total counter\nup_total{a=\"b\"} 1\n";

/// An answer with a metrics page, and with headers that each end their line.
fn page(headers: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n{headers}Content-Length: {}\r\n\r\n{PAGE}",
        PAGE.len()
    )
    .into_bytes()
}

async fn scraped(answer: Vec<u8>) -> Outcome {
    prober().probe(&scrape(answers(answer).await)).await
}

#[tokio::test]
async fn answers_that_go_and_curl_accept_pass() {
    let folded =
        "Content-Security-Policy: default-src 'self'\r\n   https://cdn.example.com\r\n\thttps://example.com;\r\n";
    let many: String = (0..300).map(|at| format!("X-H{at}: v\r\n")).collect();
    let twice = format!("Content-Length: {}\r\n", PAGE.len());
    for headers in [
        "",
        folded,
        "X-Policy: a;\r\n\tb\r\n",
        "Server : device\r\n",
        &many,
        &twice,
        "X-Site: caf\u{e9}\r\n",
        "Content-Encoding: identity\r\n",
    ] {
        let outcome = scraped(page(headers)).await;
        assert_eq!(outcome.result, Ok(()), "{headers}");
        assert_eq!(outcome.seen.page.unwrap().samples, 1);
    }
    for (from, to) in
        [("HTTP/1.1 200 OK", "HTTP/1.1 200"), ("\r\n", "\n"), ("HTTP/1.1 2", "HTTP/1.1 103 A\r\n\r\nHTTP/1.1 2")]
    {
        let answer = String::from_utf8(page("")).unwrap().replace(from, to);
        passed(&scraped(answer.into_bytes()).await);
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_read() {
    let (client, mut server) = tokio::io::duplex(4096);
    server.write_all(&page("")).await.unwrap();
    let (client, _) = crate::probe::stream::RecordedStream::new(client);
    let (mut sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    let message = HttpRequest::new(Empty::<Bytes>::new());
    let answered = drive(connection, async move { sender.send_request(message).await.map(|answer| answer.status()) });
    assert_eq!(answered.await.unwrap(), 200);
}

#[tokio::test]
async fn a_form_that_prometheus_refuses_fails_for_a_metrics_page_alone() {
    let length = PAGE.len();
    let list = String::from_utf8(page("")).unwrap().replace(&format!(": {length}"), &format!(": {length}, {length}"));
    let identity = String::from_utf8(page(""))
        .unwrap()
        .replace(&format!("Content-Length: {length}"), "Transfer-Encoding: identity");
    let empty_line = [b"\r\n".to_vec(), page("")].concat();
    for (answer, words) in [
        (list.into_bytes(), "Content-Length is a list"),
        (identity.into_bytes(), "Transfer-Encoding is another one"),
        (empty_line, "an empty line stands before its status"),
    ] {
        let address = answers(answer).await;
        let failure = failed(&prober().probe(&scrape(address)).await, ErrorClass::NotHTTP, Phase::Body);
        assert!(failure.message.contains(words), "{failure:?}");
        passed(&prober().probe(&get(address)).await);
    }
}

#[tokio::test]
async fn a_coding_that_was_not_asked_for_is_named() {
    let coded = |coding: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: {coding}\r\n\r\n");
        [head.as_bytes(), b"\x1b\x2e\x00\xf8c4n4ry\n"].concat()
    };
    for (coding, named) in [
        ("br", "br;"),
        ("Zstd", "zstd;"),
        ("x-gzip", "x-gzip;"),
        ("GZIP", "gzip in capitals;"),
        ("c4n4ry", "of an unknown name;"),
    ] {
        let outcome = scraped(coded(coding)).await;
        let failure = failed(&outcome, ErrorClass::ContentType, Phase::Body);
        assert!(failure.message.contains(&format!("the Content-Encoding {named}")), "{failure:?}");
        assert_eq!(outcome.seen.page.unwrap().broken_at, None);
    }
    // A word that says nothing of compression, before a page that is plain.
    passed(&scraped(page("Content-Encoding: UTF-8\r\n")).await);
    let mut request = get(answers(coded("br")).await);
    request.http.body_matches = Some(crate::probe::Pattern::new("needle").unwrap());
    let failure = failed(&prober().probe(&request).await, ErrorClass::Assertion, Phase::Body);
    assert!(failure.message.contains("Content-Encoding br, uninvited"), "{failure:?}");
}

#[tokio::test]
async fn a_page_in_another_form_is_named_by_that_form() {
    let of = |body: &[u8]| [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", body].concat();
    for (body, words) in [
        (&b"\xef\xbb\xbfup 1\n"[..], "byte order mark"),
        (b"\xff\xfeu\0p\0 \x001\0\n\0", "UTF-16"),
        (b"\xfe\xff\0u\0p\0 \x001\0\n", "UTF-16"),
        (b"\"# HELP up x\\nup 1\\n\"", "a text in JSON"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gzip"),
        (b"<html>", "HTML"),
    ] {
        let failure = failed(&scraped(of(body)).await, ErrorClass::Exposition, Phase::Body);
        assert!(failure.message.contains(words), "{failure:?}");
    }
}

#[tokio::test]
async fn http2_without_tls_is_named() {
    let settings = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0d\0\x04\0\0\xff\xff\0\x06\0\0 \0";
    let failure = failed(&scraped(settings.to_vec()).await, ErrorClass::NotHTTP, Phase::Body);
    assert!(failure.message.contains("HTTP/2 alone"), "{failure:?}");
}

/// Redirects to the same page until its cookie comes back.
async fn wanting_a_cookie() -> std::net::SocketAddr {
    serve(|mut stream| async move {
        let head = head(&mut stream).await;
        let answer = if head.contains("\r\ncookie: own=1; seen=yes\r\n") || head.contains("\r\ncookie: seen=yes\r\n") {
            page("")
        } else {
            answer_with(302, "Set-Cookie: seen=yes; path=/\r\nLocation: /next\r\n", "").into_bytes()
        };
        let _ = stream.write_all(&answer).await;
    })
    .await
}

#[tokio::test]
async fn a_cookie_is_returned_when_its_redirect_is_followed_except_to_a_scrape() {
    let address = wanting_a_cookie().await;
    let outcome = prober().probe(&get(address)).await;
    passed(&outcome);
    assert_eq!(outcome.seen.redirects, 1);
    let mut request = get(address);
    request.http.headers = vec![("Cookie".to_owned(), "own=1".to_owned())];
    passed(&prober().probe(&request).await);
    // Each probe is a new client.
    assert_eq!(prober().probe(&get(address)).await.seen.redirects, 1);
    let failure = failed(&prober().probe(&scrape(address)).await, ErrorClass::RedirectLimit, Phase::Body);
    assert!(failure.message.contains("Prometheus returns none"), "{failure:?}");
}

#[tokio::test]
async fn a_location_with_a_blank_or_another_script_is_followed() {
    let target = page("");
    let target = String::from_utf8(target).unwrap();
    let to = |location: &str| answer_with(302, &format!("Location: {location}\r\n"), "");
    let address = pages(&[("/", to("/a b")), ("/a%20b", to("/m\u{e9}trics")), ("/m%C3%A9trics", target)]).await;
    let outcome = prober().probe(&scrape(address)).await;
    passed(&outcome);
    assert_eq!(outcome.seen.redirects, 2);
}

/// A TLS server with a certificate of its own, that offers `protocols`.
fn acceptor(protocols: &[&str]) -> TlsAcceptor {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn secure(address: std::net::SocketAddr) -> Request {
    let mut request = scrape(address);
    request.target.scheme = Scheme::Https;
    request.tls.insecure_skip_verify = true;
    request
}

#[tokio::test]
async fn a_server_that_speaks_http2_alone_is_asked_with_it() {
    use hyper::server::conn::http2::Builder;
    let acceptor = acceptor(&["h2"]);
    let address = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(|asked: HttpRequest<Incoming>| async move {
                assert_eq!((asked.version(), asked.uri().path()), (hyper::Version::HTTP_2, "/"));
                let body = http_body_util::Full::new(Bytes::from_static(PAGE.as_bytes()));
                Response::builder().header("content-type", "text/plain").body(body)
            });
            let server = Builder::new(hyper_util::rt::TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let outcome = prober().probe(&secure(address)).await;
    passed(&outcome);
    assert_eq!((outcome.seen.http_status, outcome.seen.page.unwrap().samples), (Some(200), 1));
}

/// Sends `answer` over TLS and closes the connection without TLS' own last message.
async fn ending_abruptly(answer: Vec<u8>) -> std::net::SocketAddr {
    let acceptor = acceptor(&[]);
    serve(move |stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.flush().await;
            // The TCP connection ends; no close_notify is sent.
            let _ = stream.get_mut().0.shutdown().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_body_that_ends_with_the_tls_connection_passes_and_one_that_is_cut_fails() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    let whole = format!("{head}Connection: close\r\n\r\n{PAGE}");
    let outcome = prober().probe(&secure(ending_abruptly(whole.into_bytes()).await)).await;
    passed(&outcome);
    assert_eq!(outcome.seen.page.unwrap().samples, 1);
    let with_length = page("");
    passed(&prober().probe(&secure(ending_abruptly(with_length).await)).await);
    for cut in [
        format!("{head}Content-Length: 400\r\n\r\n{PAGE}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{PAGE}\r\n", PAGE.len()),
    ] {
        let failure = failed(
            &prober().probe(&secure(ending_abruptly(cut.into_bytes()).await)).await,
            ErrorClass::Reset,
            Phase::Body,
        );
        assert!(failure.message.contains("ended within the body"), "{failure:?}");
    }
    let outcome = prober().probe(&secure(ending_abruptly(b"HTTP/1.1 200 OK\r\nX: ".to_vec()).await)).await;
    assert!(outcome.result.is_err(), "{outcome:?}");
    let outcome = prober().probe(&secure(ending_abruptly(Vec::new()).await)).await;
    failed(&outcome, ErrorClass::Reset, Phase::FirstByte);
}
