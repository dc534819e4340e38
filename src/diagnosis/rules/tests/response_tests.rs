use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{CertificateSecret, Container, Evidence, Lookup};

#[test]
fn credentials_are_wanted_by_status_and_by_a_redirect_to_a_login() {
    for code in [401, 403] {
        let d = expect(&status(code), Cause::AuthenticationRequired, Certain, No);
        says(&d.message, &[&code.to_string()]);
        says(&d.advice, &["spec.probe.http.basicAuthSecretName"]);
    }
    let login = with(status(302), |e| e.vantages[0].redirects_to_login = true);
    says(&expect_cause(&login, Cause::AuthenticationRequired).message, &["login page"]);
    assert_ne!(diagnosis(&status(302)).cause, Cause::AuthenticationRequired);
    let theirs = only_prometheus("server returned HTTP status 401 Unauthorized");
    says(&expect_cause(&theirs, Cause::AuthenticationRequired).advice, &["basic_auth or authorization"]);
}

#[test]
fn a_page_that_is_none_or_broken_or_too_large_is_told_apart() {
    expect(&bad(ErrorClass::ContentType), Cause::NotMetrics, Certain, No);
    let broken = with(bad(ErrorClass::Exposition), |e| e.vantages[0].broken_at = Some((17, 402)));
    let d = expect(&broken, Cause::MalformedMetrics, Certain, No);
    says(&d.message, &["line 17", "byte 402"]);
    says(&d.advice, &["vigie diagnose backend web -n shop"]);
    // Without a line it is a limit of samples.
    expect(&bad(ErrorClass::Exposition), Cause::TooLarge, Certain, No);
    expect(&bad(ErrorClass::BodyTooLarge), Cause::TooLarge, Certain, No);
    let lacks =
        with(bad(ErrorClass::MissingMetric), |e| e.vantages[0].missing_metrics = vec!["orders_total".to_owned()]);
    says(&expect(&lacks, Cause::MetricMissing, Certain, No).message, &["orders_total"]);
}

#[test]
fn what_prometheus_alone_cannot_read_is_said_without_quoting_the_page() {
    for (error, cause) in [
        ("received unsupported Content-Type \"text/c4nary\"", Cause::NotMetrics),
        ("expected value after metric, got \"c4nary\"", Cause::MalformedMetrics),
        ("sample limit exceeded", Cause::TooLarge),
        ("server returned HTTP status 429 c4nary", Cause::RateLimited),
        ("server returned HTTP status 502 c4nary", Cause::ServerError),
    ] {
        let d = expect_cause(&only_prometheus(error), cause);
        assert!(!format!("{d:?}").contains("c4nary"), "{d:?}");
    }
    let empty = with(well(), |e| prometheus_of(e).targets[0].samples = Some(0));
    expect(&empty, Cause::NotMetrics, Likely, No);
}

#[test]
fn an_error_of_the_server_is_restarted_once_only_when_its_health_is_bad_too() {
    let health = |health_status: Option<u16>| {
        with(status(500), |e| {
            actuator_of(e).health_status = health_status;
            // An error page says nothing of health.
            actuator_of(e).health = health_status.filter(|status| *status == 200).map(|_| "UP".to_owned());
        })
    };
    expect(&health(Some(500)), Cause::ServerError, Likely, Once);
    expect(&health(Some(200)), Cause::ServerError, Likely, No);
    let unknown = with(status(500), |e| {
        e.actuator = Lookup::NotLooked;
        e.subject.path = "/shop".to_owned();
    });
    expect(&unknown, Cause::ServerError, Likely, No);
}

#[test]
fn a_gateway_is_blamed_when_the_pods_themselves_pass() {
    for code in [502, 503, 504] {
        let gateway = with(status(code), |e| e.vantages.push(passing("pod/web-1")));
        let d = expect(&gateway, Cause::ServerError, Certain, No);
        says(&d.message, &["a gateway in front", &code.to_string()]);
    }
    expect(&status(502), Cause::ServerError, Possible, No);
}

#[test]
fn too_many_questions_are_no_error_of_the_server() {
    expect(&status(429), Cause::RateLimited, Certain, No);
}

/// A target that fails with this class and message.
fn says_so(class: ErrorClass, message: &str) -> Evidence {
    with(bad(class), |e| e.vantages[0].message = message.to_owned())
}

fn grpc(class: ErrorClass, message: &str, grpc_status: Option<i32>) -> Evidence {
    with(says_so(class, message), |e| {
        (e.subject.scheme, e.subject.wants_metrics, e.subject.path) = ("grpc".to_owned(), false, String::new());
        e.vantages[0].grpc_status = grpc_status;
        e.actuator = Lookup::NotLooked;
    })
}

