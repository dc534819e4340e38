//! One probe: dialled as a new client would, phase by phase, so that a failure says how far it got.
//!
//! Nothing in here knows Kubernetes. What is asked is a [`Request`], what is known afterwards an [`Outcome`].

pub mod actuator;
mod connect;
#[cfg(test)]
mod fake;
mod grpc;
mod http;
mod literal;
pub mod outcome;
pub mod page;
pub mod policy;
pub mod request;
pub mod resolve;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod trace;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::timeout;

pub use outcome::{Failure, Outcome, Page, Seen, Spent, shown};
pub use policy::Policy;
pub use request::{HttpOptions, Method, MetricsOptions, Request, Scheme, Target, TlsOptions};
pub use resolve::{Resolve, System, Unresolved};

use crate::api::{ErrorClass, Phase};
use stream::{Stream, Watched};
use tls::Protocol;
use trace::ProbeTrace;

/// What bounds a probe beside its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a name may take to resolve.
    pub resolve: Duration,
    /// How large the head of an answer may be, in bytes.
    pub head_bytes: usize,
    /// How many headers it may have.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Five seconds is resolv.conf's own patience with a server; 64 KiB of headers is more than servers of any kind
        // send.
        Self { resolve: Duration::from_secs(5), head_bytes: 64 << 10, headers: 256 }
    }
}

/// What probes: the one dialler for all that an object may aim at.
pub struct Prober {
    resolver: Box<dyn Resolve>,
    policy: RwLock<Arc<Policy>>,
    configs: tls::Configs,
    limits: Limits,
}

impl Prober {
    /// One that resolves as the system does and dials what `policy` allows.
    pub fn new(policy: Policy) -> Self {
        Self::resolving(policy, System::default())
    }

    /// One with a resolver of its own.
    pub fn resolving(policy: Policy, resolver: impl Resolve) -> Self {
        Self {
            resolver: Box::new(resolver),
            policy: RwLock::new(Arc::new(policy)),
            configs: tls::Configs::default(),
            limits: Limits::default(),
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Replaces the policy, for every address that is judged from now on.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write() = Arc::new(policy);
    }

    /// The policy that holds.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().clone()
    }

    /// The addresses of a name, as a probe would find them. Nothing is dialled, and no policy judges them.
    ///
    /// # Errors
    /// Why it has none for us.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        self.resolver.resolve(host).await
    }

    /// Probes once. Ends within the request's timeout, and leaves nothing behind when it is dropped before.
    pub async fn probe(&self, request: &Request) -> Outcome {
        let mut way = ProbeTrace::begin();
        let result = match timeout(request.timeout, self.go(request, &mut way)).await {
            Ok(result) => result,
            Err(_) => Err(way.out_of_time(request.timeout)),
        };
        way.end(result)
    }

    async fn go(&self, request: &Request, way: &mut ProbeTrace) -> Result<(), Failure> {
        match request.target.scheme {
            Scheme::Tcp => self.connect(&request.target, way).await.map(drop),
            Scheme::Http | Scheme::Https => http::probe(self, request, way).await,
            // In a box: the others need not carry what this one takes.
            Scheme::Grpc | Scheme::Grpcs => Box::pin(grpc::probe(self, request, way)).await,
        }
    }

    /// A new connection, with TLS where the scheme says so, and the watch over what comes out of it.
    async fn open(
        &self,
        request: &Request,
        protocol: Protocol,
        way: &mut ProbeTrace,
    ) -> Result<Box<dyn Stream>, Failure> {
        let (stream, wire) = self.connect(&request.target, way).await?;
        if !request.target.scheme.is_tls() {
            way.answer = Some(wire);
            return Ok(Box::new(stream));
        }
        way.enter(Phase::TLS);
        let stream =
            Box::pin(tls::encrypt(&self.configs, &request.target, &request.tls, protocol, stream, way)).await?;
        let (stream, answer) = Watched::new(stream);
        way.answer = Some(answer);
        Ok(Box::new(stream))
    }

    async fn connect(
        &self,
        target: &Target,
        way: &mut ProbeTrace,
    ) -> Result<(Watched<tokio::net::TcpStream>, Arc<stream::Watch>), Failure> {
        let addresses = self.resolve(target, way).await?;
        way.enter(Phase::Policy);
        let addresses = self.admit(target, &addresses, way)?;
        way.enter(Phase::Connect);
        let Some((address, stream)) = connect::connect(&addresses, &mut way.tried).await else {
            return Err(connect::failure(&way.tried, None));
        };
        way.seen.address = Some(address);
        let (stream, wire) = Watched::new(stream);
        way.wire = Some(wire.clone());
        Ok((stream, wire))
    }

    async fn resolve(&self, target: &Target, way: &ProbeTrace) -> Result<Vec<IpAddr>, Failure> {
        if let Some(address) = target.address.or_else(|| literal::address(&target.host)) {
            return Ok(vec![address]);
        }
        let patience = self.limits.resolve;
        let found = timeout(patience, self.resolver.resolve(&target.host)).await.unwrap_or(Err(Unresolved::TimedOut));
        let name = &target.host;
        match found {
            Ok(addresses) if !addresses.is_empty() => Ok(connect::in_turns(addresses)),
            Ok(_) | Err(Unresolved::NotFound) => {
                Err(way.fails(ErrorClass::DNSNotFound, format!("{name} does not exist, or has no address")))
            }
            Err(Unresolved::Failed(why)) => {
                Err(way.fails(ErrorClass::DNSFailure, format!("{name} could not be resolved: {why}")))
            }
            Err(Unresolved::TimedOut) => {
                Err(way.fails(ErrorClass::DNSTimeout, format!("the resolver gave no answer in time for {name}")))
            }
            Err(Unresolved::Crowded) => Err(way.fails(
                ErrorClass::DNSTimeout,
                format!("{name} was not asked for: too many other names wait for the resolver"),
            )),
        }
    }

    /// Of `addresses` those that may be dialled: they are, and no other is.
    fn admit(&self, target: &Target, addresses: &[IpAddr], way: &ProbeTrace) -> Result<Vec<SocketAddr>, Failure> {
        let policy = self.policy();
        let mut admitted = Vec::new();
        let mut refused = Vec::new();
        for address in addresses {
            let judged = policy.judge(*address, target.port, target.is_own).and_then(|()| {
                if policy.guards(target.port) && is_of_this_machine(*address) {
                    return Err(format!("{address} may not be dialled: port {} here is vigie's own", target.port));
                }
                Ok(())
            });
            match judged {
                Ok(()) => admitted.push(SocketAddr::new(*address, target.port)),
                Err(why) => refused.push(why),
            }
        }
        if admitted.is_empty() { Err(way.fails(ErrorClass::Denied, refused.join("; "))) } else { Ok(admitted) }
    }
}

/// Whether `address` is one of this machine's own. Asks the kernel from where it would send: to its own addresses, from
/// themselves. Nothing is sent.
fn is_of_this_machine(address: IpAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let from = UdpSocket::bind(any).and_then(|socket| {
        // Any port: it is an address that is asked about.
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip().to_canonical() == address.to_canonical())
}
