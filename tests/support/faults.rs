//! A proxy to the API server that parses requests: one write gets a planned fault, all other requests pass.
//!
//! It speaks plain HTTP to the operator, over loopback, and TLS to the API server.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::{World, text};

/// Matches every name: a plan for the first matching write.
pub(crate) const ANY: &str = "*";

const CONNECTORS: &str = "/connectors/";
const BACKENDS: &str = "/monitoredbackends/";

type Body = BoxBody<Bytes, hyper::Error>;

/// The fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with this code and reason, and never reaches the API server.
    Refused(u16, &'static str),
    /// Another client changes the object right before it, so that the API server itself refuses it.
    Overtaken,
    /// It does not reach the API server, and is never answered.
    Withheld,
    /// It is held on its way until the test releases it.
    Held,
    /// The API server processes it, and the connection ends before its answer.
    Lost,
    /// The API server processes it, and the answer never comes.
    DoneAndWithheld,
    /// It never reaches the API server, and its connection ends.
    Reset,
    /// It is refused with code 500, and a text that is another one each time.
    Varies,
}

/// A kind of request that gets a fault until the test ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A status is replaced.
    Status,
    /// A token Secret is written.
    Secret,
    Event,
    /// A Deployment is patched.
    Restart,
    /// A pod of a Deployment is evicted.
    Eviction,
    /// The ConfigMap of the breaker is written.
    Breaker,
}

/// A status write, or a restart, that the operator sent.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) name: String,
    /// The state in it; empty for a checkpoint, which has none, and for a restart.
    pub(crate) state: String,
    /// The progress of the remedy in it: the phase of the attempt, or the outcome of the newest one; `Patch` for the
    /// restart itself.
    pub(crate) remedy: String,
    /// The API server's status code; `None` when the request never reached it.
    pub(crate) code: Option<u16>,
}

