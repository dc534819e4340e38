//! Replays the corpus of the fuzz targets (`fuzz/`), so that an input that once failed is tried with the unit tests.

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a package of its own, too")]
mod targets;

/// Runs each input of one target.
fn replay(name: &str) {
    let (_, target) = targets::TARGETS.iter().find(|(known, _)| *known == name).expect("it is a target");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 4, "the corpus of {name} was not found");
    for input in inputs {
        let data = std::fs::read(&input).unwrap();
        let run = std::panic::catch_unwind(|| target(&data));
        assert!(run.is_ok(), "the target {name} fails for {}", input.display());
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(targets::TARGETS.map(|(name, _)| name), replayed);
        }
    };
}

replays!(
    actuator_pages beat grpc_answer helper_request host_answers http_answer last_words page prometheus_answer saved_evidence
);
