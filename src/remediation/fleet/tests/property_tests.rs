//! Properties that hold after any sequence of updates.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::api::{Cause, Confidence, Diagnosis, RemediationMode, RemediationSpec, RemediationStatus, RestartHelps};
use crate::remediation::input::{
    AgentPresence, FleetContext, HealthInterval, InsideView, PolicyInput, RestartMeans, RestartRequest, Verdict,
    WorkloadLookup,
};
use crate::remediation::policy::allow;

#[derive(Clone, Debug)]
enum Step {
    Upsert(usize, Member),
    Claim(usize),
    Release(usize),
    Remove(usize),
}

fn healths() -> impl Strategy<Value = ObjectHealth> {
    prop::sample::select(vec![ObjectHealth::Healthy, ObjectHealth::Unhealthy, ObjectHealth::Unknown])
}

fn members() -> impl Strategy<Value = Member> {
    let parts =
        (0..3_u8, prop::option::of(0..4_u8), healths(), any::<bool>(), any::<bool>(), 0..4, prop::option::of(0..4));
    parts.prop_map(|(site, workload, health, was_healthy, is_in_flight, attempts, max_attempts)| Member {
        site: format!("shop/{site}").into(),
        workload: workload.filter(|n| *n > 0).and_then(|n| web(&format!("web-{n}"))),
        unit: workload
            .filter(|n| *n == 0)
            .map(|_| AgentUnit { connector: "edge-1".into(), unit: "container:orders".into() }),
        health,
        unhealthy_since: (health == ObjectHealth::Unhealthy).then(|| at(i64::from(attempts))),
        was_healthy,
        in_flight: is_in_flight.then(|| InFlight { id: format!("seen-{attempts}"), start: at(0) }),
        attempts,
        max_attempts,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_usize, members()).prop_map(|(n, member)| Step::Upsert(n, member)),
        2 => (0..8_usize).prop_map(Step::Claim),
        1 => (0..8_usize).prop_map(Step::Release),
        1 => (0..8_usize).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..60)
}

fn nth(n: usize) -> ObjectId {
    id(&format!("x-{n}"))
}

/// The same figures, counted again from all members.
fn recount(state: &FleetState, own: &ObjectId) -> FleetContext {
    let all: Vec<(&ObjectId, &Member)> = state.slots.iter().map(|(id, slot)| (id, &slot.member)).collect();
    let me = &state.slots[own].member;
    let mut units: BTreeMap<String, Vec<(&ObjectId, &Member)>> = BTreeMap::new();
    for (id, member) in &all {
        units.entry(format!("{:?}", RestartUnit::of(id, member))).or_default().push((id, member));
    }
    let in_site: Vec<_> = units.values().filter(|unit| unit.iter().any(|(_, member)| member.site == me.site)).collect();
    let known: Vec<_> = in_site.into_iter().filter(|unit| unit.iter().any(|(_, member)| member.was_healthy)).collect();
    let counts = |(id, member): &(&ObjectId, &Member)| {
        member.was_healthy && member.health == ObjectHealth::Unhealthy || member.in_flight.is_some() && *id != own
    };
    let flying = |site: Option<&str>| {
        let others = all.iter().filter(|(id, member)| *id != own && member.in_flight.is_some());
        others.filter(|(_, member)| site.is_none_or(|site| site == &*member.site)).count()
    };
    let mut sharing = units[&format!("{:?}", RestartUnit::of(own, me))].clone();
    sharing.retain(|(id, _)| *id != own);
    sharing.sort_by_key(|(id, _)| *id);
    FleetContext {
        breaker: Breaker::Closed,
        site: me.site.to_string(),
        site_unhealthy: known.iter().filter(|unit| unit.iter().any(counts)).count(),
        site_total: known.len(),
        site_in_flight: flying(Some(&me.site)),
        in_flight: flying(None),
        recent_starts: Vec::new(),
        held_by: sharing.iter().find_map(|(id, member)| Some((id.to_string(), member.in_flight.as_ref()?.id.clone()))),
        shared_attempts: sharing.iter().map(|(_, member)| member.attempts).sum(),
        shared_max: sharing.iter().filter_map(|(_, member)| member.max_attempts).min(),
        limits: Limits::default(),
    }
}

/// Whether an object is restarted when only the fleet can object.
fn decide(context: &FleetContext, asked: bool, now: i64) -> bool {
    let spec = RemediationSpec::new(RemediationMode::Restart);
    let verdict = Verdict {
        intervals: vec![HealthInterval { health: ObjectHealth::Unhealthy, since: at(-1_000) }],
        was_healthy: true,
        diagnosis: Some(Diagnosis {
            cause: Cause::Hung,
            confidence: Confidence::Likely,
            since: None,
            message: String::new(),
            advice: String::new(),
            restart_helps: RestartHelps::Yes,
            evidence: Vec::new(),
            alternatives: Vec::new(),
        }),
        mass_silence: None,
        blind: None,
        inside: InsideView::Heartbeats { pod_uid: None },
        healthy_at: None,
        scrape: None,
        is_stopped_on_purpose: false,
    };
    let request = RestartRequest { annotation: String::new(), at: at(now) };
    let input = PolicyInput {
        object: "shop/x",
        namespace: "shop",
        spec: Some(&spec),
        status: &RemediationStatus::default(),
        paused: None,
        verdict: &verdict,
        means: RestartMeans::Agent(AgentPresence { is_heard: true }),
        workload: &WorkloadLookup::NotLooked,
        request: asked.then_some(&request),
        fleet: context,
        now: at(now),
    };
    allow(&input).is_ok()
}

