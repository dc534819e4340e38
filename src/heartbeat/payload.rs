//! Parses the body of a request into a [`Beat`].
//!
//! No error contains text of the sender, because a token may be anywhere in a broken body.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

pub use self::agent::AgentBeat;
pub use super::json::BadBeat;
use super::json::{self, Field, Rare, Shape, Value};
use crate::api::{CheckOutcome, MAX_CHECK_MESSAGE, MAX_MESSAGE, MAX_UNIT, is_deceptive};

mod agent;

/// Longest `connector_id`, in bytes (`docs/design/api.md`).
pub const MAX_ID: usize = 128;
/// Longest token, in characters: a longer one cannot exist (`docs/design/api.md`, `existingSecretRef`).
pub const MAX_TOKEN: usize = 256;
/// Most checks in one heartbeat; eight types are known today.
pub const MAX_CHECKS: usize = 32;
/// Longest name of a check's type, in bytes.
const MAX_CHECK_TYPE: usize = 64;
/// Longest id of a restart, in bytes: the longest value of a label, because an attempt's id is one elsewhere.
const MAX_RESTART_ID: usize = 63;
/// A DNS name (`hostname`, `node_name`) is cut to this many characters: RFC 1035 allows no more.
const MAX_DNS_NAME: usize = 253;
/// Any other text is cut to this many characters.
const MAX_TEXT: usize = 128;

/// Replaces a token that is too long to exist. No token contains a NUL, so this one is always wrong, and its check takes as
/// long as any other.
const NEVER_A_TOKEN: &str = "\0 longer than any token \0 longer than any token";

/// One heartbeat. It borrows from the request every text that needs no change.
///
/// Texts other than the id and the token are cut to their maximum length, and spaces replace their control characters and
/// those that change how the text around them is shown; empty texts count as absent.
pub struct Beat<'a> {
    /// The sender's id: 1 to 128 characters of `[A-Za-z0-9._/:-]`.
    pub connector_id: Cow<'a, str>,
    /// The token, from `Authorization: Bearer` if present, else from the body.
    pub token: Cow<'a, str>,
    /// Distinguishes one run of the sender from the next.
    pub boot_id: Option<Cow<'a, str>>,
    /// Counts the heartbeats of one boot.
    pub sequence: Option<u64>,
    /// The agent's version.
    pub version: Option<Cow<'a, str>>,
    /// The sender's host name.
    pub hostname: Option<Cow<'a, str>>,
    /// The UID of the sender's pod.
    pub pod_uid: Option<Cow<'a, str>>,
    /// The name of the sender's node.
    pub node_name: Option<Cow<'a, str>>,
    /// The sender's clock, used only for `ClockSkew`.
    pub sent_at: Option<Timestamp>,
    /// The agent's checks, at most 32 and each type once; `None` when the agent reports none.
    pub checks: Option<Vec<ReportedCheck>>,
    /// The result of a restart that the operator asked for.
    pub restart: Option<RestartResult>,
    /// Authenticate and answer, but do not count as contact.
    pub dry_run: bool,
    /// The fields that only an agent sends; `None` when the heartbeat has none of them.
    pub agent: Option<Box<AgentBeat>>,
}

impl Beat<'_> {
    /// Whether an agent sent it on behalf of the connector (`agent: true`), and not the connector itself.
    pub fn is_of_agent(&self) -> bool {
        self.agent.as_deref().is_some_and(|agent| agent.is_agent)
    }

    /// The results of restarts that it reports: `restart` and `restarts`.
    pub fn restart_results(&self) -> impl Iterator<Item = &RestartResult> {
        let more = self.agent.as_deref().map(|agent| agent.restarts.as_slice()).unwrap_or_default();
        self.restart.iter().chain(more)
    }
}

