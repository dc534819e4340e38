//! `vigie restart connector|backend NAME`: requests a restart from the operator, and waits for its outcome.

pub mod args;
mod progress;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::get::{ResourceKind, parse_object};
use super::{FIELD_MANAGER, Unwell, Usage, output};
use crate::api::RESTART_REQUESTED;
use crate::cluster::{PersonalClient, ask, connect_person};
use args::RestartArgs;
use progress::{Progress, ShownHealth};

/// The interval of `--wait`. It reads the one object with `get`; a watch would need another right.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Requests a restart and, with `--wait`, waits for its outcome.
///
/// # Errors
/// [`Unwell`] when it was not restarted or not cured within the wait; another error when there is no such object, or it
/// cannot be read or changed.
pub(super) async fn restart(args: RestartArgs) -> anyhow::Result<()> {
    let words: Vec<&str> = std::iter::once(&args.kind).chain(&args.name).map(String::as_str).collect();
    let (kind, name) = parse_object(&words).map_err(Usage)?;
    let PersonalClient { client, default_namespace, .. } = connect_person(&args.connection).await?;
    let namespace = args.namespace.clone().unwrap_or(default_namespace);
    let objects = Api::namespaced_with(client, &namespace, &kind.resource());
    let target = RestartTarget { objects, called: format!("{} {namespace}/{name}", kind.one()), kind, name, namespace };
    let object = target.read().await?;
    if args.if_unhealthy
        && let Some(result) = target.skip(&progress::health(&object))
    {
        return result;
    }
    let now = target.request(Timestamp::now()).await?;
    output::print(&target.request_text(&object, now, args.wait))?;
    if args.wait { target.wait(now, args.timeout).await } else { Ok(()) }
}

/// The object of a restart request.
struct RestartTarget {
    objects: Api<DynamicObject>,
    kind: ResourceKind,
    /// `backend shop/orders`, for sentences.
    called: String,
    namespace: String,
    name: String,
}

impl RestartTarget {
    async fn read(&self) -> anyhow::Result<Value> {
        let found = ask(&format!("reading the {}", self.called), self.objects.get_opt(&self.name)).await?;
        let Self { kind, name, namespace, .. } = self;
        let found = found.with_context(|| format!("there is no {} {name:?} in namespace {namespace:?}", kind.one()))?;
        Ok(serde_json::to_value(found)?)
    }

    /// The result of `--if-unhealthy` when no restart is requested; `None` when the object is unhealthy.
    fn skip(&self, health: &ShownHealth) -> Option<anyhow::Result<()>> {
        let called = &self.called;
        match health {
            ShownHealth::Unhealthy => None,
            ShownHealth::Healthy(state) => {
                Some(output::print(&format!("{called} is {state}: healthy, nothing was asked for\n")))
            }
            ShownHealth::Unknown(state) => {
                let text = format!("{called} is {state}: not known to be unhealthy, nothing was asked for\n");
                Some(output::print(&text).and_then(|()| Err(Unwell.into())))
            }
        }
    }

    /// Writes the annotation of the request and returns its time. The last request counts, so a concurrent change is no
    /// conflict.
    async fn request(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        // Whole seconds, as in the start time of the attempt that the operator writes to the status.
        let now = Timestamp::from_second(now.as_second())?;
        let patch = json!({ "metadata": { "annotations": { RESTART_REQUESTED: now.to_string() } } });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let doing = format!("asking for a restart of the {}", self.called);
        ask(&doing, self.objects.patch(&self.name, &params, &Patch::Merge(patch))).await?;
        Ok(now)
    }

    fn request_text(&self, object: &Value, now: Timestamp, waits: bool) -> String {
        let Self { called, namespace, name, kind, .. } = self;
        let mut text = format!("asked for a restart of {called} at {now}\n");
        if !waits {
            text += &match progress::objection(object) {
                Some(objection) => format!("it will be denied: {objection}\n"),
                None => "it is honoured within 10 minutes, unless something forbids it\n".to_owned(),
            };
            let plural = kind.resource().plural;
            text += &format!(
                "see what came of it in status.remediation: kubectl get {plural} {name} -n {namespace} -o yaml\n"
            );
        }
        text
    }

    /// Prints the progress until the request is over, for at most `seconds`.
    async fn wait(&self, requested_at: Timestamp, seconds: u32) -> anyhow::Result<()> {
        match tokio::time::timeout(Duration::from_secs(seconds.into()), self.poll(requested_at)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Unwell.into()),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                output::print(&format!("no outcome within {seconds} s: what was asked for goes on without us\n"))?;
                Err(Unwell.into())
            }
        }
    }

    /// Polls until the request is over; returns whether the object was cured.
    async fn poll(&self, requested_at: Timestamp) -> anyhow::Result<bool> {
        let (mut printed, mut has_failed) = (String::new(), false);
        loop {
            match self.objects.get_opt(&self.name).await {
                Ok(Some(object)) => {
                    match progress::progress(&serde_json::to_value(object)?, requested_at, Timestamp::now()) {
                        Progress::Finished { is_cured, text } => {
                            output::print(&format!("{text}\n"))?;
                            return Ok(is_cured);
                        }
                        Progress::Waiting(Some(text)) if text != printed => {
                            output::print(&format!("{text}\n"))?;
                            printed = text;
                        }
                        Progress::Waiting(_) => {}
                    }
                }
                Ok(None) => bail!("the {} was deleted meanwhile", self.called),
                // A failed read does not end the wait; only the first is reported.
                Err(error) if !std::mem::replace(&mut has_failed, true) => {
                    eprintln!("looking again until it works: {}", crate::cluster::describe(&error));
                }
                Err(_) => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
