//! The token on standard input, and `vigie agent token`.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::replace as replace_file;
use crate::agent::beats::token::checked;
use crate::agent::config::Config;
use crate::agent::layout::{AGENT_UNIT, TOKEN};
use crate::cli::{Usage, output};

/// Longest line with a token that is read, in bytes.
const MAX_LINE: u64 = 4096;

/// The token on the first line of standard input; a terminal is asked for it.
///
/// # Errors
/// [`Usage`] when it is no token.
pub(super) fn from_stdin() -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprint!("token: ");
    }
    from(stdin.lock())
}

fn from(input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.take(MAX_LINE).read_line(&mut line).context("reading the token")?;
    let token = checked(&line).map_err(|error| Usage(format!("the token on stdin: {error}")))?;
    Ok(token.to_owned())
}

/// Replaces the token by that on standard input, and restarts the agent.
///
/// # Errors
/// The file cannot be written, or systemd does not restart the agent.
pub(super) fn replace(config: &Config) -> anyhow::Result<()> {
    let token = from_stdin()?;
    let path = config.token_file.as_deref().unwrap_or(Path::new(TOKEN));
    replace_file(path, format!("{token}\n").as_bytes())?;
    let replaced = format!("the token is in {}", path.display());
    match Command::new("systemctl").args(["restart", "--", AGENT_UNIT]).status() {
        Ok(status) if status.success() => {
            output::print(&format!("{replaced}, and {AGENT_UNIT} was restarted; see: vigie agent status\n"))
        }
        Ok(status) => bail!("{replaced}; systemctl restart {AGENT_UNIT}: {status}"),
        Err(error) => bail!("{replaced}; systemctl restart {AGENT_UNIT}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_the_first_line_and_no_error_shows_it() {
        let token = "0123456789abcdef0123456789abcdef";
        assert_eq!(from(format!(" {token}\r\nanother line\n").as_bytes()).unwrap(), token);
        assert_eq!(from(token.as_bytes()).unwrap(), token, "without a line end");
        for bad in ["", "\n", "short\n", &format!("{token} {token}\n"), &"x".repeat(5000)] {
            let error = from(bad.as_bytes()).unwrap_err();
            assert!(error.downcast_ref::<Usage>().is_some(), "{error:#}");
            assert!(!format!("{error:#}").contains("0123"), "{error:#}");
        }
    }
}
