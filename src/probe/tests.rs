use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::fake::*;
use super::prober::is_of_this_machine;
use super::*;
use crate::api::{ErrorClass, Phase};

/// A request for a name at `port`.
fn named(name: &str, port: u16) -> Request {
    let mut request = request(Scheme::Tcp, SocketAddr::from(([127, 0, 0, 1], port)), "");
    request.target.host = name.to_owned();
    request
}

/// A port on 127.0.0.1 that nobody listens on, held by a socket that does not listen.
fn unused() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A listener whose queue is full: further attempts to connect get no answer, as behind a firewall that drops packets.
struct BlackHole {
    address: SocketAddr,
    _held: (TcpListener, Vec<TcpStream>),
}

async fn black_hole(address: &str) -> BlackHole {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut streams = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(40), TcpStream::connect(address)).await {
        streams.push(stream.unwrap());
        assert!(streams.len() < 64, "the queue of this system does not fill");
    }
    BlackHole { address, _held: (listener, streams) }
}

#[tokio::test]
async fn a_name_fails_in_each_of_its_ways() {
    let names = Names::default()
        .with("empty.example.com", &[])
        .without("no.example.com", Unresolved::NotFound)
        .without("broken.example.com", Unresolved::Failed("Temporary failure in name resolution".to_owned()))
        .without("slow.example.com", Unresolved::TimedOut)
        .without("crowded.example.com", Unresolved::Overloaded);
    let prober =
        Prober::resolving(local(), names).limited(Limits { resolve: Duration::from_millis(30), ..Limits::default() });
    for (name, class) in [
        ("empty.example.com", ErrorClass::DNSNotFound),
        ("no.example.com", ErrorClass::DNSNotFound),
        ("broken.example.com", ErrorClass::DNSFailure),
        ("slow.example.com", ErrorClass::DNSTimeout),
        ("crowded.example.com", ErrorClass::DNSTimeout),
        ("silent.example.com", ErrorClass::DNSTimeout),
    ] {
        let failure = failed(&prober.probe(&named(name, 80)).await, class, Phase::Resolve);
        assert!(failure.message.contains(name), "{failure:?}");
    }
    let prober = Prober::resolving(local(), Names::default());
    let outcome = prober.probe(&within(named("silent.example.com", 80), SHORT)).await;
    failed(&outcome, ErrorClass::DNSTimeout, Phase::Resolve);
}

#[tokio::test]
async fn no_notation_of_a_denied_address_is_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Names::default()
        .with("loopback.example.com", &["127.0.0.1"])
        .with("metadata.example.com", &["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254"]);
    let denying = Prober::resolving(Policy::default(), names.clone());
    let hosts =
        ["127.0.0.1", "0177.1", "2130706433", "0x7f.1", "127.1", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0", "::"];
    for host in
        hosts.into_iter().chain(["loopback.example.com", "metadata.example.com", "169.254.169.254", "2852039166"])
    {
        let outcome = denying.probe(&named(host, port)).await;
        let failure = failed(&outcome, ErrorClass::Denied, Phase::Policy);
        assert!(failure.message.contains("may not be dialled"), "{failure:?}");
        assert_eq!((outcome.seen.address, outcome.spent.on(Phase::Connect)), (None, None));
    }
    let allowing = Prober::resolving(local(), names);
    for host in ["127.0.0.1", "0177.1", "2130706433", "0x7f.1", "127.1", "::ffff:127.0.0.1", "loopback.example.com"] {
        passed(&allowing.probe(&named(host, port)).await);
    }
    let failure =
        failed(&allowing.probe(&named("metadata.example.com", port)).await, ErrorClass::Denied, Phase::Policy);
    assert_eq!(failure.message.matches("may not be dialled").count(), 3, "each for its own reason: {failure:?}");
}

#[tokio::test]
async fn of_the_addresses_of_a_name_those_are_dialled_that_may_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let names = Names::default().with("mixed.example.com", &["169.254.169.254", "127.0.0.1", "fe80::1"]);
    let outcome = Prober::resolving(local(), names).probe(&named("mixed.example.com", address.port())).await;
    passed(&outcome);
    assert_eq!(outcome.seen.address, Some(address));
}

