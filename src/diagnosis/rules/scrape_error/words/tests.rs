//! Texts of Prometheus and vmagent, and the fact that each becomes.

use super::*;

#[test]
fn the_words_of_prometheus_become_facts() {
    let get = "Get \"http://10.0.0.1:8081/actuator/prometheus\": ";
    let cases = [
        ("context deadline exceeded", ScrapeError::Timeout(false)),
        ("dial tcp 10.0.0.1:8081: i/o timeout", ScrapeError::Timeout(true)),
        ("dial tcp 10.0.0.1:8081: connect: connection refused", ScrapeError::Refused),
        ("dial tcp 10.0.0.1:8081: connect: no route to host", ScrapeError::NoRoute),
        ("read tcp 10.0.0.2:1->10.0.0.1:8081: read: connection reset by peer", ScrapeError::Reset),
        ("EOF", ScrapeError::Reset),
        ("dial tcp: lookup web on 10.96.0.10:53: no such host", ScrapeError::NoSuchHost),
        ("dial tcp: lookup web on 10.96.0.10:53: read udp: i/o timeout", ScrapeError::Resolver),
        ("dial tcp: lookup web on 10.96.0.10:53: server misbehaving", ScrapeError::Resolver),
        ("x509: certificate has expired or is not yet valid: current time …", ScrapeError::Expired),
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ScrapeError::UnknownAuthority,
        ),
        ("x509: certificate is valid for a.example.com, not b.example.com", ScrapeError::WrongName),
        (
            "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
            ScrapeError::WrongName,
        ),
        ("remote error: tls: certificate required", ScrapeError::ClientCertificate),
        ("http: server gave HTTP response to HTTPS client", ScrapeError::Scheme),
        ("net/http: HTTP/1.x transport connection broken: malformed HTTP response \"\\x15\\x03\"", ScrapeError::Scheme),
    ];
    for (error, fact) in cases {
        assert_eq!(ScrapeError::of(&format!("{get}{error}")), fact, "{error}");
    }
    for (error, fact) in [
        ("server returned HTTP status 404 Not Found", ScrapeError::Status(404)),
        ("server returned HTTP status 503 ", ScrapeError::Status(503)),
        ("received unsupported Content-Type \"text/html\"", ScrapeError::ContentType),
        ("non-compliant scrape target sending blank Content-Type and no fallback", ScrapeError::ContentType),
        ("body size limit exceeded", ScrapeError::Limit(Limit::Body)),
        ("sample limit exceeded", ScrapeError::Limit(Limit::Samples)),
        ("expected value after metric, got \"x\" (\"INVALID\") while parsing: \"x y\"", ScrapeError::Malformed),
        ("\"INVALID\" is not a valid start token", ScrapeError::Malformed),
        ("data does not end with # EOF", ScrapeError::Malformed),
        ("something new", ScrapeError::Other),
    ] {
        assert_eq!(ScrapeError::of(error), fact, "{error}");
    }
}

#[test]
fn faults_of_prometheus_itself_are_told_by_the_words_of_each_system() {
    let get = "Get \"http://192.0.2.1:8081/metrics\": ";
    for status in PROXY_STATUS {
        for error in [status.to_owned(), format!("proxyconnect tcp: {status}")] {
            assert_eq!(ScrapeError::of(&format!("{get}{error}")), ScrapeError::Own(OwnFault::ProxyRefuses), "{error}");
        }
    }
    let dial = "dial tcp 192.0.2.1:8081: ";
    for (error, fault) in [
        ("unable to load specified CA cert /etc/ca.pem", OwnFault::CredentialFile),
        ("unable to parse the CA cert", OwnFault::CredentialFile),
        ("error reading /etc/token", OwnFault::CredentialFile),
        ("open /etc/token: no such file or directory", OwnFault::CredentialFile),
        ("read /etc/token: is a directory", OwnFault::CredentialFile),
        ("stat /etc/token: permission denied", OwnFault::CredentialFile),
        ("tls: failed to find any PEM data in certificate input", OwnFault::CredentialFile),
        ("context canceled", OwnFault::Cancelled),
        ("DIAL socket: too many open files in system", OwnFault::OpenFiles),
        ("DIAL connect: can't assign requested address", OwnFault::NoSourceAddress),
        ("DIAL socket: address family not supported by protocol", OwnFault::NoSourceAddress),
        ("DIAL bind: address already in use", OwnFault::NoSourceAddress),
        ("DIAL connectex: The requested address is not valid in its context.", OwnFault::NoSourceAddress),
        ("DIAL no suitable address found", OwnFault::NoSourceAddress),
        ("DIAL socket: cannot allocate memory", OwnFault::Memory),
        (
            "DIAL connectex: An operation on a socket could not be performed because the system lacked sufficient buffer space or because a queue was full.",
            OwnFault::Memory,
        ),
    ] {
        let error = format!("{get}{}", error.replace("DIAL ", dial));
        assert_eq!(ScrapeError::of(&error), ScrapeError::Own(fault), "{error}");
    }
    for host in ["No such host is known.", "no address associated with hostname"] {
        let error = format!("{get}dial tcp: lookup web: {host}");
        assert_eq!(ScrapeError::of(&error), ScrapeError::NoSuchHost, "{error}");
    }
    for error in [
        "invalid UTF-8 label value: \"\\xff\"",
        "strconv.ParseFloat: parsing \"x\": invalid syntax",
        "unsupported character in float",
        "label name \"a\" is not unique: invalid sample",
        "invalid metric type \"foo\"",
    ] {
        assert_eq!(ScrapeError::of(error), ScrapeError::Malformed, "{error}");
    }
}
