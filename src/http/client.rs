//! A client that sends one HTTP request, by hyper, over TCP or TLS: for `vigie get` and the canary.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long resolving, connecting and the first byte of the response may take.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the whole response may take: a fleet of 100,000 is some 60 MB.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest body that is read, in bytes.
const MAX_BODY: usize = 256 << 20;

/// The body of the response to `GET uri`.
///
/// # Errors
/// When there is no response in time, or its status is not a success.
pub(crate) async fn get(uri: &Uri, header: Option<(HeaderName, HeaderValue)>) -> anyhow::Result<Bytes> {
    request(uri, Method::GET, Bytes::new(), header).await
}

/// The body of the response to `POST uri` with `json`.
///
/// # Errors
/// As [`get`].
pub(crate) async fn post(uri: &Uri, json: Bytes) -> anyhow::Result<Bytes> {
    let header = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request(uri, Method::POST, json, Some(header)).await
}

async fn request(
    uri: &Uri,
    method: Method,
    body: Bytes,
    header: Option<(HeaderName, HeaderValue)>,
) -> anyhow::Result<Bytes> {
    let no_answer = || anyhow!("no answer within {} s", RESPONSE_TIMEOUT.as_secs());
    let response = timeout(RESPONSE_TIMEOUT, send(uri, method, body, header)).await.map_err(|_| no_answer())??;
    let (head, body) = response.into_parts();
    read_body(head.status, body).await
}

async fn send(
    uri: &Uri,
    method: Method,
    body: Bytes,
    header: Option<(HeaderName, HeaderValue)>,
) -> anyhow::Result<axum::http::Response<hyper::body::Incoming>> {
    let tls = uri.scheme_str() == Some("https");
    let host = uri.host().context("the URL has no host")?;
    // An IPv6 address has brackets in a URL, and none elsewhere.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = TcpStream::connect((bare, port)).await?;
    let stream: Box<dyn ByteStream> = if tls { Box::new(encrypt(stream, bare).await?) } else { Box::new(stream) };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The task ends when the response has been read; the request returns its error.
    tokio::spawn(connection);
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("vigie/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))?;
    request.headers_mut().extend(header);
    Ok(sender.send_request(request).await?)
}

async fn encrypt(stream: TcpStream, host: &str) -> anyhow::Result<impl ByteStream + use<>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.context("TLS")
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The body of a successful response.
///
/// # Errors
/// The message of any other response; also when the body is too long or too slow.
pub(crate) async fn read_body<B>(status: StatusCode, body: B) -> anyhow::Result<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let whole = whole.context("the answer broke off")?.map_err(|error| anyhow!("reading the answer: {error}"))?;
    let bytes = whole.to_bytes();
    if !status.is_success() {
        bail!("{}", error_message(status, &bytes));
    }
    Ok(bytes)
}

/// The message of a response that is not a success, in the format of vigie or of the API server.
fn error_message(status: StatusCode, body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let message = json.pointer("/error/message").or_else(|| json.get("message")).and_then(|message| message.as_str());
    let hint = if status == StatusCode::UNAUTHORIZED { "; see --operator-token-file" } else { "" };
    match message {
        Some(message) => format!("{}: {message}{hint}", status.as_u16()),
        None => format!("{status}{hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_is_got_with_its_query_and_our_header() {
        let echo = async |request: axum::extract::Request| {
            let authorization = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
            let host = request.headers()[header::HOST].to_str().unwrap().to_owned();
            format!("{} {authorization} {host}", request.uri())
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(listener, axum::Router::new().route("/base/x", axum::routing::get(echo)));
        let server = tokio::spawn(async move { server.await });
        let uri = format!("http://{address}/base/x?namespace=a").parse().unwrap();
        let header = (header::AUTHORIZATION, HeaderValue::from_static("Bearer t"));
        let body = get(&uri, Some(header)).await.unwrap();
        assert_eq!(body, format!("/base/x?namespace=a Bearer t {address}"));
        server.abort();
        assert!(server.await.is_err_and(|error| error.is_cancelled()));
        let error = format!("{:#}", get(&uri, None).await.unwrap_err());
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_whoever_refused() {
        let ours = br#"{"error":{"code":"Forbidden","message":"this token may not get this path"}}"#;
        assert_eq!(error_message(StatusCode::FORBIDDEN, ours), "403: this token may not get this path");
        let theirs = br#"{"kind":"Status","message":"no endpoints available for service \"http:vigie:admin\""}"#;
        let expected = "503: no endpoints available for service \"http:vigie:admin\"";
        assert_eq!(error_message(StatusCode::SERVICE_UNAVAILABLE, theirs), expected);
        assert_eq!(error_message(StatusCode::BAD_GATEWAY, b"<html>"), "502 Bad Gateway");
        assert!(error_message(StatusCode::UNAUTHORIZED, b"").ends_with("see --operator-token-file"));
    }
}
