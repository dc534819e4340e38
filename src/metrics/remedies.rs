//! Counters of attempts and denials, and gauges of the brakes on remedies.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::ResultLabel;
use super::encoding::{gauge, single};
use crate::api::{AttemptOutcome, Denial};
use crate::view::{OperatorFacts, RemedyView, Role};

/// The counters of outcomes and denials.
#[derive(Clone, Debug)]
pub(super) struct Remedies {
    outcomes: Family<ResultLabel, Counter>,
    denials: Family<ReasonLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Remedies {
    /// Registers the counters with all label values.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (outcomes, denials) = (Family::default(), Family::default());
        let help = "Attempts by how they ended; only Succeeded is restarted and cured";
        registry.register("vigie_remedies", help, Family::<ResultLabel, Counter>::clone(&outcomes));
        let help = "Remedies that were wanted and not taken, by reason; counted when the reason of an object changes";
        registry.register("vigie_remedy_denials", help, Family::<ReasonLabel, Counter>::clone(&denials));
        for outcome in AttemptOutcome::ALL {
            drop(outcomes.get_or_create_owned(&ResultLabel { result: outcome.as_str() }));
        }
        for denial in Denial::ALL {
            drop(denials.get_or_create_owned(&ReasonLabel { reason: denial.as_str() }));
        }
        Self { outcomes, denials }
    }

    pub(super) fn ended(&self, outcome: AttemptOutcome) {
        self.outcomes.get_or_create_owned(&ResultLabel { result: outcome.as_str() }).inc();
    }

    pub(super) fn denied(&self, denial: Denial) {
        self.denials.get_or_create_owned(&ReasonLabel { reason: denial.as_str() }).inc();
    }
}

/// Encodes the gauges of attempts and brakes, on the replica that decides about remedies only: a follower's values would be
/// out of date.
pub(super) fn encode(encoder: &mut DescriptorEncoder, facts: &OperatorFacts) -> fmt::Result {
    if facts.leader == Role::Follower {
        return Ok(());
    }
    let help = "Attempts under way, from their reservation to their outcome.";
    single(
        encoder,
        "vigie_remedy_in_flight",
        help,
        None,
        &u64::try_from(facts.remedies_in_flight).unwrap_or(u64::MAX),
    )?;
    let help = "Whether the breaker is open: nothing is restarted until a person resets it.";
    single(encoder, "vigie_breaker_open", help, None, &u32::from(facts.breaker_open))?;
    let help = "Whether too much of a site is unhealthy for new remedies in it; absent where the brake is off.";
    let mut metric = encoder.encode_descriptor("vigie_brake_engaged", help, None, MetricType::Gauge)?;
    for (namespace, site) in &facts.brakes {
        gauge(&mut metric, &[("namespace", namespace), ("site", site)], &1_u32)?;
    }
    let help = "Whether most of a site fell silent at once: the path to us is the suspect; absent where it did not.";
    let mut metric = encoder.encode_descriptor("vigie_mass_silence", help, None, MetricType::Gauge)?;
    for (namespace, site) in &facts.mass_silences {
        gauge(&mut metric, &[("namespace", namespace), ("site", site)], &1_u32)?;
    }
    let help = "Whether our probes see nothing: those that are dark are not judged.";
    single(encoder, "vigie_probe_blind", help, None, &u32::from(facts.probe_blind))
}

/// The fields of one object, of either kind, that the series about remedies need.
pub(super) struct RemedyRow<'a> {
    pub(super) key: [(&'static str, &'a str); 3],
    pub(super) restarts: i64,
    pub(super) remedy: RemedyView,
}

pub(super) fn encode_objects(encoder: &mut DescriptorEncoder, rows: &[RemedyRow<'_>]) -> fmt::Result {
    let help = "How often vigie restarted the workload for an object, ever.";
    let mut metric = encoder.encode_descriptor("vigie_restarts", help, None, MetricType::Counter)?;
    for RemedyRow { key, restarts, .. } in rows {
        let restarts = u64::try_from(*restarts).unwrap_or(0);
        metric.encode_family(key)?.encode_counter::<NoLabelSet, _, u64>(&restarts, None)?;
    }
    let help = "Why a wanted remedy is not taken; absent while none is wanted.";
    let mut metric = encoder.encode_descriptor("vigie_remedy_denial", help, None, MetricType::Info)?;
    for (RemedyRow { key: [kind, namespace, name], .. }, denial) in rows_with(rows, |remedy| remedy.denial) {
        metric.encode_info(&[*kind, *namespace, *name, ("reason", denial.as_str())])?;
    }
    let help = "How the last attempt for an object ended; absent before the first.";
    let mut metric = encoder.encode_descriptor("vigie_last_attempt", help, None, MetricType::Info)?;
    for (RemedyRow { key: [kind, namespace, name], .. }, outcome) in rows_with(rows, |remedy| remedy.last_outcome) {
        metric.encode_info(&[*kind, *namespace, *name, ("outcome", outcome.as_str())])?;
    }
    Ok(())
}

fn rows_with<'a, T>(
    rows: &'a [RemedyRow<'a>],
    field: impl Fn(RemedyView) -> Option<T>,
) -> impl Iterator<Item = (&'a RemedyRow<'a>, T)> {
    rows.iter().filter_map(move |row| Some((row, field(row.remedy)?)))
}
