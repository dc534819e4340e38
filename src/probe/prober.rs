//! The prober: resolves the target, applies the address policy, connects, and runs the protocol of its scheme.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::limits::Limits;
use super::outcome::{Failure, Outcome};
use super::policy::Policy;
use super::request::{Request, Scheme, Target};
use super::resolve::{Resolve, SystemResolver, Unresolved};
use super::stream::{Received, RecordedStream, Stream};
use super::tls::{self, Protocol};
use super::trace::ProbeTrace;
use super::{connect, grpc, http, literal};
use crate::api::{ErrorClass, Phase};

/// Probes targets of every scheme.
pub struct Prober {
    resolver: Box<dyn Resolve>,
    policy: RwLock<Arc<Policy>>,
    configs: tls::Configs,
    pub(super) limits: Limits,
}

impl Prober {
    /// Creates a prober that uses the resolver of the system and dials what `policy` allows.
    pub fn new(policy: Policy) -> Self {
        Self::resolving(policy, SystemResolver::default())
    }

    /// Creates a prober with the given resolver.
    pub fn resolving(policy: Policy, resolver: impl Resolve) -> Self {
        Self {
            resolver: Box::new(resolver),
            policy: RwLock::new(Arc::new(policy)),
            configs: tls::Configs::default(),
            limits: Limits::default(),
        }
    }

    /// Replaces the limits.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Replaces the policy for every address that is checked from now on.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write() = Arc::new(policy);
    }

    /// The current policy.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().clone()
    }

    /// Resolves a name as a probe does. Dials nothing and applies no policy.
    ///
    /// # Errors
    /// Why the name did not resolve.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        self.resolver.resolve(host).await
    }

    /// Probes once, within the request's timeout. A dropped future leaves nothing behind.
    pub async fn probe(&self, request: &Request) -> Outcome {
        let mut trace = ProbeTrace::begin();
        let result = match timeout(request.timeout, self.run(request, &mut trace)).await {
            Ok(result) => result,
            Err(_) => Err(trace.timeout_failure(request.timeout)),
        };
        trace.end(result)
    }

    async fn run(&self, request: &Request, trace: &mut ProbeTrace) -> Result<(), Failure> {
        match request.target.scheme {
            Scheme::Tcp => self.connect(&request.target, trace).await.map(drop),
            Scheme::Http | Scheme::Https => http::probe(self, request, trace).await,
            // Boxed, so that the futures of the other schemes do not grow to its size.
            Scheme::Grpc | Scheme::Grpcs => Box::pin(grpc::probe(self, request, trace)).await,
        }
    }

    /// Opens a connection, with TLS where the scheme requires it. The trace records what it receives.
    pub(super) async fn open(
        &self,
        request: &Request,
        protocol: Protocol,
        trace: &mut ProbeTrace,
    ) -> Result<Box<dyn Stream>, Failure> {
        let (stream, wire) = self.connect(&request.target, trace).await?;
        if !request.target.scheme.is_tls() {
            trace.answer = Some(wire);
            return Ok(Box::new(stream));
        }
        trace.enter(Phase::TLS);
        let stream =
            Box::pin(tls::encrypt(&self.configs, &request.target, &request.tls, protocol, stream, trace)).await?;
        let (stream, answer) = RecordedStream::new(stream);
        trace.answer = Some(answer);
        Ok(Box::new(stream))
    }

    async fn connect(
        &self,
        target: &Target,
        trace: &mut ProbeTrace,
    ) -> Result<(RecordedStream<TcpStream>, Arc<Received>), Failure> {
        let addresses = self.resolve(target, trace).await?;
        trace.enter(Phase::Policy);
        let addresses = self.admit(target, &addresses, trace)?;
        trace.enter(Phase::Connect);
        trace.seen.dialled = addresses.first().copied();
        let Some((address, stream)) = connect::connect(&addresses, &mut trace.tried).await else {
            return Err(connect::failure(&trace.tried, None));
        };
        trace.seen.address = Some(address);
        let (stream, wire) = RecordedStream::new(stream);
        trace.wire = Some(wire.clone());
        Ok((stream, wire))
    }

    async fn resolve(&self, target: &Target, trace: &ProbeTrace) -> Result<Vec<IpAddr>, Failure> {
        if let Some(address) = target.address.or_else(|| literal::address(&target.host)) {
            return Ok(vec![address]);
        }
        let limit = self.limits.resolve;
        let found = timeout(limit, self.resolver.resolve(&target.host)).await.unwrap_or(Err(Unresolved::TimedOut));
        let name = &target.host;
        match found {
            Ok(addresses) if !addresses.is_empty() => Ok(connect::interleave(addresses)),
            Ok(_) | Err(Unresolved::NotFound) => {
                Err(trace.failure(ErrorClass::DNSNotFound, format!("{name} does not exist, or has no address")))
            }
            Err(Unresolved::Failed(why)) => {
                Err(trace.failure(ErrorClass::DNSFailure, format!("{name} could not be resolved: {why}")))
            }
            Err(Unresolved::TimedOut) => {
                Err(trace.failure(ErrorClass::DNSTimeout, format!("the resolver gave no answer in time for {name}")))
            }
            Err(Unresolved::Overloaded) => Err(trace.failure(
                ErrorClass::DNSTimeout,
                format!("{name} was not asked for: too many other names wait for the resolver"),
            )),
        }
    }

    /// Returns the addresses that the policy admits. Only these are dialled.
    fn admit(&self, target: &Target, addresses: &[IpAddr], trace: &ProbeTrace) -> Result<Vec<SocketAddr>, Failure> {
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
        if admitted.is_empty() { Err(trace.failure(ErrorClass::Denied, refused.join("; "))) } else { Ok(admitted) }
    }
}

/// Whether `address` belongs to this machine. The kernel's source address for packets to an own address is that address.
/// Nothing is sent.
pub(super) fn is_of_this_machine(address: IpAddr) -> bool {
    source_address(address) == Some(address.to_canonical())
}

/// The kernel's source address for packets to `address`; `None` without a route. Nothing is sent.
pub fn source_address(address: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let from = UdpSocket::bind(any).and_then(|socket| {
        // Any port will do: only the address matters.
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.ok().map(|from| from.ip().to_canonical())
}
