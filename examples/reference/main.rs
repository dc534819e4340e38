//! Writes the generated files below a directory, from the code: `crds/` and `docs/reference/`; and for the chart copies
//! of `crds/` and `config/rbac/`, because Helm cannot read files outside the chart, and the table of its values. `cargo
//! run --example reference -- DIRECTORY` (`make generate`).
//!
//! Equal code gives equal bytes: the files are committed, and `make lint` compares them.

mod causes;
mod chart;
mod commands;
mod connectors;
mod fields;
mod metrics;
mod words;

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context;
use vigie::api::crd;

/// The first line of each page, invisible in the rendered page.
const HEADER: &str = "<!-- Generated from the code by `make generate`. Do not edit. -->\n\n";

/// The directory of the chart.
const CHART: &str = "charts/vigie";
const README: &str = "README.md";

fn main() -> anyhow::Result<()> {
    let root = PathBuf::from(env::args_os().nth(1).context("name the directory to write to")?);
    for (name, text) in crd::files() {
        write(&root.join("crds"), &name, &text)?;
        write(&root.join(CHART).join("files/crds"), &name, &text)?;
    }
    let pages = [
        ("connector.md", fields::page("Connector")?),
        ("monitoredbackend.md", fields::page("MonitoredBackend")?),
        ("metrics.md", metrics::page()?),
        ("commands.md", commands::page()),
        ("causes.md", causes::page()?),
        ("reasons.md", words::page()?),
    ];
    for (name, text) in pages {
        write(&root.join("docs/reference"), name, &format!("{HEADER}{text}"))?;
    }
    parts_of_the_chart(&root)
}

fn parts_of_the_chart(root: &Path) -> anyhow::Result<()> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    for name in ["cluster.yaml", "namespaced.yaml", "restart.yaml"] {
        let text = read(&checkout.join("config/rbac").join(name))?;
        let header = format!("# A copy of config/rbac/{name} by `make generate`. Do not edit.\n#\n");
        write(&root.join(CHART).join("files/rbac"), name, &format!("{header}{text}"))?;
    }
    let (readme, values) =
        (read(&checkout.join(CHART).join(README))?, read(&checkout.join(CHART).join("values.yaml"))?);
    write(&root.join(CHART), README, &chart::readme(&readme, &values)?)
}

fn write(directory: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = directory.join(name);
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// `text` as the cell of a table: one line, with escaped bars.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The anchor of a heading.
fn section_name(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}
