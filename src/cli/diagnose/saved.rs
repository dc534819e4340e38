//! Evidence in files.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::diagnosis::evidence::{Evidence, FORMAT};

/// The largest file that is read; evidence of 50 pods with their termination messages is a tenth of it.
const LARGEST: u64 = 4 << 20;

/// The evidence in `file`, or from stdin when that is `-`.
///
/// # Errors
/// When it cannot be read, is too large, or is not in a format that this version knows.
pub(super) fn read(file: &Path) -> anyhow::Result<Evidence> {
    let name = if is_standard(file) { "stdin".to_owned() } else { file.display().to_string() };
    let mut text = Vec::new();
    let reading = || format!("reading {name}");
    if is_standard(file) {
        std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut text).with_context(reading)?;
    } else {
        let opened = std::fs::File::open(file).with_context(reading)?;
        opened.take(LARGEST + 1).read_to_end(&mut text).with_context(reading)?;
    }
    parse(&name, &text)
}

/// The evidence in `text`, which was read from `name`.
///
/// # Errors
/// As [`read`].
pub(super) fn parse(name: &str, text: &[u8]) -> anyhow::Result<Evidence> {
    if text.len() as u64 > LARGEST {
        bail!("{name} is larger than {} MiB: evidence is not", LARGEST >> 20);
    }
    let json: Value = serde_json::from_slice(text).with_context(|| format!("{name} is no JSON"))?;
    match json.get("format").and_then(Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => bail!("{name} has format {format}, and this version of vigie reads format {FORMAT}"),
        None => {
            bail!("{name} is no evidence: it has no format; `vigie diagnose backend NAME --evidence FILE` writes it")
        }
    }
    serde_json::from_value(json).with_context(|| format!("{name} is no evidence that this version of vigie knows"))
}

/// Writes the evidence to `file`, or to stdout when that is `-`.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(file: &Path, evidence: &Evidence) -> anyhow::Result<()> {
    let text = format!("{}\n", serde_json::to_string_pretty(evidence)?);
    if is_standard(file) {
        return super::super::output::print(&text);
    }
    private(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .with_context(|| format!("writing the evidence to {}", file.display()))
}

/// Readable by the user alone, because it may contain output of processes.
fn private(file: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// `-` stands for stdin or stdout.
pub(super) fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        format!("{:#}", parse("seen.json", text.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_file_that_is_no_evidence_is_told_from_one_of_another_version() {
        assert!(why("hello").starts_with("seen.json is no JSON"), "{}", why("hello"));
        assert!(why("{}").starts_with("seen.json is no evidence: it has no format"));
        assert_eq!(why(r#"{"format": 7}"#), "seen.json has format 7, and this version of vigie reads format 1");
        let broken = why(r#"{"format": 1}"#);
        assert!(broken.contains("no evidence that this version") && broken.contains("gatheredAt"), "{broken}");
        let long = why(&" ".repeat((LARGEST + 1) as usize));
        assert_eq!(long, "seen.json is larger than 4 MiB: evidence is not");
    }

    #[test]
    fn the_least_that_evidence_needs_is_a_time_and_a_subject() {
        let subject = r#"{"namespace":"shop","name":"web","url":"","scheme":"http","host":"","port":80,"path":"/",
            "service":null,"workload":null,"wantsMetrics":false,"wantsActuator":false,"startupSeconds":300,
            "prometheusSource":null,"hasAgent":false}"#;
        let text = format!(r#"{{"format": 1, "gatheredAt": "2026-11-22T12:00:00Z", "subject": {subject}}}"#);
        let evidence = parse("seen.json", text.as_bytes()).unwrap();
        assert_eq!(evidence.subject.name, "web");
        let again = serde_json::to_vec(&evidence).unwrap();
        assert_eq!(parse("seen.json", &again).unwrap(), evidence);
    }
}
