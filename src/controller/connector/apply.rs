//! The last step: what was decided is written, done and told, in this order.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;

use super::decide::Plan;
use super::reconcile::{Context, Failed, Next};
use super::token::Write;
use super::token_step::TokenStep;
use crate::api::{Connector, ConnectorStatus, REQUESTED};
use crate::cluster::WriteReason;
use crate::controller::events::Event;
use crate::controller::remediation::{FollowUp, NextStep, Remediable as _};
use crate::controller::{log, remediation};
use crate::heartbeat::actions::Action;
use crate::heartbeat::entry::{Entry, Snapshot};
use crate::leadership::Permit;
use crate::remediation::attempt::{Remedy, StepResult};
use crate::time::Now;

impl Context {
    #[expect(clippy::too_many_arguments, reason = "the last step takes what all steps before it made")]
    pub(super) async fn apply(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        live: &Snapshot,
        plan: Plan,
        look: Option<TokenStep>,
        course: StepResult,
        now: Now,
    ) -> Result<Next, Failed> {
        let Plan { status, current, secret, mut events, due_at } = plan;
        events.extend(remediation::events(&course.events));
        let checkpoint = self.desks.at(entry.number, permit.epoch(), |desk| std::mem::take(&mut desk.checkpoint));
        let mut written = None;
        if let Some(status) = status {
            written = Some(self.store(permit, entry, connector, live, status, due_at, &course, &events).await?);
            self.remedies.after_write(connector, &course);
        } else if checkpoint {
            let done = self.checkpoint(permit, entry, connector, &current, live).await;
            written = Some(done.inspect_err(|_| self.remedies.after_failed_write(connector, &course, false))?);
        }
        // Before anything that may fail: it is written down, and nobody else does it.
        let acted = self.act(permit, entry, written.as_ref().unwrap_or(connector), &course).await;
        if let Some(look) = look {
            let object = written.as_ref().unwrap_or(connector);
            if let Err(failed) = self.provision(permit, entry, object, look, secret, now).await {
                // The status says it already and will not say it again: what is to be told waits for the next try.
                self.desks.at(entry.number, permit.epoch(), |desk| desk.keep_untold(events));
                return Err(failed);
            }
        }
        self.tell(permit, entry, connector, events).await?;
        self.desks.at(entry.number, permit.epoch(), |desk| {
            desk.failures = 0;
            if due_at.is_some() {
                // A deleted Secret is noticed at reconcile (api.md): whose state changes, his Secret is looked at.
                desk.look_at = None;
            }
        });
        match remediation::next_step(&course, acted, now.wall) {
            NextStep::After(wait) if secret == Write::Nothing && due_at.is_none() => {
                Ok(Next::Done(self.next_look(permit, entry, live, now).into_iter().chain(wait).min()))
            }
            NextStep::Again | NextStep::After(_) => {
                Ok(Next::Again(Box::new(written.unwrap_or_else(|| connector.clone()))))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a write that fails leaves behind is many things")]
    async fn store(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        live: &Snapshot,
        status: ConnectorStatus,
        due_at: Option<Timestamp>,
        course: &StepResult,
        events: &[Event],
    ) -> Result<Connector, Failed> {
        let reason = remediation::write_reason(connector, course, due_at.is_some());
        let object = Connector { status: Some(status), ..connector.clone() };
        let done = self.write(reason, permit, entry, object, live, due_at).await;
        done.inspect_err(|failed| {
            self.doubt(permit, entry, failed, events);
            self.remedies.after_failed_write(connector, course, failed.outcome_unknown());
        })
    }

    /// Brings the token to its Secret, and notes when to look at that again.
    async fn provision(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        look: TokenStep,
        secret: Write,
        now: Now,
    ) -> Result<(), Failed> {
        let sooner = look.plan.look_again.and_then(|after| Duration::try_from(after).ok());
        let delivered = self.deliver(permit, entry, connector, &look, secret).await;
        let failed = delivered.err().or(look.failure.map(Failed::Secret));
        self.desks.at(entry.number, permit.epoch(), |desk| match &failed {
            // The look itself stays due.
            Some(_) => desk.look_at = None,
            None => {
                // What was just written is looked at once more, to say that it is there.
                let sooner = if secret == Write::Nothing { sooner } else { Some(Duration::ZERO) };
                desk.note_look(connector, now.moment, sooner);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    async fn write(
        &self,
        reason: WriteReason,
        permit: &Permit,
        entry: &Arc<Entry>,
        object: Connector,
        live: &Snapshot,
        due_at: Option<Timestamp>,
    ) -> Result<Connector, Failed> {
        let written = self.writer.replace(reason, &self.renewed(permit)?, &self.api(&object), &object).await?;
        let now = self.clock.read();
        self.registry.wrote(entry, &written, live.last_contact, now);
        self.desks.at(entry.number, permit.epoch(), |desk| desk.latest = Some(Box::new(written.clone())));
        if let Some(due_at) = due_at {
            // Its event is ours to tell, and in hand.
            self.desks.at(entry.number, permit.epoch(), |desk| desk.retold = true);
            // What came due while nobody could know is not late: the lag counts from when we could.
            let since = self.registry.listening.listening_to(entry).since.map_or(now.wall, |since| now.stamp(since));
            let lag = Duration::try_from(now.wall.duration_since(due_at.max(since))).unwrap_or_default();
            self.metrics.observe_transition_lag(lag);
            if let Some(latest) = written.status.as_ref().and_then(|status| status.transitions.first()) {
                log::transition(log::Whose { kind: Connector::KIND, key: &entry.identity.key }, latest);
            }
        }
        Ok(written)
    }

    /// Does what the course asks for, now that it is written.
    async fn act(&self, permit: &Permit, entry: &Arc<Entry>, connector: &Connector, course: &StepResult) -> FollowUp {
        if let Some(agent) = &connector.spec.agent_ref {
            let is_requested = course.status.current.as_ref().is_some_and(|current| current.cause == REQUESTED);
            let action = match &course.remedy {
                Some(Remedy::Offer { id, not_after }) => {
                    Some(Action::new(id, agent.unit.as_deref(), *not_after, is_requested, self.clock.read()))
                }
                _ => None,
            };
            self.registry.offer(entry, action);
        }
        match (&course.remedy, self.renewed(permit)) {
            (Some(act), Ok(permit)) => self.remedies.perform(&permit, connector, act).await,
            // Another leads by now: it goes on from what is written.
            (Some(_), Err(_)) | (None, _) => FollowUp::Scheduled,
        }
    }

    fn doubt(&self, permit: &Permit, entry: &Entry, failed: &Failed, events: &[Event]) {
        if failed.outcome_unknown() {
            self.desks.at(entry.number, permit.epoch(), |desk| desk.doubt(events));
        }
    }

    async fn checkpoint(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        current: &ConnectorStatus,
        live: &Snapshot,
    ) -> Result<Connector, Failed> {
        let patch = json!({
            "lastHeartbeatTime": current.last_heartbeat_time,
            "lastHealthyTime": current.last_healthy_time,
            "agent": current.agent,
            "checks": current.checks,
        });
        let version = connector.resource_version().unwrap_or_default();
        let written =
            self.writer.checkpoint(permit, &self.api(connector), &connector.name_any(), &version, patch).await?;
        self.registry.wrote(entry, &written, live.last_contact, self.clock.read());
        self.desks.at(entry.number, permit.epoch(), |desk| desk.latest = Some(Box::new(written.clone())));
        Ok(written)
    }
}
