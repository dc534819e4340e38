//! Whether we see at all: the fleet's word, and a check of our own.

use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::registry::Backend;
use crate::health::visibility::{Fleet, Visibility};
use crate::time::{Clock, Moment};

/// How often our own check is made while something is dark.
pub const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long it may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// What is asked to know whether we are connected to anything.
#[derive(Clone)]
pub struct OwnCheck {
    /// The API server.
    pub client: kube::Client,
    /// A name that must resolve: the API server's; `None` where it is an address.
    pub name: Option<String>,
}

impl OwnCheck {
    async fn failure(&self) -> Option<String> {
        let version = timeout(CHECK_TIMEOUT, self.client.apiserver_version());
        match version.await {
            Err(_) => return Some("the API server does not answer the operator".to_owned()),
            Ok(Err(error)) if !matches!(error, kube::Error::Api(_)) => {
                return Some("the API server cannot be reached by the operator".to_owned());
            }
            Ok(_) => {}
        }
        let name = self.name.clone()?;
        let lookup = tokio::task::spawn_blocking(move || (name.as_str(), 443).to_socket_addrs().map(drop));
        match timeout(CHECK_TIMEOUT, lookup).await {
            Ok(Ok(Ok(()))) => None,
            _ => Some("DNS does not answer the operator: the API server's own name does not resolve".to_owned()),
        }
    }
}

/// What is known of our own sight.
pub struct SelfCheck {
    clock: Clock,
    fleet: Mutex<Fleet>,
    own_failure: Mutex<Option<String>>,
    /// A verdict in the dark waits until then.
    held_until: Mutex<Option<Moment>>,
    /// Why we are blind, while we are.
    said: Mutex<Option<String>>,
}

/// What changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// We went blind: why.
    Blinded(String),
    /// We see again.
    Opened,
}

impl SelfCheck {
    /// Open, until something says otherwise.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            fleet: Mutex::default(),
            own_failure: Mutex::default(),
            held_until: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// A round of probes of `backend` ended; `dark` when it got no byte from the far side and did not get beyond
    /// connecting.
    pub fn probed(&self, backend: &Backend, host: &Arc<str>, interval: Duration, dark: bool, at: Moment) {
        self.fleet.lock().probed(backend.number, host, interval, dark, at);
    }

    /// A backend is gone.
    pub fn left(&self, backend: &Backend) {
        self.fleet.lock().left(backend.number);
    }

    /// Why we may not see `backend`, or may not have seen it at its last probe, if so.
    pub fn blind_for(&self, backend: &Backend) -> Option<String> {
        let said = self.said.lock().clone();
        let fleet = self.fleet.lock();
        match said {
            Some(said) => fleet.is_unreachable(backend.number).then_some(said),
            None => fleet
                .is_unseen(backend.number)
                .then(|| "we could not see, and have not probed it since we see again".to_owned()),
        }
    }

    /// Whether we are blind, for those that are dark.
    pub fn is_blind(&self) -> bool {
        self.said.lock().is_some()
    }

    /// Whether `backend` is dark.
    pub fn is_unreachable(&self, backend: &Backend) -> bool {
        self.fleet.lock().is_unreachable(backend.number)
    }

    /// Judges anew; says what changed.
    pub fn look(&self) -> Change {
        let now = self.clock.now();
        let failure = self.own_failure.lock().clone();
        let sight = self.fleet.lock().sight(failure.as_deref(), now);
        *self.held_until.lock() = if let Visibility::Suspect(until) = &sight { Some(*until) } else { None };
        let mut said = self.said.lock();
        match sight {
            Visibility::Lost(why) if said.is_none() => {
                *said = Some(why.clone());
                Change::Blinded(why)
            }
            Visibility::Lost(_) => Change::None,
            Visibility::Normal | Visibility::Suspect(_) if said.take().is_some() => {
                self.fleet.lock().opened(now);
                Change::Opened
            }
            Visibility::Normal | Visibility::Suspect(_) => Change::None,
        }
    }

    /// Until when a verdict in the dark is to wait, as of the last look.
    pub fn held_until(&self) -> Option<Moment> {
        *self.held_until.lock()
    }

    /// Checks ourselves, if anything is dark; says whether the outcome is another than before.
    pub async fn check(&self, own: &OwnCheck) -> bool {
        let is_any_dark = self.fleet.lock().is_any_dark();
        let failure = if is_any_dark { own.failure().await } else { None };
        let mut known = self.own_failure.lock();
        let is_news = *known != failure;
        *known = failure;
        is_news
    }
}
