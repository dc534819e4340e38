//! The loop of the agent: one thread, which waits for a look, an answer, a timer or a signal.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::agent::{Agent, Round};
use super::gaps::{Journal, Stamp};
use super::link::{Failure, Link, Received};
use super::schedule::Schedule;
use super::status::{LastBeat, Status};
use super::{HostIdentity, token};
use crate::agent::actions::engine::Request;
use crate::agent::config::Config;
use crate::agent::helper::client;
use crate::agent::helper::protocol::{Ask, Reply};
use crate::agent::layout::STOPPING;
use crate::agent::local_probe::LocalProbes;
use crate::agent::notify;
use crate::agent::uptime::uptime;
use crate::api::{CheckSpec, StopReason};
use crate::time::Clock;

/// How often the host is looked at, and how often while a restart is under way.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY_RESTARTING: Duration = Duration::from_secs(1);
/// How long the helper may take for a look.
const LOOK_LIMIT: Duration = Duration::from_secs(15);
/// How long the helper may take to accept a restart.
const RESTART_LIMIT: Duration = Duration::from_secs(40);
/// How often the journal is written without any change.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// How long systemd may take to say whether the host shuts down.
const STATE_LIMIT: Duration = Duration::from_millis(500);
/// How long the last heartbeat may take.
const LAST_BEAT_LIMIT: Duration = Duration::from_secs(2);

/// The places that the agent uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket of the helper.
    pub helper: PathBuf,
    /// The folder of what it remembers.
    pub state: PathBuf,
    /// The folder of `status.json`.
    pub runtime: PathBuf,
    /// The folder of systemd's credentials.
    pub credentials: Option<PathBuf>,
}

/// What happened.
enum Event {
    Looked(Box<Round>),
    Beaten(Link, Vec<String>, Box<Result<Received, Failure>>),
    Asked(Request, Result<Reply, String>),
}

struct Running {
    agent: Agent,
    options: Options,
    clock: Clock,
    probes: Arc<LocalProbes>,
    events: mpsc::Sender<Event>,
    /// `None` while a heartbeat is under way.
    link: Option<Link>,
    is_looking: bool,
    is_ready: bool,
    last: LastBeat,
}

/// Runs the agent until SIGTERM.
///
/// # Errors
/// The process cannot receive signals.
pub async fn run(config: Config, options: Options) -> anyhow::Result<()> {
    let clock = Clock::default();
    let host = HostIdentity::read();
    let journal_file = options.state.join("journal.json");
    let stamp = Stamp { boot_id: host.boot_id.clone(), uptime: uptime().as_secs(), wall: clock.read().wall };
    let schedule = Schedule::new(clock.now(), chance());
    let journal = Journal::resume(Journal::read(&journal_file), &stamp, schedule.interval().as_secs());
    let (events, inbox) = mpsc::channel(16);
    let running = Running {
        link: Some(Link::new(&config, clock)),
        agent: Agent::new(config, host, schedule, journal),
        options,
        clock,
        probes: Arc::default(),
        events,
        is_looking: false,
        is_ready: false,
        last: LastBeat::default(),
    };
    let stop = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    running.turn(inbox, stop).await;
    Ok(())
}

