use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::pod_label::*;
use crate::cluster::fake::{Fake, Mode};
use crate::leadership::{LabelState, LeaderLabel, Leadership, Role};
use crate::time::Moment;

const PODS: &str = "/api/v1/namespaces/ns/pods";

fn pod(fake: &Fake, name: &str, instance: Option<&str>, leads: bool) {
    let mut labels = json!({ "app.kubernetes.io/name": "vigie" });
    if let Some(instance) = instance {
        labels["app.kubernetes.io/instance"] = instance.into();
    }
    if leads {
        labels[LEADER_LABEL] = "leader".into();
    }
    let pod = json!({ "metadata": { "name": name, "namespace": "ns", "labels": labels } });
    fake.put(&format!("{PODS}/{name}"), pod);
}

fn leads(fake: &Fake, name: &str) -> bool {
    let pod = fake.object(&format!("{PODS}/{name}")).unwrap();
    pod["metadata"]["labels"][LEADER_LABEL] == "leader"
}

fn label(fake: &Fake, name: &str) -> PodLabel {
    PodLabel::new(fake.client(), "ns", name, LeaderLabel::default())
}

#[tokio::test]
async fn the_leader_takes_the_label_from_the_others_of_its_installation() {
    let fake = Fake::new();
    pod(&fake, "a", Some("one"), false);
    pod(&fake, "b", Some("one"), true);
    pod(&fake, "c", Some("two"), true);
    label(&fake, "a").lead(|| true).await.unwrap();
    assert_eq!(["a", "b", "c"].map(|name| leads(&fake, name)), [true, false, true]);

    fake.take_log();
    label(&fake, "a").lead(|| true).await.unwrap();
    let sent = fake.take_log();
    assert!(sent.len() == 1 && sent[0].starts_with("GET"), "nothing to do is one read: {sent:?}");
}

#[tokio::test]
async fn who_leads_no_more_when_the_list_is_there_leaves_the_labels_to_the_successor() {
    let fake = Fake::new();
    pod(&fake, "a", Some("one"), true);
    pod(&fake, "b", Some("one"), true);
    assert_eq!(label(&fake, "a").lead(|| false).await.unwrap(), Labelled::RetrySoon);
    pod(&fake, "a", Some("one"), false);
    label(&fake, "a").lead(|| false).await.unwrap();
    assert_eq!(["a", "b"].map(|name| leads(&fake, name)), [false, true]);
    let sent = fake.take_log();
    assert!(sent.iter().all(|line| line.starts_with("GET")), "{sent:?}");
}

#[tokio::test]
async fn a_pod_that_says_no_installation_takes_it_from_all_of_its_name() {
    let fake = Fake::new();
    pod(&fake, "a", None, true);
    pod(&fake, "b", Some("one"), true);
    label(&fake, "a").lead(|| true).await.unwrap();
    assert_eq!(["a", "b"].map(|name| leads(&fake, name)), [true, false]);
}

#[tokio::test]
async fn stripping_takes_ours_and_minds_no_missing_pod() {
    let fake = Fake::new();
    pod(&fake, "a", None, true);
    label(&fake, "a").strip_own().await.unwrap();
    assert!(!leads(&fake, "a"));
    label(&fake, "gone").strip_own().await.unwrap();
    fake.set_mode(Mode::Refuses(403, "Forbidden"));
    let error = label(&fake, "a").strip_own().await.unwrap_err();
    assert_eq!(error.to_string(), "not allowed: the fake says Forbidden");
}

#[tokio::test]
async fn the_label_follows_the_leadership_through_failures_and_goes_on_exit() {
    let fake = Fake::new();
    pod(&fake, "a", None, true);
    let (sender, receiver) = watch::channel(Leadership::follower());
    let stop = CancellationToken::new();
    let task = tokio::spawn(label(&fake, "a").run(receiver, stop.clone()));
    let until = async |want: bool| {
        let turned = async {
            while leads(&fake, "a") != want {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), turned).await.unwrap_or_else(|_| panic!("never {want}"));
    };
    // Left behind by a container that was killed.
    until(false).await;
    let leader = Leadership { role: Role::Leader, write_until: Moment::default(), ..Leadership::follower() };
    fake.set_mode(Mode::Refuses(500, "InternalError"));
    sender.send_replace(leader.clone());
    while fake.take_log().is_empty() {
        tokio::task::yield_now().await;
    }
    fake.set_mode(Mode::Up);
    until(true).await;
    // An outage, then another leader.
    sender.send_replace(Leadership { role: Role::Uncertain, ..leader.clone() });
    tokio::task::yield_now().await;
    assert!(leads(&fake, "a"));
    sender.send_replace(Leadership::follower());
    until(false).await;
    sender.send_replace(leader);
    until(true).await;
    stop.cancel();
    task.await.unwrap();
    assert!(!leads(&fake, "a"));
}

