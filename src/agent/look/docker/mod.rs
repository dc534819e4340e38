//! Containers of Docker and Podman: state, ports, environment, who stopped them, and the cause in their log.

pub(in crate::agent) mod client;
pub mod parse;

use std::path::Path;

use hyper::Method;
use jiff::Timestamp;

use self::client::{Answer, escaped, request};
use self::parse::{Container, Listed};
use crate::agent::facts::TargetFacts;
use crate::api::{Target, one_line};
use crate::time::Clock;

/// Bytes of an answer that are read: a list, and the description of one container.
const MAX_ANSWER: usize = 4 << 20;
/// Bytes of a log that are read.
const MAX_LOG: usize = 1 << 20;
/// How long before its end a container may have been asked to stop, in seconds.
const STOPPING: i64 = 60;

/// A container that was found, or why there is none.
pub(super) enum Found {
    Here(Box<Container>),
    Nowhere(TargetFacts),
}

/// Finds the container of a target.
pub(super) async fn find(socket: &Path, target: &Target, clock: &Clock) -> Result<Found, String> {
    let id = match target {
        Target::Container(name) => name.clone(),
        Target::Compose { project, service } => {
            let listed = of_project(socket, project).await?;
            match parse::of_service(&listed, service, None) {
                Some(one) => one.id.clone(),
                None => {
                    let directory = parse::directory(&listed).map(|directory| one_line(directory, parse::MAX_TEXT));
                    return Ok(Found::Nowhere(TargetFacts::Absent { directory }));
                }
            }
        }
        Target::Unit(name) => return Err(format!("{name} is no container")),
    };
    let answer = get(socket, &format!("/containers/{id}/json"), MAX_ANSWER).await?;
    if answer.status == 404 {
        return Ok(Found::Nowhere(TargetFacts::Absent { directory: None }));
    }
    let mut container = parse::inspected(&well(answer, socket)?.body, clock.read().wall)?;
    if container.pid != 0 {
        container.facts.listens = super::listeners::of_process(container.pid, None);
    }
    container.facts.stopped_on_purpose = purpose(socket, &container, clock).await;
    Ok(Found::Here(Box::new(container)))
}

async fn of_project(socket: &Path, project: &str) -> Result<Vec<Listed>, String> {
    parse::listed(&well(get(socket, &list_of_project(project), MAX_ANSWER).await?, socket)?.body)
}

/// The path of the list of all containers of a compose project.
pub(in crate::agent) fn list_of_project(project: &str) -> String {
    let filter = serde_json::json!({ "label": [format!("{}={project}", parse::PROJECT)] }).to_string();
    format!("/containers/json?all=true&filters={}", escaped(&filter))
}

/// Whether a container that has ended was stopped by a command.
async fn purpose(socket: &Path, container: &Container, clock: &Clock) -> Option<bool> {
    let facts = &container.facts;
    if !matches!(&*facts.status, "exited" | "dead") {
        return None;
    }
    let finished = container.finished?;
    let since = finished.as_second().saturating_sub(STOPPING);
    let filter = serde_json::json!({ "container": [facts.id], "type": ["container"] }).to_string();
    // A fraction of a second counts: the container may have ended in this one.
    let until = clock.read().wall;
    let until = format!("{}.{:09}", until.as_second(), until.subsec_nanosecond());
    let path = format!("/events?since={since}&until={until}&filters={}", escaped(&filter));
    let answer = get(socket, &path, MAX_LOG).await.ok().filter(|answer| answer.status == 200)?;
    let is_restarted = matches!(&*facts.policy, "always" | "unless-stopped");
    // Docker forgets events when it restarts. It leaves a container with this policy alone only when it was stopped.
    let implied = is_restarted && facts.error.is_none() && !answer.is_podman;
    parse::was_stopped(&answer.body, finished).or(implied.then_some(true))
}

/// The tail of the log of the container's last run.
pub(super) async fn log(socket: &Path, container: &Container) -> Result<String, String> {
    let since = container.started.map_or(0, Timestamp::as_second);
    let path = format!("/containers/{}/logs?stdout=1&stderr=1&tail=200&since={since}", container.facts.id);
    let answer = well(get(socket, &path, MAX_LOG).await?, socket)?;
    Ok(parse::log_text(&answer.body, container.has_terminal))
}

async fn get(socket: &Path, path: &str, most: usize) -> Result<Answer, String> {
    request(socket, Method::GET, path, most).await
}

fn well(answer: Answer, socket: &Path) -> Result<Answer, String> {
    match answer.status {
        200 => Ok(answer),
        status => Err(format!("{} answers {status}", socket.display())),
    }
}

/// Whether the container runs so that its log has nothing to tell.
pub(super) fn runs_well(container: &Container) -> bool {
    let facts = &container.facts;
    facts.status == "running" && facts.restarts == 0 && facts.health.as_deref() != Some("unhealthy")
}
