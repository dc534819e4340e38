//! One read from the API server: its result is the object, or the reason why it is missing.

use std::time::Duration;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::{CALL_TIMEOUT, CallError, NamespacedObject, Permission, within};
use crate::diagnosis::evidence::Lookup;

/// Maximum size of a log that is read, in bytes.
const MAX_LOG: i64 = 16 << 10;

/// Reads for one incident. Each call has a time limit, and no failure affects the other reads.
pub(super) struct ClusterReader {
    client: Client,
    limit: Duration,
}

impl ClusterReader {
    pub(super) fn new(client: Client) -> Self {
        Self { client, limit: CALL_TIMEOUT }
    }

    /// Reads one object by its name.
    pub(super) async fn get<K: NamespacedObject>(&self, namespace: &str, name: &str) -> Lookup<K> {
        let permission = Permission::new::<K>("get", Some(namespace));
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.lookup(&permission, &format!("{namespace}/{name}"), api.get(name)).await
    }

    /// Reads the metadata of an object, without its data.
    pub(super) async fn get_metadata<K: NamespacedObject>(&self, namespace: &str, name: &str) -> Lookup<ObjectMeta> {
        let permission = Permission::new::<K>("get", Some(namespace));
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let get = async { api.get_metadata(name).await.map(|found| found.metadata) };
        self.lookup(&permission, &format!("{namespace}/{name}"), get).await
    }

    /// Reads one cluster-scoped object.
    pub(super) async fn get_global<K>(&self, name: &str) -> Lookup<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let permission = Permission::new::<K>("get", None);
        let api: Api<K> = Api::all(self.client.clone());
        self.lookup(&permission, name, api.get(name)).await
    }

    /// Lists one page of objects of a namespace; `params` sets selector and limit.
    pub(super) async fn list<K: NamespacedObject>(&self, namespace: &str, params: &ListParams) -> Lookup<Vec<K>> {
        let permission = Permission::new::<K>("list", Some(namespace));
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let list = async { api.list(params).await.map(|list| list.items) };
        self.lookup(&permission, &format!("namespace {namespace}"), list).await
    }

    /// Lists the metadata of one page of objects of a namespace.
    pub(super) async fn list_metadata<K: NamespacedObject>(
        &self,
        namespace: &str,
        params: &ListParams,
    ) -> Lookup<Vec<ObjectMeta>> {
        let permission = Permission::new::<K>("list", Some(namespace));
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let list = async { Ok(api.list_metadata(params).await?.items.into_iter().map(|item| item.metadata).collect()) };
        self.lookup(&permission, &format!("namespace {namespace}"), list).await
    }

    /// Reads the last lines of a container's log; `is_previous` selects its previous run.
    pub(super) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        is_previous: bool,
        lines: u32,
    ) -> Lookup<String> {
        let permission = Permission { verb: "get", resource: "pods/log".to_owned(), namespace: Some(namespace) };
        let params = LogParams {
            container: Some(container.to_owned()),
            previous: is_previous,
            tail_lines: Some(i64::from(lines)),
            limit_bytes: Some(MAX_LOG),
            ..Default::default()
        };
        let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client.clone(), namespace);
        self.lookup(&permission, &format!("{namespace}/{pod}"), api.logs(pod, &params)).await
    }

    async fn lookup<T>(
        &self,
        permission: &Permission<'_>,
        of: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Lookup<T> {
        let doing = format!("reading {} of {of}", permission.resource);
        match within(&doing, self.limit, call).await {
            Ok(found) => Lookup::Found(found),
            Err(CallError::NotFound) => Lookup::Absent,
            Err(CallError::Forbidden(_)) => Lookup::Forbidden(permission.refused()),
            // These messages name the object already.
            Err(error @ (CallError::Timeout { .. } | CallError::Other { .. })) => Lookup::Failed(error.to_string()),
            Err(error) => Lookup::Failed(format!("{doing}: {error}")),
        }
    }
}

impl<T> Lookup<T> {
    /// Converts the value that was found; other states stay.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::NotLooked => Lookup::NotLooked,
            Self::Forbidden(why) => Lookup::Forbidden(why),
            Self::Failed(why) => Lookup::Failed(why),
            Self::Absent => Lookup::Absent,
            Self::Found(found) => Lookup::Found(make(found)),
        }
    }
}
