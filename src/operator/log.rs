//! The log of the operator.

use std::io::{self, IsTerminal as _, Write};

use anyhow::Context as _;

use super::args::LogFormat;
use crate::api::is_deceptive;

/// Starts the log; `filter` is the value of `--log`.
pub(super) fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // kube logs every failed request; the operator logs it itself.
    let filter =
        if filter.contains("kube") { filter.to_owned() } else { format!("{filter},kube_runtime=warn,kube_client=off") };
    let filter = tracing_subscriber::EnvFilter::builder().parse(filter).context("--log")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Plain(io::stderr()));
    let colours = io::stderr().is_terminal();
    match format {
        LogFormat::Text => lines.with_ansi(colours).with_target(false).try_init(),
        LogFormat::Json => lines.json().with_current_span(false).with_span_list(false).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}

/// Replaces characters that change how a line is shown: error texts contain what other programs sent. Control characters
/// are escaped before they arrive here.
struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) if text.contains(is_deceptive) => {
                self.0.write_all(text.replace(is_deceptive, "\u{fffd}").as_bytes())?;
            }
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_it_is_written() {
        let mut written = Vec::new();
        Plain(&mut written).write_all("refused: \u{202e}yako\u{202c} é\n".as_bytes()).unwrap();
        Plain(&mut written).write_all(b"\xff plain\n").unwrap();
        assert_eq!(written, "refused: \u{fffd}yako\u{fffd} é\n".bytes().chain(*b"\xff plain\n").collect::<Vec<u8>>());
    }
}
