//! The sources of a listing: the operator by its URL, the operator through the API server, or the status of the objects.

use anyhow::{Context, anyhow};
use axum::http::{HeaderName, HeaderValue, Request, Uri, header};
use kube::Client;
use serde::Deserialize;
use tokio::time::timeout;

use super::kind::ListedKind;
use super::status;
use crate::admin::FORWARDED_TOKEN;
use crate::cli::args::GetArgs;
use crate::cluster::{ConnectError, PersonalClient, connect_person, describe};
use crate::http::client;
use crate::view::Role;

/// The number of requests until one reaches the leader. The Service picks a replica at random: of two replicas the leader
/// is missed once in 64 times.
const TRIES: usize = 6;

/// Objects of one kind, sorted by namespace and name, and the source of the listing.
pub(super) struct Listing<V> {
    pub(super) items: Vec<V>,
    pub(super) origin: Origin,
}

/// The source of a listing.
pub(super) enum Origin {
    /// The operator; exact to the last heartbeat when the replica leads.
    Operator { standing: Role },
    /// The status in the API server; `because` says why the operator could not be read, if it was tried.
    Status { because: Option<String> },
}

impl Origin {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Operator { .. } => "operator",
            Self::Status { .. } => "status",
        }
    }
}

/// The response of the operator's admin port.
#[derive(Deserialize)]
struct Answer<V> {
    items: Vec<V>,
    leader: Role,
}

/// Reads the objects of one command.
pub(super) struct FleetReader {
    operator: Option<String>,
    operator_namespace: String,
    token: Option<String>,
    namespace: Option<String>,
    /// An error when there is no cluster; it matters only when `operator` does not answer.
    cluster: Result<Client, String>,
}

impl FleetReader {
    /// A reader for the flags of `args`.
    ///
    /// # Errors
    /// When the token file cannot be read, or neither an operator nor a cluster is known.
    pub(super) async fn new(args: &GetArgs) -> anyhow::Result<Self> {
        let token = match &args.operator_token_file {
            Some(file) => {
                let read = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                Some(read.trim().to_owned())
            }
            None => None,
        };
        let (cluster, default) = match connect_person(&args.connection).await {
            Ok(PersonalClient { client, default_namespace, .. }) => (Ok(client), Some(default_namespace)),
            // The operator alone can answer. A kubeconfig that is named and unusable is an error all the same: without
            // its namespace, every namespace would be listed.
            Err(error @ ConnectError::Nothing(_)) if args.operator.is_some() => (Err(error.to_string()), None),
            Err(error) => return Err(error.into()),
        };
        let namespace = args.namespace.clone().or(default).filter(|_| !args.all_namespaces);
        let (operator, operator_namespace) = (args.operator.clone(), args.operator_namespace.clone());
        Ok(Self { operator, operator_namespace, token, namespace, cluster })
    }

    /// The namespace that is read; `None` means all.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Reads all objects, or the one of that name: from the operator, or else from the status.
    ///
    /// # Errors
    /// When neither can be read.
    pub(super) async fn read<V: ListedKind>(&self, name: Option<&str>) -> anyhow::Result<Listing<V>> {
        let because = match V::SERVED_AT {
            None => None,
            Some(path) => match self.leader::<V>(path).await {
                Ok(Answer { mut items, leader }) => {
                    items.retain(|view| name.is_none_or(|name| view.key().1 == name));
                    return Ok(Listing { items, origin: Origin::Operator { standing: leader } });
                }
                Err(error) => Some(format!("{error:#}")),
            },
        };
        let client = self.cluster.as_ref().map_err(|why| match &because {
            Some(because) => anyhow!("operator not reachable ({because}), and no cluster: {why}"),
            None => anyhow!("no cluster, and {} are read from it alone: {why}", V::MANY),
        })?;
        let items = status::read(client, self.namespace(), name).await?;
        Ok(Listing { items, origin: Origin::Status { because } })
    }

