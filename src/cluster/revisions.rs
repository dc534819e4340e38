//! The revision history of a workload: ReplicaSets of a Deployment, ControllerRevisions of the other kinds.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// The annotation with the time that `kubectl rollout restart` writes to the pod template.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// The annotation with the attempt's id, which vigie writes beside it.
pub const ATTEMPT: &str = "vigie.dev/attempt";

/// The annotation in which the Deployment controller keeps the number of a revision.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation with the numbers that a ReplicaSet had before a rollback to it.
const EARLIER_REVISIONS: &str = "deployment.kubernetes.io/revision-history";

/// One revision of the pod template.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The name of its ReplicaSet or ControllerRevision.
    pub name: String,
    /// Its number; a rollback gives it a new one.
    pub number: Option<i64>,
    template: Option<Value>,
}

impl Revision {
    /// The id of the attempt that created it.
    pub fn attempt(&self) -> Option<&str> {
        let annotations = self.template.as_ref()?.pointer("/metadata/annotations")?;
        annotations.get(ATTEMPT)?.as_str()
    }
}

/// The revisions of one workload.
#[derive(Clone, Debug, Default)]
pub struct RevisionHistory {
    /// The number of the newest.
    pub number: Option<i64>,
    /// The newest revision that its controller has used. It is the current one once the controller has observed the newest
    /// spec.
    pub newest: Option<Revision>,
    /// The time since which it is current; `None` after a rollback whose time is not known.
    pub since: Option<Timestamp>,
    /// All others, in no particular order.
    pub others: Vec<Revision>,
}

impl RevisionHistory {
    /// The history of a Deployment, from those of `sets` that it owns.
    pub fn of_deployment(deployment: &Deployment, sets: &[ReplicaSet]) -> Self {
        let revision = annotation(&deployment.metadata, REVISION);
        let owned = owned_by(&deployment.metadata, sets, |set| &set.metadata);
        let is_newest = |set: &ReplicaSet| revision.is_some() && annotation(&set.metadata, REVISION) == revision;
        let (newest, others): (Vec<&ReplicaSet>, Vec<_>) = owned.into_iter().partition(|set| is_newest(set));
        let newest = newest.first().copied();
        let remembered = |set: &ReplicaSet| Revision {
            name: name(&set.metadata),
            number: number(annotation(&set.metadata, REVISION)),
            template: set.spec.as_ref().and_then(|spec| serde_json::to_value(&spec.template).ok()),
        };
        Self {
            number: number(revision),
            newest: newest.map(remembered),
            since: newest.and_then(|set| in_force_since(deployment, set)),
            others: others.into_iter().map(remembered).collect(),
        }
    }

    /// The history of a StatefulSet or DaemonSet, from those of `revisions` that it owns. `update` is the name of the newest
    /// when the status has it; otherwise the newest has the highest number.
    pub fn of_revisions(owner: &ObjectMeta, revisions: &[ControllerRevision], update: Option<&str>) -> Self {
        let owned = owned_by(owner, revisions, |revision| &revision.metadata);
        let named = owned.iter().find(|revision| update.is_some() && revision.metadata.name.as_deref() == update);
        let Some(newest) = named.or_else(|| owned.iter().max_by_key(|revision| revision.revision)).copied() else {
            return Self::default();
        };
        // A rollback gives an old revision a new number and keeps its creation time, so the time of the rollback is not
        // known.
        let is_reused = owned.iter().any(|other| created(&other.metadata) > created(&newest.metadata));
        let remembered = |revision: &ControllerRevision| Revision {
            name: name(&revision.metadata),
            number: Some(revision.revision),
            // The data is a patch of the whole object.
            template: revision.data.as_ref().and_then(|data| data.0.pointer("/spec/template")).cloned(),
        };
        let others = owned.into_iter().filter(|other| !std::ptr::eq(*other, newest));
        Self {
            number: Some(newest.revision),
            newest: Some(remembered(newest)),
            since: if is_reused { None } else { created(&newest.metadata) },
            others: others.map(remembered).collect(),
        }
    }

    /// The revision before the newest.
    pub fn before(&self) -> Option<&Revision> {
        let earlier = self.others.iter().filter(|other| other.number.is_some() && other.number < self.number);
        earlier.max_by_key(|other| other.number)
    }

    /// Whether the newest differs from the previous one only by the annotations of a restart, by vigie or kubectl.
    pub fn is_restart_alone(&self) -> bool {
        let template = |revision: Option<&Revision>| revision.and_then(|revision| revision.template.clone());
        let (Some(newest), Some(before)) = (template(self.newest.as_ref()), template(self.before())) else {
            return false;
        };
        newest != before && without_restarts(newest) == without_restarts(before)
    }
}

/// The objects of `all` that `owner` owns.
pub fn owned_by<'a, K>(owner: &ObjectMeta, all: &'a [K], metadata: impl Fn(&K) -> &ObjectMeta) -> Vec<&'a K> {
    let is_owner = |metadata: &ObjectMeta| {
        metadata.owner_references.iter().flatten().any(|reference| Some(&reference.uid) == owner.uid.as_ref())
    };
    all.iter().filter(|object| is_owner(metadata(object))).collect()
}

/// Whether the controller has observed the newest spec.
pub fn is_observed(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.is_some_and(|observed| Some(observed) >= metadata.generation)
}

fn in_force_since(deployment: &Deployment, newest: &ReplicaSet) -> Option<Timestamp> {
    let created = created(&newest.metadata);
    if annotation(&newest.metadata, EARLIER_REVISIONS).is_none() {
        return created;
    }
    // After a rollback the creation time is older than the rollback; the last progress is the best estimate.
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    let progressing = conditions.into_iter().flatten().find(|condition| condition.type_ == "Progressing");
    let progress = progressing.and_then(|condition| condition.last_update_time.as_ref()).map(|time| time.0);
    progress.max(created)
}

/// The template without the annotations of a restart, and without the labels that controllers add.
fn without_restarts(mut template: Value) -> Value {
    let Some(Value::Object(metadata)) = template.get_mut("metadata") else { return template };
    for (part, keys) in [("annotations", &[RESTARTED_AT, ATTEMPT][..]), ("labels", &["pod-template-hash"])] {
        let Some(Value::Object(pairs)) = metadata.get_mut(part) else { continue };
        keys.iter().for_each(|key| drop(pairs.remove(*key)));
        if pairs.is_empty() {
            metadata.remove(part);
        }
    }
    template
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn number(text: Option<&str>) -> Option<i64> {
    text.and_then(|text| text.parse().ok())
}

fn created(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
