//! Makes the request of a probe from a spec. Pure: the caller has read the Secrets and resolved the target.

use crate::api::{ActuatorProbe, HttpMethod, HttpProbe, ProbeSpec};
use crate::probe::request::Pem;
use crate::probe::{HttpOptions, Method, MetricsOptions, Pattern, Request, Scheme, Target, TlsOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The content of the Secrets that a spec names.
#[derive(Clone, Default)]
pub struct RequestSecrets {
    /// Values of headers that come from Secrets, by the header's name.
    pub headers: Vec<(String, String)>,
    /// The token for `Authorization: Bearer`.
    pub bearer_token: Option<String>,
    /// User name and password.
    pub basic_auth: Option<(String, String)>,
    /// Certificate authorities to trust, PEM.
    pub ca: Option<Pem>,
    /// The client certificate chain and its key, PEM.
    pub client: Option<(Pem, Pem)>,
}

impl RequestSecrets {
    /// The content that authenticates the backend, without the content that authenticates the operator.
    pub fn without_credentials(&self) -> Self {
        Self { ca: self.ca.clone(), ..Self::default() }
    }
}

/// The compiled regular expressions of a spec.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// `spec.probe.http.bodyMatches`.
    pub body_matches: Option<Pattern>,
    /// `spec.probe.http.bodyNotMatches`.
    pub body_not_matches: Option<Pattern>,
}

impl Patterns {
    /// Compiles the regular expressions of `http`, outside the tasks of the runtime.
    ///
    /// # Errors
    /// The field of the spec whose expression cannot be used, why, and what to do.
    pub async fn compile(http: &HttpProbe) -> Result<Self, String> {
        Ok(Self {
            body_matches: pattern("bodyMatches", http.body_matches.as_ref()).await?,
            body_not_matches: pattern("bodyNotMatches", http.body_not_matches.as_ref()).await?,
        })
    }
}

async fn pattern(field: &str, expression: Option<&String>) -> Result<Option<Pattern>, String> {
    let Some(expression) = expression else { return Ok(None) };
    let compiled = Pattern::compile(expression.clone()).await;
    compiled.map(Some).map_err(|why| format!("spec.probe.http.{field} {why}"))
}

impl std::fmt::Debug for RequestSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestSecrets(…)")
    }
}

/// Makes the request of a probe of `target`.
pub fn request(spec: &ProbeSpec, target: Target, secrets: &RequestSecrets, patterns: &Patterns) -> Request {
    let http = &spec.http;
    let tls = http.tls.as_ref();
    Request {
        target,
        timeout: spec.timeout(),
        http: HttpOptions {
            method: match http.method {
                HttpMethod::GET => Method::Get,
                HttpMethod::HEAD => Method::Head,
            },
            headers: headers(http, secrets),
            expected_status: http.expected_status.iter().filter_map(|status| u16::try_from(*status).ok()).collect(),
            body_matches: patterns.body_matches.clone(),
            body_not_matches: patterns.body_not_matches.clone(),
            follow_redirects: http.follow_redirects,
            ..HttpOptions::default()
        },
        tls: TlsOptions {
            ca: secrets.ca.clone(),
            server_name: tls.and_then(|tls| tls.server_name.clone()),
            insecure_skip_verify: tls.is_some_and(|tls| tls.insecure_skip_verify),
            client: secrets.client.clone(),
        },
        metrics: spec
            .metrics
            .as_ref()
            .map(|metrics| MetricsOptions { required: metrics.required.clone(), ..MetricsOptions::default() }),
    }
}

/// Makes the request to the actuator from the `request` to the target, by `spec.probe.actuator`: at the same address, or
/// on the actuator's own port; over HTTP, whatever the target speaks. The caller sets the path.
pub fn actuator_request(request: &Request, actuator: &ActuatorProbe) -> Request {
    let mut request = request.clone();
    let target = &mut request.target;
    if let Some(port) = actuator.port.and_then(|port| u16::try_from(port).ok()) {
        target.port = port;
    }
    target.scheme = if target.scheme.is_tls() { Scheme::Https } else { Scheme::Http };
    request
}

fn headers(http: &HttpProbe, secrets: &RequestSecrets) -> Vec<(String, String)> {
    let plain = http.headers.iter().filter_map(|header| Some((header.name.clone(), header.value.clone()?)));
    let mut headers: Vec<_> = plain.chain(secrets.headers.iter().cloned()).collect();
    let authorization = match (&secrets.bearer_token, &secrets.basic_auth) {
        (Some(token), _) => Some(format!("Bearer {token}")),
        (None, Some((user, password))) => Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
        (None, None) => None,
    };
    headers.extend(authorization.map(|value| ("Authorization".to_owned(), value)));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            scheme: Scheme::Http,
            host: "web.example.com".to_owned(),
            port: 80,
            path: "/".to_owned(),
            address: None,
            is_own: false,
        }
    }

    fn spec(json: serde_json::Value) -> ProbeSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn everything_that_a_spec_says_is_asked_for() {
        let spec = spec(serde_json::json!({
            "intervalSeconds": 3,
            "http": {
                "method": "HEAD", "headers": [{ "name": "X-Tenant", "value": "blue" }], "expectedStatus": [200, 404],
                "followRedirects": false, "tls": { "serverName": "other.example.com", "insecureSkipVerify": true },
            },
            "metrics": { "required": ["up_total"] },
        }));
        let secrets = RequestSecrets {
            headers: vec![("X-Key".to_owned(), "from a Secret".to_owned())],
            basic_auth: Some(("ops".to_owned(), "pass".to_owned())),
            ..RequestSecrets::default()
        };
        let made = request(&spec, target(), &secrets, &Patterns::default());
        assert_eq!(made.timeout.as_secs(), 3);
        assert_eq!(made.http.method, Method::Head);
        let headers: Vec<_> = made.http.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(headers, ["X-Tenant: blue", "X-Key: from a Secret", "Authorization: Basic b3BzOnBhc3M="]);
        assert_eq!((made.http.expected_status, made.http.follow_redirects), (vec![200, 404], false));
        assert!(made.tls.insecure_skip_verify);
        assert_eq!(made.tls.server_name.as_deref(), Some("other.example.com"));
        assert_eq!(made.metrics.unwrap().required, ["up_total"]);
        assert!(!format!("{secrets:?}").contains("pass"));
    }

    #[test]
    fn an_actuator_on_a_port_of_its_own_is_asked_over_http() {
        let like = |scheme| Target { scheme, ..target() };
        let asked = |scheme, port| {
            let request =
                request(&ProbeSpec::default(), like(scheme), &RequestSecrets::default(), &Patterns::default());
            let target = actuator_request(&request, &ActuatorProbe { base_path: None, port }).target;
            (target.scheme, target.port)
        };
        assert_eq!(asked(Scheme::Grpc, Some(8081)), (Scheme::Http, 8081));
        assert_eq!(asked(Scheme::Https, None), (Scheme::Https, 80));
    }

    #[tokio::test]
    async fn an_expression_that_cannot_be_used_is_named_with_its_field() {
        let refused =
            async |http| Patterns::compile(&spec(serde_json::json!({ "http": http })).http).await.unwrap_err();
        assert_eq!(
            refused(serde_json::json!({ "bodyNotMatches": "(" })).await,
            "spec.probe.http.bodyNotMatches is no regular expression: unclosed group"
        );
        let large = refused(serde_json::json!({ "bodyMatches": "[ab]*a[ab]{10000}c" })).await;
        assert!(
            large.starts_with("spec.probe.http.bodyMatches is too large: compiled it has more than 288 KiB"),
            "{large}"
        );
    }
}
