use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// A home directory of one test's own.
struct Home(PathBuf);

impl Home {
    fn new(test: &str) -> Self {
        let home = std::env::temp_dir().join(format!("vigie-connect-{}-{test}", std::process::id()));
        std::fs::create_dir_all(home.join(".kube")).unwrap();
        Self(home)
    }

    fn config(&self) -> PathBuf {
        self.0.join(".kube").join("config")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn environment(&self, kubeconfig: &str) -> Environment {
        Environment { kubeconfig: Some(kubeconfig.into()), home: Some(self.0.clone()), ..Environment::default() }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kubeconfig(context: &str, server: &str, namespace: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Config, current-context: {context}, \
         clusters: [{{name: {context}, cluster: {{server: '{server}'}}}}], \
         users: [{{name: ann-{context}, user: {{}}}}], \
         contexts: [{{name: {context}, context: {{cluster: {context}, user: ann-{context}, namespace: '{namespace}'}}}}]}}"
    )
}

fn flags(kubeconfig: Option<&str>, context: Option<&str>) -> ConnectionArgs {
    ConnectionArgs { kubeconfig: kubeconfig.map(PathBuf::from), context: context.map(str::to_owned) }
}

#[test]
fn what_is_named_wins_over_what_is_found() {
    let home = Home::new("order");
    let environment = |set: &str| home.environment(set);
    let choose = |named: &ConnectionArgs, set: &str| KubeconfigSource::choose(named, &environment(set)).unwrap();
    let (none, context) = (flags(None, None), flags(None, Some("x")));
    let set = KubeconfigSource::Environment(vec!["c".into(), "d".into()]);
    assert_eq!(choose(&flags(Some("a/b"), None), "c:d"), KubeconfigSource::Flag("a/b".into()));
    assert_eq!(choose(&none, "c:d"), set);
    assert_eq!(choose(&context, ":c::d:"), set);
    // Nothing is named: what exists is used, and only then the pod.
    for unset in ["", ":", "::"] {
        assert_eq!(choose(&none, unset), KubeconfigSource::Pod, "{unset:?}");
        assert_eq!(choose(&context, unset), KubeconfigSource::Home(home.config()), "{unset:?}");
    }
    std::fs::write(home.config(), "").unwrap();
    assert_eq!(choose(&none, ""), KubeconfigSource::Home(home.config()));
    let homeless = Environment::default();
    assert_eq!(KubeconfigSource::choose(&none, &homeless).unwrap(), KubeconfigSource::Pod);
    let error = KubeconfigSource::choose(&context, &homeless).unwrap_err().to_string();
    assert_eq!(error, "cannot use the context \"x\": no kubeconfig is named, and the home directory is not known");
    let nowhere = Environment { home: Some("/dev/null".into()), ..Environment::default() };
    assert_eq!(
        KubeconfigSource::choose(&none, &nowhere).unwrap(),
        KubeconfigSource::Pod,
        "a home that is no directory has no file"
    );
}

#[tokio::test]
async fn nothing_that_is_named_or_exists_is_passed_over() {
    let home = Home::new("unusable");
    let good = home.write("good", &kubeconfig("good", "https://192.0.2.1:6443", ""));
    let good = good.to_str().unwrap();
    let empty = home.write("empty", "");
    let broken = home.write("broken", "clusters: 3");
    for (named, set, part) in [
        (flags(Some("no/such/kubeconfig"), Some("there")), good.to_owned(), "no/such/kubeconfig, context there: "),
        (flags(None, None), "/no/such/kubeconfig".to_owned(), "/no/such/kubeconfig (from KUBECONFIG): "),
        (flags(None, None), format!("/no/such/kubeconfig:{}", broken.display()), "broken (from KUBECONFIG): "),
        (flags(None, None), "/no/such/a:/no/such/b".to_owned(), "/no/such/a, /no/such/b (from KUBECONFIG): "),
        (flags(None, None), empty.display().to_string(), "empty (from KUBECONFIG): failed to determine"),
        (flags(None, None), broken.display().to_string(), "broken (from KUBECONFIG): "),
        (flags(None, None), home.0.display().to_string(), "(from KUBECONFIG): "),
        (flags(None, Some("other")), good.to_owned(), "context other: "),
        (flags(None, Some("x")), String::new(), "/.kube/config, context x: "),
    ] {
        let error = LoadedConfig::of(&named, &home.environment(&set)).await.unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(text.starts_with("cannot use kubeconfig ") && text.contains(part), "{part:?} is not in {text}");
        assert!(text.matches("os error").count() < 2, "said twice: {text}");
    }
    for unusable in ["", "clusters: 3"] {
        std::fs::write(home.config(), unusable).unwrap();
        let error = LoadedConfig::of(&flags(None, None), &home.environment("")).await.unwrap_err().to_string();
        assert!(error.contains("/.kube/config: "), "{error}");
    }
    std::fs::remove_file(home.config()).unwrap();
    std::os::unix::fs::symlink("/no/such/kubeconfig", home.config()).unwrap();
    let error = LoadedConfig::of(&flags(None, None), &home.environment("")).await.unwrap_err().to_string();
    assert!(error.contains("/.kube/config: "), "a link to nothing is not absent: {error}");
}

