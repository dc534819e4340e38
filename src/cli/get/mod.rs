//! `vigie get`: the live table.

mod backends;
mod connectors;
mod kind;
mod source;
mod status;
mod table;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::bail;
use jiff::Timestamp;
use kube::api::ApiResource;
use serde_json::json;

use super::args::{GetArgs, Output};
use super::{Usage, output};
use crate::view::{BackendView, ConnectorView, Role};
use kind::{ListedKind, parse_kind_and_name};
pub(super) use kind::{ResourceKind, parse_object};
use source::{FleetReader, Listing, Origin};

/// The interval of `--watch`: heartbeats come every 30 s, and ages are shown to the second.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

const CLEAR_SCREEN: &str = "\x1b[2J";

/// The resource of Connectors as JSON, without its types.
pub(super) fn resource() -> ApiResource {
    ConnectorView::resource()
}

/// Prints the connectors or backends that were asked for, once or for ever.
///
/// # Errors
/// When neither the operator nor the API server can be read, or no object has that name.
pub(super) async fn get(args: GetArgs) -> anyhow::Result<()> {
    let words: Vec<&str> = args.kind.iter().chain(&args.name).map(String::as_str).collect();
    let (kind, name) = parse_kind_and_name(&words).map_err(Usage)?;
    match kind {
        ResourceKind::Connectors => show::<ConnectorView>(&args, name.as_deref()).await,
        ResourceKind::Backends => show::<BackendView>(&args, name.as_deref()).await,
    }
}

async fn show<V: ListedKind>(args: &GetArgs, name: Option<&str>) -> anyhow::Result<()> {
    let reader = FleetReader::new(args).await?;
    let listing: Listing<V> = reader.read(name).await?;
    if let (Some(name), []) = (name, listing.items.as_slice()) {
        bail!("there is no {} {name:?} in {}", V::ONE, place(reader.namespace()));
    }
    if listing.items.is_empty() && matches!(args.output, Output::Table | Output::Wide) {
        eprintln!("no {} found in {}", V::MANY, place(reader.namespace()));
    }
    if let Some(note) = note(&listing) {
        eprintln!("{note}");
    }
    output::print(&render(args, name, &listing, Timestamp::now())?)?;
    if args.watch { watch(args, name, &reader, listing).await } else { Ok(()) }
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "any namespace".to_owned(), |namespace| format!("namespace {namespace:?}"))
}

/// A note when the listing is not the exact state from the leader.
fn note<V: ListedKind>(listing: &Listing<V>) -> Option<String> {
    let pending = listing.items.iter().filter(|view| !view.is_written()).count();
    match &listing.origin {
        Origin::Status { because: Some(because) } => {
            Some(format!("operator not reachable ({because}): showing what was last written"))
        }
        Origin::Status { because: None } => Some("showing what was last written".to_owned()),
        Origin::Operator { standing: Role::Follower } => {
            Some("the operator that answered does not lead: showing what it last read".to_owned())
        }
        Origin::Operator { .. } if pending > 0 => {
            Some(format!("{pending} of these are not yet written to the API server: kubectl shows older states"))
        }
        Origin::Operator { .. } => None,
    }
}

fn render<V: ListedKind>(
    args: &GetArgs,
    name: Option<&str>,
    listing: &Listing<V>,
    now: Timestamp,
) -> anyhow::Result<String> {
    let wide = args.output == Output::Wide;
    let document = match (name, listing.items.as_slice()) {
        (Some(_), [view]) => serde_json::to_value(view)?,
        (_, items) => json!({"items": items, "source": listing.origin.as_str()}),
    };
    Ok(match args.output {
        Output::Table | Output::Wide if listing.items.is_empty() => String::new(),
        Output::Table | Output::Wide => table::render(&listing.items, args.all_namespaces, wide, now),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&document)?),
        Output::Yaml => output::yaml(&document)?,
    })
}

