//! Answers on the socket.

#[cfg(test)]
mod tests;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Semaphore};

use super::host::ThisHost;
use super::peer::{Peer, identify};
use super::protocol::{self, Ask, MAX_REQUEST, Reply, Restarted};
use super::tail::tail;
use crate::agent::actions::Outcome;
use crate::agent::actions::engine::{Answer, Engine, Request};
use crate::agent::actions::ledger::{Ledger, StateFile};
use crate::agent::config::Config;
use crate::agent::layout::{AGENT_UNIT, CONFIG};
use crate::agent::look::Looker;
use crate::agent::uptime::uptime;
use crate::agent::{notify, pause};
use crate::time::Clock;

/// How long a request may take to arrive, and its answer to be taken.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most requests of the agent and of root at once.
const MOST_CONNECTIONS: usize = 16;
/// Most requests of strangers at once: they keep no place from the agent.
const MOST_STRANGERS: usize = 4;

/// The places that the helper uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket.
    pub socket: PathBuf,
    /// The folder of `actions.json`.
    pub state: PathBuf,
    /// The user of the agent, where no systemd starts it.
    pub agent_user: Option<u32>,
}

struct Helper {
    config: Arc<Config>,
    engine: Arc<Engine<ThisHost, StateFile>>,
    looker: Mutex<Looker>,
    agent_user: Option<u32>,
    /// The file of a pause.
    pause: PathBuf,
    clock: Clock,
}

/// Answers until SIGTERM.
///
/// # Errors
/// The socket cannot be opened.
pub async fn run(config: Config, options: Options) -> anyhow::Result<()> {
    let Options { socket, state, agent_user } = options;
    let config = Arc::new(config);
    let host = ThisHost { docker_socket: config.docker_socket.clone(), compose_up: config.compose_up };
    let ledger = Ledger::open(StateFile(state.join("actions.json")));
    if let Some(fault) = ledger.fault() {
        tracing::error!("{}", fault.message);
    }
    let clock = Clock::default();
    let engine = Engine::new(host, ledger, Arc::clone(&config), clock);
    engine.recover();
    let helper =
        Arc::new(Helper { config, engine, looker: Mutex::default(), agent_user, pause: pause::file(&state), clock });
    let listener = listen(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    notify::ready("it answers");
    tracing::info!(socket = %socket.display(), "the helper answers");
    let mut pet = tokio::time::interval(notify::PET_EVERY);
    let [places, of_strangers] = [MOST_CONNECTIONS, MOST_STRANGERS].map(|most| Arc::new(Semaphore::new(most)));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            // The runtime of the helper turns, so it can answer.
            _ = pet.tick() => notify::pet(),
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let peer = identify(&stream, helper.agent_user);
                let places = if peer == Peer::Stranger { &of_strangers } else { &places };
                let Ok(place) = Arc::clone(places).try_acquire_owned() else { continue };
                let helper = Arc::clone(&helper);
                tokio::spawn(async move {
                    helper.serve(stream, peer).await;
                    drop(place);
                });
            }
        }
    }
}

fn listen(socket: &std::path::Path) -> std::io::Result<UnixListener> {
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(socket)?;
    // The agent has a user of its own. Which process asks is looked up for each request.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

impl Helper {
    async fn serve(&self, mut stream: UnixStream, peer: Peer) {
        let reply = match tokio::time::timeout(DEADLINE, read_line(&mut stream)).await {
            Ok(Ok(line)) => self.answer(peer, &line).await,
            Ok(Err(error)) => Reply::Refused(error),
            Err(_) => Reply::Refused(format!("the request was not there within {} s", DEADLINE.as_secs())),
        };
        let mut line = serde_json::to_vec(&reply).unwrap_or_default();
        line.push(b'\n');
        // A peer that is gone does not want it.
        let _ = tokio::time::timeout(DEADLINE, stream.write_all(&line)).await;
    }

    async fn answer(&self, peer: Peer, line: &[u8]) -> Reply {
        if peer == Peer::Stranger {
            return Reply::Refused(format!("the helper answers {AGENT_UNIT} and root"));
        }
        let ask = match protocol::parse(line) {
            Ok(ask) => ask,
            Err(error) => return Reply::Refused(error),
        };
        match (ask, peer) {
            (Ask::Look { checks }, _) => self.look(&checks).await,
            (Ask::Restart { id, target, not_after, now, now_at }, Peer::Agent) => {
                let now = now.map(|then| protocol::shows_now(then, now_at, uptime()));
                self.restart(Request { id, target, not_after, now }).await
            }
            (Ask::Restart { .. }, _) => Reply::Refused(format!("only {AGENT_UNIT} asks for restarts")),
            (Ask::Tail { target, lines }, Peer::Root) if self.config.targets().contains(&target) => {
                tail(&self.config.docker_socket, &target, lines).await.map_or_else(Reply::Refused, Reply::Log)
            }
            (Ask::Tail { target, .. }, Peer::Root) => Reply::Refused(format!("{target} is not in {CONFIG}")),
            (Ask::Tail { .. }, _) => Reply::Refused("only root reads logs".to_owned()),
        }
    }

    async fn restart(&self, request: Request) -> Reply {
        tracing::info!(id = request.id, target = %request.target, "the operator asks for a restart");
        let is_begun = self.engine.knows(&request.id);
        let paused = pause::current(&self.pause, self.clock.read().wall).filter(|_| !is_begun);
        if let Some(paused) = paused {
            let by = paused.by.unwrap_or_default();
            let reason = paused.reason.unwrap_or_default();
            return Reply::Settled(Outcome::refused(format!("restarts are paused on the host by {by}: {reason}")));
        }
        let id = request.id.clone();
        match self.engine.ask(request).await {
            Answer::Settled(outcome) => {
                tracing::info!(id, "{}", outcome.message);
                Reply::Settled(outcome)
            }
            Answer::Pending => Reply::Pending,
            Answer::Busy => Reply::Busy,
        }
    }

    async fn look(&self, checks: &[crate::api::CheckSpec]) -> Reply {
        let config = self.config.with_parameters(checks);
        let facts = self.looker.lock().await.look(&config).await;
        // What was waited for may have ended, and what was too early may be late.
        self.engine.recover();
        let restarts = self.engine.latest().into_iter().map(Restarted::from).collect();
        let paused = pause::current(&self.pause, self.clock.read().wall);
        Reply::Looked { facts: Box::new(facts), restarts, paused }
    }
}

/// The first line, without its end.
async fn read_line(stream: &mut UnixStream) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_REQUEST as u64 + 1));
    reader.read_until(b'\n', &mut line).await.map_err(|error| format!("the request: {error}"))?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ if line.len() >= MAX_REQUEST => Err(format!("a request of more than {} KiB", MAX_REQUEST >> 10)),
        _ => Err("the request is no whole line".to_owned()),
    }
}