    /// Reads from the leader. The Service routes to any replica, so the request is repeated until the leader answers, at
    /// most [`TRIES`] times.
    async fn leader<V: ListedKind>(&self, path: &str) -> anyhow::Result<Answer<V>> {
        let mut answer = self.operator::<V>(path).await?;
        for _ in 1..TRIES {
            if answer.leader != Role::Follower || self.operator.is_some() {
                break;
            }
            // A replica that does not answer does not invalidate the previous response.
            if let Ok(next) = self.operator::<V>(path).await {
                answer = next;
            }
        }
        Ok(answer)
    }

    async fn operator<V: ListedKind>(&self, path: &str) -> anyhow::Result<Answer<V>> {
        let query = self.namespace().map_or_else(String::new, |namespace| format!("?namespace={namespace}"));
        let body = match (&self.operator, &self.cluster) {
            (Some(url), _) => {
                let uri: Uri = format!("{url}{path}{query}").parse()?;
                client::get(&uri, self.header(header::AUTHORIZATION, "Bearer ")?).await?
            }
            (None, Ok(client)) => {
                let service = format!("/api/v1/namespaces/{}/services/http:vigie:admin", self.operator_namespace);
                self.through(client, &format!("{service}/proxy{path}{query}")).await?
            }
            (None, Err(why)) => return Err(anyhow!("{why}")),
        };
        serde_json::from_slice(&body).context("the answer cannot be read: is it a vigie of another version?")
    }

    /// Sends the request through the API server's service proxy, with the rights of the user.
    async fn through(&self, client: &Client, path: &str) -> anyhow::Result<hyper::body::Bytes> {
        let mut request = Request::get(path).body(kube::client::Body::empty())?;
        request.headers_mut().extend(self.header(HeaderName::from_static(FORWARDED_TOKEN), "")?);
        let response = timeout(client::RESPONSE_TIMEOUT, client.send(request)).await;
        let response = response.map_err(|_| anyhow!("no answer within {} s", client::RESPONSE_TIMEOUT.as_secs()))?;
        let response = response.map_err(|error| anyhow!("{}", describe(&error)))?;
        let (head, body) = response.into_parts();
        client::read_body(head.status, body).await
    }