/// On a terminal the table is redrawn in place, so that ages are current. Otherwise each change is appended as a line, as
/// kubectl does, so that a script can read it.
async fn watch<V: ListedKind>(
    args: &GetArgs,
    name: Option<&str>,
    reader: &FleetReader,
    mut last: Listing<V>,
) -> anyhow::Result<()> {
    let redraw = std::io::stdout().is_terminal() && matches!(args.output, Output::Table | Output::Wide);
    let mut said = note(&last);
    let mut took = Duration::ZERO;
    if redraw {
        output::print(CLEAR_SCREEN)?;
    }
    loop {
        // Reading a large fleet takes long; at most a fifth of the time is spent on it.
        tokio::time::sleep(POLL_INTERVAL.max(took * 4)).await;
        let began = Instant::now();
        // A failed read does not end the watch.
        let (listing, note) = match reader.read(name).await {
            Ok(listing) => (Some(listing), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        took = began.elapsed();
        let note = note.or_else(|| listing.as_ref().and_then(self::note));
        let before = listing.map(|listing| std::mem::replace(&mut last, listing));
        if redraw {
            let table = render(args, name, &last, Timestamp::now())?;
            output::print(&in_place(&table, note.as_deref()))?;
        } else {
            if let Some(note) = note.as_ref().filter(|note| said.as_ref() != Some(*note)) {
                eprintln!("{note}");
            }
            let before = before.map_or_else(|| last.items.clone(), |before| before.items);
            output::print(&append(args, &before, &last.items, Timestamp::now())?)?;
        }
        said = note;
    }
}

/// The table, drawn over the previous one. Each line clears only its own remainder, which avoids flicker.
fn in_place(table: &str, note: Option<&str>) -> String {
    let lines = table.lines().chain(note);
    let lines: String = lines.map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// The rows that changed between two reads, without the header.
fn append<V: ListedKind>(args: &GetArgs, before: &[V], after: &[V], now: Timestamp) -> anyhow::Result<String> {
    let changed = changes(before, after);
    let mut text = String::new();
    match args.output {
        Output::Table | Output::Wide if changed.is_empty() => {}
        Output::Table | Output::Wide => {
            let table = table::render(&changed, args.all_namespaces, args.output == Output::Wide, now);
            text.push_str(table.split_once('\n').map_or("", |(_header, rows)| rows));
        }
        Output::Json => {
            for view in &changed {
                text.push_str(&format!("{}\n", serde_json::to_string(view)?));
            }
        }
        Output::Yaml => {
            for view in &changed {
                text.push_str(&format!("---\n{}", output::yaml(view)?));
            }
        }
    }
    Ok(text)
}

/// The objects that are new or changed. Another heartbeat or probe is no change.
fn changes<V: ListedKind>(before: &[V], after: &[V]) -> Vec<V> {
    let before: HashMap<_, _> = before.iter().map(|view| (view.key(), view.without_contact())).collect();
    let is_new = |view: &&V| before.get(&view.key()) != Some(&view.without_contact());
    after.iter().filter(is_new).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::connectors::tests::edge_1;
    use super::*;

    #[test]
    fn one_more_beat_is_no_change_and_another_state_is() {
        let before = [edge_1()];
        let mut after = before.clone();
        after[0].last_heartbeat_time = Some(Timestamp::from_second(2_000_000_000).unwrap());
        assert_eq!(changes(&before, &after), []);
        after[0].state = crate::api::ConnectorState::Offline;
        assert_eq!(changes(&before, &after), after);
        assert_eq!(changes(&[], &after), after);
    }

    #[test]
    fn a_table_in_place_leaves_nothing_of_the_one_before() {
        assert_eq!(in_place("A\nb\n", Some("note")), "\x1b[HA\x1b[K\nb\x1b[K\nnote\x1b[K\n\x1b[J");
    }

    #[test]
    fn the_reader_is_told_when_the_answer_is_not_the_operators() {
        let listing = |origin| Listing { items: vec![edge_1()], origin };
        let leader = Origin::Operator { standing: Role::Leader };
        assert_eq!(note(&listing(leader)), None);
        let status = Origin::Status { because: Some("connection refused".to_owned()) };
        assert_eq!(
            note(&listing(status)).as_deref(),
            Some("operator not reachable (connection refused): showing what was last written")
        );
        let status = Origin::Status { because: None };
        assert_eq!(note(&listing(status)).as_deref(), Some("showing what was last written"));
        let mut pending = listing(Origin::Operator { standing: Role::Uncertain });
        pending.items[0].written = false;
        assert!(note(&pending).is_some_and(|note| note.starts_with("1 of these are not yet written")));
    }
}
