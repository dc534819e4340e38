use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::server::Limits;
use super::*;
use crate::heartbeat::fake::{BEAT, Served, post, read_all, start, status};

/// A directory that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vigie-tls-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, pair: &Issued) {
        fs::write(self.0.join("tls.crt"), &pair.cert_pem).unwrap();
        fs::write(self.0.join("tls.key"), &pair.key_pem).unwrap();
    }

    fn load(&self) -> Result<TlsFiles, TlsError> {
        TlsFiles::load(self.0.join("tls.crt"), self.0.join("tls.key"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Issued {
    cert: CertificateDer<'static>,
    cert_pem: String,
    key_pem: String,
}

fn issue() -> Issued {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Issued { cert: issued.cert.der().clone(), cert_pem: issued.cert.pem(), key_pem: issued.signing_key.serialize_pem() }
}

/// Connects as one that trusts only `trusted`.
async fn connect(served: &Served, trusted: &Issued, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.cert.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let socket = TcpStream::connect(served.address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

async fn beat(served: &Served, trusted: &Issued) -> io::Result<String> {
    let mut stream = connect(served, trusted, &[b"h2", b"http/1.1"]).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(&post(BEAT)).await?;
    Ok(read_all(&mut stream).await)
}

#[tokio::test]
async fn a_beat_over_tls_is_heard_and_a_new_certificate_is_taken_over() {
    let (folder, first, second) = (Folder::new(), issue(), issue());
    folder.write(&first);
    let files = Arc::new(folder.load().unwrap());
    let served = start(Limits::default(), Some(Arc::clone(&files))).await;
    assert_eq!(status(&beat(&served, &first).await.unwrap()), "200");
    assert!(beat(&served, &second).await.is_err());

    folder.write(&second);
    assert_eq!(files.reload(), Reload::Done);
    assert_eq!(status(&beat(&served, &second).await.unwrap()), "200");
    assert!(beat(&served, &first).await.is_err());
}

#[tokio::test]
async fn a_certificate_is_looked_at_by_itself() {
    let (folder, first, second) = (Folder::new(), issue(), issue());
    folder.write(&first);
    let files = Arc::new(folder.load().unwrap());
    let before = files.config();
    folder.write(&second);
    let watch = Arc::clone(&files).watch(Duration::from_millis(1));
    let changed = async {
        while Arc::ptr_eq(&before, &files.config()) {
            tokio::task::yield_now().await;
        }
    };
    let taken_over = async {
        tokio::select! { never = watch => match never {}, () = changed => {} }
    };
    tokio::time::timeout(Duration::from_secs(10), taken_over).await.expect("the new pair should have been seen");
}

#[test]
fn a_broken_pair_keeps_the_old_one_and_is_tried_once() {
    let (folder, first, second) = (Folder::new(), issue(), issue());
    folder.write(&first);
    let files = folder.load().unwrap();
    let before = files.config();
    assert_eq!(files.reload(), Reload::Unchanged);
    // A certificate whose key has not come yet; then rubbish; then nothing at all.
    let half = Issued { key_pem: first.key_pem.clone(), ..issue() };
    folder.write(&half);
    assert_eq!((files.reload(), files.reload()), (Reload::Refused, Reload::Unchanged));
    fs::write(folder.0.join("tls.crt"), "rubbish").unwrap();
    assert_eq!((files.reload(), files.reload()), (Reload::Refused, Reload::Unchanged));
    fs::remove_file(folder.0.join("tls.key")).unwrap();
    assert_eq!((files.reload(), files.reload()), (Reload::Refused, Reload::Unchanged));
    assert!(Arc::ptr_eq(&before, &files.config()));
    folder.write(&second);
    assert_eq!(files.reload(), Reload::Done);
    assert!(!Arc::ptr_eq(&before, &files.config()));
}

#[cfg(unix)]
#[test]
fn the_swapped_symlink_of_a_secret_volume_is_a_change() {
    let (folder, first, second) = (Folder::new(), issue(), issue());
    for (name, pair) in [("one", &first), ("two", &second)] {
        let path = folder.0.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("tls.crt"), &pair.cert_pem).unwrap();
        fs::write(path.join("tls.key"), &pair.key_pem).unwrap();
    }
    let data = folder.0.join("..data");
    std::os::unix::fs::symlink("one", &data).unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), folder.0.join(name)).unwrap();
    }
    let files = folder.load().unwrap();
    let next = folder.0.join("..data_tmp");
    std::os::unix::fs::symlink("two", &next).unwrap();
    fs::rename(&next, &data).unwrap();
    assert_eq!(files.reload(), Reload::Done);
}

#[test]
fn a_start_with_a_broken_pair_is_refused_by_name() {
    let (folder, first) = (Folder::new(), issue());
    let refused = || folder.load().unwrap_err().to_string();
    assert!(refused().starts_with("cannot read"));
    folder.write(&Issued { cert_pem: String::new(), ..issue() });
    assert!(refused().contains("no usable certificate in") && refused().contains("tls.crt"), "{}", refused());
    folder.write(&Issued { key_pem: "rubbish".into(), ..issue() });
    assert!(refused().contains("no usable private key in") && refused().contains("tls.key"), "{}", refused());
    folder.write(&Issued { key_pem: first.key_pem, ..issue() });
    assert!(refused().starts_with("cannot use the certificate in"), "{}", refused());
}

#[tokio::test]
async fn what_is_not_tls_is_closed_and_a_silent_handshake_too() {
    let (folder, pair) = (Folder::new(), issue());
    folder.write(&pair);
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..Limits::default() };
    let served = start(limits, Some(Arc::new(folder.load().unwrap()))).await;
    let plain = served.ask(&post(BEAT)).await;
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
    assert_eq!(served.ask(b"").await, "");
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    assert!(connect(&served, &pair, &[b"h2"]).await.is_err());
    assert!(served.fake.heard.lock().is_empty());
}
