//! Running commands and signalling processes.

use std::process::{Command, Output, Stdio};

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit status; -1 when a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "it failed; stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// When it cannot be started: a missing tool is a failure, never a reason to skip.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let program = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program:?} cannot be run: {error}")).into()
}

/// Sends `signal` (`STOP`, `CONT`, `TERM`, `KILL`) to one process.
#[track_caller]
pub(crate) fn signal(pid: u32, signal: &str) {
    run(Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}"))).ok();
}
