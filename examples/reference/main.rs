//! Writes the reference from the code: `cargo run --example reference -- DIRECTORY` (`make generate`).
//!
//! Equal code gives equal bytes: the files are committed, and `make lint` compares.

mod commands;
mod fields;
mod metrics;

use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context;

/// Said on top of each file, where a reader of the rendered page does not see it.
const HEADER: &str = "<!-- Generated from the code by `make generate`. Do not edit. -->\n\n";

fn main() -> anyhow::Result<()> {
    let directory = PathBuf::from(env::args_os().nth(1).context("name the directory to write to")?);
    let pages =
        [("connector.md", fields::page()?), ("metrics.md", metrics::page()?), ("commands.md", commands::page())];
    for (name, text) in pages {
        let path = directory.join(name);
        fs::write(&path, format!("{HEADER}{text}")).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// `text` as the cell of a table: one line, and no bar that ends it.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
