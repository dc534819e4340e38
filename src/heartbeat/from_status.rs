//! What the API server has of a connector, as the registry needs it.

use std::sync::Arc;
use std::time::Duration;

use super::credentials::{Credential, Digest};
use super::entry::{Identity, Inner, Key};
use crate::api::{
    CheckType, ConditionType, Connector, ConnectorState, ConnectorStatus, Reason, Rotation, Severity, conditions,
};
use crate::health::liveness::{Presence, Settled, Timing};
use crate::time::Now;

/// Who `connector` is.
pub(super) fn identity(connector: &Connector) -> Identity {
    let meta = &connector.metadata;
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    Identity {
        key: Key { namespace: text(&meta.namespace).into(), name: text(&meta.name).into() },
        uid: text(&meta.uid).into(),
        id: connector.effective_id().into(),
        domain: Arc::from(connector.domain()),
        created: meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
        lease: connector.is_lease().then(|| connector.spec.heartbeat.lease_name.clone().unwrap_or_default().into()),
    }
}

/// The settings that its deadlines follow.
pub fn timing(connector: &Connector) -> Timing {
    let effective = connector.spec.heartbeat.effective();
    let seconds = |value: i32| Duration::from_secs(u64::try_from(value).unwrap_or(0));
    Timing {
        interval: seconds(effective.interval_seconds),
        late: seconds(effective.late_after_seconds),
        offline: seconds(effective.offline_after_seconds),
    }
}

/// Loads the hashes unless what is loaded is younger: the watch may be behind our own writes, and a token that was
/// revoked must not come back for the moment until it has caught up.
pub(super) fn credentials(inner: &mut Inner, connector: &Connector, now: Now) {
    let Some(token) = connector.status.as_ref().and_then(|status| status.token.as_ref()) else { return };
    let version = connector.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    if let (Some(loaded), Some(offered)) = (inner.credentials_as_of, version)
        && offered < loaded
    {
        return;
    }
    inner.credentials = token
        .hashes
        .iter()
        .filter_map(|hash| {
            Some(Credential {
                digest: Digest::from_hex(&hash.sha256)?,
                generation: hash.generation,
                until: hash.not_after.as_ref().map(|end| now.place(end.0)),
            })
        })
        .collect();
    let confirmed = if token.rotation == Rotation::Pending { token.generation - 1 } else { token.generation };
    inner.used_generation = inner.used_generation.max(confirmed);
    inner.credentials_as_of = Some(version.unwrap_or(0));
}

/// Takes over what the status says of the past: the last contact, and what was established then.
pub(super) fn adopt(inner: &mut Inner, connector: &Connector, now: Now) {
    // What we heard when we led before is older than what another wrote since.
    (inner.agent, inner.checks, inner.restart) = (None, None, None);
    let Some(status) = &connector.status else {
        inner.settled = Settled { presence: Presence::NeverSeen, since: now.moment };
        return;
    };
    let written = status.last_heartbeat_time.as_ref().map(|time| now.moment_of(time.0));
    inner.written = written;
    inner.last_contact = inner.last_contact.max(written);
    inner.settled = settled(status, now);
    inner.written_at = written.unwrap_or(now.moment);
    inner.was_mass_silent = conditions::get(&status.conditions, ConditionType::Online)
        .is_some_and(|online| online.reason == Reason::MassSilence.as_str());
}

fn settled(status: &ConnectorStatus, now: Now) -> Settled {
    let presence = match status.state {
        None | Some(ConnectorState::Pending) => Presence::NeverSeen,
        Some(ConnectorState::Online | ConnectorState::Degraded) => Presence::Online,
        Some(ConnectorState::Late) => Presence::Late,
        Some(ConnectorState::Offline) => Presence::Offline,
        Some(ConnectorState::Unknown) => Presence::Unknown,
    };
    Settled { presence, since: status.state_since.as_ref().map_or(now.moment, |since| now.moment_of(since.0)) }
}

/// The state that the answer to a beat names.
pub(super) fn state(presence: Presence, degraded: bool) -> ConnectorState {
    match presence {
        Presence::NeverSeen => ConnectorState::Pending,
        Presence::Unknown => ConnectorState::Unknown,
        Presence::Offline => ConnectorState::Offline,
        Presence::Late => ConnectorState::Late,
        Presence::Online if degraded => ConnectorState::Degraded,
        Presence::Online => ConnectorState::Online,
    }
}

/// What the spec says of single checks.
pub(super) fn severities(connector: &Connector) -> Box<[(CheckType, Severity)]> {
    connector.spec.checks.iter().map(|check| (check.type_, check.effective_severity())).collect()
}
