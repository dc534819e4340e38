use std::net::SocketAddr;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tonic_health::server::health_reporter;

use super::*;
use crate::probe::fake::*;
use crate::probe::{Outcome, Scheme};

/// The health service of tonic itself, for one service with a status.
async fn healthy(status: tonic_health::ServingStatus) -> SocketAddr {
    let (reporter, server) = health_reporter();
    reporter.set_service_status("shop.Cart", status).await;
    serve(move |stream| {
        let service = TowerToHyperService::new(server.clone());
        async move {
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// An HTTP/2 server that answers everything with a status and headers.
async fn saying(status: u16, headers: &'static [(&'static str, &'static str)]) -> SocketAddr {
    serve(move |stream| async move {
        let service = service_fn(move |_| async move {
            let mut response = http::Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(http_body_util::Full::new(hyper::body::Bytes::from_static(b"c4n4ry s3cret")))
        });
        let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    })
    .await
}

async fn check(address: SocketAddr, service: &str) -> Outcome {
    prober().probe(&request(Scheme::Grpc, address, service)).await
}

#[tokio::test]
async fn what_serves_passes() {
    let address = healthy(tonic_health::ServingStatus::Serving).await;
    for service in ["", "shop.Cart", "/shop.Cart"] {
        let outcome = check(address, service).await;
        passed(&outcome);
        assert_eq!((outcome.seen.http_status, outcome.seen.any_byte), (Some(200), true));
        let phases: Vec<Phase> = outcome.spent.iter().map(|(phase, _)| phase).collect();
        assert_eq!(phases, [Phase::Resolve, Phase::Policy, Phase::Connect, Phase::FirstByte, Phase::Body]);
    }
}

#[tokio::test]
async fn what_does_not_serve_says_why() {
    let address = healthy(tonic_health::ServingStatus::NotServing).await;
    let outcome = check(address, "shop.Cart").await;
    assert!(outcome.seen.not_serving);
    let failure = failed(&outcome, ErrorClass::GRPCStatus, Phase::Body);
    assert_eq!(failure.message, "the health service says NOT_SERVING");
    let failure = failed(&check(address, "shop.Card").await, ErrorClass::GRPCStatus, Phase::Body);
    assert!(failure.message.contains("knows no service \"shop.Card\""), "{failure:?}");
    for (code, words) in [
        ("12", "UNIMPLEMENTED"),
        ("5", "NOT_FOUND"),
        ("16", "UNAUTHENTICATED"),
        ("14", "UNAVAILABLE"),
        ("8", "RESOURCE_EXHAUSTED"),
        ("4", "DEADLINE_EXCEEDED"),
        ("7", "PERMISSION_DENIED"),
        ("13", "INTERNAL"),
        ("15", "status 15"),
    ] {
        let headers =
            vec![("content-type", "application/grpc"), ("grpc-status", code), ("grpc-message", "c4n4ry s3cret")];
        let outcome = check(saying(200, headers.leak()).await, "").await;
        let failure = failed(&outcome, ErrorClass::GRPCStatus, Phase::Body);
        assert!(failure.message.contains(words), "{failure:?}");
        assert_eq!(failure.detail.as_deref(), Some("c4n4ry s3cret"));
        assert_eq!(outcome.seen.grpc_status, code.parse().ok());
    }
}

/// A gRPC server that answers SERVING, compressed or not, with the last frame of trailers or without.
async fn answering(encoding: &'static str, message: Vec<u8>, with_status: bool) -> SocketAddr {
    serve(move |stream| {
        let message = message.clone();
        async move {
            let service = service_fn(move |_| {
                let message = message.clone();
                async move {
                    let mut frame = vec![u8::from(encoding != "identity")];
                    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                    frame.extend(message);
                    let trailers = with_status.then(|| {
                        Ok::<_, std::convert::Infallible>(
                            [("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))].into_iter().collect(),
                        )
                    });
                    let body = http_body_util::Full::new(hyper::body::Bytes::from(frame));
                    let body = body.with_trailers(std::future::ready(trailers));
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    head.header("grpc-encoding", encoding).body(body)
                }
            });
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_is_compressed_is_read() {
    use std::io::Write;
    // HealthCheckResponse { status: SERVING }
    let serving = [8, 1];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&serving).unwrap();
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(&serving).unwrap();
    for (encoding, message) in
        [("identity", serving.to_vec()), ("gzip", gzip.finish().unwrap()), ("deflate", deflate.finish().unwrap())]
    {
        passed(&check(answering(encoding, message, true).await, "").await);
    }
}

#[tokio::test]
async fn an_answer_that_we_cannot_read_is_not_told_as_an_error_of_the_server() {
    let large = vec![0; 2 * MAX_MESSAGE_BYTES];
    for (encoding, message, words) in [
        ("snappy", vec![8, 1], "compressed in a way that was not offered"),
        ("identity", large, "larger than one of a health service"),
        ("identity", b"\xffc4n4ry".to_vec(), "not one of a health service"),
        ("gzip", b"c4n4ry".to_vec(), "cannot be read"),
    ] {
        let outcome = check(answering(encoding, message, true).await, "").await;
        let failure = failed(&outcome, ErrorClass::ContentType, Phase::Body);
        assert!(failure.message.contains(words), "{failure:?}");
        assert_eq!(outcome.seen.grpc_status, None, "{failure:?}");
    }
}

#[tokio::test]
async fn http_that_is_no_grpc_is_named() {
    let outcome = check(saying(401, &[("content-type", "text/html")]).await, "").await;
    failed(&outcome, ErrorClass::HTTPStatus, Phase::Body);
    assert_eq!(outcome.seen.http_status, Some(401));
    let outcome = check(saying(200, &[("content-type", "text/html")]).await, "").await;
    failed(&outcome, ErrorClass::ContentType, Phase::Body);
    let outcome = check(answers(status(400, CANARY)).await, "").await;
    let failure = failed(&outcome, ErrorClass::NotHTTP, Phase::FirstByte);
    assert!(failure.message.contains("speaks HTTP/1"), "{failure:?}");
}

#[tokio::test]
async fn clear_text_against_tls_is_told_both_ways() {
    let address = says_and_hangs(b"\x15\x03\x01\x00\x02\x02\x0a").await;
    let failure = failed(&check(address, "").await, ErrorClass::NotHTTP, Phase::FirstByte);
    assert!(failure.message.contains("speaks TLS"), "{failure:?}");
    let address = healthy(tonic_health::ServingStatus::Serving).await;
    let mut secure = request(Scheme::Grpcs, address, "");
    secure.tls.insecure_skip_verify = true;
    failed(&prober().probe(&secure).await, ErrorClass::NotTLS, Phase::TLS);
}

#[tokio::test]
async fn silence_and_an_end_are_told_apart() {
    let silent = says_and_hangs(b"").await;
    let outcome = prober().probe(&within(request(Scheme::Grpc, silent, ""), SHORT)).await;
    failed(&outcome, ErrorClass::FirstByteTimeout, Phase::FirstByte);
    // Settings, and then nothing: HTTP/2 is spoken, and no answer comes.
    let settings: &'static [u8] = b"\0\0\0\x04\0\0\0\0\0";
    let hangs = says_and_hangs(settings).await;
    let outcome = prober().probe(&within(request(Scheme::Grpc, hangs, ""), ENOUGH)).await;
    failed(&outcome, ErrorClass::FirstByteTimeout, Phase::FirstByte);
    assert!(outcome.seen.any_byte);
    let ends = serve(|mut stream| async move { drop(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 24]).await) });
    failed(&check(ends.await, "").await, ErrorClass::Reset, Phase::FirstByte);
    let ends = serve(move |mut stream| async move {
        let _ = stream.write_all(settings).await;
        let _ = stream.shutdown().await;
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    });
    failed(&check(ends.await, "").await, ErrorClass::Reset, Phase::FirstByte);
    let half = serve(|stream| async move {
        let service = service_fn(async |_| {
            let head = http::Response::builder().header("content-type", "application/grpc");
            head.body(http_body_util::StreamBody::new(futures::stream::pending::<
                Result<hyper::body::Frame<hyper::body::Bytes>, std::io::Error>,
            >()))
        });
        let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    });
    let outcome = prober().probe(&within(request(Scheme::Grpc, half.await, ""), ENOUGH)).await;
    failed(&outcome, ErrorClass::BodyTimeout, Phase::Body);
}

#[tokio::test]
async fn a_broken_or_endless_answer_is_no_pass() {
    // 200, gRPC, and no message or trailers that could be read.
    let address = saying(200, &[("content-type", "application/grpc")]).await;
    failed(&check(address, "").await, ErrorClass::ContentType, Phase::Body);
}

#[tokio::test]
async fn over_tls_http_2_is_agreed_upon_or_it_is_said_that_it_is_not() {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem: crate::probe::request::Pem = issued.cert.pem().into_bytes().into();
    for (protocol, class) in [("h2", None), ("http/1.1", Some(ErrorClass::TLSHandshake))] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let chain = vec![issued.cert.der().clone()];
        let mut config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![protocol.into()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (_reporter, server) = health_reporter();
        let address = serve(move |stream| {
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(server.clone()));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                }
            }
        })
        .await;
        let mut request = request(Scheme::Grpcs, address, "");
        request.tls.ca = Some(pem.clone());
        let outcome = prober().probe(&request).await;
        match class {
            None => passed(&outcome),
            Some(class) => assert!(failed(&outcome, class, Phase::TLS).message.contains("ALPN"), "{outcome:?}"),
        }
        assert_eq!(outcome.seen.certificate_expires.is_some(), class.is_none());
    }
}
