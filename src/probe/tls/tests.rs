use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::api::Phase;
use crate::probe::fake::*;
use crate::probe::request::Pem;
use crate::probe::{Outcome, Request, Scheme};

/// A certificate and its key.
struct Issued {
    params: CertificateParams,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Issued {
    fn pem(&self) -> Pem {
        self.certificate.pem().into_bytes().into()
    }

    fn client(&self) -> (Pem, Pem) {
        (self.pem(), self.key.serialize_pem().into_bytes().into())
    }
}

/// Issues a certificate for `name`, changed as wanted, by `by` or by itself.
fn issue(name: &str, by: Option<&Issued>, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(2099, 1, 2);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Issued { params, certificate, key }
}

fn authority() -> Issued {
    issue("authority.example.com", None, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
}

fn expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 2, 3));
}

fn server(shown: &Issued, clients: Option<&Issued>, version: &'static rustls::SupportedProtocolVersion) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(shown.key.serialize_pem().as_bytes()).unwrap();
    let config = builder.with_single_cert(vec![shown.certificate.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serving(acceptor: TlsAcceptor) -> SocketAddr {
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, status(200, CANARY).as_bytes()).await;
            }
        }
    })
    .await
}

async fn showing(shown: &Issued) -> SocketAddr {
    serving(server(shown, None, &rustls::version::TLS13)).await
}

/// `https://localhost`, at `address`, with options.
fn asking(address: SocketAddr, options: TlsOptions) -> Request {
    let mut request = request(Scheme::Https, address, "/");
    request.target.host = "localhost".to_owned();
    request.target.address = Some(address.ip());
    request.tls = options;
    request
}

async fn ask(address: SocketAddr, options: TlsOptions) -> Outcome {
    prober().probe(&asking(address, options)).await
}

fn trusting(authority: &Issued) -> TlsOptions {
    TlsOptions { ca: Some(authority.pem()), ..TlsOptions::default() }
}

fn insecure() -> TlsOptions {
    TlsOptions { insecure_skip_verify: true, ..TlsOptions::default() }
}

#[track_caller]
fn expires(outcome: &Outcome, at: &str) {
    assert_eq!(outcome.seen.certificate_expires, Some(at.parse().unwrap()), "{outcome:?}");
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_passes_and_its_expiry_is_known() {
    let authority = authority();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let address = serving(server(&issue("localhost", Some(&authority), |_| ()), None, version)).await;
        let outcome = ask(address, trusting(&authority)).await;
        passed(&outcome);
        expires(&outcome, "2099-01-02T00:00:00Z");
        let phases: Vec<Phase> = outcome.spent.iter().map(|(phase, _)| phase).collect();
        assert_eq!(phases, Phase::ALL);
        assert!(!outcome.seen.client_certificate_wanted);
    }
}

