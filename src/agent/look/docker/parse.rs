//! Reads the answers of Docker and Podman.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::agent::facts::ContainerFacts;
use crate::agent::look::environment;
use crate::api::one_line;

/// The labels of docker compose.
pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const DIRECTORY: &str = "com.docker.compose.project.working_dir";
const FILES: &str = "com.docker.compose.project.config_files";
const ENVIRONMENT_FILES: &str = "com.docker.compose.project.environment_file";

/// Most published ports that are told.
const MAX_PORTS: usize = 16;
/// The event of an end may be dated this many seconds before the end itself.
const SAME_END: i64 = 1;
/// Longest text of a fact, in characters.
pub(super) const MAX_TEXT: usize = 128;

type Labels = Option<BTreeMap<String, Option<String>>>;

/// A container in a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// Its id.
    pub id: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    labels: Labels,
}

impl Listed {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name)?.as_deref()
    }

    /// The options by which `docker compose` reads its project again: the directory, the files, and those of variables.
    pub fn compose_options(&self) -> Option<Vec<String>> {
        let folder = self.label(DIRECTORY)?;
        let mut options = vec![format!("--project-directory={folder}")];
        for (option, label) in [("--file", FILES), ("--env-file", ENVIRONMENT_FILES)] {
            let files = self.label(label).unwrap_or_default().split(',').filter(|file| !file.is_empty());
            // Old versions have paths that are relative to the directory.
            options.extend(files.map(|file| format!("{option}={}", Path::new(folder).join(file).display())));
        }
        Some(options)
    }
}

/// The containers in a list.
///
/// # Errors
/// It is no such list.
pub fn listed(body: &[u8]) -> Result<Vec<Listed>, String> {
    serde_json::from_slice(body).map_err(|error| format!("the list of containers: {error}"))
}

/// The directory of a compose project, which its containers name.
pub fn directory(listed: &[Listed]) -> Option<&str> {
    listed.iter().find_map(|one| one.label(DIRECTORY))
}

/// The container of a service: of several the one with the id `known`, else the first that does not run.
pub fn of_service<'a>(listed: &'a [Listed], service: &str, known: Option<&str>) -> Option<&'a Listed> {
    let is_it = |one: &&Listed| one.label(SERVICE) == Some(service) && one.label(ONE_OFF).is_none_or(|is| is != "True");
    let runs = |one: &&Listed| one.state.as_deref() == Some("running");
    let all: Vec<&Listed> = listed.iter().filter(is_it).collect();
    let is_known = |one: &&&Listed| known == Some(&*one.id);
    all.iter().find(is_known).or_else(|| all.iter().find(|one| !runs(one))).or(all.first()).copied()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    restart_count: Option<u64>,
    state: State,
    #[serde(default)]
    host_config: Option<HostConfig>,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: Option<bool>,
    #[serde(default)]
    pid: Option<u32>,
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    finished_at: Option<String>,
    #[serde(default, alias = "Healthcheck")]
    health: Option<Health>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(default)]
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    restart_policy: Option<RestartPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    tty: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    ports: Option<BTreeMap<String, Option<Vec<Port>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(default)]
    host_ip: Option<String>,
    #[serde(default)]
    host_port: Option<String>,
}

/// A container, and what is needed to ask more about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its facts, without listeners, words and purpose.
    pub facts: ContainerFacts,
    /// Its process; 0 = none.
    pub pid: u32,
    /// When its last run began.
    pub started: Option<Timestamp>,
    /// When its last run ended.
    pub finished: Option<Timestamp>,
    /// Whether its log has no headers.
    pub has_terminal: bool,
}

