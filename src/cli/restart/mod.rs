//! `vigie restart connector|backend NAME`: asks the operator for a restart, and waits for what comes of it.

pub mod args;
mod progress;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::get::{Asked, named};
use super::{FIELD_MANAGER, Unwell, Usage, output};
use crate::api::RESTART_REQUESTED;
use crate::cluster::{PersonalClient, ask, connect_person};
use args::RestartArgs;
use progress::{Health, Step};

/// How often `--wait` looks. It reads the one object, which whoever may change it may do; a watch is another right.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Asks for a restart and, if wanted, waits for its outcome.
///
/// # Errors
/// [`Unwell`] when it was not restarted or not cured, as far as was waited for; when there is no such object, or it
/// cannot be read or changed.
pub(super) async fn restart(args: RestartArgs) -> anyhow::Result<()> {
    let words: Vec<&str> = std::iter::once(&args.kind).chain(&args.name).map(String::as_str).collect();
    let (asked, name) = named(&words).map_err(Usage)?;
    let PersonalClient { client, default_namespace, .. } = connect_person(&args.connection).await?;
    let namespace = args.namespace.clone().unwrap_or(default_namespace);
    let objects = Api::namespaced_with(client, &namespace, &asked.resource());
    let place = Place { objects, called: format!("{} {namespace}/{name}", asked.one()), asked, name, namespace };
    let object = place.read().await?;
    if args.if_unhealthy
        && let Some(result) = place.spare(&progress::health(&object))
    {
        return result;
    }
    let now = place.request(Timestamp::now()).await?;
    output::print(&place.asked_text(&object, now, args.wait))?;
    if args.wait { place.wait(now, args.timeout).await } else { Ok(()) }
}

/// One object in a cluster.
struct Place {
    objects: Api<DynamicObject>,
    asked: Asked,
    /// `backend shop/orders`, for sentences.
    called: String,
    namespace: String,
    name: String,
}

impl Place {
    async fn read(&self) -> anyhow::Result<Value> {
        let found = ask(&format!("reading the {}", self.called), self.objects.get_opt(&self.name)).await?;
        let Self { asked, name, namespace, .. } = self;
        let found =
            found.with_context(|| format!("there is no {} {name:?} in namespace {namespace:?}", asked.one()))?;
        Ok(serde_json::to_value(found)?)
    }

    /// What `--if-unhealthy` says instead of asking for a restart.
    fn spare(&self, health: &Health) -> Option<anyhow::Result<()>> {
        let called = &self.called;
        match health {
            Health::Unhealthy => None,
            Health::Healthy(state) => {
                Some(output::print(&format!("{called} is {state}: healthy, nothing was asked for\n")))
            }
            Health::Unknown(state) => {
                let text = format!("{called} is {state}: not known to be unhealthy, nothing was asked for\n");
                Some(output::print(&text).and_then(|()| Err(Unwell.into())))
            }
        }
    }

    /// Puts the request where the operator sees it; gives the time that it carries. The last one counts, so nobody's
    /// change is in the way.
    async fn request(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        // Whole seconds, as the status writes the start of the attempt that the request leads to.
        let now = Timestamp::from_second(now.as_second())?;
        let patch = json!({ "metadata": { "annotations": { RESTART_REQUESTED: now.to_string() } } });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let doing = format!("asking for a restart of the {}", self.called);
        ask(&doing, self.objects.patch(&self.name, &params, &Patch::Merge(patch))).await?;
        Ok(now)
    }

    fn asked_text(&self, object: &Value, now: Timestamp, waits: bool) -> String {
        let Self { called, namespace, name, asked, .. } = self;
        let mut text = format!("asked for a restart of {called} at {now}\n");
        if !waits {
            text += &match progress::objection(object) {
                Some(objection) => format!("it will be denied: {objection}\n"),
                None => "it is honoured within 10 minutes, unless something forbids it\n".to_owned(),
            };
            let plural = asked.resource().plural;
            text += &format!(
                "see what came of it in status.remediation: kubectl get {plural} {name} -n {namespace} -o yaml\n"
            );
        }
        text
    }

    /// Prints what happens until the request is over, at most for so many seconds.
    async fn wait(&self, asked: Timestamp, seconds: u32) -> anyhow::Result<()> {
        match tokio::time::timeout(Duration::from_secs(seconds.into()), self.watch(asked)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Unwell.into()),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                output::print(&format!("no outcome within {seconds} s: what was asked for goes on without us\n"))?;
                Err(Unwell.into())
            }
        }
    }

    /// Whether it was cured.
    async fn watch(&self, asked: Timestamp) -> anyhow::Result<bool> {
        let (mut said, mut complained) = (String::new(), false);
        loop {
            match self.objects.get_opt(&self.name).await {
                Ok(Some(object)) => match progress::step(&serde_json::to_value(object)?, asked, Timestamp::now()) {
                    Step::Over { is_cured, text } => {
                        output::print(&format!("{text}\n"))?;
                        return Ok(is_cured);
                    }
                    Step::Wait(Some(text)) if text != said => {
                        output::print(&format!("{text}\n"))?;
                        said = text;
                    }
                    Step::Wait(_) => {}
                },
                Ok(None) => bail!("the {} was deleted meanwhile", self.called),
                // The outcome is worth more than one failed look.
                Err(error) if !std::mem::replace(&mut complained, true) => {
                    eprintln!("looking again until it works: {}", crate::cluster::describe(&error));
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
