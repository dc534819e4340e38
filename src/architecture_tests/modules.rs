//! Which module uses which, held against the table in `docs/architecture.md`.
//!
//! Syntax of the table: `| module | content | may use |`. The first cell is one module in backticks, with slashes below
//! the first level. The content begins with `**pure**` where the module must do no I/O. The last cell is `–`, or
//! `everything` for a composition root, or modules in backticks, separated by commas.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::none;
use super::source::{Source, Token, files_below, program};

const PAGE: &str = "docs/architecture.md";

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) is_pure: bool,
    /// `None` is everything.
    may_use: Option<BTreeSet<String>>,
    line: usize,
}

/// The rows of `docs/architecture.md`.
pub(super) fn table() -> Vec<Row> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    parse(&text).unwrap_or_else(|wrong| panic!("{PAGE}:{wrong}"))
}

/// The row of the module that `path` belongs to: the longest that is a prefix of it.
pub(super) fn row_of<'a>(rows: &'a [Row], path: &[&str]) -> Option<&'a Row> {
    let matches = |row: &&Row| {
        let parts: Vec<&str> = row.name.split('/').collect();
        path.starts_with(&parts)
    };
    rows.iter().filter(matches).max_by_key(|row| row.name.len())
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| *line != "| module | content | may use |");
    lines.next().ok_or("1: there is no table with the head `| module | content | may use |`")?;
    for (at, line) in lines.skip(1).take_while(|(_, line)| line.starts_with('|')) {
        let row = parse_row(line, at + 1).map_err(|wrong| format!("{}: {wrong}: {line}", at + 1))?;
        if rows.iter().any(|other: &Row| other.name == row.name) {
            return Err(format!("{}: `{}` has a second row", at + 1, row.name));
        }
        rows.push(row);
    }
    for row in &rows {
        for used in row.may_use.iter().flatten() {
            if *used == row.name || !rows.iter().any(|other| other.name == *used) {
                return Err(format!("{}: `{}` may use `{used}`, which has no other row", row.line, row.name));
            }
        }
    }
    Ok(rows)
}

fn parse_row(line: &str, at: usize) -> Result<Row, &'static str> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [name, content, may_use] = cells[..] else { return Err("a row has three cells") };
    let may_use = match may_use {
        "everything" => None,
        "–" => Some(BTreeSet::new()),
        list => Some(list.split(", ").map(quoted).collect::<Option<_>>().ok_or(
            "the last cell is –, `everything` without backticks, or modules in backticks separated by commas",
        )?),
    };
    let name = quoted(name).ok_or("the first cell is a module in backticks")?;
    Ok(Row { name, is_pure: content.starts_with("**pure**"), may_use, line: at })
}

fn quoted(word: &str) -> Option<String> {
    let name = word.strip_prefix('`')?.strip_suffix('`')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '/');
    is_name.then(|| name.to_owned())
}

/// A place at which one module uses another.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    from: String,
    to: String,
    /// `src/a/b.rs:12`
    place: String,
}

/// Every use of another module in the program. A composition root's are among them.
fn uses(rows: &[Row], program: &[Source]) -> Vec<Use> {
    let mut found = Vec::new();
    for source in program.iter().filter(|source| !["lib.rs", "main.rs"].contains(&source.path.as_str())) {
        let module = source.module();
        let Some(from) = row_of(rows, &module) else { continue };
        for (path, line) in paths(&source.tokens(), &module, rows) {
            let to = row_of(rows, &path).map_or(path[0], |row| &row.name);
            if to != from.name {
                let place = format!("src/{}:{line}", source.path);
                found.push(Use { from: from.name.clone(), to: to.to_owned(), place });
            }
        }
    }
    found.dedup();
    found
}

