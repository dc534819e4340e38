//! The units and containers of a configuration.

use std::collections::BTreeMap;
use std::path::Path;

use super::docker::parse::Container;
use super::docker::{self, Found};
use super::systemd::{self, Shown};
use super::{limited, listeners};
use crate::agent::config::Config;
use crate::agent::facts::{Look, TargetFacts};
use crate::api::Target;
use crate::diagnosis::extract::extract;
use crate::time::Clock;

/// The cause that was found in the log of each target, with the run that it belongs to.
pub(super) type Words = BTreeMap<String, (String, Option<String>)>;

/// Docker or Podman, in the words of a look that found no answer.
const ENGINE: &str = "the container engine";
const HANGS: &str = "the container engine did not answer";

/// Looks at all targets.
pub(super) async fn look(config: &Config, words: &mut Words, clock: &Clock) -> BTreeMap<String, Look<TargetFacts>> {
    let mut found = BTreeMap::new();
    let targets = config.targets();
    let units: Vec<&str> = targets
        .iter()
        .filter_map(|target| match target {
            Target::Unit(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    found.extend(of_systemd(&units, words).await);
    let mut hanging: Option<String> = None;
    for target in targets.into_iter().filter(|target| !matches!(target, Target::Unit(_))) {
        // An engine that hangs is asked once: each question costs its whole limit.
        let facts = match &hanging {
            Some(why) => Err(String::clone(why)),
            None => container(&config.docker_socket, target, words, clock).await,
        };
        hanging = hanging.or_else(|| facts.as_ref().err().filter(|why| why.starts_with(HANGS)).cloned());
        found.insert(target.to_string(), facts.into());
    }
    words.retain(|name, _| found.contains_key(name));
    found
}

async fn of_systemd(names: &[&str], words: &mut Words) -> BTreeMap<String, Look<TargetFacts>> {
    if names.is_empty() {
        return BTreeMap::new();
    }
    let shown = match limited("systemctl", systemd::show(names, monotonic_micros())).await {
        Ok(shown) => shown,
        Err(why) => return names.iter().map(|name| ((*name).to_owned(), Look::Blind(why.clone()))).collect(),
    };
    let mut found = BTreeMap::new();
    for (name, Shown { mut facts, main_pid }) in names.iter().zip(shown) {
        // All processes of the host share its network; those of root cannot be told apart by their owner.
        if let Some(owner) = listeners::owner_of(main_pid).filter(|owner| main_pid != 0 && *owner != 0) {
            facts.listens = listeners::of_process(main_pid, Some(owner));
        }
        if !systemd::runs_well(&facts) && facts.load == "loaded" {
            let run = format!("{} {} {}", facts.invocation, facts.restarts, facts.active);
            facts.words = cause(words, name, run, systemd::journal(name)).await;
        }
        found.insert((*name).to_owned(), Look::Seen(TargetFacts::Unit(Box::new(facts))));
    }
    found
}

async fn container(socket: &Path, target: &Target, words: &mut Words, clock: &Clock) -> Result<TargetFacts, String> {
    let container = match limited(ENGINE, docker::find(socket, target, clock)).await? {
        Found::Nowhere(facts) => return Ok(facts),
        Found::Here(container) => container,
    };
    let Container { facts, finished, .. } = &*container;
    let mut told = facts.clone();
    if !docker::runs_well(&container) {
        let run = format!("{} {:?} {} {}", facts.id, finished, facts.restarts, facts.health.as_deref().unwrap_or(""));
        told.words = cause(words, &target.to_string(), run, docker::log(socket, &container)).await;
    }
    Ok(TargetFacts::Container(Box::new(told)))
}

/// The cause in the log of one run of a target. The log is read once for each run.
async fn cause(
    words: &mut Words,
    name: &str,
    run: String,
    log: impl Future<Output = Result<String, String>>,
) -> Option<String> {
    if let Some((known, cause)) = words.get(name)
        && *known == run
    {
        return cause.clone();
    }
    // Without the log the state is told all the same. It is not read again: a large journal would cost the limit each time.
    let cause = limited("the log", log).await.ok().and_then(|log| extract(&log).summary());
    words.insert(name.to_owned(), (run, cause.clone()));
    cause
}

/// The clock by which systemd dates the states of units.
fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).unwrap_or(0)
}
