//! Parses the fields of a heartbeat that only an agent sends.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::json::{Field, RareValues, Shape, Value};
use super::{
    BadBeat, MAX_CHECK_TYPE, MAX_CHECKS, MAX_TEXT, RESTART_FIELDS, RestartResult, is_made_of, members, plain,
    read_flag, read_restart, read_text, read_unit, read_whole, read_words,
};
use crate::api::{
    AgentGap, AgentPause, BackendReport, GapKind, LocalProbe, MAX_ADDRESSES, MAX_BACKEND_TEXT, MAX_BACKENDS,
    MAX_CHECK_MESSAGE, MAX_ENVIRONMENT, MAX_GAPS, MAX_RESTARTS, StopReason, TargetState,
};

/// Longest name of a MonitoredBackend, in bytes.
const MAX_BACKEND_NAME: usize = 63;
/// Longest word of a closed set, in bytes, also of a newer version.
const MAX_WORD: usize = 63;
/// The lines of a log are cut to this many characters.
const MAX_LOG: usize = 512;

/// The fields of a heartbeat that only an agent sends.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AgentBeat {
    /// An agent sent it on behalf of the connector; false = the connector itself.
    pub is_agent: bool,
    /// Identifies the configuration that the agent received last.
    pub config_generation: Option<u64>,
    /// The results of restarts that the operator asked for, at most 8.
    pub restarts: Vec<RestartResult>,
    /// A person paused restarts on the host.
    pub paused: Option<AgentPause>,
    /// It is the last heartbeat before the agent stops.
    pub stopping: Option<StopReason>,
    /// A person stopped the unit of the connector.
    pub stopped_on_purpose: bool,
    /// The times in which the agent was not heard, at most 8; `None` when it says nothing about them.
    pub gaps: Option<Vec<AgentGap>>,
    /// The backends that the agent looks after, at most 8 and each name once; `None` when it says nothing about them.
    pub backends: Option<Vec<BackendReport>>,
}

pub(super) const FIELDS: [Field; 8] = [
    plain("agent"),
    plain("config_generation"),
    Field { name: "restarts", shape: Shape::List(&RESTART_FIELDS, MAX_RESTARTS) },
    Field { name: "paused", shape: Shape::Object(&PAUSE_FIELDS) },
    Field { name: "stopping", shape: Shape::Object(&STOP_FIELDS) },
    plain("stopped_on_purpose"),
    Field { name: "gaps", shape: Shape::List(&GAP_FIELDS, MAX_GAPS) },
    Field { name: "backends", shape: Shape::List(&BACKEND_FIELDS, MAX_BACKENDS) },
];
const PAUSE_FIELDS: [Field; 3] = [plain("by"), plain("reason"), plain("seconds")];
const STOP_FIELDS: [Field; 1] = [plain("reason")];
const GAP_FIELDS: [Field; 7] = [
    plain("kind"),
    plain("ended_seconds_ago"),
    plain("lasted_seconds"),
    plain("error_class"),
    plain("phase"),
    plain("attempts"),
    Field { name: "failing", shape: Shape::Scalars(MAX_CHECKS) },
];
const BACKEND_FIELDS: [Field; 17] = [
    plain("name"),
    plain("unit"),
    plain("state"),
    plain("since_seconds"),
    plain("exit_code"),
    plain("oom_killed"),
    plain("restarts"),
    plain("recent_restarts"),
    plain("stopped_on_purpose"),
    plain("policy"),
    plain("health"),
    Field { name: "listens", shape: Shape::Scalars(MAX_ADDRESSES) },
    Field { name: "published", shape: Shape::Scalars(MAX_ADDRESSES) },
    Field { name: "probe", shape: Shape::Object(&PROBE_FIELDS) },
    Field { name: "environment", shape: Shape::Map(MAX_ENVIRONMENT) },
    plain("words"),
    plain("message"),
];
const PROBE_FIELDS: [Field; 5] =
    [plain("ok"), plain("error_class"), plain("phase"), plain("status"), plain("milliseconds")];

