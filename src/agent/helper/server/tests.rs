use std::path::Path;

use super::*;

const CONFIG: &str = "url: https://vigie.example.com\nconnector: a/b\nunit: vigie-test-absent.service\n\
    checks: [{type: Process}]\nrestart: [vigie-test-absent.service]\n";

/// A helper in a folder of its own, and that folder. `is_agent` makes this process its agent.
async fn helper(name: &str, is_agent: bool) -> (PathBuf, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let folder = std::env::temp_dir().join(format!("vigie-helper-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ours = rustix::process::geteuid().as_raw();
    let agent_user = Some(if is_agent { ours } else { ours + 1 });
    let options = Options { socket: folder.join("helper.sock"), state: folder.clone(), agent_user };
    let task = tokio::spawn(run(Config::parse(CONFIG, "agent.yaml").unwrap(), options));
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(folder.join("helper.sock")).await.is_err() {
        assert!(tokio::time::Instant::now() < until && !task.is_finished(), "it does not listen");
        tokio::task::yield_now().await;
    }
    (folder, task)
}

async fn exchange(folder: &Path, request: &[u8]) -> Reply {
    let mut stream = UnixStream::connect(folder.join("helper.sock")).await.unwrap();
    // The helper may answer and close before it has read all of it.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Refused(why) => why,
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_with_the_reason() {
    let (folder, task) = helper("parse", true).await;
    assert!(refused(exchange(&folder, b"{}\n").await).starts_with("no request"));
    assert!(refused(exchange(&folder, b"{\"verb\":\"look\"}").await).contains("no whole line"));
    let long = vec![b'x'; MAX_REQUEST + 1];
    assert!(refused(exchange(&folder, &long).await).contains("more than 64 KiB"));
    task.abort();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn the_agent_restarts_what_the_file_allows_and_reads_no_log() {
    let (folder, task) = helper("agent", true).await;
    let foreign =
        b"{\"verb\":\"restart\",\"id\":\"1\",\"target\":\"dbus.service\",\"notAfter\":\"2100-01-01T00:00:00Z\"}\n";
    let Reply::Settled(outcome) = exchange(&folder, foreign).await else { panic!("it is settled at once") };
    assert!(!outcome.acted && outcome.message.contains("not allowed by restart:"), "{outcome:?}");
    let tail = b"{\"verb\":\"tail\",\"target\":\"vigie-test-absent.service\",\"lines\":5}\n";
    assert_eq!(refused(exchange(&folder, tail).await), "only root reads logs");
    // A pause of a person comes first.
    let pause = pause::Pause { by: "ops".into(), reason: "disk".into(), until: jiff::Timestamp::MAX };
    std::fs::write(pause::file(&folder), serde_json::to_vec(&pause).unwrap()).unwrap();
    let own = b"{\"verb\":\"restart\",\"id\":\"2\",\"target\":\"vigie-test-absent.service\",\"notAfter\":\"2100-01-01T00:00:00Z\"}\n";
    let Reply::Settled(outcome) = exchange(&folder, own).await else { panic!("it is settled at once") };
    assert_eq!(outcome.message, "restarts are paused on the host by ops: disk");
    task.abort();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn another_process_is_told_that_it_is_a_stranger_and_root_may_not_ask_for_restarts() {
    let (folder, task) = helper("stranger", false).await;
    let own = b"{\"verb\":\"restart\",\"id\":\"2\",\"target\":\"vigie-test-absent.service\",\"notAfter\":\"2100-01-01T00:00:00Z\"}\n";
    let expected = match rustix::process::geteuid().is_root() {
        true => "only vigie-agent.service asks for restarts",
        false => "the helper answers vigie-agent.service and root",
    };
    assert_eq!(refused(exchange(&folder, own).await), expected);
    task.abort();
    std::fs::remove_dir_all(folder).unwrap();
}
