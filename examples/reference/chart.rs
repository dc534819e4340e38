//! The generated part of the chart's README: the table of values, from the comments of values.yaml.

use anyhow::Context;
use serde_json::Value;

use crate::cell;

const BEGIN: &str = "<!-- Generated from values.yaml by `make generate`. Do not edit the table. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

/// The README with its table replaced by one of `values`.
///
/// # Errors
/// When the README has no markers of the table, and when a value has no comment.
pub(crate) fn readme(readme: &str, values: &str) -> anyhow::Result<String> {
    let (before, rest) = readme.split_once(BEGIN).context("the chart's README has no beginning of a table")?;
    let (_, after) = rest.split_once(END).context("the chart's README has no end of a table")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table(values)?))
}

fn table(values: &str) -> anyhow::Result<String> {
    let defaults: Value = serde_saphyr::from_str(values).context("reading values.yaml")?;
    let entries = entries(values);
    let mut table = "| value | default | what it is |\n|---|---|---|\n".to_owned();
    for entry in &entries {
        let default = entry.path.iter().try_fold(&defaults, |at, key| at.get(key)).context("a key is a value")?;
        let inside = entries.iter().any(|other| is_below(&other.path, &entry.path) && !other.comment.is_empty());
        match (default.is_object() && inside, entry.comment.is_empty()) {
            // The comments on the parts replace a comment on the whole.
            (true, _) => {}
            // A part of a value whose comment covers the whole.
            (false, true) if entries.iter().any(|whole| explains(whole, &entry.path)) => {}
            (false, true) => anyhow::bail!("{} has no comment in values.yaml", entry.path.join(".")),
            (false, false) => {
                let default = serde_json::to_string(default).context("writing a default")?;
                table += &format!("| `{}` | `{}` | {} |\n", entry.path.join("."), cell(&default), cell(&entry.comment));
            }
        }
    }
    Ok(table)
}

/// A key of values.yaml, and the comment right above it.
#[derive(Debug)]
struct Entry {
    path: Vec<String>,
    comment: String,
}

fn is_below(path: &[String], whole: &[String]) -> bool {
    path.len() > whole.len() && path.starts_with(whole)
}

fn explains(whole: &Entry, path: &[String]) -> bool {
    is_below(path, &whole.path) && !whole.comment.is_empty()
}

/// The keys of maps in the order of the file. Keys inside lists are ignored.
fn entries(values: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut list_at = None;
    for line in values.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if text.is_empty() {
            comment.clear();
            continue;
        }
        if text.starts_with("- ") {
            list_at = Some(indent);
            continue;
        }
        // A line that is indented deeper than the dash is part of the item.
        if list_at.is_some_and(|dash| indent > dash) {
            continue;
        }
        list_at = None;
        let Some((key, _)) = text.split_once(':') else { continue };
        above.retain(|(at, _)| *at < indent);
        above.push((indent, key.to_owned()));
        let path = above.iter().map(|(_, key)| key.clone()).collect();
        found.push(Entry { path, comment: std::mem::take(&mut comment).join(" ") });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_under_its_whole_path_with_its_default_and_the_comment_above_it() {
        let values = "# A head.\n\n# How many.\ncount: 2\n\nouter:\n  # First |\n  # and second.\n  inner: \"x\"\n";
        let expected = "| value | default | what it is |\n|---|---|---|\n| `count` | `2` | How many. |\n| `outer.inner` | `\"x\"` | \
             First \\| and second. |\n";
        assert_eq!(table(values).unwrap(), expected);
    }

    #[test]
    fn a_whole_with_one_comment_is_one_row() {
        let values = "# What it takes.\nresources:\n  limits:\n    cpu: 1\n# A list.\nlist:\n- a: 1\n  b: 2\n- a: 3\n";
        let rows: Vec<String> = table(values).unwrap().lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            rows,
            [
                "| `resources` | `{\"limits\":{\"cpu\":1}}` | What it takes. |",
                "| `list` | `[{\"a\":1,\"b\":2},{\"a\":3}]` | A list. |"
            ]
        );
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let values = "# Told.\na: 1\nb:\n  # Told.\n  c: 1\n  d: 2\n";
        assert_eq!(table(values).unwrap_err().to_string(), "b.d has no comment in values.yaml");
    }

    #[test]
    fn the_rest_of_the_readme_stays() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let new = readme(&text, "# One.\na: 1\n").unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("after\n") && new.contains("| `a` | `1` | One. |"));
        assert!(!new.contains("old") && readme("nothing", "").is_err());
    }
}