/// Prints everything except the token, because the text may end up in a log.
impl fmt::Debug for Beat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connector_id, token: _, boot_id, sequence, version, hostname, pod_uid, node_name, .. } = self;
        let Self { sent_at, checks, restart, dry_run, agent, .. } = self;
        f.debug_struct("Beat")
            .field("connector_id", connector_id)
            .field("boot_id", boot_id)
            .field("sequence", sequence)
            .field("version", version)
            .field("hostname", hostname)
            .field("pod_uid", pod_uid)
            .field("node_name", node_name)
            .field("sent_at", sent_at)
            .field("checks", checks)
            .field("restart", restart)
            .field("dry_run", dry_run)
            .field("agent", agent)
            .finish_non_exhaustive()
    }
}

/// The result of one check of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedCheck {
    /// The type of the check: 1 to 64 characters of `[A-Za-z0-9_-]`, possibly unknown to this version.
    pub type_: String,
    /// The outcome of the check.
    pub status: CheckOutcome,
    /// The agent's message, at most 256 characters, without control characters.
    pub message: Option<String>,
}

/// The result of a restart that the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartResult {
    /// The unit that was to be restarted; `None` = the sender's own.
    pub target: Option<String>,
    /// The id of the restart, as the operator sent it.
    pub id: String,
    /// Whether the unit was restarted.
    pub result: RestartOutcome,
    /// The agent's message, at most 1024 characters, without control characters.
    pub message: Option<String>,
}

/// The outcome of a restart, as the agent reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartOutcome {
    /// The unit was restarted.
    Succeeded,
    /// The unit was not restarted.
    Failed,
}

/// Parses a heartbeat from the body of a request. `bearer`, the token of `Authorization: Bearer`, is preferred to the token
/// in the body.
///
/// Unknown fields are ignored, so that newer agents work; `null` is the same as absent.
///
/// # Errors
///
/// When the body is not one JSON object, or a field occurs twice, is missing or is invalid; the message names the field.
pub fn parse<'a>(body: &'a [u8], bearer: Option<&'a str>) -> Result<Beat<'a>, BadBeat> {
    let mut of_agent = Vec::new();
    let [
        connector_id,
        token,
        boot_id,
        sequence,
        version,
        hostname,
        pod_uid,
        node_name,
        sent_at,
        checks,
        restart,
        dry_run,
    ] = json::read(body, &FIELDS, Rare { fields: &agent::FIELDS, values: &mut of_agent })?;
    Ok(Beat {
        connector_id: read_id(connector_id)?,
        token: read_token(token, bearer)?,
        boot_id: read_words("boot_id", boot_id, MAX_TEXT)?,
        sequence: read_whole("sequence", sequence)?,
        version: read_words("version", version, MAX_TEXT)?,
        hostname: read_words("hostname", hostname, MAX_DNS_NAME)?,
        pod_uid: read_words("pod_uid", pod_uid, MAX_TEXT)?,
        node_name: read_words("node_name", node_name, MAX_DNS_NAME)?,
        sent_at: read_time(sent_at)?,
        checks: read_checks(checks)?,
        restart: read_restart("restart", restart)?,
        dry_run: read_flag("dry_run", dry_run)?.unwrap_or(false),
        agent: if of_agent.is_empty() { None } else { agent::read(of_agent)? },
    })
}

const fn plain(name: &'static str) -> Field {
    Field { name, shape: Shape::Plain }
}

const FIELDS: [Field; 12] = [
    plain("connector_id"),
    plain("token"),
    plain("boot_id"),
    plain("sequence"),
    plain("version"),
    plain("hostname"),
    plain("pod_uid"),
    plain("node_name"),
    plain("sent_at"),
    Field { name: "checks", shape: Shape::List(&CHECK_FIELDS, MAX_CHECKS) },
    Field { name: "restart", shape: Shape::Object(&RESTART_FIELDS) },
    plain("dry_run"),
];
const CHECK_FIELDS: [Field; 3] = [plain("type"), plain("status"), plain("message")];
const RESTART_FIELDS: [Field; 4] = [plain("target"), plain("id"), plain("result"), plain("message")];

fn read_text<'a>(field: &str, value: Value<'a>) -> Result<Option<Cow<'a, str>>, BadBeat> {
    match value {
        Value::Missing | Value::Null => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        other => Err(BadBeat::mistyped(field, "a string", &other)),
    }
}

