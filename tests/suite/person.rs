//! `vigie probe` and `vigie diagnose`, as a person runs them.

use serde_json::{Value, json};

use crate::support::backends::probed;
use crate::support::operator::free_port;
use crate::support::{Misbehave, World, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_probes_once_and_the_exit_code_says_how_it_went() {
    let world = World::new("probe-once").await;
    let target = Misbehave::start();
    let probe = |url: &str, more: &[&str]| world.vigie(&[&["probe", url], more].concat());
    let fine = probe(&target.url("/metrics"), &["--metrics"]).ok();
    for word in ["Connect", "FirstByte", "Body", "OK", "samples"] {
        assert!(fine.contains(word), "{word}: {fine}");
    }
    let failed = probe(&format!("http://127.0.0.1:{}/", free_port()), &[]);
    assert_eq!(failed.code, 3, "{failed:?}");
    assert!(failed.stdout.contains("Refused"), "{failed:?}");
    let broken = probe(&target.url("/exposition/broken;kind=bad-value;text=SHOWN;line=4/metrics"), &["--metrics"]);
    assert_eq!(broken.code, 3, "{broken:?}");
    assert!(broken.stdout.contains("line 4") && broken.stdout.contains("SHOWN"), "a person sees it: {broken:?}");
    let json = probe(&target.url("/html/metrics"), &["--metrics", "-o", "json"]);
    assert_eq!(json.code, 3, "{json:?}");
    let said: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(text(&said, "/failure/errorClass"), "ContentType", "{said:#}");
    assert_eq!(text(&said, "/diagnosis/cause"), "NotMetrics", "{said:#}");
    let denied = probe(&target.url("/metrics"), &["--deny-network", "127.0.0.0/8"]);
    assert_eq!(denied.code, 3, "{denied:?}");
    let no_file = probe(&target.url("/metrics"), &["--spec", "/nonexistent/spec.yaml"]);
    assert_eq!(no_file.code, 1, "{no_file:?}");
    for wrong in [&["ftp://192.0.2.1/"][..], &[], &["tcp://192.0.2.1:80", "--metrics"]] {
        let ran = world.vigie(&[&["probe"], wrong].concat());
        assert_eq!(ran.code, 2, "{wrong:?}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diagnose_needs_no_operator_and_says_the_same_from_saved_evidence_without_a_cluster() {
    let world = World::new("diagnose").await;
    let target = Misbehave::start();
    // One probe each, with a timeout for a loaded machine.
    let patient = json!({"metrics": {}, "intervalSeconds": 60, "timeoutSeconds": 30});
    world.backend("shop", probed(&target.url("/metrics"), patient.clone())).await;
    world.backend("sick", probed(&target.url("/exposition/broken;line=4/metrics"), patient)).await;
    let diagnose = |more: &[&str]| world.vigie(&[&["diagnose", "backend"], more].concat());
    let fine = diagnose(&["shop", "-n", &world.ns]);
    assert_eq!(fine.code, 0, "{fine:?}");
    let file = world.file("evidence.json", "");
    let file = file.to_str().unwrap();
    let seen = diagnose(&["sick", "-n", &world.ns, "--evidence", file, "-o", "json"]);
    assert_eq!(seen.code, 3, "{seen:?}");
    let saved = diagnose(&["--from", file, "-o", "json", "--kubeconfig", "/nonexistent/kubeconfig"]);
    assert_eq!(saved.code, 3, "{saved:?}");
    let [seen, saved] = [seen, saved].map(|ran| serde_json::from_str::<Value>(&ran.stdout).unwrap());
    assert_eq!(text(&seen, "/diagnosis/cause"), "MalformedMetrics", "{seen:#}");
    assert_eq!(seen["diagnosis"], saved["diagnosis"], "the same evidence, the same verdict");
    let words = diagnose(&["--from", file]);
    assert!(words.stdout.contains("MalformedMetrics") && words.stdout.contains("line 4"), "{words:?}");
    let nobody = diagnose(&["nobody", "-n", &world.ns]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
}
