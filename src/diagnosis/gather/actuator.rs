//! Converts an actuator's answers to evidence.

use std::collections::BTreeMap;

use crate::diagnosis::evidence::Actuator;
use crate::probe::actuator::Reading;

/// An actuator's answers as evidence. `tried` stays empty; the caller fills it.
pub fn actuator(reading: Reading) -> Actuator {
    let Reading { base, links, health, liveness } = reading;
    let (base_status, base_error) = (links.status(), links.error());
    let (health_status, health_error) = (health.status(), health.error());
    let custom_health = health.content.as_ref().is_some_and(|health| health.status.is_none());
    let (status, components) = health.content.map_or((None, None), |health| (health.status, health.components));
    Actuator {
        base,
        base_status,
        base_error,
        links: links.content.map(|links| links.0),
        health_status,
        health_error,
        health: status,
        custom_health,
        components,
        tried: BTreeMap::new(),
        liveness: liveness.map(|answer| answer.status_or_error()),
    }
}
