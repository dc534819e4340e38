//! The RBAC permission that a call needs, for messages to the author of the RoleBinding.

use kube::Resource;

/// A verb, a resource and a namespace.
#[derive(Clone, Debug)]
pub struct Permission<'a> {
    /// As in RBAC: `get`, `list`.
    pub verb: &'static str,
    /// As in RBAC and `kubectl auth can-i`: `pods`, `replicasets.apps`.
    pub resource: String,
    /// `None` for cluster-scoped resources.
    pub namespace: Option<&'a str>,
}

impl<'a> Permission<'a> {
    /// The permission for `verb` on objects of this kind.
    pub fn new<K: Resource<DynamicType = ()>>(verb: &'static str, namespace: Option<&'a str>) -> Self {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
        Self { verb, resource, namespace }
    }

    /// A sentence for a missing permission, with the command that checks it.
    pub fn refused(&self) -> String {
        let Self { verb, resource, namespace } = self;
        match namespace {
            Some(namespace) => format!(
                "RBAC does not allow to {verb} {resource} in namespace {namespace} \
                 (check: kubectl auth can-i {verb} {resource} -n {namespace})"
            ),
            None => format!("RBAC does not allow to {verb} {resource} (check: kubectl auth can-i {verb} {resource})"),
        }
    }
}