#[tokio::test]
async fn a_certificate_that_fails_says_how_and_its_expiry_is_known_all_the_same() {
    let (authority, other) = (authority(), authority());
    let good = issue("localhost", Some(&authority), |_| ());
    let old = issue("localhost", Some(&authority), expired);
    let early = issue("localhost", Some(&authority), |params| params.not_before = date_time_ymd(2098, 1, 1));
    let named = issue("c4n4ry.example.com", Some(&authority), |_| ());
    let client = issue("localhost", Some(&authority), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let alone = issue("localhost", None, |_| ());
    for (shown, trusted, class) in [
        (&good, &other, ErrorClass::TLSUnknownAuthority),
        (&alone, &authority, ErrorClass::TLSUnknownAuthority),
        (&authority, &other, ErrorClass::TLSUnknownAuthority),
        (&old, &authority, ErrorClass::TLSExpired),
        (&early, &authority, ErrorClass::TLSExpired),
        (&named, &authority, ErrorClass::TLSNameMismatch),
        (&client, &authority, ErrorClass::TLSHandshake),
    ] {
        let address = showing(shown).await;
        let outcome = ask(address, trusting(trusted)).await;
        failed(&outcome, class, Phase::TLS);
        assert!(outcome.seen.any_byte);
        let at = if class == ErrorClass::TLSExpired && std::ptr::eq(shown, &old) { "2001-02-03" } else { "2099-01-02" };
        expires(&outcome, &format!("{at}T00:00:00Z"));

        let outcome = ask(address, insecure()).await;
        passed(&outcome);
        expires(&outcome, &format!("{at}T00:00:00Z"));
    }
    let failure =
        failed(&ask(showing(&named).await, trusting(&authority)).await, ErrorClass::TLSNameMismatch, Phase::TLS);
    assert_eq!(failure.message, "its certificate is not for localhost");
    assert!(failure.detail.unwrap().contains("c4n4ry.example.com"));
    let failure = failed(&ask(showing(&old).await, trusting(&authority)).await, ErrorClass::TLSExpired, Phase::TLS);
    assert!(failure.message.contains("2001-02-03T00:00:00Z"), "{failure:?}");
}

#[tokio::test]
async fn the_systems_authorities_are_trusted_when_no_other_is_given_and_only_then() {
    let outcome = ask(showing(&issue("localhost", None, |_| ())).await, TlsOptions::default()).await;
    let class = outcome.result.clone().unwrap_err().class;
    // Where the system has none, that is our own fault, and said to be.
    assert!([ErrorClass::TLSUnknownAuthority, ErrorClass::Internal].contains(&class), "{outcome:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_passes_where_it_was_given_itself_authority_or_not() {
    let plain = issue("localhost", None, |_| ());
    let authority = issue("localhost", None, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    for shown in [&plain, &authority] {
        passed(&ask(showing(shown).await, trusting(shown)).await);
        let elsewhere = TlsOptions { server_name: Some("example.com".to_owned()), ..trusting(shown) };
        failed(&ask(showing(shown).await, elsewhere).await, ErrorClass::TLSNameMismatch, Phase::TLS);
    }
    let old = issue("localhost", None, expired);
    failed(&ask(showing(&old).await, trusting(&old)).await, ErrorClass::TLSExpired, Phase::TLS);
}

#[tokio::test]
async fn the_name_to_verify_can_be_another_and_an_address_is_one() {
    let authority = authority();
    let named = showing(&issue("a.example.com", Some(&authority), |_| ())).await;
    for name in ["a.example.com", "a.example.com."] {
        passed(&ask(named, TlsOptions { server_name: Some(name.to_owned()), ..trusting(&authority) }).await);
    }
    failed(&ask(named, trusting(&authority)).await, ErrorClass::TLSNameMismatch, Phase::TLS);
    let numbered = showing(&issue("127.0.0.1", Some(&authority), |_| ())).await;
    for host in ["127.0.0.1", "0177.1", "2130706433"] {
        let mut request = asking(numbered, trusting(&authority));
        request.target.host = host.to_owned();
        passed(&prober().probe(&request).await);
    }
    let odd = TlsOptions { server_name: Some("not a name".to_owned()), ..trusting(&authority) };
    failed(&ask(named, odd).await, ErrorClass::Internal, Phase::TLS);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_required() {
    let authority = authority();
    let shown = issue("localhost", Some(&authority), |_| ());
    let client = issue("client.example.com", Some(&authority), |_| ());
    let stranger = issue("client.example.com", None, |_| ());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let address = serving(server(&shown, Some(&authority), version)).await;
        let options = TlsOptions { client: Some(client.client()), ..trusting(&authority) };
        let outcome = ask(address, options).await;
        passed(&outcome);
        assert!(!outcome.seen.client_certificate_wanted);

        let outcome = ask(address, trusting(&authority)).await;
        let failure = failed(&outcome, ErrorClass::TLSHandshake, Phase::TLS);
        assert!(failure.message.contains("client certificate"), "{failure:?}");
        assert!(outcome.seen.client_certificate_wanted);

        let options = TlsOptions { client: Some(stranger.client()), ..trusting(&authority) };
        let outcome = ask(address, options).await;
        failed(&outcome, ErrorClass::TLSHandshake, Phase::TLS);
        assert!(!outcome.seen.client_certificate_wanted, "we had one to give");
    }
}

/// A server that asks for a client certificate and resets the connection when there is none: its alert is lost.
#[tokio::test]
async fn a_reset_for_want_of_a_client_certificate_is_one_of_tls() {
    let authority = authority();
    let acceptor = server(&issue("localhost", Some(&authority), |_| ()), Some(&authority), &rustls::version::TLS13);
    let address = serve(move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            stream.set_zero_linger().unwrap();
            drop(acceptor.accept(stream).await);
        }
    })
    .await;
    let outcome = ask(address, trusting(&authority)).await;
    failed(&outcome, ErrorClass::TLSHandshake, Phase::TLS);
    assert!(outcome.seen.client_certificate_wanted);
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told_from_what_does() {
    for (bytes, words) in [(status(400, "").into_bytes(), "plain HTTP"), (b"SSH-2.0-c4n4ry\r\n".to_vec(), "no TLS")] {
        let bytes: &'static [u8] = bytes.leak();
        let failure = failed(&ask(says_and_hangs(bytes).await, insecure()).await, ErrorClass::NotTLS, Phase::TLS);
        assert!(failure.message.contains(words), "{failure:?}");
        assert!(failure.detail.is_some());
    }
    let ends =
        serve(|mut stream| async move { drop(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 9000]).await) });
    failed(&ask(ends.await, insecure()).await, ErrorClass::Reset, Phase::TLS);
    // A handshake_failure alert.
    let refuses = says_and_hangs(b"\x15\x03\x03\x00\x02\x02\x28").await;
    failed(&ask(refuses, insecure()).await, ErrorClass::TLSHandshake, Phase::TLS);
    let breaks = serve(|mut stream| async move {
        let _ = stream.write_all(b"\x16\x03\x03\x00").await;
        let _ = stream.shutdown().await;
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    });
    failed(&ask(breaks.await, insecure()).await, ErrorClass::TLSHandshake, Phase::TLS);
}