/// The agent's fields; `None` when the heartbeat has none of them.
pub(super) fn read(values: RareValues<'_>) -> Result<Option<Box<AgentBeat>>, BadBeat> {
    let Ok([agent, config_generation, restarts, paused, stopping, stopped_on_purpose, gaps, backends]) =
        <[Value<'_>; 8]>::try_from(values)
    else {
        return Ok(None);
    };
    Ok(Some(Box::new(AgentBeat {
        is_agent: read_flag("agent", agent)?.unwrap_or(false),
        config_generation: read_whole("config_generation", config_generation)?,
        restarts: read_restarts(restarts)?,
        paused: read_pause(paused)?,
        stopping: read_stopping(stopping)?,
        stopped_on_purpose: read_flag("stopped_on_purpose", stopped_on_purpose)?.unwrap_or(false),
        gaps: read_list("gaps", gaps, MAX_GAPS, read_gap)?,
        backends: read_backends(backends)?,
    })))
}

/// Reads a list of at most `most` items; `None` when it is absent.
fn read_list<'a, T>(
    field: &str,
    value: Value<'a>,
    most: usize,
    read: impl Fn(&str, Value<'a>) -> Result<T, BadBeat>,
) -> Result<Option<Vec<T>>, BadBeat> {
    match value {
        Value::Missing | Value::Null => Ok(None),
        Value::List(_, count) if count > most => {
            Err(BadBeat::invalid(field, &format!("at most {most} items, not {count}")))
        }
        Value::List(items, _) => {
            let items = items.into_iter().enumerate().map(|(i, item)| read(&format!("{field}[{i}]"), item));
            items.collect::<Result<_, _>>().map(Some)
        }
        other => Err(BadBeat::mistyped(field, "a list", &other)),
    }
}

fn read_restarts(value: Value<'_>) -> Result<Vec<RestartResult>, BadBeat> {
    let read = |field: &str, item| {
        let missing = || BadBeat::invalid(field, "an object, not null");
        read_restart(field, item)?.ok_or_else(missing)
    };
    Ok(read_list("restarts", value, MAX_RESTARTS, read)?.unwrap_or_default())
}

fn read_pause(value: Value<'_>) -> Result<Option<AgentPause>, BadBeat> {
    if matches!(value, Value::Missing | Value::Null) {
        return Ok(None);
    }
    let [by, reason, seconds] = members("paused", value)?;
    Ok(Some(AgentPause {
        by: owned("paused.by", by, MAX_TEXT)?,
        reason: owned("paused.reason", reason, MAX_CHECK_MESSAGE)?,
        seconds: read_whole("paused.seconds", seconds)?,
    }))
}

fn read_stopping(value: Value<'_>) -> Result<Option<StopReason>, BadBeat> {
    if matches!(value, Value::Missing | Value::Null) {
        return Ok(None);
    }
    let [reason] = members("stopping", value)?;
    Ok(Some(StopReason::of(&word("stopping.reason", reason)?)))
}

fn read_gap(field: &str, value: Value<'_>) -> Result<AgentGap, BadBeat> {
    let [kind, ended, lasted, error_class, phase, attempts, failing] = members(field, value)?;
    let name = |member: &str| format!("{field}.{member}");
    let seconds = |member: &str, value| {
        let field = name(member);
        read_whole(&field, value)?.ok_or_else(|| BadBeat::missing(&field))
    };
    let failing = read_list(&name("failing"), failing, MAX_CHECKS, |field, value| {
        let type_ = read_text(field, value)?.unwrap_or_default();
        if is_made_of(&type_, MAX_CHECK_TYPE, b"_-") {
            Ok(type_.into_owned())
        } else {
            Err(BadBeat::invalid(field, "1 to 64 characters of A-Z a-z 0-9 _ -"))
        }
    })?;
    Ok(AgentGap {
        kind: GapKind::of(&word(&name("kind"), kind)?),
        ended_seconds_ago: seconds("ended_seconds_ago", ended)?,
        lasted_seconds: seconds("lasted_seconds", lasted)?,
        error_class: owned(&name("error_class"), error_class, MAX_WORD)?,
        phase: owned(&name("phase"), phase, MAX_WORD)?,
        attempts: read_whole(&name("attempts"), attempts)?,
        failing: failing.unwrap_or_default(),
    })
}

fn read_backends(value: Value<'_>) -> Result<Option<Vec<BackendReport>>, BadBeat> {
    let backends = read_list("backends", value, MAX_BACKENDS, read_backend)?;
    let reports = backends.as_deref().unwrap_or_default();
    for (i, report) in reports.iter().enumerate() {
        if reports[..i].iter().any(|other| other.name == report.name) {
            return Err(BadBeat::duplicate(format!("field \"backends[{i}].name\" repeats that of an earlier backend")));
        }
    }
    Ok(backends)
}

fn read_backend(field: &str, value: Value<'_>) -> Result<BackendReport, BadBeat> {
    let [
        name,
        unit,
        state,
        since_seconds,
        exit_code,
        oom_killed,
        restarts,
        recent_restarts,
        stopped_on_purpose,
        policy,
        health,
        listens,
        published,
        probe,
        environment,
        words,
        message,
    ] = members(field, value)?;
    let of = |member: &str| format!("{field}.{member}");
    let address = |field: &str, value| Ok(owned(field, value, MAX_TEXT)?.unwrap_or_default());
    let report = BackendReport {
        name: read_name(&of("name"), name)?,
        unit: read_unit(&of("unit"), unit)?,
        state: TargetState::of(&word(&of("state"), state)?),
        since_seconds: read_whole(&of("since_seconds"), since_seconds)?,
        exit_code: read_whole(&of("exit_code"), exit_code)?,
        oom_killed: read_flag(&of("oom_killed"), oom_killed)?,
        restarts: read_whole(&of("restarts"), restarts)?,
        recent_restarts: read_whole(&of("recent_restarts"), recent_restarts)?,
        stopped_on_purpose: read_flag(&of("stopped_on_purpose"), stopped_on_purpose)?,
        policy: owned(&of("policy"), policy, MAX_WORD)?,
        health: owned(&of("health"), health, MAX_WORD)?,
        listens: read_list(&of("listens"), listens, MAX_ADDRESSES, address)?.unwrap_or_default(),
        published: read_list(&of("published"), published, MAX_ADDRESSES, address)?.unwrap_or_default(),
        probe: read_probe(&of("probe"), probe)?,
        environment: read_environment(&of("environment"), environment)?,
        words: owned(&of("words"), words, MAX_LOG)?,
        message: owned(&of("message"), message, MAX_CHECK_MESSAGE)?,
    };
    match report.text_len() {
        length if length > MAX_BACKEND_TEXT => {
            Err(BadBeat::invalid(field, &format!("at most {MAX_BACKEND_TEXT} bytes of text, not {length}")))
        }
        _ => Ok(report),
    }
}

/// The name of a MonitoredBackend: a DNS label or subdomain.
fn read_name(field: &str, value: Value<'_>) -> Result<String, BadBeat> {
    let name = read_text(field, value)?.ok_or_else(|| BadBeat::missing(field))?;
    let is_name = is_made_of(&name, MAX_BACKEND_NAME, b".-") && !name.bytes().any(|b| b.is_ascii_uppercase());
    if is_name { Ok(name.into_owned()) } else { Err(BadBeat::invalid(field, "1 to 63 characters of a-z 0-9 . -")) }
}

fn read_probe(field: &str, value: Value<'_>) -> Result<Option<LocalProbe>, BadBeat> {
    if matches!(value, Value::Missing | Value::Null) {
        return Ok(None);
    }
    let [ok, error_class, phase, status, milliseconds] = members(field, value)?;
    let of = |member: &str| format!("{field}.{member}");
    Ok(Some(LocalProbe {
        ok: read_flag(&of("ok"), ok)?.ok_or_else(|| BadBeat::missing(&of("ok")))?,
        error_class: owned(&of("error_class"), error_class, MAX_WORD)?,
        phase: owned(&of("phase"), phase, MAX_WORD)?,
        status: read_whole(&of("status"), status)?,
        milliseconds: read_whole(&of("milliseconds"), milliseconds)?,
    }))
}

/// The names of variables, and the values of some. An error names no variable: the sender chose its name.
fn read_environment(field: &str, value: Value<'_>) -> Result<BTreeMap<String, Option<String>>, BadBeat> {
    let members = match value {
        Value::Missing | Value::Null => return Ok(BTreeMap::new()),
        Value::Map(members) if members.len() > MAX_ENVIRONMENT => {
            return Err(BadBeat::invalid(field, &format!("at most {MAX_ENVIRONMENT} variables")));
        }
        Value::Map(members) => members,
        other => return Err(BadBeat::mistyped(field, "an object", &other)),
    };
    let read = |(name, value)| {
        let name = super::tidy(name, MAX_TEXT).into_owned();
        Ok((name, owned(field, value, MAX_CHECK_MESSAGE)?))
    };
    members.into_iter().map(read).collect()
}

/// A word of a set that may grow.
fn word<'a>(field: &str, value: Value<'a>) -> Result<Cow<'a, str>, BadBeat> {
    let word = read_text(field, value)?.ok_or_else(|| BadBeat::missing(field))?;
    let is_word = is_made_of(&word, MAX_WORD, b"");
    if is_word { Ok(word) } else { Err(BadBeat::invalid(field, "a word: 1 to 63 letters and digits")) }
}

fn owned(field: &str, value: Value<'_>, longest: usize) -> Result<Option<String>, BadBeat> {
    Ok(read_words(field, value, longest)?.map(Cow::into_owned))
}

#[cfg(test)]
mod tests;