/// Number of objects in the loop below, and of their sites.
const OBJECTS: usize = 21;
const SITES: usize = 7;

#[derive(Clone, Debug)]
enum Event {
    Decide {
        object: usize,
        asked: bool,
    },
    /// An update that has the attempt only when its reservation was shown.
    Look {
        object: usize,
        health: ObjectHealth,
    },
    /// Its attempt ends, or its reservation failed.
    End {
        object: usize,
    },
    Wait {
        seconds: i64,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => (0..OBJECTS, any::<bool>()).prop_map(|(object, asked)| Event::Decide { object, asked }),
        3 => (0..OBJECTS, healths()).prop_map(|(object, health)| Event::Look { object, health }),
        3 => (0..OBJECTS).prop_map(|object| Event::End { object }),
        1 => (1..9_i64).prop_map(|seconds| Event::Wait { seconds }),
    ];
    prop::collection::vec(event, 1..250)
}

/// Each workload has two objects or one, in different sites.
fn placed(n: usize) -> Member {
    of(&format!("web-{}", n % 15), unhealthy(&(n % SITES).to_string(), -1_000))
}

/// The attempt that is really in progress: its id, its start, and whether its reservation was shown.
type Really = BTreeMap<usize, (String, i64, bool)>;

fn look(state: &mut FleetState, really: &Really, object: usize, health: ObjectHealth) {
    let member = Member { health, ..placed(object) };
    state.upsert(
        &nth(object),
        match really.get(&object) {
            Some((id, start, true)) => flying(member, id, *start),
            _ => member,
        },
    );
}

fn most<K: Ord>(keys: impl Iterator<Item = K>) -> usize {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts.into_values().max().unwrap_or(0)
}

proptest! {
    #[test]
    fn running_counts_are_what_a_recount_gives(steps in steps()) {
        let mut state = state();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Upsert(n, member) => state.upsert(&nth(n), member),
                Step::Claim(n) => state.claim(&nth(n), &format!("claim-{number}"), at(0)),
                Step::Release(n) => state.release(&nth(n)),
                Step::Remove(n) => state.remove(&nth(n)),
            }
            let ids: Vec<ObjectId> = state.slots.keys().cloned().collect();
            for id in &ids {
                let counted = FleetContext { recent_starts: Vec::new(), ..state.context(id, at(0)) };
                prop_assert_eq!(&counted, &recount(&state, id));
            }
            let mut braked = BTreeSet::new();
            for (name, site) in &state.sites {
                if is_braked(&state.limits, site.unhealthy, site.total) {
                    braked.insert(name.clone());
                }
            }
            prop_assert_eq!(&state.braked, &braked);
            let remediated = state.groups.values().filter(|group| group.counts().is_remediated).count();
            prop_assert_eq!(state.totals.workloads.values().sum::<usize>(), remediated);
            prop_assert!(state.turns.by_time.len() <= state.groups.len());
        }
        (0..8).for_each(|n| state.remove(&nth(n)));
        prop_assert!(state.groups.is_empty() && state.sites.is_empty() && state.turns.by_time.is_empty());
        prop_assert_eq!((state.totals.workloads.len(), state.totals.in_flight), (0, 0));
    }

    #[test]
    fn never_more_than_the_limits_are_in_flight_or_started(events in events()) {
        let mut state = state();
        let (mut now, mut number) = (0, 0);
        let mut really = Really::new();
        let mut starts: Vec<i64> = Vec::new();
        (0..OBJECTS).for_each(|n| state.upsert(&nth(n), placed(n)));
        for event in events {
            match event {
                Event::Decide { object, asked } => {
                    let context = state.context(&nth(object), at(now));
                    if !really.contains_key(&object) && decide(&context, asked, now) {
                        number += 1;
                        state.claim(&nth(object), &format!("a-{number}"), at(now));
                        really.insert(object, (format!("a-{number}"), now, false));
                        starts.push(now);
                    }
                }
                Event::Look { object, health } => look(&mut state, &really, object, health),
                Event::End { object } => {
                    really.remove(&object);
                    state.release(&nth(object));
                }
                Event::Wait { seconds } => {
                    // A reservation is shown long before its claim is forgotten.
                    really.values_mut().for_each(|(_, _, is_shown)| *is_shown = true);
                    (0..OBJECTS).for_each(|n| look(&mut state, &really, n, ObjectHealth::Unhealthy));
                    now += seconds;
                }
            }
            prop_assert_eq!(state.in_flight(), really.len());
            prop_assert!(really.len() <= 5, "{:?}", really);
            prop_assert!(most(really.keys().map(|n| n % SITES)) <= 1, "in a site: {:?}", really);
            prop_assert!(most(really.keys().map(|n| n % 15)) <= 1, "of a workload: {:?}", really);
            prop_assert!(starts.iter().filter(|start| now - **start < 60).count() <= 10, "{:?}", starts);
        }
    }
}