impl Running {
    async fn turn(mut self, mut inbox: mpsc::Receiver<Event>, [mut terminate, mut interrupt]: [Signal; 2]) {
        let mut look = every(LOOK_EVERY);
        let mut write = every(WRITE_EVERY);
        loop {
            let due = self.clock.instant(self.agent.schedule.due_at());
            let may_beat = self.link.is_some() && self.is_ready;
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = look.tick() => self.look(),
                _ = write.tick() => self.write_journal(),
                () = tokio::time::sleep_until(due), if may_beat => self.beat(),
                Some(event) = inbox.recv() => self.take(event, &mut look),
            }
        }
        self.stop().await;
    }

    fn stamp(&self) -> Stamp {
        Stamp { boot_id: self.agent.host.boot_id.clone(), uptime: uptime().as_secs(), wall: self.clock.read().wall }
    }

    /// Begins a look, unless one is under way.
    fn look(&mut self) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let (events, probes, socket) = (self.events.clone(), Arc::clone(&self.probes), self.options.helper.clone());
        let checks: Vec<CheckSpec> = self.agent.parameters.checks.clone();
        let config = self.agent.config.clone();
        tokio::spawn(async move {
            let ask = Ask::Look { checks };
            let (looked, probes) = tokio::join!(client::ask(&socket, &ask, LOOK_LIMIT), probes.run(&config));
            // The agent is gone when the channel is closed.
            let _ = events.send(Event::Looked(Box::new(Round { looked, probes }))).await;
        });
    }

    /// Begins a heartbeat.
    fn beat(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        self.agent.schedule.sent(self.clock.now());
        let (body, told) = self.agent.body(&self.stamp(), None);
        let (events, token) = (self.events.clone(), self.token());
        tokio::spawn(async move {
            let result = match token {
                Ok(token) => link.send(&token, body).await,
                Err(failure) => Err(failure),
            };
            let _ = events.send(Event::Beaten(link, told, Box::new(result))).await;
        });
    }

    /// Read anew for each heartbeat, so that a file that was replaced counts at once.
    fn token(&self) -> Result<String, Failure> {
        token::read(self.options.credentials.as_deref(), &self.agent.config)
    }

    fn take(&mut self, event: Event, look: &mut Interval) {
        match event {
            Event::Looked(round) => {
                self.is_looking = false;
                self.agent.looked(*round, self.clock.read());
                // The watchdog is petted by a finished round alone.
                notify::pet();
                if !std::mem::replace(&mut self.is_ready, true) {
                    notify::ready("looked at the host; no heartbeat was sent yet");
                }
                if self.agent.is_restarting {
                    look.reset_after(LOOK_EVERY_RESTARTING);
                }
            }
            Event::Beaten(link, told, result) => {
                self.link = Some(link);
                self.beaten(&told, *result);
            }
            Event::Asked(request, reply) => match reply {
                Ok(Reply::Settled(outcome)) => self.agent.settled(&request.target, request.id, &outcome),
                Ok(Reply::Pending) => look.reset_after(LOOK_EVERY_RESTARTING),
                // The operator offers it again.
                Ok(Reply::Busy) => tracing::info!(id = request.id, "another restart of this target is under way"),
                Ok(other) => tracing::warn!(id = request.id, "the helper does not restart: {other:?}"),
                Err(error) => tracing::warn!(id = request.id, error, "the helper does not restart"),
            },
        }
        self.write_status();
    }

    fn beaten(&mut self, told: &[String], result: Result<Received, Failure>) {
        let now = self.clock.read();
        let is_to_write = match result {
            Ok(received) => {
                if self.last.failure.is_some() || self.last.at.is_none() {
                    tracing::info!(state = received.answer.state, "the operator hears this agent");
                }
                self.last = LastBeat::received(now.wall, &received.answer.state);
                notify::status(&format!("heard at {}: {}", now.wall, received.answer.state));
                let stamp = self.stamp();
                let (requests, is_to_write) = self.agent.received(received, told, (now, &stamp), chance());
                requests.into_iter().for_each(|request| self.ask(request));
                is_to_write
            }
            Err(failure) => {
                if self.last.failure.as_ref() != Some(&failure.message) {
                    tracing::warn!(class = failure.attempt.class, phase = failure.attempt.phase, "{}", failure.message);
                }
                notify::status(&format!("not heard: {}", failure.message));
                self.last.failure = Some(failure.message.clone());
                self.agent.failed(&failure, now, chance())
            }
        };
        if is_to_write {
            self.write_journal();
        }
    }

    fn ask(&self, request: Request) {
        let (events, socket) = (self.events.clone(), self.options.helper.clone());
        let ask = Ask::restart(request.clone(), uptime());
        tokio::spawn(async move {
            let reply = client::ask(&socket, &ask, RESTART_LIMIT).await;
            let _ = events.send(Event::Asked(request, reply)).await;
        });
    }

    fn write_journal(&mut self) {
        let stamp = self.stamp();
        if let Err(error) = self.agent.journal.write(&self.options.state.join("journal.json"), &stamp) {
            tracing::warn!(%error, "the journal of gaps is not written");
        }
    }

    fn write_status(&self) {
        let stamp = self.stamp();
        if let Err(error) = Status::of(&self.agent, &self.last, &stamp).write(&self.options.runtime) {
            tracing::debug!(%error, "status.json is not written");
        }
    }

    /// Says goodbye, if that is quick.
    async fn stop(mut self) {
        notify::stopping();
        let reason = stop_reason(&self.options.runtime).await;
        let (body, _) = self.agent.body(&self.stamp(), Some(reason));
        // A heartbeat that is under way has the connection: this one has its own.
        let mut link = self.link.take().unwrap_or_else(|| Link::new(&self.agent.config, self.clock));
        if let Ok(token) = self.token() {
            let _ = tokio::time::timeout(LAST_BEAT_LIMIT, link.send(&token, body)).await;
        }
        self.write_journal();
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// A number between 0 and 1.
fn chance() -> f64 {
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}

/// Why the agent stops. An update or a removal leaves its word in the file `stopping`.
async fn stop_reason(runtime: &Path) -> StopReason {
    if let Ok(word) = std::fs::read_to_string(runtime.join(STOPPING)) {
        return StopReason::of(word.trim());
    }
    let asked = Command::new("systemctl").arg("is-system-running").stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(STATE_LIMIT, asked).await {
        Ok(Ok(printed)) if printed.stdout.starts_with(b"stopping") => StopReason::Shutdown,
        _ => StopReason::Stop,
    }
}