#[tokio::test]
async fn who_gave_the_leadership_back_keeps_the_label_until_it_ends() {
    let fake = Fake::new();
    pod(&fake, "a", None, false);
    let leader = Leadership { role: Role::Leader, write_until: Moment::default(), ..Leadership::follower() };
    let (sender, receiver) = watch::channel(leader);
    let stop = CancellationToken::new();
    let task = tokio::spawn(label(&fake, "a").run(receiver, stop.clone()));
    let labelled = async {
        while !leads(&fake, "a") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), labelled).await.expect("it is labelled");
    sender.send_replace(Leadership { resigned: true, ..Leadership::follower() });
    drop(sender);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert!(leads(&fake, "a"), "no other pod takes beats yet");
    }
    stop.cancel();
    task.await.unwrap();
    assert!(!leads(&fake, "a"));
}

#[tokio::test]
async fn a_predecessor_keeps_its_label_until_we_are_ready() {
    let fake = Fake::new();
    pod(&fake, "a", None, false);
    pod(&fake, "b", None, true);
    let ready = |status: &str| {
        let path = format!("{PODS}/a");
        let mut ours = fake.object(&path).unwrap();
        ours["status"] = json!({ "conditions": [{ "type": "Ready", "status": status }] });
        fake.put(&path, ours);
    };
    ready("False");
    assert_eq!(label(&fake, "a").lead(|| true).await.unwrap(), Labelled::RetrySoon);
    assert!(leads(&fake, "a") && leads(&fake, "b"));
    ready("True");
    assert_eq!(label(&fake, "a").lead(|| true).await.unwrap(), Labelled::Done);
    assert!(leads(&fake, "a") && !leads(&fake, "b"));
}

#[tokio::test]
async fn a_leader_without_its_label_is_known_and_one_that_has_it_again_is_too() {
    let fake = Fake::new();
    pod(&fake, "a", None, false);
    let state = LeaderLabel::default();
    let ours = PodLabel::new(fake.client(), "ns", "a", state.clone());
    assert_eq!(state.get(), LabelState::NotWanted);
    fake.set_mode(Mode::Refuses(403, "Forbidden"));
    ours.lead(|| true).await.unwrap_err();
    assert_eq!(state.get(), LabelState::Missing);
    fake.set_mode(Mode::Up);
    ours.lead(|| true).await.unwrap();
    assert_eq!(state.get(), LabelState::Set);
    // An outage takes no label away.
    fake.set_mode(Mode::Refuses(500, "InternalError"));
    ours.lead(|| true).await.unwrap_err();
    assert_eq!(state.get(), LabelState::Set);
    fake.set_mode(Mode::Up);
    ours.apply(Want::Off, None, || false).await.unwrap();
    assert_eq!(state.get(), LabelState::NotWanted);
}

#[test]
fn what_we_do_not_know_leaves_the_label_as_it_is() {
    let in_role = |role| Leadership { role, ..Leadership::follower() };
    for (leadership, want) in [
        (in_role(Role::Leader), Want::Ours),
        (in_role(Role::Uncertain), Want::AsItIs),
        (in_role(Role::Unconfirmed), Want::AsItIs),
        (in_role(Role::Follower), Want::Off),
        (Leadership { resigned: true, ..Leadership::follower() }, Want::AsItIs),
    ] {
        assert_eq!(Want::of(&leadership), want, "{leadership:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_label_that_is_refused_for_long_is_tried_a_few_times_a_minute_and_set_soon_after() {
    let modes = [
        Mode::Refuses(403, "Forbidden"),
        Mode::Refuses(404, "NotFound"),
        Mode::Refuses(409, "Conflict"),
        Mode::Refuses(422, "Invalid"),
        Mode::Refuses(429, "TooManyRequests"),
        Mode::Refuses(500, "InternalError"),
        Mode::Hangs,
    ];
    for mode in modes {
        let fake = Fake::new();
        pod(&fake, "a", None, false);
        let leader = Leadership { role: Role::Leader, write_until: Moment::default(), ..Leadership::follower() };
        let (_sender, receiver) = watch::channel(leader);
        let stop = CancellationToken::new();
        fake.set_mode(mode);
        let task = tokio::spawn(label(&fake, "a").run(receiver, stop.clone()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        fake.take_log();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let tries = fake.take_log();
        assert!((1..=3).contains(&tries.len()), "{mode:?}: {tries:?}");
        fake.set_mode(Mode::Up);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(leads(&fake, "a"), "{mode:?}: one wait after the fault, and the time limit of a call");
        stop.cancel();
        task.await.unwrap();
    }
}
