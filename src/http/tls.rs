//! The certificate of the public port, read again when its files change.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use sha2::{Digest, Sha256};

/// The interval between two reads of the files. A Secret volume is itself up to a minute behind its Secret.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate chain and its key in PEM files, and the TLS configuration made of them.
///
/// The files are compared by content, not by date: a Secret volume changes by swapping a symlink two directories up.
#[derive(Debug)]
pub struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// The digest of the files as they were last read, usable or not; `None` when they could not be read.
    digest: Option<[u8; 32]>,
}

/// The error of a certificate and key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The certificate file holds no certificate in PEM.
    #[error("no usable certificate in {path}: {reason}")]
    Certificate {
        /// The path of the file.
        path: PathBuf,
        /// The defect of the file.
        reason: String,
    },
    /// The key file holds no private key in PEM.
    #[error("no usable private key in {path}: {reason}")]
    Key {
        /// The path of the file.
        path: PathBuf,
        /// The defect of the file.
        reason: String,
    },
    /// The two do not match, or are of an unsupported kind.
    #[error("cannot use the certificate in {cert} with the key in {key}: {source}")]
    Pair {
        /// The path of the certificate file.
        cert: PathBuf,
        /// The path of the key file.
        key: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
}

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The files did not change.
    Unchanged,
    /// The files changed, and new connections use them.
    Done,
    /// The files changed and cannot be used; the old pair stays.
    Refused,
}

impl TlsFiles {
    /// Reads the certificate chain in `cert` and the key in `key`, both PEM.
    ///
    /// # Errors
    ///
    /// When either cannot be read or they do not match: a start with a broken pair is refused.
    pub fn load(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (cert, key) = (cert.into(), key.into());
        let pair = Pair::read(&cert, &key)?;
        let config = pair.configure(&cert, &key)?;
        Ok(Self { cert, key, loaded: Mutex::new(Loaded { config, digest: Some(pair.digest()) }) })
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.lock().config)
    }

    /// Reads the files again and uses them if they changed and are valid. Logs each change once.
    pub fn reload(&self) -> Reload {
        let pair = Pair::read(&self.cert, &self.key);
        let digest = pair.as_ref().ok().map(Pair::digest);
        if self.loaded.lock().digest == digest {
            return Reload::Unchanged;
        }
        let config = pair.and_then(|pair| pair.configure(&self.cert, &self.key));
        let mut loaded = self.loaded.lock();
        loaded.digest = digest;
        match config {
            Ok(config) => {
                loaded.config = config;
                tracing::info!(cert = %self.cert.display(), "the certificate changed and is used from now on");
                Reload::Done
            }
            Err(error) => {
                tracing::error!(%error, "the certificate changed and cannot be used; the old one stays");
                Reload::Refused
            }
        }
    }

    /// Reloads the files at this interval, without end.
    pub(super) async fn watch(self: Arc<Self>, interval: Duration) -> Infallible {
        loop {
            tokio::time::sleep(interval).await;
            let files = Arc::clone(&self);
            // A read may block on the disk, which must not delay heartbeats.
            if let Err(error) = tokio::task::spawn_blocking(move || files.reload()).await {
                tracing::error!(%error, "the task that reads the certificate failed");
            }
        }
    }
}

/// The content of the two files.
struct Pair {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        Ok(Self { cert: read(cert)?, key: read(key)? })
    }

    fn digest(&self) -> [u8; 32] {
        let Self { cert, key } = self;
        // The length separates the two.
        Sha256::new().chain_update(cert.len().to_be_bytes()).chain_update(cert).chain_update(key).finalize().into()
    }

    fn configure(&self, cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
        let bad_cert = |reason: String| TlsError::Certificate { path: cert.to_owned(), reason };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<_, pem::Error>>()
            .map_err(|error| bad_cert(error.to_string()))?;
        if chain.is_empty() {
            return Err(bad_cert("it holds no PEM block \"CERTIFICATE\"".to_owned()));
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| TlsError::Key { path: key.to_owned(), reason: error.to_string() })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
            .map_err(|source| TlsError::Pair { cert: cert.to_owned(), key: key.to_owned(), source })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests;
