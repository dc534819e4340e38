//! Logs the first failure of a watch and its recovery.

use kube::runtime::watcher;

/// The log of one watch.
pub struct WatchErrorLog {
    plural: String,
    is_failing: bool,
}

impl WatchErrorLog {
    /// The log of a working watch of `plural`.
    pub fn of(plural: &str) -> Self {
        Self { plural: plural.to_owned(), is_failing: false }
    }

    /// Logs the first failure in a row.
    pub fn failed(&mut self, error: &watcher::Error) {
        let plural = &self.plural;
        // The API server forgets old versions; a watch then continues with a new list.
        if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
            tracing::debug!(%error, "listing {plural} again");
            return;
        }
        if std::mem::replace(&mut self.is_failing, true) {
            return;
        }
        let missing =
            matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
        if missing {
            tracing::error!(
                "this cluster does not know {plural}: apply the CRDs (`vigie crd | kubectl apply -f -`); trying again"
            );
        } else {
            tracing::warn!(%error, "watching {plural} failed; trying again until it works");
        }
    }

    /// Logs the recovery after failures.
    pub fn recovered(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("watching {} again", self.plural);
        }
    }
}
