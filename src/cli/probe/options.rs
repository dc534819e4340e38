//! The options of a probe: the flags, and the file with the options of a spec.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Map, Value};

use super::args::ProbeArgs;
use crate::api::{ActuatorProbe, HeaderSpec, MetricsProbe, ProbeSpec};
use crate::cli::Usage;
use crate::monitor::request::RequestSecrets;

/// Reads the options of the probe, and the contents of the files that they name.
///
/// # Errors
/// [`Usage`] when the options make no sense or refer to Secrets; otherwise a file that cannot be read.
pub(super) fn read(args: &ProbeArgs) -> anyhow::Result<(ProbeSpec, RequestSecrets)> {
    let mut spec = match &args.spec {
        Some(file) => probe_spec(&text(file)?)?,
        None => ProbeSpec::default(),
    };
    let secrets = resolved(args)?;
    for header in headers(&args.header)? {
        spec.http.headers.retain(|other| !other.name.eq_ignore_ascii_case(&header.name));
        spec.http.headers.push(header);
    }
    spec.timeout_seconds = args.timeout.or(spec.timeout_seconds);
    if args.metrics {
        spec.metrics.get_or_insert_with(MetricsProbe::default);
    }
    if args.actuator {
        spec.actuator.get_or_insert_with(ActuatorProbe::default);
    }
    if args.insecure_skip_verify || args.server_name.is_some() {
        let tls = spec.http.tls.get_or_insert_default();
        tls.insecure_skip_verify |= args.insecure_skip_verify;
        tls.server_name = args.server_name.clone().or(tls.server_name.take());
    }
    unresolved(&spec, &secrets)?;
    Ok((spec, secrets))
}

/// Fails when the spec names Secrets whose contents are not given in files: `vigie probe` reads no cluster.
fn unresolved(spec: &ProbeSpec, secrets: &RequestSecrets) -> anyhow::Result<()> {
    let http = &spec.http;
    let tls = http.tls.as_ref();
    let header = http.headers.iter().find(|header| header.value.is_none());
    let header = header.map(|header| (format!("headers[{}].valueFrom", header.name), "--header @FILE"));
    let named =
        |is_named: bool, is_given: bool, field: &str, flag| (is_named && !is_given).then(|| (field.to_owned(), flag));
    let bearer = http.bearer_token_secret_ref.is_some();
    let ca = tls.is_some_and(|tls| tls.ca_secret_ref.is_some());
    let client = tls.is_some_and(|tls| tls.client_certificate_secret_name.is_some());
    let lacking = header
        .or_else(|| named(bearer, secrets.bearer_token.is_some(), "bearerTokenSecretRef", "--bearer-token-file"))
        .or_else(|| {
            let given = secrets.basic_auth.is_some();
            named(http.basic_auth_secret_name.is_some(), given, "basicAuthSecretName", "--basic-auth-file")
        })
        .or_else(|| named(ca, secrets.ca.is_some(), "tls.caSecretRef", "--ca-file"))
        .or_else(|| {
            let flags = "--client-cert-file and --client-key-file";
            named(client, secrets.client.is_some(), "tls.clientCertificateSecretName", flags)
        });
    let Some((field, flag)) = lacking else { return Ok(()) };
    let message = format!(
        "the spec's http.{field} names a Secret, and `vigie probe` reads no cluster: give what is in it with {flag}"
    );
    Err(Usage(message).into())
}

fn resolved(args: &ProbeArgs) -> anyhow::Result<RequestSecrets> {
    let line = |file: &Path| anyhow::Ok(text(file)?.trim_end_matches(['\r', '\n']).to_owned());
    let pem = |file: &Path| -> anyhow::Result<Arc<[u8]>> { Ok(text(file)?.into_bytes().into()) };
    let mut secrets = RequestSecrets::default();
    if let Some(file) = &args.bearer_token_file {
        secrets.bearer_token = Some(line(file)?);
    }
    if let Some(file) = &args.basic_auth_file {
        let both = line(file)?;
        let both = both.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()));
        let wrong = || Usage(format!("{} does not hold USER:PASSWORD", file.display()));
        secrets.basic_auth = Some(both.ok_or_else(wrong)?);
    }
    if let Some(file) = &args.ca_file {
        secrets.ca = Some(pem(file)?);
    }
    if let (Some(certificate), Some(key)) = (&args.client_cert_file, &args.client_key_file) {
        secrets.client = Some((pem(certificate)?, pem(key)?));
    }
    Ok(secrets)
}

/// The headers of the flags, including those in files.
fn headers(given: &[String]) -> anyhow::Result<Vec<HeaderSpec>> {
    let mut headers = Vec::new();
    for one in given {
        match one.strip_prefix('@') {
            Some(file) => {
                let text = text(Path::new(file))?;
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                for (at, line) in lines.enumerate() {
                    headers.push(
                        header(line).ok_or_else(|| Usage(format!("{file}: header {} is no NAME: VALUE", at + 1)))?,
                    );
                }
            }
            None => headers.push(header(one).ok_or_else(|| Usage("--header takes NAME: VALUE, or @FILE".to_owned()))?),
        }
    }
    Ok(headers)
}

fn header(line: &str) -> Option<HeaderSpec> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim().to_owned(), Some(value.trim().to_owned()));
    (!name.is_empty()).then_some(HeaderSpec { name, value, value_from: None })
}

