//! Backends, as they are listed.

use std::borrow::Cow;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::kind::ListedKind;
use super::status::{condition, paused, restarts, text, word};
use super::table::{NOTHING, exact, rough, said, sentence};
use crate::api::{BackendState, Truth};
use crate::view::{BackendView, RemedyView};

impl ListedKind for BackendView {
    const ONE: &'static str = "backend";
    const MANY: &'static str = "backends";
    const KIND: &'static str = "MonitoredBackend";
    const PLURAL: &'static str = "monitoredbackends";
    const SERVED_AT: Option<&'static str> = Some("/api/v1/backends");
    const COLUMNS: &'static [&'static str] = &["STATE", "READY", "CAUSE", "LATENCY", "LAST PROBE", "RESTARTS", "AGE"];
    const WIDE: &'static [&'static str] = &["ADVICE", "PROMETHEUS", "TARGET", "SITE"];

    fn of(object: &DynamicObject, now: Timestamp) -> Self {
        let json = &object.data;
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            site: text(json, "/spec/site").unwrap_or_default(),
            target: text(json, "/status/target"),
            state: word(json.pointer("/status/state")).unwrap_or(BackendState::Pending),
            ready: word(condition(json, "Ready", "status")).unwrap_or(Truth::Unknown),
            accepted: condition(json, "Accepted", "status").and_then(Value::as_str) == Some("True"),
            cause: word(json.pointer("/status/diagnosis/cause")),
            message: text(json, "/status/diagnosis/message"),
            advice: text(json, "/status/diagnosis/advice"),
            passed: None,
            last_probe_time: word(json.pointer("/status/lastProbeTime")),
            latency_milliseconds: json.pointer("/status/latencyMilliseconds").and_then(Value::as_i64),
            state_since: word(json.pointer("/status/stateSince")),
            scrape: None,
            phases: Vec::new(),
            scraped: word(condition(json, "Scraped", "status")),
            prometheus: word(condition(json, "Scraped", "reason")),
            certificate_expiry_time: word(json.pointer("/status/certificateExpiryTime")),
            restarts: restarts(json),
            remedy: RemedyView::default(),
            created_time: object.creation_timestamp().map(|time| time.0),
            paused: paused(object, now),
            written: true,
        }
    }

    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn is_written(&self) -> bool {
        self.written
    }

    fn without_contact(&self) -> Self {
        Self { last_probe_time: None, latency_milliseconds: None, written: true, ..self.clone() }
    }

    fn cells(&self, now: Timestamp) -> Vec<Cow<'_, str>> {
        vec![
            self.state.as_str().into(),
            self.ready.as_str().into(),
            self.cause.map_or(NOTHING, |cause| cause.as_str()).into(),
            self.latency_milliseconds.map_or(NOTHING.into(), |took| format!("{took}ms").into()),
            exact(self.last_probe_time, now),
            self.restarts.to_string().into(),
            rough(self.created_time, now),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<Cow<'_, str>> {
        vec![
            sentence(self.advice.as_deref()),
            said(self.prometheus.as_deref()),
            said(self.target.as_deref()),
            said(Some(&self.site)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table::render;
    use super::*;
    use crate::api::Cause;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn object(status: Value) -> DynamicObject {
        let object = json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend",
            "metadata": {"namespace": "shops", "name": "shop", "creationTimestamp": "2026-11-20T12:00:00Z"},
            "spec": {"target": {"service": {"name": "shop", "port": 80}}, "site": "lyon"}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn noon() -> Timestamp {
        at("2026-11-22T12:00:00Z")
    }

    fn down() -> BackendView {
        let full = serde_saphyr::from_str(include_str!("../../../tests/api/backend-status.yaml")).unwrap();
        BackendView::of(&object(full), noon())
    }

    #[test]
    fn a_status_is_shown_as_it_was_written() {
        let view = down();
        assert_eq!(
            (view.state, view.ready, view.cause),
            (BackendState::Down, Truth::False, Some(Cause::EndpointNotExposed))
        );
        assert_eq!((view.latency_milliseconds, view.restarts), (Some(12), 1));
        assert_eq!(view.last_probe_time, Some(at("2026-11-22T06:05:00.123456Z")));
        assert_eq!(view.state_since, view.last_probe_time);
        assert_eq!(view.certificate_expiry_time, Some(at("2027-02-01T00:00:00Z")));
        assert_eq!((view.prometheus.as_deref(), view.site.as_str()), (Some("StaleTarget"), "lyon"));
        assert_eq!(view.target.as_deref(), Some("http://shop.gateways.svc:8081/actuator/prometheus"));
        assert!(view.message.is_some_and(|message| message.contains("404")));
        assert!(view.written && !view.paused);
    }

    #[test]
    fn an_object_that_was_never_reconciled_is_pending() {
        let view = BackendView::of(&object(json!({"observedGeneration": -1})), noon());
        assert_eq!((view.state, view.ready, view.cause), (BackendState::Pending, Truth::Unknown, None));
        assert_eq!((view.last_probe_time, view.latency_milliseconds, view.target), (None, None, None));
    }

    #[test]
    fn the_table_reads_like_kubectls() {
        let new = BackendView { name: "new-shop".to_owned(), ..BackendView::of(&object(json!({})), noon()) };
        let expected = "\
NAME       STATE     READY     CAUSE                LATENCY   LAST PROBE   RESTARTS   AGE
shop       Down      False     EndpointNotExposed   12ms      5h54m        1          2d
new-shop   Pending   Unknown   <none>               <none>    <never>      0          2d
";
        assert_eq!(render(&[down(), new], false, false, noon()), expected);
    }

    #[test]
    fn wide_adds_the_advice_with_its_spaces_and_cannot_move_the_cursor() {
        let mut view = down();
        view.advice = Some("set A\x1b[2J\u{202e}to b".to_owned());
        let table = render(&[view], true, true, noon());
        let header = "AGE   ADVICE           PROMETHEUS    TARGET                                              SITE";
        let row = "2d    set A_[2J_to b   StaleTarget   http://shop.gateways.svc:8081/actuator/prometheus   lyon";
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("NAMESPACE   NAME   STATE") && lines[0].ends_with(header), "{table}");
        assert!(lines[1].starts_with("shops       shop   Down") && lines[1].ends_with(row), "{table}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn one_more_probe_is_no_change_and_another_state_is() {
        let mut view = down();
        view.last_probe_time = Some(noon());
        view.latency_milliseconds = Some(13);
        assert_eq!(view.without_contact(), down().without_contact());
        view.state = BackendState::Up;
        assert_ne!(view.without_contact(), down().without_contact());
    }
}
