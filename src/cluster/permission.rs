//! What RBAC must allow for one call, for whoever writes the RoleBinding.

use kube::Resource;

/// A verb, a resource and a namespace.
#[derive(Clone, Debug)]
pub struct Permission<'a> {
    /// As RBAC names it: `get`, `list`.
    pub verb: &'static str,
    /// As RBAC and `kubectl auth can-i` name it: `pods`, `replicasets.apps`.
    pub resource: String,
    /// `None` for what lives in no namespace.
    pub namespace: Option<&'a str>,
}

impl<'a> Permission<'a> {
    /// What `verb` on objects of this kind needs.
    pub fn new<K: Resource<DynamicType = ()>>(verb: &'static str, namespace: Option<&'a str>) -> Self {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
        Self { verb, resource, namespace }
    }

    /// The sentence that says that it is missing, with the command that checks it.
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
