//! Every state that the API server showed in one namespace, however briefly.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::task::JoinHandle;

use super::text;

/// A watch that records states.
#[derive(Debug)]
pub(crate) struct History {
    seen: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<()>,
}

impl History {
    pub(crate) fn of(api: Api<DynamicObject>) -> Self {
        let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            let mut changes = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
            while let Some(change) = changes.next().await {
                let Ok(object) = change else { continue };
                let state = text(&object.data, "/status/state").to_owned();
                let name = object.name_any();
                let mut seen = kept.lock().unwrap();
                if seen.iter().rev().find(|(known, _)| *known == name).is_none_or(|(_, last)| *last != state) {
                    seen.push((name, state));
                }
            }
        });
        Self { seen, task }
    }

    /// The states of one connector, in order, without repetition.
    pub(crate) fn of_connector(&self, name: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(known, _)| known == name).map(|(_, state)| state.clone()).collect()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}