/// The fault of the first write with this `state` or progress for the Connector, MonitoredBackend or workload `name`.
#[derive(Clone, Debug)]
struct Planned {
    name: String,
    state: String,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Book {
    planned: Vec<Planned>,
    /// The delay of each checkpoint.
    checkpoints_take: Duration,
    writes: Vec<Write>,
    /// By the name of the object that the request is about.
    lasting: Vec<(Call, String, Fault)>,
    /// The requests of [`Call`], by the names of their objects.
    calls: Vec<(Call, String)>,
    /// The members that are dropped from each replaced status, as by older definitions.
    dropped: Vec<&'static str>,
}

#[derive(Clone)]
pub(crate) struct Faults {
    pub(crate) address: SocketAddr,
    book: Arc<Mutex<Book>>,
    released: tokio::sync::watch::Sender<bool>,
    server: SocketAddr,
    tls: TlsConnector,
    /// Changes objects as another client.
    connectors: Api<DynamicObject>,
    backends: Api<DynamicObject>,
}

impl Faults {
    /// A proxy to the API server of `world`.
    pub(crate) async fn before(world: &World) -> Self {
        let (server, authority) = world.cluster.server();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, connectors, backends) = (connector(&authority), world.connectors(), world.backends());
        let released = tokio::sync::watch::channel(false).0;
        let faults = Self { address, book: Arc::default(), released, server, tls, connectors, backends };
        let serving = faults.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let faults = serving.clone();
                let service = service_fn(move |request| faults.clone().pass(request));
                let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service);
                // Some faults end a connection with an error on purpose.
                tokio::spawn(async move { drop(serve.await) });
            }
        });
        faults
    }

    /// Plans `fault` for the first write with this `state` or progress for the Connector, MonitoredBackend or workload
    /// `name`; for the first of any name when `name` is [`ANY`].
    pub(crate) fn plan(&self, name: &str, state: &str, fault: Fault) {
        let planned = Planned { name: name.to_owned(), state: state.to_owned(), fault };
        self.book.lock().unwrap().planned.push(planned);
    }

    /// Delays each checkpoint by this much before it reaches the API server.
    pub(crate) fn slow_checkpoints(&self, takes: Duration) {
        self.book.lock().unwrap().checkpoints_take = takes;
    }

    /// From now on each request of this kind about the object `name` gets `fault`.
    pub(crate) fn begin(&self, call: Call, name: &str, fault: Fault) {
        self.book.lock().unwrap().lasting.push((call, name.to_owned(), fault));
    }

    /// Ends all faults that last.
    pub(crate) fn end(&self) {
        self.book.lock().unwrap().lasting.clear();
    }

    /// The number of requests of this kind about the object `name`.
    pub(crate) fn calls(&self, call: Call, name: &str) -> usize {
        self.book.lock().unwrap().calls.iter().filter(|(kind, of)| (*kind, &**of) == (call, name)).count()
    }

    /// Drops the members at these JSON pointers from each status that is replaced, as an API server does whose definitions
    /// do not have them.
    pub(crate) fn drop_members(&self, pointers: &[&'static str]) {
        self.book.lock().unwrap().dropped = pointers.to_vec();
    }

    /// Cancels the plans that have not happened yet.
    pub(crate) fn forget_plans(&self) {
        self.book.lock().unwrap().planned.clear();
    }

    /// Releases the held requests, and holds none until [`Faults::hold_again`].
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// From now on planned requests are held again.
    pub(crate) fn hold_again(&self) {
        self.released.send_replace(false);
    }

    pub(crate) fn writes(&self) -> Vec<Write> {
        self.book.lock().unwrap().writes.clone()
    }

    async fn pass(self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let is_write = [Method::PUT, Method::PATCH].contains(&head.method);
        let status = head.uri.path().strip_suffix("/status").filter(|path| is_ours(path));
        let restart = Some(head.uri.path()).filter(|path| path.contains("/deployments/"));
        let object = status.or(restart).filter(|_| is_write);
        let call = call(&head.method, head.uri.path());
        if object.is_none() && call.is_none() {
            return self.forward(Request::from_parts(head, body.boxed())).await;
        }
        let mut bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let mut said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Some(call) = call {
            let fault = self.note_call(call, &subject(call, head.uri.path(), &said));
            match fault {
                Some(Fault::Reset) => return Err(io::Error::other("the connection ends")),
                Some(Fault::Withheld) => return std::future::pending().await,
                Some(Fault::Refused(code, reason)) => return Ok(refusal(code, reason)),
                Some(Fault::Varies) => {
                    let number = self.book.lock().unwrap().calls.len();
                    let text = format!("dial tcp 192.0.2.1:443: connect from 192.0.2.2:{number}: reset");
                    return Ok(refusal(500, &text));
                }
                _ => {}
            }
        }
        if call == Some(Call::Status) && self.drop_from(&mut said) {
            bytes = said.to_string().into();
            // Its length is another one.
            let mut head = head;
            head.headers.remove("content-length");
            return self.forward(Request::from_parts(head, full(bytes))).await;
        }
        let Some(name) = object.and_then(|path| path.rsplit('/').next()).map(str::to_owned) else {
            return self.forward(Request::from_parts(head, full(bytes))).await;
        };
        let (fault, number) = self.note(&name, text(&said, "/status/state"), remedy(&said));
        let request = Request::from_parts(head, full(bytes));
        // Runs to its end even when the operator stops waiting: the test must know the API server's result.
        let done = tokio::spawn(async move { self.suffer(fault, request, number).await });
        done.await.map_err(io::Error::other)?
    }

    async fn suffer(self, fault: Option<Fault>, request: Request<Body>, number: usize) -> io::Result<Response<Body>> {
        match fault {
            None => self.write(request, number).await,
            Some(Fault::Refused(code, reason)) => Ok(refusal(code, reason)),
            Some(Fault::Withheld) => std::future::pending().await,
            Some(Fault::Reset) => Err(io::Error::other("the connection ends")),
            Some(Fault::Varies) => Ok(refusal(500, "InternalError")),
            Some(Fault::Held) => {
                // It never fails: the sender lives as long as the proxy.
                let _ = self.released.subscribe().wait_for(|released| *released).await;
                self.write(request, number).await
            }
            Some(Fault::Overtaken) => {
                let name = self.book.lock().unwrap().writes[number].name.clone();
                let change = Patch::Merge(json!({"metadata": {"annotations": {"test.vigie.dev/overtaken": "true"}}}));
                let is_backend = request.uri().path().contains(BACKENDS);
                let objects = if is_backend { &self.backends } else { &self.connectors };
                let changed = objects.patch(&name, &PatchParams::default(), &change).await;
                changed.map_err(io::Error::other)?;
                self.write(request, number).await
            }
            Some(fault @ (Fault::Lost | Fault::DoneAndWithheld)) => {
                let answer = self.write(request, number).await?;
                answer.into_body().collect().await.map_err(io::Error::other)?;
                if fault == Fault::DoneAndWithheld {
                    std::future::pending::<()>().await;
                }
                Err(io::Error::other("the answer is lost"))
            }
        }
    }

    fn note_call(&self, call: Call, name: &str) -> Option<Fault> {
        let mut book = self.book.lock().unwrap();
        book.calls.push((call, name.to_owned()));
        let is_it = |(kind, of, _): &&(Call, String, Fault)| (*kind, &**of) == (call, name);
        book.lasting.iter().find(is_it).map(|(_, _, fault)| *fault)
    }

    /// Drops the members that older definitions do not have; returns whether there were any.
    fn drop_from(&self, said: &mut Value) -> bool {
        let dropped = self.book.lock().unwrap().dropped.clone();
        let drop_one = |said: &mut Value, pointer: &str| {
            let (parent, member) = pointer.rsplit_once('/').expect("a pointer has a parent");
            let parent = said.pointer_mut(parent).and_then(Value::as_object_mut);
            parent.is_some_and(|parent| parent.remove(member).is_some())
        };
        dropped.into_iter().filter(|pointer| drop_one(said, pointer)).count() > 0
    }

    /// Records a write; returns its fault and its number.
    fn note(&self, name: &str, state: &str, remedy: &str) -> (Option<Fault>, usize) {
        let mut book = self.book.lock().unwrap();
        let (said, far) = (state.to_owned(), remedy.to_owned());
        book.writes.push(Write { name: name.to_owned(), state: said, remedy: far, code: None });
        let is_it =
            |planned: &Planned| [name, ANY].contains(&&*planned.name) && [state, remedy].contains(&&*planned.state);
        let planned = book.planned.iter().position(is_it);
        let fault = planned.map(|at| book.planned.remove(at).fault);
        (fault, book.writes.len() - 1)
    }

    async fn write(&self, request: Request<Body>, number: usize) -> io::Result<Response<Body>> {
        if request.method() == Method::PATCH && request.uri().path().ends_with("/status") {
            let takes = self.book.lock().unwrap().checkpoints_take;
            tokio::time::sleep(takes).await;
        }
        let answer = self.forward(request).await?;
        self.book.lock().unwrap().writes[number].code = Some(answer.status().as_u16());
        Ok(answer)
    }

    /// Forwards a request over a connection of its own.
    async fn forward(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        let socket = TcpStream::connect(self.server).await?;
        let stream = self.tls.connect(ServerName::from(self.server.ip()), socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        Ok(answer.map(|body| body.boxed()))
    }
}

/// The kind of a request that may get a fault that lasts.
fn call(method: &Method, path: &str) -> Option<Call> {
    match *method {
        Method::PUT if path.ends_with("/status") && is_ours(path) => Some(Call::Status),
        Method::POST | Method::PUT if path.contains("/secrets") => Some(Call::Secret),
        Method::POST if path.ends_with("/events") => Some(Call::Event),
        Method::PATCH if path.contains("/deployments/") => Some(Call::Restart),
        Method::POST if path.ends_with("/eviction") => Some(Call::Eviction),
        Method::POST | Method::PATCH if path.contains("/configmaps") => Some(Call::Breaker),
        _ => None,
    }
}

/// The name of the object that a request is about.
fn subject(call: Call, path: &str, said: &Value) -> String {
    let last = path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default();
    match call {
        Call::Status | Call::Restart => last.to_owned(),
        Call::Secret => text(said, "/metadata/name").trim_end_matches("-connector-token").to_owned(),
        Call::Event => text(said, "/regarding/name").to_owned(),
        Call::Breaker => "vigie-breaker".to_owned(),
        Call::Eviction => {
            // The Deployment of the pod: its name without the hashes of the ReplicaSet and of the pod.
            let pod = path.trim_end_matches("/eviction").rsplit('/').next().unwrap_or_default();
            pod.rsplitn(3, '-').nth(2).unwrap_or(pod).to_owned()
        }
    }
}

/// Whether a path is that of a Connector or a MonitoredBackend.
fn is_ours(path: &str) -> bool {
    [CONNECTORS, BACKENDS].iter().any(|plural| path.contains(plural))
}

/// The progress of a remedy in a written status.
fn remedy(said: &Value) -> &str {
    if said.is_array() {
        return "Patch";
    }
    let phase = text(said, "/status/remediation/current/phase");
    if phase.is_empty() { text(said, "/status/remediation/history/0/outcome") } else { phase }
}

/// Trusts `authority`, base64 of PEM, and no other.
fn connector(authority: &str) -> TlsConnector {
    let pem = base64::engine::general_purpose::STANDARD.decode(authority).expect("a kubeconfig's authority is base64");
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.expect("it is PEM")).expect("it is an authority's");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring speaks TLS 1.3").with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// An error in the API server's format. Its details name no object, as those of a failed test of a JSON patch (422) and of an
/// unknown kind (404).
fn refusal(code: u16, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
        "message": format!("the test says {reason}"), "details": {"retryAfterSeconds": 1},
    });
    let answer = Response::builder().status(code).header("content-type", "application/json").header("retry-after", "1");
    answer.body(full(status.to_string().into())).expect("its parts are constants")
}
