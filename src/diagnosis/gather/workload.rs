//! The workload behind a backend as evidence: how far its rollout is, and how old its newest template.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::Value;

use super::pods::time;
use crate::diagnosis::evidence::Workload;

/// Where the Deployment controller keeps the number of a template.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Where it keeps the numbers that a ReplicaSet had before it was rolled back to.
const EARLIER_REVISIONS: &str = "deployment.kubernetes.io/revision-history";

/// What a restart writes into a template: kubectl's and ours.
const RESTARTS: [&str; 2] = ["kubectl.kubernetes.io/restartedAt", "vigie.dev/attempt"];

/// What the parts of an answer share.
pub(super) struct Read {
    pub(super) workload: Workload,
    /// Selects its pods.
    pub(super) selector: LabelSelector,
    /// Who owns the pods: its ReplicaSets, or itself. `None` when the ReplicaSets could not be read: then the selector
    /// alone decides.
    pub(super) owners: Option<Vec<String>>,
    /// What events can be about, beside the pods: kind and name.
    pub(super) subjects: Vec<(&'static str, String)>,
}

/// A Deployment, and its ReplicaSets where they could be read.
pub(super) fn deployment(deployment: &Deployment, sets: Option<&[ReplicaSet]>) -> Read {
    let (spec, status) = (deployment.spec.clone().unwrap_or_default(), deployment.status.clone().unwrap_or_default());
    let owned: Option<Vec<&ReplicaSet>> = sets.map(|sets| owned_by(&deployment.metadata, sets, |set| &set.metadata));
    let revision = annotation(&deployment.metadata, REVISION);
    let newest = owned.iter().flatten().find(|set| {
        let own = annotation(&set.metadata, REVISION);
        own.is_some() && own == revision
    });
    let progressing = status.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    let since = newest.and_then(|set| {
        let created = time(set.metadata.creation_timestamp.as_ref());
        // Rolled back to: it is older than its present turn. The last progress is the best that is known then.
        let reused = annotation(&set.metadata, EARLIER_REVISIONS).is_some();
        let progress = progressing.and_then(|condition| time(condition.last_update_time.as_ref()));
        if reused { progress.max(created) } else { created }
    });
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let own_number = |set: &ReplicaSet| number(annotation(&set.metadata, REVISION));
    let earlier = owned.iter().flatten().filter(|set| own_number(set).is_some_and(|own| Some(own) < number(revision)));
    let before = earlier.max_by_key(|set| own_number(set));
    let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| serde_json::to_value(&spec.template).ok());
    let is_alike =
        |(newest, before): (&&ReplicaSet, &&ReplicaSet)| differ_by_restart(template(newest), template(before));
    let mut subjects = vec![("Deployment", name(&deployment.metadata))];
    subjects.extend(newest.map(|set| ("ReplicaSet", name(&set.metadata))));
    let workload = Workload {
        wanted: spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        current: status.replicas.unwrap_or(0),
        observed: observed(&deployment.metadata, status.observed_generation),
        paused: spec.paused.unwrap_or(false),
        deadline_exceeded: progressing.is_some_and(|condition| {
            condition.status == "False" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        }),
        template_since: since,
        revision: number(revision).map(|number| (number, before.is_some())),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        selector: spec.selector.match_labels.clone().unwrap_or_default(),
        on_delete: false,
        only_restarted: newest.zip(before).is_some_and(is_alike),
    };
    let owners = owned.map(|sets| sets.iter().filter_map(|set| set.metadata.uid.clone()).collect());
    Read { workload, selector: spec.selector, owners, subjects }
}

/// A StatefulSet, and its ControllerRevisions where they could be read.
pub(super) fn stateful_set(set: &StatefulSet, revisions: Option<&[ControllerRevision]>) -> Read {
    let (spec, status) = (set.spec.clone().unwrap_or_default(), set.status.clone().unwrap_or_default());
    let history = History::of(&set.metadata, revisions, status.update_revision.as_deref());
    let workload = Workload {
        wanted: spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        current: status.replicas,
        observed: observed(&set.metadata, status.observed_generation),
        paused: false,
        deadline_exceeded: false,
        template_since: history.since,
        revision: history.revision,
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        selector: spec.selector.match_labels.clone().unwrap_or_default(),
        on_delete: spec.update_strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")),
        only_restarted: history.only_restarted,
    };
    let subjects = vec![("StatefulSet", name(&set.metadata))];
    Read { workload, selector: spec.selector, owners: set.metadata.uid.clone().map(|uid| vec![uid]), subjects }
}