/// The paths into the crate that `tokens` name, from its root: those that begin with `crate`, `super` or `self`, trees
/// of `use` unfolded, and those that begin with a child of `module` that has a row of its own.
fn paths<'a>(tokens: &[Token<'a>], module: &[&'a str], rows: &[Row]) -> Vec<(Vec<&'a str>, usize)> {
    let mut found = Vec::new();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let own_row = |word: &str| {
        let child = [module, &[word]].concat().join("/");
        child.contains('/') && rows.iter().any(|row| row.name == child)
    };
    for at in 0..tokens.len() {
        let before = if at == 0 { "" } else { text(at - 1) };
        // `pub(in super::super)` uses nothing.
        if text(at + 1) != "::" || before == "::" || before == "in" && at > 1 && text(at - 2) == "(" {
            continue;
        }
        let (mut base, mut next) = match text(at) {
            "crate" => (Vec::new(), at + 2),
            "self" => (module.to_vec(), at + 2),
            "super" => (module.to_vec(), at),
            word if own_row(word) => (module.to_vec(), at),
            _ => continue,
        };
        while text(next) == "super" && base.pop().is_some() {
            next += 2;
        }
        unfold(tokens, &mut next, &base, &mut found);
    }
    found.retain(|(path, _)| !path.is_empty());
    found
}

/// Reads one branch of a tree of paths and leaves `at` behind it.
fn unfold<'a>(tokens: &[Token<'a>], at: &mut usize, base: &[&'a str], found: &mut Vec<(Vec<&'a str>, usize)>) {
    let mut path = base.to_vec();
    while let Some(token) = tokens.get(*at) {
        let is_word = token.text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if token.text == "{" {
            *at += 1;
            while tokens.get(*at).is_some_and(|token| token.text != "}") {
                unfold(tokens, at, &path, found);
                *at += usize::from(tokens.get(*at).is_some_and(|token| token.text == ","));
            }
            *at += 1;
            return;
        }
        if is_word && token.text != "self" {
            path.push(token.text);
        }
        *at += 1;
        if !is_word || tokens.get(*at).is_none_or(|token| token.text != "::") {
            found.push((path, token.line));
            if tokens.get(*at).is_some_and(|token| token.text == "as") {
                *at += 2;
            }
            return;
        }
        *at += 1;
    }
}

#[test]
fn the_table_has_every_module_and_no_other() {
    let rows = table();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all: Vec<Source> = files_below(&root).into_iter().map(|path| Source::new(path, "")).collect();
    let mut found = Vec::new();
    for source in all.iter().filter(|source| !source.is_test()) {
        let top = source.module()[0];
        let wanted = format!("src/{top}: has no row in the table of {PAGE}");
        if !["lib", "main"].contains(&top) && !rows.iter().any(|row| row.name == top) && !found.contains(&wanted) {
            found.push(wanted);
        }
    }
    for row in &rows {
        let parts: Vec<&str> = row.name.split('/').collect();
        if !all.iter().any(|source| source.module().starts_with(&parts)) {
            found.push(format!("{PAGE}:{}: there is no module src/{}", row.line, row.name));
        }
    }
    none(found, "the table and the source tree differ");
}

#[test]
fn modules_use_what_the_table_says() {
    let rows = table();
    let uses = uses(&rows, program());
    let mut found = Vec::new();
    for row in &rows {
        let Some(allowed) = &row.may_use else { continue };
        let mine = || uses.iter().filter(|one| one.from == row.name);
        let used: BTreeSet<String> = mine().map(|one| one.to.clone()).collect();
        for one in mine().filter(|one| !allowed.contains(&one.to)) {
            found.push(format!("{}: {} uses {}, which it may not", one.place, one.from, one.to));
        }
        for to in allowed.difference(&used) {
            found.push(format!("{PAGE}:{}: {} may use {to}, and does not", row.line, row.name));
        }
        if *allowed != used {
            let cell: Vec<String> = used.iter().map(|to| format!("`{to}`")).collect();
            found.push(format!("{PAGE}:{}: {} uses: {}", row.line, row.name, cell.join(", ")));
        }
    }
    none(found, &format!("the code and the table of {PAGE} differ"));
}

#[test]
fn modules_use_each_other_in_no_circle() {
    let rows = table();
    none(cycles(&uses(&rows, program())), "each of these modules uses the others, directly or through them");
}

