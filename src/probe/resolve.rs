//! Finding the addresses of a name.

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

#[cfg(test)]
mod tests;

/// Why a name has no addresses for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The name does not exist, or has no address.
    NotFound,
    /// The resolver failed: its own words.
    Failed(String),
    /// It did not answer in time.
    TimedOut,
    /// We had no room to ask: too many others wait for an answer.
    Crowded,
}

/// What finds the addresses of a name.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, in the order in which they are to be tried.
    fn resolve(&self, host: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, Unresolved>>;
}

/// How many lookups may run at once. Each holds a thread until getaddrinfo returns, however long ago its asker left:
/// without a bound, a dead resolver would gather threads as fast as probes come.
const AT_ONCE: usize = 128;
/// How many of them may be for names whose last lookup was slow: they must not starve the others.
const SLOW_AT_ONCE: usize = 16;
/// The stack of such a thread, in bytes: getaddrinfo keeps answers of up to 64 KiB on it, and modules of nsswitch.conf
/// more.
const STACK: usize = 512 << 10;
/// How many slow names are remembered; past it they are all forgotten, and learned again.
const MOST_SLOW: usize = 10_000;
/// How long a lookup waits for room.
const PATIENCE: Duration = Duration::from_secs(5);
/// From when on a lookup is slow. It is also the shortest time after which the C library gives up on a silent server
/// (`options timeout:1` in resolv.conf(5)), which alone tells "no answer" from "an answer that it failed": getaddrinfo
/// has one code, EAI_AGAIN, for both.
const SLOW: Duration = Duration::from_millis(950);

type Lookup = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Unresolved>>>;

/// The system's resolver: getaddrinfo, which knows `/etc/hosts`, `resolv.conf` with its search domains, and
/// `nsswitch.conf` as every other program on this machine does.
#[derive(Clone)]
pub struct System(Arc<Shop>);

struct Shop {
    /// Lookups under way: who asks for the same name meanwhile waits for the same answer.
    under_way: Mutex<HashMap<String, Lookup>>,
    /// Names whose last lookup was slow.
    slow: Mutex<HashSet<String>>,
    room: Arc<Semaphore>,
    slow_room: Arc<Semaphore>,
    /// From when on a lookup is slow.
    slow_from: Duration,
    /// What asks; another one in tests.
    ask: fn(&str) -> Result<Vec<IpAddr>, Unresolved>,
}

impl Default for System {
    fn default() -> Self {
        Self::asking(getaddrinfo, AT_ONCE, SLOW_AT_ONCE, SLOW)
    }
}

impl System {
    fn asking(
        ask: fn(&str) -> Result<Vec<IpAddr>, Unresolved>,
        at_once: usize,
        slow_at_once: usize,
        slow_from: Duration,
    ) -> Self {
        Self(Arc::new(Shop {
            under_way: Mutex::default(),
            slow: Mutex::default(),
            room: Arc::new(Semaphore::new(at_once)),
            slow_room: Arc::new(Semaphore::new(slow_at_once)),
            slow_from,
            ask,
        }))
    }
}

impl Resolve for System {
    fn resolve(&self, host: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, Unresolved>> {
        let mut under_way = self.0.under_way.lock();
        // One that has ended is left only where its task broke down.
        if let Some(lookup) = under_way.get(host).filter(|lookup| lookup.peek().is_none()) {
            return lookup.clone().boxed();
        }
        // A task of its own: it goes on when its asker has left, and its end is what makes room.
        let task = tokio::spawn(self.0.clone().look_up(host.to_owned()));
        let lookup = task.map(|ended| ended.unwrap_or_else(|error| Err(Unresolved::Failed(error.to_string()))));
        let lookup = lookup.boxed().shared();
        under_way.insert(host.to_owned(), lookup.clone());
        lookup.boxed()
    }
}

impl Shop {
    async fn look_up(self: Arc<Self>, host: String) -> Result<Vec<IpAddr>, Unresolved> {
        let result = self.clone().look_up_in_its_room(host.clone()).await;
        self.under_way.lock().remove(&host);
        result
    }

    async fn look_up_in_its_room(self: Arc<Self>, host: String) -> Result<Vec<IpAddr>, Unresolved> {
        let room = if self.slow.lock().contains(&host) { &self.slow_room } else { &self.room };
        let Ok(Ok(_permit)) = timeout(PATIENCE, room.clone().acquire_owned()).await else {
            return Err(Unresolved::Crowded);
        };
        let (ask, name, begun) = (self.ask, host.clone(), Instant::now());
        let (tell, told) = oneshot::channel();
        // A thread of its own and not one of the runtime's: that one would not end before the last lookup did.
        let thread = std::thread::Builder::new().name("resolve".to_owned()).stack_size(STACK).spawn(move || {
            // Nobody may wait any more.
            let _ = tell.send(ask(&name));
        });
        if let Err(error) = thread {
            return Err(Unresolved::Failed(format!("no thread for the resolver: {error}")));
        }
        let asked = told.await.unwrap_or_else(|_| Err(Unresolved::Failed("the resolver broke down".to_owned())));
        let slow = begun.elapsed() >= self.slow_from;
        self.note(host, slow);
        match asked {
            Err(Unresolved::Failed(_)) if slow => Err(Unresolved::TimedOut),
            asked => asked,
        }
    }

    fn note(&self, host: String, is_slow: bool) {
        let mut slow = self.slow.lock();
        if !is_slow {
            slow.remove(&host);
            return;
        }
        if slow.len() >= MOST_SLOW {
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

/// What the codes of getaddrinfo(3) mean, as the GNU C library gives them: NONAME for NXDOMAIN, NODATA for a name
/// without an address, AGAIN for SERVFAIL, for a server that refuses and for silence.
fn unresolved(error: &LookupError) -> Unresolved {
    /// EAI_ADDRFAMILY: it has no address of a family that was asked for.
    const NONE_OF_THE_FAMILY: i32 = -9;
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => Unresolved::NotFound,
        _ if error.error_num() == NONE_OF_THE_FAMILY => Unresolved::NotFound,
        LookupErrorKind::Again => Unresolved::Failed("the resolver says that it failed (SERVFAIL, REFUSED)".to_owned()),
        LookupErrorKind::Fail => Unresolved::Failed("the resolver's answer is of no use".to_owned()),
        _ => Unresolved::Failed(format!("this system's resolver does not work: {error}")),
    }
}