/// A DaemonSet, and its ControllerRevisions where they could be read.
pub(super) fn daemon_set(set: &DaemonSet, revisions: Option<&[ControllerRevision]>) -> Read {
    let (spec, status) = (set.spec.clone().unwrap_or_default(), set.status.clone().unwrap_or_default());
    let history = History::of(&set.metadata, revisions, None);
    let workload = Workload {
        wanted: status.desired_number_scheduled,
        updated: status.updated_number_scheduled.unwrap_or(0),
        ready: status.number_ready,
        current: status.current_number_scheduled,
        observed: observed(&set.metadata, status.observed_generation),
        paused: false,
        deadline_exceeded: false,
        template_since: history.since,
        revision: history.revision,
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        selector: spec.selector.match_labels.clone().unwrap_or_default(),
        on_delete: spec.update_strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")),
        only_restarted: history.only_restarted,
    };
    let subjects = vec![("DaemonSet", name(&set.metadata))];
    Read { workload, selector: spec.selector, owners: set.metadata.uid.clone().map(|uid| vec![uid]), subjects }
}

/// What the ControllerRevisions say of the newest template.
#[derive(Default)]
struct History {
    since: Option<Timestamp>,
    revision: Option<(i64, bool)>,
    only_restarted: bool,
}

impl History {
    /// `update` names the newest revision where the status does; otherwise it is the one with the highest number.
    fn of(owner: &ObjectMeta, revisions: Option<&[ControllerRevision]>, update: Option<&str>) -> Self {
        let owned = owned_by(owner, revisions.unwrap_or_default(), |revision| &revision.metadata);
        let named = owned.iter().find(|revision| update.is_some() && revision.metadata.name.as_deref() == update);
        let Some(newest) = named.or_else(|| owned.iter().max_by_key(|revision| revision.revision)) else {
            return Self::default();
        };
        let created = |revision: &ControllerRevision| time(revision.metadata.creation_timestamp.as_ref());
        // A rollback gives an old revision a new number and leaves its age: since when it is in force is not known then.
        let is_reused = owned.iter().any(|other| created(other) > created(newest));
        let earlier = owned.iter().filter(|other| other.revision < newest.revision);
        let before = earlier.max_by_key(|other| other.revision);
        let template = |revision: &ControllerRevision| revision.data.as_ref().map(|data| data.0.clone());
        let since = if is_reused { None } else { created(newest) };
        let only_restarted = before.is_some_and(|before| differ_by_restart(template(newest), template(before)));
        Self { since, revision: Some((newest.revision, before.is_some())), only_restarted }
    }
}

/// Whether two templates differ by the annotations of a restart alone, ours or kubectl's.
fn differ_by_restart(one: Option<Value>, other: Option<Value>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    one != other && without_restarts(one) == without_restarts(other)
}

/// The same without what a restart writes, and without what the controllers add for themselves.
fn without_restarts(mut template: Value) -> Value {
    // A ControllerRevision holds a patch of the whole object.
    for place in ["/metadata", "/spec/template/metadata"] {
        let Some(Value::Object(metadata)) = template.pointer_mut(place) else { continue };
        for (part, keys) in [("annotations", &RESTARTS[..]), ("labels", &["pod-template-hash"])] {
            let Some(Value::Object(pairs)) = metadata.get_mut(part) else { continue };
            keys.iter().for_each(|key| drop(pairs.remove(*key)));
            if pairs.is_empty() {
                metadata.remove(part);
            }
        }
    }
    template
}

fn owned_by<'a, K>(owner: &ObjectMeta, all: &'a [K], metadata: impl Fn(&K) -> &ObjectMeta) -> Vec<&'a K> {
    let is_owner = |metadata: &ObjectMeta| {
        metadata.owner_references.iter().flatten().any(|reference| Some(&reference.uid) == owner.uid.as_ref())
    };
    all.iter().filter(|object| is_owner(metadata(object))).collect()
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn observed(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.is_some_and(|observed| Some(observed) >= metadata.generation)
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
