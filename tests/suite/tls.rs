//! TLS on the beat port, as connectors see it: real curl, and files that are replaced at runtime.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

use crate::support::http::get;
use crate::support::process::{Ran, run};
use crate::support::world::SOON;
use crate::support::{Connector, Operator, World, eventually};

/// The files of one certificate, as a Secret volume keeps them: a directory for each version, and a link to the newest
/// that is swapped atomically.
struct Volume<'a> {
    world: &'a World,
    at: PathBuf,
}

impl<'a> Volume<'a> {
    fn new(world: &'a World) -> Self {
        let at = world.folder("volume");
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), at.join(file)).unwrap();
        }
        Self { world, at }
    }

    fn path(&self, file: &str) -> String {
        self.at.join(file).display().to_string()
    }

    fn put(&self, version: &str, cert: &str, key: &str) {
        let directory = self.at.join(version);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("tls.crt"), cert).unwrap();
        std::fs::write(directory.join("tls.key"), key).unwrap();
        let next = self.at.join("..next");
        symlink(version, &next).unwrap();
        std::fs::rename(next, self.at.join("..data")).unwrap();
    }

    /// Issues a certificate for 127.0.0.1 from an authority of its own; returns the path of the authority's file.
    fn issue(&self, version: &str) -> String {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, version);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "vigie.example.com".to_owned()];
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        self.put(version, &cert.pem(), &key.serialize_pem());
        let file = self.world.file(&format!("{version}.pem"), &authority.pem());
        file.display().to_string()
    }
}

/// A beat by curl, which trusts only `authority`: the output is the answer, and the status code on its own line.
fn curl(operator: &Operator, edge: &Connector, authority: &str) -> Ran {
    let url = format!("https://{}/api/connector/heartbeat", operator.beats());
    let data = json!({"connector_id": edge.id, "token": edge.token}).to_string();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--cacert", authority, "-X", "POST", &url]);
    curl.args(["-H", "Content-Type: application/json", "-d", &data, "-w", "\n%{http_code}"]);
    run(&mut curl)
}

async fn is_served(operator: &Operator, edge: &Connector, authority: &str) {
    eventually(SOON, &format!("a sender that trusts {authority} is answered"), async || {
        let ran = curl(operator, edge, authority);
        if ran.stdout.ends_with("\n200") { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
}

async fn says(operator: &Operator, words: &str) {
    eventually(SOON, &format!("it says: {words}"), async || {
        let log = operator.log();
        if log.contains(words) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_certificate_is_served_without_a_restart_and_a_broken_one_keeps_the_old() {
    let world = World::new("tls").await;
    let volume = Volume::new(&world);
    let first = volume.issue("first");
    let (cert, key) = (volume.path("tls.crt"), volume.path("tls.key"));
    let operator = world.replica(&["--tls-cert-file", &cert, "--tls-key-file", &key]).await;
    let edge = world.connector("edge-1", json!({})).await;
    is_served(&operator, &edge, &first).await;
    world.state(SOON, "edge-1", "Online").await;
    assert!(get(operator.beats(), "/api/health").is_err(), "plain HTTP is not answered");
    assert_eq!(get(operator.admin(), "/livez").unwrap().status, 200, "the admin port is plain");

    let second = volume.issue("second");
    is_served(&operator, &edge, &second).await;
    let old = curl(&operator, &edge, &first);
    assert_eq!(
        (old.code, old.stdout.as_str()),
        (60, "\n000"),
        "a sender that trusts only the old one is not served: {old:?}"
    );
    says(&operator, "the certificate changed and is used from now on").await;

    volume.put("broken", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "no key");
    says(&operator, "the certificate changed and cannot be used; the old one stays").await;
    assert!(operator.log().contains("tls.crt"), "it names the file");
    assert!(curl(&operator, &edge, &second).stdout.ends_with("\n200"), "the old one is served");

    // A key of another certificate is rejected the same way.
    let stranger = KeyPair::generate().unwrap().serialize_pem();
    volume.put("mixed", &std::fs::read_to_string(volume.at.join("second/tls.crt")).unwrap(), &stranger);
    eventually(SOON, "it says so again", async || {
        let said = operator.log().matches("the old one stays").count();
        if said == 2 { Ok(()) } else { Err(format!("{said} times")) }
    })
    .await;
    assert!(curl(&operator, &edge, &second).stdout.ends_with("\n200"), "the old one is served");

    let third = volume.issue("third");
    is_served(&operator, &edge, &third).await;
    assert!(!operator.log().contains("PRIVATE KEY") && !operator.log().contains(&stranger), "no key is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_broken_certificate_is_refused_with_a_sentence() {
    let world = World::new("tlsstart").await;
    let volume = Volume::new(&world);
    volume.put("broken", "no certificate", "no key");
    let kubeconfig = world.cluster.kubeconfig().display().to_string();
    let (cert, key) = (volume.path("tls.crt"), volume.path("tls.key"));
    let missing = volume.path("missing");
    for (cert, key) in [(&cert, &key), (&missing, &key)] {
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--kubeconfig", &kubeconfig];
        let files = ["--tls-cert-file", cert, "--tls-key-file", key, "--namespace", &world.ns];
        let ran = world.vigie(&[&["run"][..], &ports, &files, &["--lease-namespace", &world.ns]].concat());
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(cert.as_str()) && !ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
}