#[tokio::test]
async fn of_several_files_the_first_that_says_something_wins() {
    let home = Home::new("merged");
    let a = home.write("a", &kubeconfig("a", "https://192.0.2.1:6443", "gateways"));
    let b = home.write("b", &kubeconfig("b", "https://192.0.2.2:6443", ""));
    let environment = home.environment(&format!("{}:{}", a.display(), b.display()));
    let found = async |context| {
        let loaded = LoadedConfig::of(&flags(None, context), &environment).await.unwrap();
        (loaded.config.cluster_url.to_string(), loaded.config.default_namespace, loaded.user.unwrap())
    };
    let expected = |server: &str, namespace: &str, user: &str| {
        (format!("https://{server}:6443/"), namespace.to_owned(), user.to_owned())
    };
    assert_eq!(found(None).await, expected("192.0.2.1", "gateways", "ann-a"));
    let gone = home.environment(&format!("/no/such/kubeconfig:{}:/no/such/either", b.display()));
    let loaded = LoadedConfig::of(&flags(None, None), &gone).await.unwrap();
    assert_eq!(loaded.user.as_deref(), Some("ann-b"), "files that do not exist are skipped, as with kubectl");
    assert_eq!(found(Some("b")).await, expected("192.0.2.2", "default", "ann-b"), "an empty namespace is none");
}

#[test]
fn requests_carry_our_user_agent_and_open_connections_in_bounded_time() {
    let mut config = Config::new(hyper::Uri::from_static("https://127.0.0.1:6443"));
    tune(&mut config);
    let (name, value) = &config.headers[0];
    assert_eq!(name, USER_AGENT);
    assert_eq!(value, concat!("vigie/", env!("CARGO_PKG_VERSION")));
    assert_eq!((config.connect_timeout, config.read_timeout), (Some(CONNECT_TIMEOUT), None));
}

/// An API server that answers 429 to the first request, and accepts the others without an answer.
#[tokio::test]
async fn a_watch_is_sent_once_and_ends_when_its_head_does_not_come() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = Home::new("watching");
    let server = format!("http://{}", listener.local_addr().unwrap());
    let file = home.write("server", &kubeconfig("server", &server, ""));
    let clients = connect(&flags(file.to_str(), None)).await.unwrap();
    let (heard, mut requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            if heard.is_closed() {
                return;
            }
            if open.is_empty() {
                let head = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
            }
            open.push(stream);
            heard.send(()).unwrap();
        }
    });
    let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(clients.watching, "ops");
    let watch = async || api.watch(&kube::api::WatchParams::default(), "1").await.map(drop);
    let first = tokio::time::timeout(Duration::from_secs(30), watch()).await;
    let error = first.expect("it is not repeated out of sight").unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 429), "{error:?}");
    assert_eq!(requests.len(), 1);
    requests.recv().await.unwrap();

    let hanging = async {
        requests.recv().await.unwrap();
        tokio::time::pause();
        tokio::time::sleep(10 * HEAD_TIMEOUT).await;
    };
    let error = tokio::select! {
        ended = watch() => ended.unwrap_err(),
        () = hanging => unreachable!("it does not end"),
    };
    assert!(matches!(error, kube::Error::Service(_)), "{error:?}");
}
