//! Resolves names to addresses.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use super::limits::{LOOKUP_PERMIT_WAIT, SLOW_LOOKUP};

#[cfg(test)]
mod tests;

/// Why a name did not resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The name does not exist, or has no address.
    NotFound,
    /// The resolver failed, with this message.
    Failed(String),
    /// The resolver did not answer in time.
    TimedOut,
    /// The name was not looked up: too many lookups are under way.
    Overloaded,
}

/// A resolver of names.
pub trait Resolve: Send + Sync + 'static {
    /// Resolves `host` to its addresses, in the order in which they are to be tried.
    fn resolve(&self, host: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, Unresolved>>;
}

/// The most lookups at once. Each holds a thread until getaddrinfo returns, also after its caller has stopped waiting:
/// without a limit, a dead resolver would accumulate threads as fast as probes start.
const MAX_LOOKUPS: usize = 128;
/// The most lookups at once of names whose last lookup was slow: they must not starve the others.
const MAX_SLOW_LOOKUPS: usize = 16;
/// The stack size of a lookup's thread, in bytes: getaddrinfo keeps answers of up to 64 KiB on it, and modules of
/// nsswitch.conf more.
const STACK_BYTES: usize = 512 << 10;
/// The most slow names that are kept. A full set is cleared and learned again.
const MAX_SLOW_NAMES: usize = 10_000;

type NameLookup = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Unresolved>>>;

/// The resolver of the system: getaddrinfo, which reads `/etc/hosts`, `resolv.conf` with its search domains, and
/// `nsswitch.conf` as every other program on this machine does.
#[derive(Clone)]
pub struct SystemResolver(Arc<Lookups>);

struct Lookups {
    /// The lookups under way by name: callers that resolve the same name share one lookup.
    under_way: Mutex<HashMap<String, NameLookup>>,
    /// Names whose last lookup was slow.
    slow: Mutex<HashSet<String>>,
    permits: Arc<Semaphore>,
    slow_permits: Arc<Semaphore>,
    /// The duration from which a lookup is slow.
    slow_from: Duration,
    /// The blocking lookup: getaddrinfo, or a fake in tests.
    lookup: fn(&str) -> Result<Vec<IpAddr>, Unresolved>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::with_lookup(getaddrinfo, MAX_LOOKUPS, MAX_SLOW_LOOKUPS, SLOW_LOOKUP)
    }
}

impl SystemResolver {
    fn with_lookup(
        lookup: fn(&str) -> Result<Vec<IpAddr>, Unresolved>,
        at_once: usize,
        slow_at_once: usize,
        slow_from: Duration,
    ) -> Self {
        Self(Arc::new(Lookups {
            under_way: Mutex::default(),
            slow: Mutex::default(),
            permits: Arc::new(Semaphore::new(at_once)),
            slow_permits: Arc::new(Semaphore::new(slow_at_once)),
            slow_from,
            lookup,
        }))
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, Unresolved>> {
        let mut under_way = self.0.under_way.lock();
        // A lookup that has ended is still in the map only if its task panicked.
        if let Some(lookup) = under_way.get(host).filter(|lookup| lookup.peek().is_none()) {
            return lookup.clone().boxed();
        }
        // A task of its own: it continues when its caller stops waiting, and releases the permit at its end.
        let task = tokio::spawn(self.0.clone().look_up(host.to_owned()));
        let lookup = task.map(|ended| ended.unwrap_or_else(|error| Err(Unresolved::Failed(error.to_string()))));
        let lookup = lookup.boxed().shared();
        under_way.insert(host.to_owned(), lookup.clone());
        lookup.boxed()
    }
}

impl Lookups {
    async fn look_up(self: Arc<Self>, host: String) -> Result<Vec<IpAddr>, Unresolved> {
        let result = self.clone().look_up_with_permit(host.clone()).await;
        self.under_way.lock().remove(&host);
        result
    }

    async fn look_up_with_permit(self: Arc<Self>, host: String) -> Result<Vec<IpAddr>, Unresolved> {
        let permits = if self.slow.lock().contains(&host) { &self.slow_permits } else { &self.permits };
        let Ok(Ok(_permit)) = timeout(LOOKUP_PERMIT_WAIT, permits.clone().acquire_owned()).await else {
            return Err(Unresolved::Overloaded);
        };
        let (lookup, name, begun) = (self.lookup, host.clone(), Instant::now());
        let (sender, receiver) = oneshot::channel();
        // Not a blocking thread of the runtime: the runtime would not shut down before the last lookup returned.
        let thread = std::thread::Builder::new().name("resolve".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            // The receiver may be gone.
            let _ = sender.send(lookup(&name));
        });
        if let Err(error) = thread {
            return Err(Unresolved::Failed(format!("no thread for the resolver: {error}")));
        }
        let found = receiver.await.unwrap_or_else(|_| Err(Unresolved::Failed("the resolver broke down".to_owned())));
        let slow = begun.elapsed() >= self.slow_from;
        self.record_duration(host, slow);
        match found {
            Err(Unresolved::Failed(_)) if slow => Err(Unresolved::TimedOut),
            found => found,
        }
    }

    fn record_duration(&self, host: String, is_slow: bool) {
        let mut slow = self.slow.lock();
        if !is_slow {
            slow.remove(&host);
            return;
        }
        if slow.len() >= MAX_SLOW_NAMES {
            slow.clear();
        }
        slow.insert(host);
    }
}

fn getaddrinfo(host: &str) -> Result<Vec<IpAddr>, Unresolved> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).map_err(|error| unresolved(&error))?;
    let addresses: io::Result<Vec<IpAddr>> = found.map(|info| Ok(info?.sockaddr.ip())).collect();
    addresses.map_err(|error| Unresolved::Failed(error.to_string()))
}

/// Maps the codes of getaddrinfo(3), as the GNU C library returns them: NONAME for NXDOMAIN, NODATA for a name
/// without an address, AGAIN for SERVFAIL, for a server that refuses and for silence.
fn unresolved(error: &LookupError) -> Unresolved {
    /// EAI_ADDRFAMILY: the name has no address of a requested family.
    const NONE_OF_THE_FAMILY: i32 = -9;
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => Unresolved::NotFound,
        _ if error.error_num() == NONE_OF_THE_FAMILY => Unresolved::NotFound,
        LookupErrorKind::Again => Unresolved::Failed("the resolver says that it failed (SERVFAIL, REFUSED)".to_owned()),
        LookupErrorKind::Fail => Unresolved::Failed("the resolver's answer is of no use".to_owned()),
        _ => Unresolved::Failed(format!("this system's resolver does not work: {error}")),
    }
}
