//! Containers of Docker and Podman, as restarts need them.

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::agent::actions::{Run, Seen, State};
use crate::agent::helper::systemd;
use crate::agent::look::docker::client::{Answer, request};
use crate::agent::look::docker::list_of_project;
use crate::agent::look::docker::parse::{Listed, directory, listed, of_service};
use crate::api::Target;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 4 << 20;
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(5);
/// How long a stop or a start may take: a container has its own time to stop, of 10 s unless it says otherwise.
const ACT: Duration = Duration::from_secs(110);
/// How long `docker compose up` may take. It pulls no image, and builds none.
const UP: Duration = Duration::from_secs(100);

/// The state of the container of a target: of several the one of `run`, else the first that does not run.
pub(super) async fn observe(socket: &Path, target: &Target, run: Option<&Run>) -> Result<Seen, String> {
    let id = match target {
        Target::Container(name) => name.clone(),
        Target::Compose { project, service } => {
            let listed = of_project(socket, project).await?;
            match of_service(&listed, service, run.map(|run| &*run.id)) {
                Some(one) => one.id.clone(),
                None => return Ok(absent(directory(&listed))),
            }
        }
        Target::Unit(name) => return Err(format!("{name} is no container")),
    };
    let answer = ask(socket, Method::GET, &format!("/containers/{id}/json"), LOOK).await?;
    match answer.status {
        200 => parse(&json(&answer)?),
        404 => Ok(absent(None)),
        _ => Err(complaint(&answer)),
    }
}

/// Stops a container. One that is stopped already is fine.
pub(super) async fn stop(socket: &Path, run: &Run) -> Result<(), String> {
    act(socket, &format!("/containers/{}/stop", run.id)).await
}

/// Starts a container. One that runs already is fine.
pub(super) async fn start(socket: &Path, run: &Run) -> Result<(), String> {
    act(socket, &format!("/containers/{}/start", run.id)).await
}

/// Creates the container of an absent service, from the files that the other containers of its project name. Nothing else
/// is started or created anew.
pub(super) async fn create(socket: &Path, project: &str, service: &str) -> Result<(), String> {
    let listed = of_project(socket, project).await?;
    let files = listed
        .iter()
        .find_map(Listed::compose_options)
        .ok_or("no container of its project is left that names the folder of the project")?;
    let host = format!("--host=unix://{}", socket.display());
    let name = format!("--project-name={project}");
    let mut command = vec!["docker", &host, "compose", &name];
    command.extend(files.iter().map(String::as_str));
    command.extend(["up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--pull=never", service]);
    // Its files may be in a home that the helper cannot read, and it needs more memory than the helper may use.
    let unit = unit_of_up(project, service);
    let result = tokio::time::timeout(ACT, systemd::run_apart(&unit, &command, UP)).await;
    result.unwrap_or_else(|_| Err("docker compose did not end in time".to_owned()))
}

/// The unit in which `docker compose up` runs.
pub(super) fn unit_of_up(project: &str, service: &str) -> String {
    format!("vigie-agent-compose:{project}:{service}.service")
}

async fn act(socket: &Path, path: &str) -> Result<(), String> {
    let answer = ask(socket, Method::POST, path, ACT).await?;
    match answer.status {
        200..=299 | 304 => Ok(()),
        _ => Err(complaint(&answer)),
    }
}

async fn ask(socket: &Path, method: Method, path: &str, limit: Duration) -> Result<Answer, String> {
    let result = tokio::time::timeout(limit, request(socket, method, path, MAX_ANSWER)).await;
    result.unwrap_or_else(|_| Err(format!("{} did not answer within {} s", socket.display(), limit.as_secs())))
}

async fn of_project(socket: &Path, project: &str) -> Result<Vec<Listed>, String> {
    let answer = ask(socket, Method::GET, &list_of_project(project), LOOK).await?;
    match answer.status {
        200 => listed(&answer.body),
        _ => Err(complaint(&answer)),
    }
}

fn absent(directory: Option<&str>) -> Seen {
    Seen { run: None, state: State::Absent { directory: directory.map(str::to_owned) }, has_job: false }
}

fn json(answer: &Answer) -> Result<Value, String> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| format!("the container engine answers {}: {error}", answer.status))
}

fn complaint(answer: &Answer) -> String {
    let message = json(answer).ok().and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
    format!("the container engine answers {}: {}", answer.status, message.unwrap_or_default())
}

fn parse(inspected: &Value) -> Result<Seen, String> {
    let state = &inspected["State"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (Some(id), Some(started_at), Some(status)) =
        (text(&inspected["Id"]), text(&state["StartedAt"]), state["Status"].as_str())
    else {
        return Err("the container engine describes a container without Id, StartedAt and Status".to_owned());
    };
    let code = state["ExitCode"].as_i64().unwrap_or_default();
    let error = state["Error"].as_str().filter(|error| !error.is_empty()).map(|error| format!(": {error}"));
    let oom = if state["OOMKilled"] == true { ", out of memory" } else { "" };
    let state = match status {
        "running" | "paused" => State::Running,
        "removing" | "stopping" => State::Changing,
        "created" => State::Down { ended: format!("created, and never started{}", error.unwrap_or_default()) },
        _ => State::Down { ended: format!("exit code {code}{oom}{}", error.unwrap_or_default()) },
    };
    Ok(Seen { run: Some(Run { id, started_at }), state, has_job: false })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_of_a_container_is_its_id_and_its_start() {
        let running = json!({"Id": "c1", "State": {"Status": "running", "StartedAt": "2026-01-31T12:00:00.5Z"}});
        let seen = parse(&running).unwrap();
        assert_eq!(seen.run, Some(Run { id: "c1".into(), started_at: "2026-01-31T12:00:00.5Z".into() }));
        assert_eq!(seen.state, State::Running);
        let dead = json!({"Id": "c1", "State": {"Status": "exited", "StartedAt": "x", "ExitCode": 137, "OOMKilled": true,
            "Error": "e"}});
        assert_eq!(parse(&dead).unwrap().state, State::Down { ended: "exit code 137, out of memory: e".into() });
        let created = json!({"Id": "c1", "State": {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}});
        assert_eq!(parse(&created).unwrap().state, State::Down { ended: "created, and never started".into() });
        let restarting = json!({"Id": "c1", "State": {"Status": "restarting", "StartedAt": "x", "ExitCode": 1}});
        assert!(matches!(parse(&restarting).unwrap().state, State::Down { .. }));
        assert!(parse(&json!({"message": "x"})).is_err());
    }

    #[test]
    fn of_several_containers_of_a_service_the_one_that_was_recorded_is_meant() {
        let one = |id: &str, service: &str, state: &str| {
            json!({"Id": id, "State": state, "Labels": {"com.docker.compose.service": service,
                "com.docker.compose.project.working_dir": "/srv/orders",
                "com.docker.compose.project.config_files": "prod.yml,/etc/more.yml"}})
        };
        let all = [one("a", "db", "running"), one("b", "web", "running"), one("c", "web", "exited")];
        let all = listed(json!(all).to_string().as_bytes()).unwrap();
        let of = |service, known| of_service(&all, service, known).map(|one| &*one.id);
        assert_eq!(of("web", None), Some("c"));
        assert_eq!(of("web", Some("b")), Some("b"));
        assert_eq!(of("mail", None), None);
        let options = all[0].compose_options().unwrap();
        assert_eq!(options, ["--project-directory=/srv/orders", "--file=/srv/orders/prod.yml", "--file=/etc/more.yml"]);
        assert_eq!(absent(directory(&all)).state, State::Absent { directory: Some("/srv/orders".into()) });
    }
}