#[test]
fn each_status_that_refuses_a_request_says_what_it_means() {
    for (code, words) in [
        (204, "expectedStatus"),
        (304, "cache"),
        (400, "a header of spec.probe.http.headers"),
        (405, "spec.probe.http.method"),
        (406, "Accept"),
        (407, "past the proxy"),
        (408, "holds requests back"),
        (410, "page that replaced it"),
        (418, "expectedStatus"),
        (421, "tls.serverName"),
        (426, "WebSocket"),
        (431, "SERVER_MAXHTTPREQUESTHEADERSIZE"),
        (464, "target group"),
    ] {
        let d = expect(&status(code), Cause::UnexpectedAnswer, Likely, No);
        says(&d.message, &[&format!("it answers {code}: ")]);
        says(&d.advice, &[words]);
    }
    let host = with(status(400), |e| e.subject.host = "my_shop.example.com".to_owned());
    says(&expect_cause(&host, Cause::UnexpectedAnswer).message, &["my_shop.example.com", "underscore"]);
    let elsewhere = with(status(302), |e| {
        e.vantages[0].message = "status 302 redirects to another host".to_owned();
    });
    says(&expect_cause(&elsewhere, Cause::UnexpectedAnswer).message, &["redirects to another host"]);
    expect_cause(&bad(ErrorClass::RedirectLimit), Cause::UnexpectedAnswer);
    let given_up = says_so(ErrorClass::Assertion, "bodyMatches was given up at byte 4805 of the body: too much work");
    says(&expect_cause(&given_up, Cause::UnexpectedAnswer).message, &["given up"]);
}

#[test]
fn a_head_that_is_too_large_is_no_page_with_too_many_series() {
    let head = says_so(
        ErrorClass::BodyTooLarge,
        "the head of the answer has more than 1024 header lines, or more than 65536 bytes",
    );
    let d = expect_cause(&head, Cause::UnexpectedAnswer);
    assert!(!d.advice.contains("series"), "{d:?}");
    says(&d.advice, &["headers"]);
}

#[test]
fn a_page_in_another_form_is_not_blamed_on_a_collector() {
    let page = with(
        says_so(ErrorClass::Exposition, "the metrics page is broken in line 1, at byte 0: a byte order mark stands …"),
        |e| e.vantages[0].broken_at = Some((1, 0)),
    );
    says(&expect(&page, Cause::MalformedMetrics, Certain, No).advice, &["not a collector"]);
    let coded = says_so(ErrorClass::ContentType, "the page is sent with the Content-Encoding br; Prometheus …");
    let d = expect(&coded, Cause::NotMetrics, Certain, No);
    says(&d.message, &["Content-Encoding br"]);
    says(&d.advice, &["compression"]);
}

#[test]
fn each_grpc_status_has_a_cause() {
    for (code, cause, words) in [
        (16, Cause::AuthenticationRequired, "Except grpc.health.v1.Health"),
        (7, Cause::AuthenticationRequired, "Except grpc.health.v1.Health"),
        (8, Cause::RateLimited, "the limit"),
        (14, Cause::ServerError, "stands between"),
        (4, Cause::ServerError, "waits for"),
        (13, Cause::ServerError, "log"),
        (2, Cause::ServerError, "log"),
        (5, Cause::UnexpectedAnswer, "register this name"),
        (12, Cause::UnexpectedAnswer, "Register the health service"),
        (9, Cause::UnexpectedAnswer, "log"),
    ] {
        let d = expect_cause(&grpc(ErrorClass::GRPCStatus, "the health service answers so", Some(code)), cause);
        says(&d.message, &["the health service answers so"]);
        says(&d.advice, &[words]);
    }
    let unset = grpc(ErrorClass::GRPCStatus, "the health service says UNKNOWN", None);
    says(&expect_cause(&unset, Cause::UnexpectedAnswer).advice, &["set SERVING"]);
    let web = grpc(ErrorClass::ContentType, "what answers speaks HTTP/2, and no gRPC", None);
    says(&expect_cause(&web, Cause::UnexpectedAnswer).advice, &["use http"]);
    let old = grpc(ErrorClass::NotHTTP, "what answers speaks HTTP/1, and no HTTP/2", None);
    let d = expect_cause(&old, Cause::UnexpectedAnswer);
    says(&d.advice, &["use http in spec.target"]);
    assert!(!d.advice.contains("https"), "{d:?}");
}

#[test]
fn a_handshake_that_fails_says_how() {
    for (message, words) in [
        ("it refused the handshake (TLS alert 40): …", "tls.serverName"),
        ("it speaks neither TLS 1.2 nor 1.3", "TLS 1.3"),
        ("its certificate, or one that signed it, has an RSA key of 1024 bits: …", "Issue the certificate anew"),
        ("it does not speak the protocol that is asked for within TLS (ALPN)", "http/1.1 or h2"),
        ("", "TLS settings"),
    ] {
        let d = expect(&says_so(ErrorClass::TLSHandshake, message), Cause::TLSHandshakeFailed, Certain, No);
        says(&d.message, &["TLS cannot be set up with web.shop.svc", message]);
        says(&d.advice, &[words]);
    }
}

