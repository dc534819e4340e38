//! Output to stdout.

use std::io::{ErrorKind, Write};

use serde::Serialize;

/// Writes `text` to stdout.
///
/// # Errors
/// When stdout cannot be written; [`is_closed_pipe`] recognizes the harmless case.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether the reader has closed the pipe.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// `value` as YAML, by way of JSON: skipped fields and enums look exactly as the API server shows them.
pub(super) fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(&serde_json::to_value(value)?)?)
}
