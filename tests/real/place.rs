//! The environment of the tests: the cluster of profile `real`, its images, and the number of JVMs that its two cores
//! bear.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::support::World;
use crate::support::cluster::Cluster;
use crate::support::process::run;

/// The cluster that all tests share: started when it does not run yet, and left running.
pub(crate) fn cluster() -> Arc<Cluster> {
    static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
    let up = ["up", "--profile", "real"];
    SHARED.get_or_init(|| Arc::new(Cluster::kept("VIGIE_TEST_REAL_DIR", ".cluster-real", &up))).clone()
}

/// A test's own part of the cluster.
pub(crate) async fn world(name: &str) -> World {
    World::on(cluster(), name).await
}

/// The image of a backend of `tests/backends`, built and imported on first use.
pub(crate) fn image(backend: &str) -> String {
    static IMPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let image = format!("vigie.test/{backend}:1");
    let mut imported = IMPORTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !imported.contains(&image) {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backends/build");
        let said = run(Command::new(build).arg(backend)).ok();
        let directory = said.lines().last().expect("the build prints where it built").trim();
        cluster().command(&["image", "build", &image, directory]).ok();
        imported.push(image.clone());
    }
    image
}

/// A permit to run this many JVMs at once, until it is dropped: each needs half a minute of a core to start.
pub(crate) async fn jvms(count: u32) -> SemaphorePermit<'static> {
    static JVMS: Semaphore = Semaphore::const_new(3);
    JVMS.acquire_many(count).await.expect("the semaphore is never closed")
}
