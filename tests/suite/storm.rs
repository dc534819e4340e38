//! The backends of five sites hang at once: fifty, or a hundred by `make chaos`. Few are restarted, and a restart that
//! is held back uses no budget.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::remedies::gateway;
use crate::support::backends::probed;
use crate::support::pages::Pages;
use crate::support::workloads::remediating;
use crate::support::world::SOON;
use crate::support::{Operator, World, eventually, seconds, text};

const SITES: usize = 5;

/// Backends of each site; each has a Deployment of its own.
fn each() -> usize {
    std::env::var("VIGIE_STORM_EACH").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// `--max-in-flight`, by default.
const IN_FLIGHT: usize = 5;
/// `--max-per-minute`, by default.
const PER_MINUTE: usize = 10;

/// The fleet and its operator.
struct Storm {
    world: World,
    operator: Operator,
    pages: Pages,
}

fn name(site: usize, number: usize) -> String {
    format!("be-{site}-{number}")
}

/// The backends of each site whose numbers are at least this.
fn from(first: usize) -> BTreeSet<String> {
    (0..SITES).flat_map(|site| (first..each()).map(move |number| name(site, number))).collect()
}

/// The number of them that are Up.
fn up(all: &[Value]) -> usize {
    all.iter().filter(|one| text(one, "/status/state") == "Up").count()
}

fn reasons(all: &[Value]) -> Vec<&str> {
    all.iter().map(|one| remediating(one).1).collect()
}

impl Storm {
    /// Creates everything, and waits until it is healthy.
    async fn calm() -> Self {
        let world = World::new("storm").await;
        let operator = world.operator(&["--allow-network", "127.0.0.0/8"]).await;
        let storm = Self { world, operator, pages: Pages::open(from(0)).await };
        let made = (0..SITES * each()).map(|place| storm.make(place / each(), place % each()));
        stream::iter(made).buffer_unordered(16).collect::<()>().await;
        storm.until("all are Up", |all| (up(all) != SITES * each()).then(|| up(all).to_string())).await;
        storm
    }

    async fn make(&self, site: usize, number: usize) {
        let name = name(site, number);
        self.world.deployment(&name, 1).await;
        let mut spec = probed(&self.pages.url(&name), json!({"metrics": {}, "intervalSeconds": 4}));
        for (key, value) in gateway(&name, json!({})).as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec["site"] = json!(format!("s{site}"));
        self.world.backend(&name, spec).await;
    }

    /// Makes restarted backends healthy. Checks the invariants against the current objects, and returns these.
    async fn look(&self) -> Vec<Value> {
        let mut in_flight = [0; SITES];
        let mut all = Vec::new();
        for (name, (one, attempt)) in self.world.with_attempts(self.world.backends()).await {
            if attempt.is_some() {
                self.pages.mend(&name);
            }
            let site: usize = text(&one, "/spec/site").trim_start_matches('s').parse().unwrap();
            in_flight[site] += usize::from(!one["status"]["remediation"]["current"].is_null());
            is_fair(&one);
            all.push(one);
        }
        assert!(in_flight.iter().all(|site| *site <= 1), "in flight by site: {in_flight:?}");
        let said = self.operator.scrape().sum("vigie_remedy_in_flight", &[]);
        assert!(said <= IN_FLIGHT as f64, "{said} in flight");
        all
    }

    /// Waits until `wanted` returns None.
    async fn until(&self, what: &str, wanted: impl Fn(&[Value]) -> Option<String>) -> Vec<Value> {
        eventually(2 * SOON, what, async || {
            let all = self.look().await;
            wanted(&all).map_or(Ok(all), Err)
        })
        .await
    }

    /// Waits until an object is held back for this reason, and no attempt is in progress. Others may be held for other
    /// reasons, or show an older one until their next reconcile.
    async fn all_held(&self, why: &str) {
        self.until(&format!("the others are held back: {why}"), |all| {
            let reasons = reasons(all);
            let is_so = reasons.contains(&why) && !reasons.contains(&"RestartInProgress");
            (!is_so).then(|| format!("{reasons:?}"))
        })
        .await;
    }

    /// Half of each site, none of which was ever restarted: the ones that a restart would mend are still sick.
    async fn half(&self) -> BTreeSet<String> {
        let all = self.world.with_attempts(self.world.backends()).await;
        let never = |name: &String| all[name].1.is_none();
        let of_site = |site: usize| (0..each()).rev().map(move |number| name(site, number));
        (0..SITES).flat_map(|site| of_site(site).filter(never).take(each() / 2)).collect()
    }

    /// Checks for a while that nothing is restarted.
    async fn holds(&self) {
        let touches = self.world.touches().len();
        crate::support::never(seconds(3), "something is restarted", async || {
            self.look().await;
            let now = self.world.touches();
            (now.len() > touches).then(|| format!("{:?}", &now[touches..]))
        })
        .await;
    }

    fn is_open(&self) -> bool {
        self.operator.scrape().samples("vigie_breaker_open") == [(String::new(), 1.0)]
    }
}

/// A restart that is held back uses no budget: each attempt in the ledger is in progress, or was made and not recalled.
#[track_caller]
fn is_fair(one: &Value) {
    let remediation = &one["status"]["remediation"];
    let history = remediation["history"].as_array().cloned().unwrap_or_default();
    let costly = history.iter().filter(|past| past["outcome"] != "Recalled").count();
    let made = costly + usize::from(!remediation["current"].is_null());
    assert_eq!(remediation.pointer("/ledger/attempts").and_then(Value::as_u64).unwrap_or(0), made as u64, "{one:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_the_brake_holds_the_breaker_latches_and_nobody_pays_for_it() {
    let storm = Storm::calm().await;
    storm.pages.hang(from(0));
    // They accept connections, so the operator is not blind; the first may be restarted before the others are known to
    // be sick.
    storm.all_held("BreakerOpen").await;
    assert!(storm.is_open());
    storm.world.event(SOON, "vigie-breaker", "BreakerOpened").await;
    let first = storm.world.touches();
    assert!(first.len() <= PER_MINUTE, "{first:?}");
    storm.holds().await;

    // A backend that is not known to be sick yet does not count for a site's brake either.
    let fine = |one: &Value| text(one, "/status/state") == "Up" && one["status"]["remediation"]["restarts"] == 0;
    let unknown = |all: &[Value]| all.iter().filter(|one| fine(one)).count();
    storm
        .until("all are Down but those that were restarted", |all| (unknown(all) > 0).then(|| unknown(all).to_string()))
        .await;

    // Half of them recover without a restart: that releases nothing.
    storm.pages.hang(storm.half().await);
    storm.until("half of them are Up", |all| (up(all) < SITES * each() / 2).then(|| up(all).to_string())).await;
    storm.holds().await;
    assert!(storm.is_open());

    // A person resets the breaker: now the brake holds, because half of each site is still sick.
    storm.world.vigie(&["breaker", "reset", "--operator-namespace", &storm.world.ns]).ok();
    storm.until("the breaker is closed", |_| storm.is_open().then(|| "it is open".to_owned())).await;
    storm.all_held("SiteBrake").await;
    storm.holds().await;

    // All recover but one of each site: the brake releases, and those are restarted.
    let last = storm.half().await;
    let of_site = |site: usize| last.iter().find(|one| one.starts_with(&format!("be-{site}-")));
    let last: BTreeSet<String> = (0..SITES).filter_map(of_site).cloned().collect();
    storm.pages.hang(last.clone());
    let well = |all: &[Value]| {
        let rest = reasons(all).into_iter().filter(|reason| *reason != "Idle").collect::<Vec<_>>();
        (up(all) < SITES * each() || !rest.is_empty()).then(|| format!("{} are Up: {rest:?}", up(all)))
    };
    let all = storm.until("all are well", well).await;
    let restarted: Vec<&str> = all
        .iter()
        .filter(|one| one["status"]["remediation"]["restarts"] != 0)
        .map(|one| text(one, "/metadata/name"))
        .collect();
    assert!(last.iter().all(|one| restarted.contains(&&**one)), "{restarted:?}");
    // This includes those whose site was released before their next probe passed; each is restarted once.
    assert_eq!(storm.world.touches().iter().filter(|touch| touch.is_success()).count(), restarted.len());
}
