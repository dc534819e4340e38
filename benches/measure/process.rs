//! The resources of a process by the kernel's count; and child processes that end with this one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

/// The kernel reports CPU time in hundredths of a second (USER_HZ), on every relevant architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The CPU time that all threads of `pid` have used.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a process' CPU time")?;
    // The name in parentheses may contain any character; the fields after it are numbered from 3.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).context("an unexpected /proc/PID/stat")?;
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<f64>().ok();
    let (user, system) = field(14).zip(field(15)).context("an unexpected /proc/PID/stat")?;
    Ok(Duration::from_secs_f64((user + system) / TICKS_PER_SECOND))
}

/// The same to the nanosecond, for short times: the sum over its current threads, so only for a process that ends none.
/// If the kernel has no such figure, in hundredths of a second as above.
pub(crate) fn exact_cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("listing a process' threads")? {
        // A thread that has just ended no longer has an entry.
        let Ok(spent) = std::fs::read_to_string(task?.path().join("schedstat")) else { return cpu(pid) };
        let spent = spent.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
        sum += Duration::from_nanos(spent.context("an unexpected /proc/PID/task/TID/schedstat")?);
    }
    Ok(sum)
}

/// Resident memory of `pid` in bytes: now, and its maximum.
pub(crate) fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process' memory")?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    let (now, most) = kilobytes("VmRSS").zip(kilobytes("VmHWM")).context("an unexpected /proc/PID/status")?;
    Ok((now * 1024, most * 1024))
}

/// Resident memory of this process in bytes.
pub(crate) fn own_memory() -> anyhow::Result<u64> {
    Ok(memory(std::process::id())?.0)
}

/// A part of this program in a process of its own. It ends with its standard input, so it never outlives this program.
pub(crate) struct Part {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Part {
    /// Starts this program with `args`.
    pub(crate) fn start(args: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        Self::run(&program, args, Stdio::inherit())
    }

    /// Starts `program`, which may ignore its standard input: it is killed at the end.
    pub(crate) fn run(program: &Path, args: &[&str], stderr: Stdio) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("a child without an output")?);
        Ok(Self { child, stdin, lines })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes it a line.
    pub(crate) fn tell(&mut self, line: impl std::fmt::Display) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("a part that listens no more")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).context("telling a part what to do")
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.lines.read_line(&mut line)? > 0, "a part ended without an answer");
        Ok(line.trim_end().to_owned())
    }

    /// Closes its input and returns the rest of its output.
    pub(crate) fn finish(mut self) -> anyhow::Result<String> {
        drop(self.stdin.take());
        let rest = std::io::read_to_string(&mut self.lines)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "a part failed: {status}");
        Ok(rest)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has already ended when `finish` was called.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until standard input ends: the parent process no longer needs this part.
pub(crate) async fn until_dismissed() {
    let wait = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    // An input that cannot be read counts as ended.
    let _ = tokio::task::spawn_blocking(wait).await;
}