#[test]
fn names_that_do_not_resolve_are_told_apart() {
    expect(&bad(ErrorClass::DNSNotFound), Cause::DNSNotFound, Certain, No);
    expect(&bad(ErrorClass::DNSFailure), Cause::DNSBroken, Certain, No);
    expect(&bad(ErrorClass::DNSTimeout), Cause::DNSBroken, Certain, No);
    let scraped_by_name = |error: &str| {
        let url = "http://web.shop.svc:8081/actuator/prometheus";
        let said = format!("Get \"{url}\": dial tcp: lookup web.shop.svc on 10.96.0.10:53: {error}");
        with(only_prometheus(&said), |e| prometheus_of(e).targets[0].url = url.to_owned())
    };
    says(&expect_cause(&scraped_by_name("no such host"), Cause::DNSNotFound).advice, &["Prometheus"]);
    expect_cause(&scraped_by_name("server misbehaving"), Cause::DNSBroken);
    // A resolver that does not answer drops no packets of the scrape.
    expect_cause(&scraped_by_name("read udp: i/o timeout"), Cause::DNSBroken);
}

#[test]
fn certificates_are_told_apart() {
    let expired = with(bad(ErrorClass::TLSExpired), |e| e.vantages[0].certificate_expires = Some(ago(3600)));
    says(&expect(&expired, Cause::CertificateExpired, Certain, No).message, &["2026-11-05T09:00:00Z"]);
    expect(&bad(ErrorClass::TLSUnknownAuthority), Cause::CertificateUntrusted, Certain, No);
    expect(&bad(ErrorClass::TLSNameMismatch), Cause::CertificateWrongName, Certain, No);
    let wants = with(bad(ErrorClass::TLSHandshake), |e| {
        e.vantages[0].detail = Some("received fatal alert: CertificateRequired".to_owned());
    });
    expect(&wants, Cause::ClientCertificateRequired, Certain, No);
    expect_cause(&bad(ErrorClass::TLSHandshake), Cause::TLSHandshakeFailed);
    for (error, cause) in [
        (
            "x509: certificate has expired or is not yet valid: current time 2026 is after 2025",
            Cause::CertificateExpired,
        ),
        ("x509: certificate signed by unknown authority", Cause::CertificateUntrusted),
        ("x509: certificate is valid for a, not b", Cause::CertificateWrongName),
        ("remote error: tls: certificate required", Cause::ClientCertificateRequired),
        ("http: server gave HTTP response to HTTPS client", Cause::SchemeMismatch),
    ] {
        expect(&only_prometheus(&format!("Get \"https://10.1.0.7:8081/x\": {error}")), cause, Certain, No);
    }
}

#[test]
fn a_renewed_certificate_that_is_not_loaded_is_cured_by_a_restart() {
    let changed = |at| {
        with(bad(ErrorClass::TLSExpired), |e| {
            e.certificate_secret = Lookup::Found(CertificateSecret { name: "web-tls".to_owned(), changed: Some(at) });
        })
    };
    let d = expect(&changed(ago(600)), Cause::CertificateExpired, Likely, Once);
    says(&d.advice, &["web-tls", "kubectl -n shop rollout restart deployment/web"]);
    expect(&changed(ago(9000)), Cause::CertificateExpired, Certain, No);
}

#[test]
fn the_wrong_scheme_is_said_from_both_sides() {
    let https = with(bad(ErrorClass::NotTLS), |e| e.subject.scheme = "https".to_owned());
    says(&expect(&https, Cause::SchemeMismatch, Certain, No).advice, &["Use http in spec.target"]);
    let ssl = |e: &mut Evidence| set(e, "SERVER_SSL_ENABLED", "true");
    let tls = says_so(ErrorClass::NotHTTP, "the port speaks TLS, and was asked in plain HTTP");
    says(&expect(&tls, Cause::SchemeMismatch, Certain, No).advice, &["Use https in spec.target"]);
    let grpc = with(tls, |e| e.subject.scheme = "grpc".to_owned());
    says(&expect(&grpc, Cause::SchemeMismatch, Certain, No).advice, &["Use grpcs in spec.target"]);
    expect(&with(status(400), ssl), Cause::SchemeMismatch, Certain, No);
    expect_cause(&status(400), Cause::UnexpectedAnswer);
    // Bytes that are not TLS say nothing about the scheme.
    for (message, words) in [
        ("the head of the answer is no valid HTTP: invalid HTTP header parsed", "the server itself, or a proxy"),
        ("what answers does not speak HTTP", "Correct the port"),
        ("the port speaks HTTP/2 alone, and was asked with HTTP/1.1", "Use grpc"),
        ("the body is said to be gzip and is not", "Correct what writes the answer"),
    ] {
        let d = expect_cause(&says_so(ErrorClass::NotHTTP, message), Cause::UnexpectedAnswer);
        assert_eq!(d.message, message);
        says(&d.advice, &[words]);
        assert!(!d.advice.contains("https"), "{d:?}");
    }
}

#[test]
fn a_reset_behind_a_mesh_may_be_mutual_tls() {
    let mesh = with(bad(ErrorClass::Reset), |e| {
        pod_of(e).containers.push(Container {
            name: "istio-proxy".to_owned(),
            ready: true,
            running_since: Some(ago(7200)),
            ..Container::default()
        });
    });
    expect(&mesh, Cause::ClientCertificateRequired, Possible, No);
    expect_cause(&bad(ErrorClass::Reset), Cause::Unexplained);
}