#[tokio::test]
async fn a_given_address_is_dialled_in_place_of_the_name_and_judged_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut request = named("silent.example.com", port);
    request.target.address = Some("127.0.0.1".parse().unwrap());
    request.target.is_own = true;
    passed(&prober().probe(&request).await);
    let outcome = Prober::resolving(Policy::default(), Names::default()).probe(&request).await;
    failed(&outcome, ErrorClass::Denied, Phase::Policy);
}

#[tokio::test]
async fn our_own_ports_are_refused_at_every_address_of_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let prober = Prober::resolving(Policy { own_ports: vec![port], ..local() }, Names::default());
    failed(&prober.probe(&named("127.0.0.1", port)).await, ErrorClass::Denied, Phase::Policy);
    assert!(is_of_this_machine("127.0.0.1".parse().unwrap()));
    assert!(is_of_this_machine("::ffff:127.0.0.1".parse().unwrap()));
    assert!(!is_of_this_machine("192.0.2.1".parse().unwrap()));
}

#[tokio::test]
async fn a_policy_holds_from_when_it_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = named("127.0.0.1", listener.local_addr().unwrap().port());
    let prober = prober();
    passed(&prober.probe(&request).await);
    prober.set_policy(Policy { deny: vec!["127.0.0.1/32".parse().unwrap()], ..local() });
    failed(&prober.probe(&request).await, ErrorClass::Denied, Phase::Policy);
    assert_eq!(prober.policy().deny.len(), 1);
}

#[tokio::test]
async fn a_connection_is_all_that_tcp_asks_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outcome = prober().probe(&request(Scheme::Tcp, listener.local_addr().unwrap(), "")).await;
    passed(&outcome);
    let phases: Vec<Phase> = outcome.spent.iter().map(|(phase, _)| phase).collect();
    assert_eq!(phases, [Phase::Resolve, Phase::Policy, Phase::Connect]);
    assert!(!outcome.seen.any_byte, "that it accepts a connection is no byte");
}

#[tokio::test]
async fn a_refusal_and_silence_are_told_apart() {
    let (_held, address) = unused();
    for scheme in [Scheme::Tcp, Scheme::Http, Scheme::Https, Scheme::Grpc] {
        let outcome = prober().probe(&request(scheme, address, "/")).await;
        let failure = failed(&outcome, ErrorClass::Refused, Phase::Connect);
        assert_eq!(failure.message, format!("{address}: connection refused"));
    }
    let hole = black_hole("127.0.0.1:0").await;
    let outcome = prober().probe(&within(request(Scheme::Tcp, hole.address, ""), SHORT)).await;
    let failure = failed(&outcome, ErrorClass::ConnectTimeout, Phase::Connect);
    assert_eq!(failure.message, "no answer to the attempt to connect within 0.06 s");
    assert_eq!((outcome.seen.address, outcome.seen.dialled), (None, Some(hole.address)));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_silent_or_refuses() {
    let hole = black_hole("127.0.0.2:0").await;
    let port = hole.address.port();
    let names = Names::default()
        .with("both.example.com", &["127.0.0.2", "127.0.0.1"])
        .with("refused.example.com", &["127.0.0.3", "127.0.0.4", "127.0.0.1"]);
    let prober = Prober::resolving(local(), names);
    let outcome = prober.probe(&within(named("both.example.com", port), ENOUGH)).await;
    let failure = failed(&outcome, ErrorClass::Refused, Phase::Connect);
    assert!(
        failure.message.starts_with(&format!("127.0.0.1:{port}: connection refused; another address: ")),
        "{failure:?}"
    );

    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let outcome = prober.probe(&named("both.example.com", port)).await;
    passed(&outcome);
    assert_eq!(outcome.seen.address, Some(listener.local_addr().unwrap()));
    assert!(outcome.took >= Duration::from_millis(250), "the first has 250 ms for itself: {outcome:?}");

    let outcome = prober.probe(&within(named("refused.example.com", port), ENOUGH)).await;
    passed(&outcome);
}

#[tokio::test]
async fn a_probe_that_is_dropped_leaves_no_connection() {
    let (open, mut opened) = tokio::sync::mpsc::unbounded_channel();
    let address = serve(move |mut stream| {
        let open = open.clone();
        async move {
            open.send(true).unwrap();
            while tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 64]).await.is_ok_and(|read| read > 0) {}
            let _ = open.send(false);
        }
    })
    .await;
    let prober = Arc::new(prober());
    for scheme in [Scheme::Http, Scheme::Grpc] {
        let task = tokio::spawn({
            let prober = prober.clone();
            async move { prober.probe(&request(scheme, address, "/")).await }
        });
        assert_eq!(opened.recv().await, Some(true));
        task.abort();
        assert_eq!(opened.recv().await, Some(false), "{scheme:?}");
    }
}

