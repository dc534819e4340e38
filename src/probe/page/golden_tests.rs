//! Real and odd pages, each with the verdict of Prometheus' own parser (3.5).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    content_type: String,
    /// Whether Prometheus takes the page.
    taken: bool,
    /// Its samples, if it does.
    #[serde(default)]
    samples: u64,
}

/// Pages of which this parser says something else than Prometheus, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("leading-space", "Prometheus 3 makes the blank a part of the name, 2 refuses it"),
    ("nul-mid", "Prometheus silently drops the rest of the page"),
];

#[test]
fn pages_are_taken_and_refused_as_prometheus_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pages");
    let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
    let index: BTreeMap<String, Expected> = serde_json::from_str(&index).unwrap();
    assert!(index.len() > 100);
    let mut wrong = Vec::new();
    for (name, expected) in &index {
        let page = std::fs::read(folder.join(format!("{name}.page"))).unwrap();
        let options = MetricsOptions::default();
        let (seen, result) = match Reader::new(Some(&expected.content_type), &options) {
            Ok(mut reader) => {
                let _ = reader.feed(&page);
                reader.finish()
            }
            Err(failure) => (Page::default(), Err(failure)),
        };
        let is_same = match &result {
            Ok(()) => expected.taken && seen.samples == expected.samples,
            Err(_) => !expected.taken,
        };
        let is_known = DIFFERENT.iter().any(|(different, _)| different == name);
        if is_same == is_known {
            wrong.push(format!("{name}: {} samples, {result:?}; Prometheus: {}", seen.samples, expected.taken));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
