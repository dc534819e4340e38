//! Saved evidence beside the conclusions that it must lead to: `tests/golden/corpus`.
//!
//! The tables say what is right, not what the rules happen to conclude.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::diagnosis::evidence::{Evidence, FORMAT};
use crate::diagnosis::rules::diagnose;

/// One line of a table.
struct Wanted {
    /// The table, and the number of the line.
    at: String,
    /// Cause, confidence and restart advice; `None - -` where nothing is wrong.
    conclusion: String,
    /// Causes that must be among the alternatives.
    beside: Vec<String>,
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/corpus")
}

/// The files of the corpus with this beginning and end of their name, sorted.
fn files(begin: &str, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| name(path).starts_with(begin) && name(path).ends_with(end));
    found.sort();
    found
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap()
}

/// The lines of all tables, `file | cause | confidence | restart | alternatives`, by the name of the file.
fn wanted() -> BTreeMap<String, Wanted> {
    let mut all = BTreeMap::new();
    for table in files("wanted", ".txt") {
        let text = fs::read_to_string(&table).unwrap();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = format!("{}:{}", name(&table), number + 1);
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let [file, conclusion @ ..] = columns.as_slice() else { panic!("{at}: an empty line") };
            assert!((3..=4).contains(&conclusion.len()), "{at}: file | cause | confidence | restart | alternatives");
            let beside = conclusion.get(3).map(|list| list.split(',').map(str::trim)).into_iter().flatten();
            let beside = beside.filter(|cause| !cause.is_empty()).map(str::to_owned).collect();
            let line = Wanted { at: at.clone(), conclusion: conclusion[..3].join(" "), beside };
            let other = all.insert(file.trim_end_matches(".json").to_owned(), line);
            assert!(other.is_none(), "{at}: {file} stands in the tables twice");
        }
    }
    all
}

/// The difference between the conclusion and the wanted one, if there is one.
fn difference(path: &Path, wanted: &Wanted) -> Option<String> {
    let text = fs::read_to_string(path).unwrap();
    let evidence: Evidence = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(evidence.format, FORMAT, "{}", path.display());
    let diagnosis = diagnose(&evidence);
    let is = diagnosis
        .as_ref()
        .map_or("None - -".to_owned(), |d| format!("{} {} {}", d.cause, d.confidence, d.restart_helps));
    let alternatives: Vec<String> =
        diagnosis.iter().flat_map(|d| &d.alternatives).map(|other| other.cause.to_string()).collect();
    let beside = wanted.beside.iter().filter(|cause| !alternatives.contains(cause)).collect::<Vec<_>>();
    (is != wanted.conclusion || !beside.is_empty()).then(|| {
        let told = diagnosis.map(|d| format!("\n    {}\n    -> {}", d.message, d.advice)).unwrap_or_default();
        let of = name(path).trim_end_matches(".json");
        format!(
            "{}: {of}: {is}, wanted {}; beside it {alternatives:?}, missing {beside:?}{told}",
            wanted.at, wanted.conclusion
        )
    })
}

#[test]
fn saved_evidence_leads_to_the_wanted_conclusion() {
    let mut wanted = wanted();
    let mut different = Vec::new();
    let files = files("", ".json");
    assert!(files.len() >= 80, "the corpus was not found");
    for path in &files {
        let of = name(path).trim_end_matches(".json");
        match wanted.remove(of) {
            Some(wanted) => different.extend(difference(path, &wanted)),
            None => different.push(format!("{of}: no table says what is wanted")),
        }
    }
    different.extend(wanted.iter().map(|(file, line)| format!("{}: there is no {file}.json", line.at)));
    assert!(different.is_empty(), "{} of {} files:\n{}", different.len(), files.len(), different.join("\n"));
}