#[tokio::test]
async fn plain_http_to_a_tls_port_is_no_http() {
    let address = showing(&issue("localhost", None, |_| ())).await;
    let outcome = prober().probe(&get(address)).await;
    let failure = failed(&outcome, ErrorClass::NotHTTP, Phase::Body);
    assert!(failure.message.contains("TLS"), "{failure:?}");
}

#[tokio::test]
async fn a_slow_handshake_ends_at_the_timeout() {
    let silent = within(asking(says_and_hangs(b"").await, insecure()), SHORT);
    failed(&prober().probe(&silent).await, ErrorClass::FirstByteTimeout, Phase::TLS);
    let begun = within(asking(says_and_hangs(b"\x16\x03\x03").await, insecure()), ENOUGH);
    failed(&prober().probe(&begun).await, ErrorClass::TLSHandshake, Phase::TLS);
}

#[tokio::test]
async fn options_that_cannot_be_used_are_our_own_fault() {
    let address = showing(&issue("localhost", None, |_| ())).await;
    let pem = |text: &str| -> Pem { text.as_bytes().into() };
    let whole = issue("localhost", None, |_| ());
    let other = issue("localhost", None, |_| ());
    let broken = "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n";
    for options in [
        TlsOptions { ca: Some(pem("")), ..TlsOptions::default() },
        TlsOptions { ca: Some(pem(broken)), ..TlsOptions::default() },
        TlsOptions { client: Some((pem(""), whole.client().1)), ..insecure() },
        TlsOptions { client: Some((whole.pem(), pem("s3cret"))), ..insecure() },
        TlsOptions { client: Some((whole.pem(), other.client().1)), ..insecure() },
    ] {
        failed(&ask(address, options).await, ErrorClass::Internal, Phase::TLS);
    }
}

#[test]
fn configurations_are_built_once_and_their_number_is_bounded() {
    let configs = Configs::default();
    let options = |at: usize| TlsOptions { server_name: Some(at.to_string()), ..insecure() };
    let first = configs.get(&options(0), Protocol::Http1).unwrap();
    assert!(Arc::ptr_eq(&first, &configs.get(&options(1), Protocol::Http1).unwrap()), "the name is no part of it");
    assert!(!Arc::ptr_eq(&first, &configs.get(&options(0), Protocol::Http2).unwrap()));
    for at in 0..2 * MAX_CONFIGS {
        // As a key these differ; as an authority they are not read, since nothing is verified.
        let ca: Pem = at.to_string().into_bytes().into();
        configs.get(&TlsOptions { ca: Some(ca), ..insecure() }, Protocol::Http1).unwrap();
        assert!(Arc::ptr_eq(&first, &configs.get(&options(0), Protocol::Http1).unwrap()), "what is in use stays");
    }
    assert_eq!(configs.cache.lock().configs.len(), MAX_CONFIGS);
}