/// Reads the answer to an inspection.
///
/// # Errors
/// It is not the description of a container.
pub fn inspected(body: &[u8], wall: Timestamp) -> Result<Container, String> {
    let Inspected { id, name, restart_count, state, host_config, config, network_settings } =
        serde_json::from_slice(body).map_err(|error| format!("the description of a container: {error}"))?;
    let text = |text: &str| one_line(text, MAX_TEXT);
    // Docker writes the year 1 for never.
    let time = |text: &Option<String>| {
        text.as_deref().and_then(|text| text.parse().ok()).filter(|time: &Timestamp| time.as_second() > 0)
    };
    let (started, finished) = (time(&state.started_at), time(&state.finished_at));
    let has_ended = matches!(&*state.status, "exited" | "dead" | "restarting" | "stopped");
    let changed = if has_ended { finished } else { started };
    let (environment, labels, has_terminal) =
        config.map_or((None, None, false), |config| (config.env, config.labels, config.tty == Some(true)));
    let directory = labels.as_ref().and_then(|labels| labels.get(DIRECTORY)?.clone());
    let policy = host_config.and_then(|host| host.restart_policy?.name).filter(|name| !name.is_empty());
    let facts = ContainerFacts {
        id: text(&id),
        name: text(name.as_deref().unwrap_or_default().trim_start_matches('/')),
        health: state
            .health
            .and_then(|health| health.status)
            .filter(|status| !matches!(&**status, "" | "none"))
            .map(|status| text(&status)),
        exit_code: state.exit_code.unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: state.error.filter(|error| !error.is_empty()).map(|error| text(&error)),
        restarts: restart_count.unwrap_or_default(),
        started_at: text(state.started_at.as_deref().unwrap_or_default()),
        since_seconds: changed.and_then(|at| u64::try_from(wall.duration_since(at).as_secs()).ok()),
        policy: text(policy.as_deref().unwrap_or("no")),
        stopped_on_purpose: None,
        directory: directory.map(|directory| text(&directory)),
        listens: Vec::new(),
        published: network_settings.and_then(|network| network.ports).map(published).unwrap_or_default(),
        environment: environment::of(environment.unwrap_or_default()),
        words: None,
        status: text(&state.status),
    };
    Ok(Container { facts, pid: state.pid.unwrap_or_default(), started, finished, has_terminal })
}

/// `0.0.0.0:8081->8080/tcp`.
fn published(ports: BTreeMap<String, Option<Vec<Port>>>) -> Vec<String> {
    let mut all = Vec::new();
    for (inside, outside) in ports {
        for Port { host_ip, host_port } in outside.into_iter().flatten() {
            let ip = host_ip.filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
            let port = host_port.unwrap_or_default();
            all.push(one_line(&format!("{ip}:{port}->{inside}"), 64));
        }
    }
    all.truncate(MAX_PORTS);
    all
}

#[derive(Deserialize)]
struct Event {
    #[serde(default, rename = "Action")]
    action: Option<String>,
    // Podman and old versions of Docker.
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    time: Option<i64>,
}

/// Whether the events of a container say that its end at `finished` was a stop by a command; `None` when they do not
/// contain that end.
pub fn was_stopped(events: &[u8], finished: Timestamp) -> Option<bool> {
    let events = String::from_utf8_lossy(events);
    let events = events.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let actions: Vec<(String, i64)> =
        events.filter_map(|event| Some((event.action.or(event.status)?, event.time.unwrap_or_default()))).collect();
    let is_end = |(action, at): &(String, i64)| {
        matches!(&**action, "die" | "died") && *at >= finished.as_second().saturating_sub(SAME_END)
    };
    let ended = actions.iter().rposition(is_end)?;
    // Of the run that ended, not of one before it.
    let begin = actions[..ended].iter().rposition(|(action, _)| action == "start").unwrap_or(0);
    Some(actions[begin..].iter().any(|(action, _)| action == "kill" || action == "stop"))
}

/// The text of a log. Without a terminal each piece has a head of 8 bytes: the stream, and the length of the piece.
pub fn log_text(body: &[u8], has_terminal: bool) -> String {
    if has_terminal {
        return String::from_utf8_lossy(body).into_owned();
    }
    String::from_utf8_lossy(&without_heads(body)).into_owned()
}

/// A log without the heads of its pieces. Where no head is, the text goes on as it is.
pub fn without_heads(log: &[u8]) -> Vec<u8> {
    let (mut rest, mut text) = (log, Vec::new());
    while let [0..=2, 0, 0, 0, a, b, c, d, after @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (piece, later) = after.split_at(length.min(after.len()));
        text.extend_from_slice(piece);
        rest = later;
    }
    text.extend_from_slice(rest);
    text
}
