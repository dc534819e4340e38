//! The rights of the operators under test: those of the shipped role files, and no more.

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::world::{ACCOUNTS, SOON};
use super::{World, eventually};

/// The rights for one namespace.
const NAMESPACED: &str = include_str!("../../config/rbac/namespaced.yaml");
/// The rights for a whole cluster.
const CLUSTER: &str = include_str!("../../config/rbac/cluster.yaml");
/// The rights for restarts.
const RESTART: &str = include_str!("../../config/rbac/restart.yaml");

/// The Role that a test revokes so that the operator may do everything except write status.
const STATUS: &str = "vigie-status";

/// The objects of this kind in a role file.
fn documents<K: DeserializeOwned>(file: &str, kind: &str) -> Vec<K> {
    let of_kind = file.split("\n---\n").filter(|document| document.contains(&format!("kind: {kind}\n")));
    of_kind.map(|document| serde_saphyr::from_str(document).expect("a role file holds roles")).collect()
}

/// The shipped Roles for `--namespace`.
pub(crate) fn namespaced() -> Vec<Role> {
    documents(NAMESPACED, "Role")
}

/// The shipped ClusterRoles for the whole cluster, including restarts; those of cluster.yaml are last.
pub(crate) fn of_the_cluster() -> Vec<ClusterRole> {
    [RESTART, CLUSTER].into_iter().flat_map(|file| documents(file, "ClusterRole")).collect()
}

/// The Role that belongs to the ClusterRoles.
pub(crate) fn of_the_leader() -> Role {
    documents(CLUSTER, "Role").pop().expect("cluster.yaml holds one Role")
}

/// Moves the right to write status into a Role of its own, so that it can be revoked.
fn apart(role: Role) -> Vec<Role> {
    let is_status = |rule: &PolicyRule| rule.resources.iter().flatten().any(|resource| resource.ends_with("/status"));
    let (status, others): (Vec<_>, Vec<_>) = role.rules.iter().flatten().cloned().partition(is_status);
    if status.is_empty() {
        return vec![role];
    }
    let mut second = role.clone();
    second.metadata.name = Some(STATUS.to_owned());
    [(role, others), (second, status)].map(|(role, rules)| Role { rules: Some(rules), ..role }).into()
}

/// A rule, from the format of a role file.
pub(crate) fn rule(rule: Value) -> PolicyRule {
    serde_json::from_value(rule).expect("a rule")
}

impl World {
    /// Gives the operators the rights for this namespace.
    pub(crate) async fn add_rights(&self) {
        let roles: Vec<Role> = namespaced().into_iter().flat_map(apart).collect();
        for role in &roles {
            self.add_role(role.clone()).await;
        }
        let last = roles.last().and_then(|role| role.rules.as_ref()?.last()).expect("roles have rules");
        for account in ACCOUNTS {
            self.heeded(account, last).await;
        }
    }

    /// Waits until the API server allows a ServiceAccount of this namespace what a rule says. The API server watches
    /// roles and bindings in order and forbids until it has seen them: when it allows the last rule it allows all.
    pub(crate) async fn heeded(&self, account: &str, rule: &PolicyRule) {
        self.allows(account, rule, true).await;
    }

    /// Waits until the API server no longer allows it.
    pub(crate) async fn heeded_no_more(&self, account: &str, rule: &PolicyRule) {
        self.allows(account, rule, false).await;
    }

