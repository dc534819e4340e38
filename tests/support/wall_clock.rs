//! The wall clock of one operator, which a test steps without stepping that of the machine. A small library (`wall_clock.c`)
//! that is loaded before the C library adds the offset that a file holds.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};

use super::metrics::Scrape;
use super::process::run;
use super::{World, http};

/// A test is shorter, and steps of the clock are longer.
const GRAIN: SignedDuration = SignedDuration::from_hours(3);

fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/wall_clock.c");
        let name = format!("wall_clock-{}.so", std::process::id());
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
        run(&mut compiler).ok();
        library
    })
}

/// The wall clock of the operators that are started with its [environment](Self::environment).
#[derive(Debug)]
pub(crate) struct WallClock {
    path: PathBuf,
    offset: File,
}

impl WallClock {
    /// A clock that is right.
    pub(crate) fn of(world: &World) -> Self {
        let path = world.file("wall-clock", "\0\0\0\0\0\0\0\0");
        let offset = File::options().write(true).open(&path).expect("the file of the offset can be written");
        Self { path, offset }
    }

    /// What an operator needs in its environment.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", library().display().to_string()), ("WALL_CLOCK_OFFSET", self.path.display().to_string())]
    }

    /// Steps the clock: from now on it is ahead of that of the machine by this.
    pub(crate) fn set_ahead(&self, by: SignedDuration) {
        let nanoseconds = i64::try_from(by.as_nanos()).expect("it is less than centuries");
        self.offset.write_all_at(&nanoseconds.to_ne_bytes(), 0).expect("the offset can be written");
    }
}

/// Whether the operator behind this port reads a clock that is ahead by `by`: it converts the moment since when it listens at
/// each scrape. The header Date would not tell, since the HTTP server keeps it until its own time has come again.
pub(crate) fn is_ahead(admin: std::net::SocketAddr, by: SignedDuration) -> Result<(), String> {
    let answer = http::get(admin, "/metrics").map_err(|error| error.to_string())?;
    let samples = Scrape(answer.body).samples("vigie_listening_since_timestamp_seconds");
    let (_, since) = samples.first().ok_or("it does not listen")?;
    let since = Timestamp::from_second(*since as i64).map_err(|error| error.to_string())?;
    let off = since.duration_since(Timestamp::now() + by);
    if off.abs() <= GRAIN { Ok(()) } else { Err(format!("it listens since {since}, off by {off:#}")) }
}