/// Each set of modules that reach each other, with one place for each use among them.
fn cycles(uses: &[Use]) -> Vec<String> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in uses {
        reached.entry(&one.from).or_default().insert(&one.to);
    }
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        for name in reached.keys().copied().collect::<Vec<_>>() {
            let next: Vec<&str> = reached[name].iter().filter_map(|to| reached.get(to)).flatten().copied().collect();
            reached.entry(name).or_default().extend(next);
        }
        if reached.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let on_circle = |a: &str, b: &str| {
        let reaches = |a: &str, b: &str| reached.get(a).is_some_and(|found| found.contains(b));
        reaches(a, b) && reaches(b, a)
    };
    let mut found = BTreeMap::new();
    for one in uses.iter().filter(|one| on_circle(&one.from, &one.to)) {
        let members: Vec<&str> = reached.keys().copied().filter(|other| on_circle(&one.from, other)).collect();
        let edges: &mut BTreeMap<_, _> = found.entry(members.join(", ")).or_default();
        edges.entry((&one.from, &one.to)).or_insert(&one.place);
    }
    let print = |(members, edges): (String, BTreeMap<(&String, &String), &String>)| {
        let edges = edges.into_iter().map(|((from, to), place)| format!("\n    {place}: {from} uses {to}"));
        format!("{members}:{}", edges.collect::<String>())
    };
    found.into_iter().map(print).collect()
}

#[test]
fn a_table_in_another_syntax_is_refused() {
    let head = "| module | content | may use |\n|---|---|---|\n";
    let rows = parse(&format!(
        "text\n{head}| `a` | **pure**: x | – |\n| `a/b` | y | `a` |\n| `c` | z | everything |\n\n| `d`"
    ));
    let rows = rows.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.name.as_str(), row.is_pure)).collect::<Vec<_>>(),
        [("a", true), ("a/b", false), ("c", false)]
    );
    assert_eq!(rows[1].may_use, Some(BTreeSet::from(["a".to_owned()])));
    assert_eq!(rows[2].may_use, None);
    for (row, wrong) in [
        ("| a | x | – |", "3: the first cell"),
        ("| `a` | x | serde |", "3: the last cell"),
        ("| `a` | x | `b` `c` |", "3: the last cell"),
        ("| `a` | x |", "3: a row has three cells"),
        ("| `a` | x | `b` |", "3: `a` may use `b`, which has no other row"),
        ("| `a` | x | – |\n| `a` | x | – |", "4: `a` has a second row"),
    ] {
        let refused = parse(&format!("{head}{row}\n")).unwrap_err();
        assert!(refused.starts_with(wrong), "{refused}");
    }
    assert!(parse("nothing").is_err());
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    let rows = parse(
        "| module | content | may use |\n|---|---|---|\n| `a` | | – |\n| `a/io` | | – |\n| `b` | | – |\n| `c` | | – |\n",
    );
    let rows = rows.unwrap();
    let used = |path: &str, text: &str| {
        let program = [Source::new(path.to_owned(), text)];
        let uses = uses(&rows, &program).into_iter().map(|one| format!("{}:{}", one.place, one.to));
        uses.collect::<Vec<_>>()
    };
    assert_eq!(
        used("a/x.rs", "use crate::{\n    b::{Y, z::*},\n    c as d, a::Q,\n};"),
        ["src/a/x.rs:2:b", "src/a/x.rs:3:c"]
    );
    assert_eq!(used("a/x.rs", "fn f() -> crate::b::Y { crate::c::g::<u8>() }"), ["src/a/x.rs:1:b", "src/a/x.rs:1:c"]);
    assert_eq!(used("a/x.rs", "use super::{io::Z, y};"), ["src/a/x.rs:1:a/io"]);
    assert_eq!(used("a/mod.rs", "mod io;\nfn f() { io::g() }"), ["src/a/mod.rs:2:a/io"]);
    assert_eq!(used("a/io/x.rs", "use super::super::Y;\npub(in super::super) fn f() {}"), ["src/a/io/x.rs:1:a"]);
    assert!(used("a/x.rs", "// crate::b\nlet s = \"crate::c\"; use super::y; other::b::c();").is_empty());
}

#[test]
fn a_circle_is_found_with_the_places_that_make_it() {
    let one = |from: &str, to: &str| Use { from: from.into(), to: to.into(), place: format!("src/{from}.rs:1") };
    assert!(cycles(&[one("a", "b"), one("b", "c"), one("a", "c")]).is_empty());
    let found = cycles(&[one("a", "b"), one("b", "c"), one("c", "a"), one("a", "d"), one("e", "a")]);
    assert_eq!(found, ["a, b, c:\n    src/a.rs:1: a uses b\n    src/b.rs:1: b uses c\n    src/c.rs:1: c uses a"]);
}