fn read_id(value: Value<'_>) -> Result<Cow<'_, str>, BadBeat> {
    let id = match value {
        Value::Missing => return Err(BadBeat::missing("connector_id")),
        Value::Text(id) => id,
        other => return Err(BadBeat::mistyped("connector_id", "a string", &other)),
    };
    if is_made_of(&id, MAX_ID, b"._/:-") {
        Ok(id)
    } else {
        Err(BadBeat::invalid("connector_id", "1 to 128 characters of A-Z a-z 0-9 . _ / : -"))
    }
}

/// Whether `text` is 1 to `longest` bytes of ASCII letters, ASCII digits and `others`.
fn is_made_of(text: &str, longest: usize, others: &[u8]) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
}

fn read_token<'a>(value: Value<'a>, bearer: Option<&'a str>) -> Result<Cow<'a, str>, BadBeat> {
    let in_body = read_text("token", value)?;
    let token = match (bearer, in_body) {
        (Some(token), _) => Cow::Borrowed(token),
        (None, Some(token)) => token,
        (None, None) => {
            let message = "field \"token\" is missing, and there is no \"Authorization: Bearer\" header in its place";
            return Err(BadBeat { code: "missing_field", message: message.to_owned() });
        }
    };
    if token.is_empty() {
        return Err(BadBeat::invalid("token", "1 to 256 characters, not empty"));
    }
    let too_long = token.len() > MAX_TOKEN && token.chars().nth(MAX_TOKEN).is_some();
    Ok(if too_long { Cow::Borrowed(NEVER_A_TOKEN) } else { token })
}

fn read_words<'a>(field: &str, value: Value<'a>, longest: usize) -> Result<Option<Cow<'a, str>>, BadBeat> {
    Ok(read_text(field, value)?.map(|text| tidy(text, longest)).filter(|text| !text.is_empty()))
}

/// Cuts `text` to `longest` characters and replaces its control characters and those that change how the text around them
/// is shown by spaces, because it is printed on terminals and in messages.
fn tidy(text: Cow<'_, str>, longest: usize) -> Cow<'_, str> {
    let is_bad = |c: char| c.is_control() || is_deceptive(c);
    if text.len() <= longest && !text.chars().any(is_bad) {
        return text;
    }
    Cow::Owned(text.chars().take(longest).map(|c| if is_bad(c) { ' ' } else { c }).collect())
}

fn read_whole(field: &str, value: Value<'_>) -> Result<Option<u64>, BadBeat> {
    match value {
        Value::Missing | Value::Null => Ok(None),
        Value::Whole(number) => Ok(Some(number)),
        Value::Number => Err(BadBeat::invalid(field, "a whole number ≥ 0 and below 2^64, written in digits")),
        other => Err(BadBeat::mistyped(field, "a whole number ≥ 0", &other)),
    }
}

fn read_flag(field: &str, value: Value<'_>) -> Result<Option<bool>, BadBeat> {
    match value {
        Value::Missing | Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(flag)),
        other => Err(BadBeat::mistyped(field, "true or false", &other)),
    }
}

fn read_time(value: Value<'_>) -> Result<Option<Timestamp>, BadBeat> {
    const RULE: &str = "a time in RFC 3339, like \"2026-01-31T12:00:00Z\"";
    match value {
        Value::Missing | Value::Null => Ok(None),
        Value::Text(time) => time.parse().map(Some).map_err(|_| BadBeat::invalid("sent_at", RULE)),
        other => Err(BadBeat::mistyped("sent_at", RULE, &other)),
    }
}

