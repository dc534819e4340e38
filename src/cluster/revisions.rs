//! The templates that a workload remembers: ReplicaSets of a Deployment, ControllerRevisions of the other kinds.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// What `kubectl rollout restart` writes into a pod template: when.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// What we write beside it: the attempt's id.
pub const ATTEMPT: &str = "vigie.dev/attempt";

/// Where the Deployment controller keeps the number of a template.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Where it keeps the numbers that a ReplicaSet had before it was rolled back to.
const EARLIER_REVISIONS: &str = "deployment.kubernetes.io/revision-history";

/// One template that is remembered.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The name of what remembers it.
    pub name: String,
    /// Its number; a rollback gives it a new one.
    pub number: Option<i64>,
    template: Option<Value>,
}

impl Revision {
    /// The attempt that came with it.
    pub fn attempt(&self) -> Option<&str> {
        let annotations = self.template.as_ref()?.pointer("/metadata/annotations")?;
        annotations.get(ATTEMPT)?.as_str()
    }
}

/// The templates of one workload.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The number of the newest.
    pub number: Option<i64>,
    /// The newest that its controller has made use of: the one in force, once the controller has seen the newest spec.
    pub newest: Option<Revision>,
    /// Since when that is in force; `None` where it was rolled back to and nothing dates that.
    pub since: Option<Timestamp>,
    /// All the others, in no order.
    pub others: Vec<Revision>,
}

impl History {
    /// The history of a Deployment, by those of `sets` that are its own.
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

    /// The history of a StatefulSet or DaemonSet, by those of `revisions` that are its own. `update` names the newest
    /// where the status does; otherwise it is the one with the highest number.
    pub fn of_revisions(owner: &ObjectMeta, revisions: &[ControllerRevision], update: Option<&str>) -> Self {
        let owned = owned_by(owner, revisions, |revision| &revision.metadata);
        let named = owned.iter().find(|revision| update.is_some() && revision.metadata.name.as_deref() == update);
        let Some(newest) = named.or_else(|| owned.iter().max_by_key(|revision| revision.revision)).copied() else {
            return Self::default();
        };
        // A rollback gives an old revision a new number and leaves its age: since when it is in force is not known then.
        let is_reused = owned.iter().any(|other| created(&other.metadata) > created(&newest.metadata));
        let remembered = |revision: &ControllerRevision| Revision {
            name: name(&revision.metadata),
            number: Some(revision.revision),
            // It holds a patch of the whole object.
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

    /// The one before the newest.
    pub fn before(&self) -> Option<&Revision> {
        let earlier = self.others.iter().filter(|other| other.number.is_some() && other.number < self.number);
        earlier.max_by_key(|other| other.number)
    }

    /// Whether the newest differs from the one before by the annotations of a restart alone, ours or kubectl's.
    pub fn is_restart_alone(&self) -> bool {
        let template = |revision: Option<&Revision>| revision.and_then(|revision| revision.template.clone());
        let (Some(newest), Some(before)) = (template(self.newest.as_ref()), template(self.before())) else {
            return false;
        };
        newest != before && without_restarts(newest) == without_restarts(before)
    }
}

/// Those of `all` that the object of `owner` owns.
pub fn owned_by<'a, K>(owner: &ObjectMeta, all: &'a [K], metadata: impl Fn(&K) -> &ObjectMeta) -> Vec<&'a K> {
    let is_owner = |metadata: &ObjectMeta| {
        metadata.owner_references.iter().flatten().any(|reference| Some(&reference.uid) == owner.uid.as_ref())
    };
    all.iter().filter(|object| is_owner(metadata(object))).collect()
}

/// Whether the controller has seen the newest spec.
pub fn is_observed(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.is_some_and(|observed| Some(observed) >= metadata.generation)
}

fn in_force_since(deployment: &Deployment, newest: &ReplicaSet) -> Option<Timestamp> {
    let created = created(&newest.metadata);
    if annotation(&newest.metadata, EARLIER_REVISIONS).is_none() {
        return created;
    }
    // Rolled back to: it is older than its present turn. The last progress is the best that is known then.
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    let progressing = conditions.into_iter().flatten().find(|condition| condition.type_ == "Progressing");
    let progress = progressing.and_then(|condition| condition.last_update_time.as_ref()).map(|time| time.0);
    progress.max(created)
}

/// The same without what a restart writes, and without what the controllers add for themselves.
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
