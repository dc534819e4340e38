//! Reads the facts for a step of a MonitoredBackend. Its snapshot has all of them: probes and investigations run outside
//! of the reconciles.

use std::time::Duration;

use super::assess::Input;
use super::context::Context;
use crate::api::BackendState;
use crate::controller::runtime::Step;

/// The wait while a verdict is held back: it may be the operator that cannot see. A state that is written already stands.
pub(super) fn held_for(context: &Context, step: &Step<'_, Context>) -> Option<Duration> {
    let state = step.object.status.as_ref().and_then(|status| status.state);
    if state == Some(BackendState::Down) || step.live.blind.is_some() || step.live.refused.is_some() {
        return None;
    }
    context.monitor.self_check.holds_verdict(&step.entry, step.live.record.availability())
}

/// The input of the assessment.
pub(super) fn input<'a>(step: &'a Step<'_, Context>) -> Input<'a> {
    Input { backend: step.object, live: &step.live, now: step.now }
}
