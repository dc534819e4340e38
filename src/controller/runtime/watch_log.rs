//! Says once what is wrong with a watch, and once that it is over.

use kube::runtime::watcher;

/// What is said of one watch.
pub struct WatchErrorLog {
    plural: String,
    is_told: bool,
}

impl WatchErrorLog {
    /// Nothing is wrong yet with the watch of `plural`.
    pub fn of(plural: &str) -> Self {
        Self { plural: plural.to_owned(), is_told: false }
    }

    /// Something is.
    pub fn say(&mut self, error: &watcher::Error) {
        let plural = &self.plural;
        // The API server forgets old versions; listing anew is how watches go on.
        if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
            tracing::debug!(%error, "listing {plural} anew");
            return;
        }
        if std::mem::replace(&mut self.is_told, true) {
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

    /// It works again.
    pub fn over(&mut self) {
        if std::mem::take(&mut self.is_told) {
            tracing::info!("watching {} again", self.plural);
        }
    }
}