    async fn allows(&self, account: &str, rule: &PolicyRule, expected: bool) {
        let first = |of: &Option<Vec<String>>| of.as_ref().and_then(|all| all.first().cloned());
        let verb = rule.verbs.first().cloned();
        let resource = first(&rule.resources).map(|resource| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            ResourceAttributes {
                namespace: Some(self.ns.clone()),
                group: first(&rule.api_groups),
                resource: Some(resource.to_owned()),
                subresource: Some(subresource.to_owned()),
                name: first(&rule.resource_names),
                verb: verb.clone(),
                ..Default::default()
            }
        });
        let path = first(&rule.non_resource_urls).map(|path| NonResourceAttributes { path: Some(path), verb });
        let spec = SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{}:{account}", self.ns)),
            resource_attributes: resource,
            non_resource_attributes: path,
            ..Default::default()
        };
        let review = SubjectAccessReview { spec, ..Default::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        eventually(SOON, "the API server heeds a new rule", async || {
            let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
            let status = answer.status.unwrap_or_default();
            if status.allowed == expected { Ok(()) } else { Err(format!("{rule:?}: {status:?}")) }
        })
        .await;
    }

    /// Creates a user that has these rules in this namespace.
    pub(crate) async fn person(&self, name: &str, rules: Value) {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        self.api().create(&PostParams::default(), &account).await.expect("an account is made");
        self.allow(name, name, rules).await;
    }

    /// Gives a ServiceAccount of this namespace these rules by a Role of this name, from now on.
    pub(crate) async fn allow(&self, account: &str, role: &str, rules: Value) {
        let made: Role = serde_json::from_value(json!({"metadata": {"name": role}, "rules": rules})).unwrap();
        self.api().create(&PostParams::default(), &made).await.expect("a role is made");
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.ns}],
        }))
        .unwrap();
        self.api().create(&PostParams::default(), &binding).await.expect("a binding is made");
        self.heeded(account, made.rules.as_ref().and_then(|rules| rules.last()).expect("there is a rule")).await;
    }

    async fn add_role(&self, mut role: Role) {
        role.metadata.namespace = None;
        self.api::<Role>().create(&PostParams::default(), &role).await.expect("a role is made");
        self.grant(&role.name_any()).await;
    }

    /// Binds a Role to the operators.
    pub(crate) async fn grant(&self, role: &str) {
        let binding: RoleBinding = self.binding("RoleBinding", role, "Role", role);
        self.api::<RoleBinding>().create(&PostParams::default(), &binding).await.expect("a binding is made");
    }

    pub(crate) async fn revoke(&self, role: &str) {
        self.api::<RoleBinding>().delete(role, &Default::default()).await.expect("the binding is deleted");
    }

    /// Lets the operators use other Leases than `vigie`.
    pub(crate) async fn may_lead_by(&self, leases: impl IntoIterator<Item = String>) {
        let names: Vec<String> = leases.into_iter().collect();
        let role: Role = serde_json::from_value(json!({
            "metadata": {"name": "other-leases"},
            "rules": [{
                "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": names,
                "verbs": ["get", "update"],
            }],
        }))
        .unwrap();
        self.add_role(role).await;
    }

    /// Gives the operators the rights for a whole cluster instead of those for this namespace. Only for a cluster of
    /// this test's own.
    pub(crate) async fn exchange_rights_for_those_of_the_cluster(&self) {
        let mut leader = of_the_leader();
        leader.metadata.name = Some("leader-of-cluster-yaml".to_owned());
        self.add_role(leader).await;
        let roles = of_the_cluster();
        for role in &roles {
            let name = role.name_any();
            Api::all(self.client.clone()).create(&PostParams::default(), role).await.expect("a ClusterRole is made");
            let binding: ClusterRoleBinding = self.binding("ClusterRoleBinding", &name, "ClusterRole", &name);
            Api::all(self.client.clone()).create(&PostParams::default(), &binding).await.expect("a binding is made");
        }
        // No Role of this namespace contains the last rule.
        let last = roles.last().and_then(|role| role.rules.as_ref()?.last()).expect("roles have rules");
        for account in ACCOUNTS {
            self.heeded(account, last).await;
        }
        for role in namespaced().into_iter().flat_map(apart) {
            self.revoke(&role.name_any()).await;
        }
    }

    fn binding<K: DeserializeOwned>(&self, kind: &str, name: &str, role_kind: &str, role: &str) -> K {
        let subjects: Vec<Value> =
            ACCOUNTS.iter().map(|name| json!({"kind": "ServiceAccount", "name": name, "namespace": self.ns})).collect();
        let binding = json!({
            "kind": kind,
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
            "subjects": subjects,
        });
        serde_json::from_value(binding).expect("a binding")
    }
}