    fn header(&self, name: HeaderName, scheme: &str) -> anyhow::Result<Option<(HeaderName, HeaderValue)>> {
        let Some(token) = &self.token else { return Ok(None) };
        let value = HeaderValue::try_from(format!("{scheme}{token}"));
        let mut value = value.map_err(|_| anyhow!("the token file holds characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower_test::mock;

    use super::super::connectors::tests::edge_1;
    use super::*;
    use crate::view::{BackendView, ConnectorView};

    type Server = mock::Handle<Request<Body>, Response<Body>>;

    fn reader(token: Option<&str>) -> (FleetReader, Server) {
        let (service, server) = mock::pair();
        let reader = FleetReader {
            operator: None,
            operator_namespace: "vigie".to_owned(),
            token: token.map(str::to_owned),
            namespace: Some("gateways".to_owned()),
            cluster: Ok(Client::new(service, "default")),
        };
        (reader, server)
    }

    async fn answer(server: &mut Server, status: u16, json: &Value) -> Request<Body> {
        let (request, send) = server.next_request().await.expect("another request");
        let body = Body::from(serde_json::to_vec(json).unwrap());
        send.send_response(Response::builder().status(StatusCode::from_u16(status).unwrap()).body(body).unwrap());
        request
    }

    #[tokio::test]
    async fn the_operator_is_asked_through_the_service_proxy() {
        let (reader, mut server) = reader(Some("t0ken"));
        let asked = tokio::spawn(async move { reader.read::<ConnectorView>(Some("edge-1")).await });
        let other = ConnectorView { name: "other".to_owned(), ..edge_1() };
        let items = [edge_1(), other];
        let request =
            answer(&mut server, 200, &json!({"items": items, "leader": "Leader", "source": "operator"})).await;
        let expected = "/api/v1/namespaces/vigie/services/http:vigie:admin/proxy/api/v1/connectors?namespace=gateways";
        assert_eq!(request.uri().to_string(), expected);
        assert_eq!(request.headers()[FORWARDED_TOKEN], "t0ken");
        let listing = asked.await.unwrap().unwrap();
        assert_eq!(listing.items, items[..1]);
        assert!(matches!(listing.origin, Origin::Operator { standing: Role::Leader }));
    }

    #[tokio::test]
    async fn a_replica_that_does_not_lead_is_asked_no_further_than_a_few_times() {
        let (reader, mut server) = reader(None);
        let asked = tokio::spawn(async move {
            let first = reader.read::<ConnectorView>(None).await;
            (first, reader.read::<ConnectorView>(None).await)
        });
        let said = |leader: &str| json!({"items": [edge_1()], "leader": leader, "source": "operator"});
        answer(&mut server, 200, &said("Follower")).await;
        answer(&mut server, 200, &said("Leader")).await;
        for _ in 0..TRIES {
            answer(&mut server, 200, &said("Follower")).await;
        }
        let (first, second) = asked.await.unwrap();
        assert!(matches!(first.unwrap().origin, Origin::Operator { standing: Role::Leader }));
        assert!(matches!(second.unwrap().origin, Origin::Operator { standing: Role::Follower }));
    }

    #[tokio::test]
    async fn without_an_operator_the_status_is_read_and_the_reason_kept() {
        let (reader, mut server) = reader(None);
        let asked = tokio::spawn(async move { reader.read::<ConnectorView>(None).await });
        let gone = json!({"kind": "Status", "message": "no endpoints available", "code": 503});
        assert!(!answer(&mut server, 503, &gone).await.headers().contains_key(FORWARDED_TOKEN));
        let item = |name: &str| json!({"metadata": {"namespace": "gateways", "name": name}, "spec": {}});
        let page = |name, next: &str| {
            json!({"apiVersion": "vigie.dev/v1alpha1", "kind": "ConnectorList",
                "metadata": {"continue": next}, "items": [item(name)]})
        };
        let request = answer(&mut server, 200, &page("b", "more")).await;
        assert_eq!(request.uri().path(), "/apis/vigie.dev/v1alpha1/namespaces/gateways/connectors");
        let request = answer(&mut server, 200, &page("a", "")).await;
        assert!(request.uri().query().is_some_and(|query| query.contains("continue=more")), "{}", request.uri());
        let listing = asked.await.unwrap().unwrap();
        assert_eq!(listing.items.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let Origin::Status { because } = listing.origin else { panic!("the operator did not answer") };
        assert_eq!(because.as_deref(), Some("503: no endpoints available"));
    }

    #[tokio::test]
    async fn backends_are_read_from_the_operator_or_else_from_their_status() {
        let (reader, mut server) = reader(Some("t0ken"));
        let asked = tokio::spawn(async move { reader.read::<BackendView>(Some("shop")).await });
        let list = json!({"apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackendList", "metadata": {},
            "items": [{"metadata": {"namespace": "gateways", "name": "shop"}, "spec": {}, "status": {"state": "Up"}}]});
        let refused = json!({"kind": "Status", "code": 503, "message": "no endpoints available", "status": "Failure", "reason": "ServiceUnavailable"});
        let request = answer(&mut server, 503, &refused).await;
        assert!(request.uri().path().ends_with("/proxy/api/v1/backends"), "{}", request.uri());
        let request = answer(&mut server, 200, &list).await;
        assert_eq!(request.uri().path(), "/apis/vigie.dev/v1alpha1/namespaces/gateways/monitoredbackends");
        assert!(request.uri().query().is_some_and(|query| query.contains("metadata.name%3Dshop")), "{}", request.uri());
        let listing = asked.await.unwrap().unwrap();
        assert_eq!(listing.items[0].state, crate::api::BackendState::Up);
        assert!(matches!(listing.origin, Origin::Status { because: Some(_) }));
    }

    #[tokio::test]
    async fn a_cluster_without_our_kind_is_told_as_such() {
        let (reader, mut server) = reader(None);
        let asked = tokio::spawn(async move { reader.read::<ConnectorView>(None).await });
        // In plain text, as a real API server says it of a group that it does not know.
        let missing = json!("404 page not found");
        answer(&mut server, 404, &missing).await;
        answer(&mut server, 404, &missing).await;
        let error = format!("{:#}", asked.await.unwrap().err().unwrap());
        assert!(error.contains("are vigie's CRDs installed?"), "{error}");
    }
}