fn read_checks(value: Value<'_>) -> Result<Option<Vec<ReportedCheck>>, BadBeat> {
    let items = match value {
        Value::Missing | Value::Null => return Ok(None),
        Value::List(_, count) if count > MAX_CHECKS => {
            return Err(BadBeat::invalid("checks", &format!("at most {MAX_CHECKS} checks, not {count}")));
        }
        Value::List(items, _) => items,
        other => return Err(BadBeat::mistyped("checks", "a list", &other)),
    };
    let mut checks: Vec<ReportedCheck> = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        let check = read_check(i, item)?;
        // The list is a map by type, as in the status.
        if checks.iter().any(|other| other.type_ == check.type_) {
            return Err(BadBeat::duplicate(format!("field \"checks[{i}].type\" repeats that of an earlier check")));
        }
        checks.push(check);
    }
    Ok(Some(checks))
}

fn read_check(i: usize, item: Value<'_>) -> Result<ReportedCheck, BadBeat> {
    let [type_, status, message] = members(&format!("checks[{i}]"), item)?;
    let [type_name, status_name, message_name] = ["type", "status", "message"].map(|f| format!("checks[{i}].{f}"));
    let type_ = read_text(&type_name, type_)?.ok_or_else(|| BadBeat::missing(&type_name))?;
    if !is_made_of(&type_, MAX_CHECK_TYPE, b"_-") {
        return Err(BadBeat::invalid(&type_name, "1 to 64 characters of A-Z a-z 0-9 _ -"));
    }
    let status = read_text(&status_name, status)?.ok_or_else(|| BadBeat::missing(&status_name))?;
    let status = status.parse().map_err(|_| BadBeat::invalid(&status_name, "Pass, Warn, Fail or Unknown"))?;
    let message = read_words(&message_name, message, MAX_CHECK_MESSAGE)?.map(Cow::into_owned);
    Ok(ReportedCheck { type_: type_.into_owned(), status, message })
}

fn read_restart(field: &str, value: Value<'_>) -> Result<Option<RestartResult>, BadBeat> {
    if matches!(value, Value::Missing | Value::Null) {
        return Ok(None);
    }
    let [target, id, result, message] = members(field, value)?;
    let [target_name, id_name, result_name, message_name] =
        ["target", "id", "result", "message"].map(|member| format!("{field}.{member}"));
    let target = read_unit(&target_name, target)?;
    let id = read_text(&id_name, id)?.ok_or_else(|| BadBeat::missing(&id_name))?;
    if !is_made_of(&id, MAX_RESTART_ID, b"._/:-") {
        return Err(BadBeat::invalid(&id_name, "1 to 63 characters of A-Z a-z 0-9 . _ / : -"));
    }
    let result = read_text(&result_name, result)?.ok_or_else(|| BadBeat::missing(&result_name))?;
    let result = match &*result {
        "Succeeded" => RestartOutcome::Succeeded,
        "Failed" => RestartOutcome::Failed,
        _ => return Err(BadBeat::invalid(&result_name, "Succeeded or Failed")),
    };
    let message = read_words(&message_name, message, MAX_MESSAGE)?.map(Cow::into_owned);
    Ok(Some(RestartResult { target, id: id.into_owned(), result, message }))
}

const UNIT_RULE: &str = r"1 to 255 characters of A-Z a-z 0-9 : _ . \ @ -, and no - at the start";

fn read_unit(field: &str, value: Value<'_>) -> Result<Option<String>, BadBeat> {
    let unit = read_text(field, value)?.map(Cow::into_owned);
    if unit.as_deref().is_some_and(|unit| !is_unit(unit)) {
        return Err(BadBeat::invalid(field, UNIT_RULE));
    }
    Ok(unit)
}

/// Whether `text` can be the name of a unit, by the pattern of `agentRef.unit`.
fn is_unit(text: &str) -> bool {
    is_made_of(text, MAX_UNIT, br":_.\@-") && !text.starts_with('-')
}

/// The fields of a nested object.
fn members<'a, const N: usize>(field: &str, value: Value<'a>) -> Result<[Value<'a>; N], BadBeat> {
    match value {
        Value::Object(values) => values.try_into().map_err(|_| BadBeat::invalid(field, "an object")),
        other => Err(BadBeat::mistyped(field, "an object", &other)),
    }
}

#[cfg(test)]
mod tests;