fn text(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

/// The options in a file: those of `spec.probe`, or those of a MonitoredBackend.
fn probe_spec(yaml: &str) -> anyhow::Result<ProbeSpec> {
    let wrong = |why: String| Usage(format!("--spec: {why}"));
    let document: Value = serde_saphyr::from_str(yaml).map_err(|error| wrong(format!("this is no YAML: {error}")))?;
    let probe = match document.get("kind").and_then(Value::as_str) {
        Some("MonitoredBackend") => {
            document.pointer("/spec/probe").cloned().unwrap_or_else(|| Value::Object(Map::new()))
        }
        Some(kind) => return Err(wrong(format!("this is a {kind}, not a MonitoredBackend")).into()),
        None if document.is_null() => Value::Object(Map::new()),
        None => document,
    };
    let schema = serde_json::to_value(schemars::schema_for!(ProbeSpec))?;
    if let Some(field) = unknown(&schema, &schema, &probe, "") {
        return Err(wrong(format!("spec.probe has no field {field}")).into());
    }
    serde_json::from_value(probe).map_err(|error| wrong(format!("spec.probe: {error}")).into())
}

/// The first field of `value` that `schema` does not have. A misspelt field would be ignored otherwise.
fn unknown(root: &Value, schema: &Value, value: &Value, path: &str) -> Option<String> {
    if let Some(defined) = schema.get("$ref").and_then(Value::as_str) {
        return unknown(root, root.pointer(defined.trim_start_matches('#'))?, value, path);
    }
    // An optional field has the schema "this, or null".
    let options = schema.get("anyOf").and_then(Value::as_array);
    if let Some(schema) = options.and_then(|options| options.iter().find(|option| option.get("$ref").is_some())) {
        return unknown(root, schema, value, path);
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| unknown(root, schema.get("items")?, item, path)),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match schema.get("properties")?.get(name) {
                Some(schema) => unknown(root, schema, value, &path),
                None => Some(path),
            }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(yaml: &str) -> String {
        let error = probe_spec(yaml).unwrap_err();
        assert!(error.is::<Usage>());
        error.to_string()
    }

    #[test]
    fn a_file_holds_the_options_alone_or_a_whole_backend() {
        let options = "timeoutSeconds: 7\nmetrics: {required: [up]}\nhttp: {headers: [{name: A, value: b}]}\n";
        let read = probe_spec(options).unwrap();
        assert_eq!((read.timeout_seconds, read.metrics.as_ref().unwrap().required.len()), (Some(7), 1));
        let indented = options.replace('\n', "\n    ");
        let whole =
            format!("apiVersion: vigie.dev/v1alpha1\nkind: MonitoredBackend\nspec:\n  probe:\n    {indented}\n");
        assert_eq!(probe_spec(&whole).unwrap(), read);
        assert_eq!(probe_spec("kind: MonitoredBackend\nspec: {}\n").unwrap(), ProbeSpec::default());
        assert_eq!(probe_spec("").unwrap(), ProbeSpec::default());
    }

    #[test]
    fn a_file_that_says_something_else_is_refused() {
        assert_eq!(refused("timeoutSecond: 7"), "--spec: spec.probe has no field timeoutSecond");
        assert_eq!(refused("http: {tls: {ca: x}}"), "--spec: spec.probe has no field http.tls.ca");
        let header = "http: {headers: [{name: A, secret: b}]}";
        assert_eq!(refused(header), "--spec: spec.probe has no field http.headers.secret");
        assert_eq!(refused("kind: Connector"), "--spec: this is a Connector, not a MonitoredBackend");
        assert!(refused("timeoutSeconds: soon").starts_with("--spec: spec.probe: invalid type"));
        assert!(refused("a: [").starts_with("--spec: this is no YAML"));
    }

    #[test]
    fn secrets_that_a_spec_names_must_be_given_in_files() {
        let lacks =
            |yaml: &str| unresolved(&probe_spec(yaml).unwrap(), &RequestSecrets::default()).unwrap_err().to_string();
        assert_eq!(
            lacks("http: {bearerTokenSecretRef: {name: a, key: b}}"),
            "the spec's http.bearerTokenSecretRef names a Secret, and `vigie probe` reads no cluster: give what is in \
             it with --bearer-token-file"
        );
        assert!(lacks("http: {basicAuthSecretName: a}").ends_with("--basic-auth-file"));
        assert!(lacks("http: {tls: {caSecretRef: {name: a, key: b}}}").ends_with("--ca-file"));
        assert!(lacks("http: {tls: {clientCertificateSecretName: a}}").ends_with("--client-key-file"));
        let header = "http: {headers: [{name: A, valueFrom: {secretRef: {name: a, key: b}}}]}";
        assert!(lacks(header).ends_with("--header @FILE"));
        let given = RequestSecrets { bearer_token: Some("t".to_owned()), ..RequestSecrets::default() };
        let spec = probe_spec("http: {bearerTokenSecretRef: {name: a, key: b}}").unwrap();
        assert!(unresolved(&spec, &given).is_ok());
    }

    #[test]
    fn a_header_has_a_name_and_a_value() {
        let read = header("X-Time: 10:30 ").unwrap();
        assert_eq!((read.name.as_str(), read.value.as_deref()), ("X-Time", Some("10:30")));
        assert_eq!((header("no colon"), header(": b")), (None, None));
    }
}