#[test]
fn addresses_take_turns_by_family_beginning_with_the_first_and_each_once() {
    let read = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>();
    for (given, expected) in [
        (&["2001:db8::1", "2001:db8::2", "192.0.2.1"][..], &["2001:db8::1", "192.0.2.1", "2001:db8::2"][..]),
        (&["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1"], &["192.0.2.1", "2001:db8::1", "192.0.2.2"]),
        (&[], &[]),
    ] {
        assert_eq!(connect::interleave(read(given)), read(expected));
    }
    let many: Vec<IpAddr> = (0..99).map(|at| IpAddr::from([192, 0, 2, at])).collect();
    assert_eq!(connect::interleave(many).len(), connect::MAX_ADDRESSES);
}

#[test]
fn of_several_failures_to_connect_the_one_that_tells_most_stands_for_all() {
    use std::io::{Error, ErrorKind as Kind};
    let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let failure = |kinds: &[Kind], within| {
        let tried: Vec<_> = kinds.iter().map(|kind| (address, Error::from(*kind))).collect();
        connect::failure(&tried, within)
    };
    for (kinds, within, class) in [
        (&[Kind::HostUnreachable, Kind::ConnectionRefused][..], None, ErrorClass::Refused),
        (&[Kind::NetworkUnreachable, Kind::TimedOut], None, ErrorClass::ConnectTimeout),
        (&[Kind::HostUnreachable], None, ErrorClass::Unreachable),
        (&[Kind::NetworkDown], None, ErrorClass::Unreachable),
        (&[Kind::PermissionDenied], None, ErrorClass::Unreachable),
        (&[Kind::ConnectionReset], None, ErrorClass::Reset),
        (&[Kind::AddrNotAvailable], None, ErrorClass::Internal),
        (&[Kind::NetworkUnreachable], Some("within 5 s"), ErrorClass::ConnectTimeout),
        (&[Kind::ConnectionRefused], Some("within 5 s"), ErrorClass::Refused),
        (&[], Some("within 5 s"), ErrorClass::ConnectTimeout),
    ] {
        let failure = failure(kinds, within);
        assert_eq!((failure.class, failure.phase), (class, Phase::Connect), "{failure:?}");
        assert!(!failure.message.is_empty());
    }
}

#[test]
fn what_the_far_side_sent_is_shown_without_what_a_terminal_would_obey() {
    assert_eq!(
        shown(b"\x1b[2J\x07a\r\nb\t\"'\xff \xe2\x80\xaec "),
        "\\u{1b}[2J\\u{7}a\\r\\nb\\t\"'\u{fffd} \\u{202e}c"
    );
    assert_eq!(shown(&[b'a'; 4096]).len(), Failure::MAX_DETAIL);
    assert!(shown(&[0x1b; 4096]).len() <= Failure::MAX_DETAIL);
    assert_eq!(shown("é".repeat(600).as_bytes()).chars().count(), Failure::MAX_DETAIL);
    assert_eq!(Failure::new(ErrorClass::Reset, Phase::Body, "x").with_detail(b" \r\n").detail, None);
}

#[test]
fn a_request_can_be_printed_without_what_is_secret_in_it() {
    let mut request = named("example.com", 80);
    request.http.headers = vec![("Authorization".to_owned(), "Bearer s3cret".to_owned())];
    let pem: request::Pem = b"s3cret".as_slice().into();
    request.tls = TlsOptions { client: Some((pem.clone(), pem)), ..TlsOptions::default() };
    let printed = format!("{request:?}");
    assert!(printed.contains("Authorization") && printed.contains("example.com"), "{printed}");
    assert!(!printed.contains("s3cret") && !printed.contains("115, 51, 99"), "{printed}");
}
