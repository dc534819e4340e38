//! Helm, built from its pinned modules, and its output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex};
use std::{env, fs};

use serde_json::Value;

use crate::cases::Case;

/// Both, in the order of their versions.
pub(crate) static HELMS: LazyLock<[Helm; 2]> = LazyLock::new(|| ["3", "4"].map(Helm::of_version));

/// The Kubernetes version that Helm assumes: that of the test cluster.
const KUBERNETES: &str = "1.36.3";

pub(crate) struct Helm {
    program: PathBuf,
    pub(crate) version: &'static str,
}

impl Helm {
    fn of_version(version: &'static str) -> Self {
        let cluster = checkout().join("tests/cluster/cluster");
        let output = Command::new(cluster).args(["helm", version]).output().expect("the script can be started");
        assert!(output.status.success(), "no helm {version}: {}", String::from_utf8_lossy(&output.stderr));
        Self { program: String::from_utf8(output.stdout).expect("a path").trim().into(), version }
    }

    /// Runs Helm without a cluster and with settings of its own.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).env_remove("KUBECONFIG").output().expect("helm can be started")
    }

    /// The notes that Helm prints on an installation of `case` into the cluster of KUBECONFIG, or its error.
    pub(crate) fn notes(&self, case: &Case, more: &[&str]) -> Result<String, String> {
        let values = Scratch::new();
        let file = values.0.join("values.yaml");
        fs::write(&file, case.values).expect("a file is written");
        let output = self
            .command()
            .args(["install", case.release, "--namespace", case.namespace, "--dry-run=server"])
            .args([chart(), "--values".into(), file])
            .args(more)
            .output()
            .expect("helm can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        let notes = text.split_once("\nNOTES:\n").map(|(_, notes)| notes.to_owned());
        notes.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn command(&self) -> Command {
        let home = env::temp_dir().join(format!("vigie-helm-{}-{}", self.version, std::process::id()));
        let mut command = Command::new(&self.program);
        command.envs([("HELM_CONFIG_HOME", &home), ("HELM_CACHE_HOME", &home), ("HELM_DATA_HOME", &home)]);
        command
    }

    /// Helm's rendering of `chart`, or its error.
    pub(crate) fn render(&self, chart: &Path, case: &Case, more: &[&str]) -> Result<String, String> {
        let values = Scratch::new();
        let file = values.0.join("values.yaml");
        fs::write(&file, case.values).expect("a file is written");
        let (chart, file) = (chart.display().to_string(), file.display().to_string());
        let mut args = vec!["template", case.release, &chart, "--namespace", case.namespace, "--values", &file];
        // Later arguments take precedence.
        args.extend(["--kube-version", KUBERNETES]);
        args.extend(more);
        let output = self.run(&args);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("helm writes UTF-8");
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

/// The objects that both versions render for `case`, which must be equal. Most tests use the same few cases, so the
/// result is cached.
pub(crate) fn objects(case: &Case) -> Vec<Value> {
    static RENDERED: Mutex<BTreeMap<[&str; 3], Vec<Value>>> = Mutex::new(BTreeMap::new());
    let key = [case.release, case.namespace, case.values];
    let known = RENDERED.lock().expect("no test panics while it holds this").get(&key).cloned();
    known.unwrap_or_else(|| {
        let rendered = objects_of(&chart(), case);
        RENDERED.lock().expect("no test panics while it holds this").insert(key, rendered.clone());
        rendered
    })
}

/// The same, for another chart than the checkout's.
pub(crate) fn objects_of(chart: &Path, case: &Case) -> Vec<Value> {
    let [third, fourth] = [0, 1].map(|index| {
        let rendered = HELMS[index].render(chart, case, &[]);
        parse(&rendered.unwrap_or_else(|error| panic!("{} is not rendered: {error}", case.name)))
    });
    let named = |objects: &[Value]| {
        let mut named: Vec<(String, Value)> = objects.iter().map(|one| (identity(one), one.clone())).collect();
        named.sort_by(|one, other| one.0.cmp(&other.0));
        named
    };
    assert_eq!(named(&third), named(&fourth), "helm 3 and 4 render {} alike", case.name);
    third
}

fn parse(rendered: &str) -> Vec<Value> {
    let documents = rendered.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
    let parsed =
        documents.map(|one| serde_saphyr::from_str::<Value>(one).unwrap_or_else(|error| panic!("{error}: {one}")));
    parsed.filter(|object| !object.is_null()).collect()
}

/// Identifies an object among all others.
pub(crate) fn identity(object: &Value) -> String {
    let at = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", at("/kind"), at("/metadata/namespace"), at("/metadata/name"))
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

pub(crate) fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let all = of_kind(objects, kind);
    assert_eq!(all.len(), 1, "one {kind}");
    all[0]
}

pub(crate) fn container(objects: &[Value]) -> &Value {
    &only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
}

/// The arguments of `vigie` in it.
pub(crate) fn args(objects: &[Value]) -> Vec<String> {
    let args = container(objects)["args"].as_array().expect("a list of arguments");
    args.iter().map(|arg| arg.as_str().expect("an argument").to_owned()).collect()
}

pub(crate) fn checkout() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

pub(crate) fn chart() -> PathBuf {
    checkout().join("charts/vigie")
}

/// A directory that is removed when this is dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = env::temp_dir().join(format!("vigie-chart-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory is made");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
