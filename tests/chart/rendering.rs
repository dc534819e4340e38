//! The rendered objects for each set of values.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::cases::{self, ALL, Case};
use crate::helm::{HELMS, Scratch, args, chart, checkout, container, identity, objects, objects_of, of_kind, only};

#[test]
fn the_chart_is_linted_strictly_by_both_versions() {
    for helm in HELMS.iter() {
        let chart = chart().display().to_string();
        let output = helm.run(&["lint", "--strict", &chart, "--kube-version", "1.36.3"]);
        assert!(output.status.success(), "helm {}: {}", helm.version, String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn every_case_is_rendered_alike_by_both_and_names_no_object_twice() {
    for case in &ALL {
        let objects = objects(case);
        let identities: BTreeSet<String> = objects.iter().map(identity).collect();
        assert_eq!(identities.len(), objects.len(), "{}: {identities:?}", case.name);
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(env!("CARGO_PKG_VERSION")), &chart["version"]));
}

#[test]
fn servers_with_a_suffix_in_their_version_will_do_and_older_ones_are_refused() {
    for helm in HELMS.iter() {
        let render = |version| helm.render(&chart(), &cases::DEFAULT, &["--kube-version", version]);
        for version in ["1.33.0", "v1.33.4-gke.1134000", "v1.34.1+k3s1", "v1.35.0-eks-1a2b3c4"] {
            assert!(render(version).is_ok(), "helm {} on {version}: {:?}", helm.version, render(version));
        }
        assert!(render("1.32.9").unwrap_err().contains("kubeVersion"), "helm {}", helm.version);
    }
}

#[test]
fn the_definitions_are_those_of_the_program_and_are_kept() {
    let objects = objects(&cases::DEFAULT);
    let mut definitions: Vec<Value> = of_kind(&objects, "CustomResourceDefinition").into_iter().cloned().collect();
    assert_eq!(definitions.len(), 2);
    for definition in &mut definitions {
        let metadata = definition["metadata"].as_object_mut().unwrap();
        assert_eq!(metadata.remove("annotations").unwrap(), json!({"helm.sh/resource-policy": "keep"}));
        metadata.remove("labels").unwrap();
        let name = metadata["name"].as_str().unwrap().to_owned();
        let file = fs::read_to_string(checkout().join("crds").join(format!("{name}.yaml"))).unwrap();
        assert!(serde_saphyr::from_str::<Value>(&file).unwrap() == *definition, "{name} is that of crds/");
    }
    let everything = crate::helm::objects(&cases::EVERYTHING);
    let kept =
        of_kind(&everything, "CustomResourceDefinition").iter().any(|one| !one["metadata"]["annotations"].is_null());
    assert!(!kept, "crds.keep: false");
}

/// Checked by the program itself: a flag that it does not have, or a value that it does not accept, is an error.
#[test]
fn the_program_takes_the_arguments_of_every_case() {
    for case in &ALL {
        let words = std::iter::once("vigie".to_owned()).chain(args(&objects(case)));
        let parsed = vigie::cli::args::command(false).try_get_matches_from(words);
        assert!(parsed.is_ok(), "{}: {}", case.name, parsed.unwrap_err());
    }
}

#[test]
fn the_arguments_say_what_the_values_say() {
    let told = |case: &Case| args(&objects(case));
    let default = told(&cases::DEFAULT);
    for arg in [
        "--lease-namespace=chart-home",
        "--lease-name=vigie",
        "--heartbeat-service=vigie-heartbeat",
        "--admin-auth=kubernetes",
        "--remediation=on",
    ] {
        assert!(default.contains(&arg.to_owned()), "{arg} in {default:?}");
    }
    assert!(!default.iter().any(|arg| arg.starts_with("--namespace") || arg.starts_with("--public-url")));
    assert!(told(&cases::NO_RESTART).contains(&"--remediation=off".to_owned()));
    let namespaces: Vec<String> =
        told(&cases::NAMESPACED).into_iter().filter(|arg| arg.starts_with("--namespace=")).collect();
    assert_eq!(namespaces, ["--namespace=chart-edge", "--namespace=chart-lab"]);
    let ingress = told(&cases::INGRESS);
    assert!(ingress.contains(&"--trusted-proxy=192.0.2.0/24".to_owned()));
    assert!(told(&cases::LOAD_BALANCER).contains(&"--tls-cert-file=/etc/vigie/heartbeat-tls/tls.crt".to_owned()));
    assert!(told(&cases::CERTIFICATE).contains(&"--tls-key-file=/etc/vigie/heartbeat-tls/tls.key".to_owned()));
}

#[test]
fn the_pod_knows_itself_and_keeps_to_restricted_ways() {
    let objects = objects(&cases::DEFAULT);
    let container = container(&objects);
    let from = |name: &str| {
        let entry = container["env"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        entry["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        [from("POD_NAME"), from("POD_NAMESPACE"), from("POD_IP")],
        ["metadata.name", "metadata.namespace", "status.podIP"]
    );
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 10, "vigie takes up to 10 s");
    assert_eq!(pod["enableServiceLinks"], false);
}

/// The API server refuses a changed selector of a Deployment: no value and no version may change it.
#[test]
fn nothing_changes_the_selectors() {
    for case in &ALL {
        let objects = objects(case);
        let expected = json!({"app.kubernetes.io/name": "vigie", "app.kubernetes.io/instance": case.release});
        let deployment = only(&objects, "Deployment");
        assert_eq!(deployment["spec"]["selector"], json!({"matchLabels": expected}), "{}", case.name);
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        assert!(expected.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value), "{}", case.name);
        assert!(labels["vigie.dev/role"].is_null(), "the leader sets this label itself");
    }
}

#[test]
fn one_service_leads_to_all_pods_and_one_to_the_leader() {
    let objects = objects(&cases::LONG_NAME);
    let services = of_kind(&objects, "Service");
    let heartbeat =
        services.iter().find(|one| one["metadata"]["name"].as_str().unwrap().ends_with("-heartbeat")).unwrap();
    assert_eq!(heartbeat["spec"]["selector"]["vigie.dev/role"], "leader");
    assert_eq!(heartbeat["spec"]["ports"][0]["name"], "heartbeat");
    let admin = services.iter().find(|one| one["spec"]["ports"][0]["name"] == "admin").unwrap();
    assert!(admin["spec"]["selector"]["vigie.dev/role"].is_null());
    assert_eq!(admin["spec"]["ports"][0]["port"], 9090);
    assert!(services.iter().all(|one| one["metadata"]["name"].as_str().unwrap().len() <= 63), "{services:?}");
}

#[test]
fn a_name_without_vigie_gets_it_and_a_name_with_it_stays() {
    let name = |release| {
        let objects = objects(&Case { release, ..cases::DEFAULT });
        only(&objects, "Deployment")["metadata"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!([name("vigie"), name("edge"), name("my-vigie")], ["vigie", "edge-vigie", "my-vigie"]);
}

/// Objects without a namespace, or in other namespaces.
#[test]
fn two_releases_of_one_name_in_two_namespaces_share_nothing_but_the_definitions() {
    let of = |case: Case| -> BTreeSet<String> {
        let more = "{namespaces: [chart-edge], prometheus: {namespace: chart-monitoring}, \
                    serviceMonitor: {scraper: {serviceAccount: prometheus, namespace: chart-monitoring}}}";
        let rendered = [case, Case { values: more, ..case }].map(|case| objects(&case));
        rendered.iter().flatten().map(identity).collect()
    };
    let here = of(cases::DEFAULT);
    let there = of(Case { namespace: "chart-lab", ..cases::DEFAULT });
    let shared: Vec<&String> = here.intersection(&there).collect();
    assert!(shared.iter().all(|one| one.starts_with("CustomResourceDefinition")) && shared.len() == 2, "{shared:?}");
}

#[test]
fn the_digest_decides_which_image_runs() {
    let image = |case: &Case| container(&objects(case))["image"].as_str().unwrap().to_owned();
    assert_eq!(image(&cases::DEFAULT), format!("vigie:{}", env!("CARGO_PKG_VERSION")));
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    assert_eq!(image(&cases::DIGEST), format!("example.com/vigie@{digest}"));
    assert_eq!(image(&cases::EVERYTHING), format!("registry.example.com/vigie:v9@{digest}"));
}

#[test]
fn beats_are_led_from_outside_to_the_heartbeat_service() {
    let ingress = objects(&cases::INGRESS);
    let spec = &only(&ingress, "Ingress")["spec"];
    assert_eq!(spec["tls"], json!([{"hosts": ["vigie.example.com"], "secretName": "vigie-example-com"}]));
    let backend = &spec["rules"][0]["http"]["paths"][0]["backend"]["service"];
    assert_eq!(*backend, json!({"name": "vigie-heartbeat", "port": {"name": "heartbeat"}}));
    let route = objects(&cases::ROUTE);
    let spec = &only(&route, "HTTPRoute")["spec"];
    assert_eq!(spec["rules"][0]["backendRefs"], json!([{"name": "vigie-heartbeat", "port": 8080}]));
    assert_eq!(spec["hostnames"], json!(["vigie.example.com"]));
}

#[test]
fn replicas_are_spread_by_default_and_otherwise_as_told() {
    let default = objects(&cases::DEFAULT);
    let pod = &only(&default, "Deployment")["spec"]["template"]["spec"];
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    let ours = json!({"app.kubernetes.io/name": "vigie", "app.kubernetes.io/instance": "vigie"});
    assert!(spread.len() == 2 && spread.iter().all(|one| one["labelSelector"]["matchLabels"] == ours), "{spread:?}");
    assert!(pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].is_array());
    let told = objects(&cases::EVERYTHING);
    let pod = &only(&told, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["topologySpreadConstraints"][0]["labelSelector"], json!({"matchLabels": {"a": "b"}}));
    assert!(pod["affinity"]["podAntiAffinity"].is_null() && !pod["affinity"]["nodeAffinity"].is_null());
}

#[test]
fn a_single_replica_has_no_disruption_budget_that_would_keep_its_node() {
    let budget = |values| of_kind(&objects(&Case { values, ..cases::DEFAULT }), "PodDisruptionBudget").len();
    assert_eq!([budget(""), budget("replicaCount: 1"), budget("pdb: {enabled: false}")], [1, 0, 0]);
}

/// The notes that helm prints at the end, without a cluster: `helm template` omits the notes, so here they are rendered
/// as an object.
fn notes(case: &Case) -> String {
    let scratch = Scratch::new();
    let (copy, templates) = (scratch.0.join("vigie"), scratch.0.join("vigie/templates"));
    let copied = Command::new("cp").arg("-R").args([&chart(), &copy]).status().expect("cp can be started");
    assert!(copied.success(), "the chart is copied");
    let text = fs::read_to_string(templates.join("NOTES.txt")).unwrap();
    fs::write(templates.join("_notes.tpl"), format!("{{{{- define \"notes\" }}}}{text}{{{{- end }}}}")).unwrap();
    fs::write(templates.join("notes.yaml"), "{kind: Notes, text: {{ include \"notes\" . | toJson }}}\n").unwrap();
    only(&objects_of(&copy, case), "Notes")["text"].as_str().expect("a text").to_owned()
}

/// Bash's complaints about commands that a person pastes: a here-document that never ends is a warning.
fn bash_says_of(commands: &str) -> String {
    let bash = Command::new("bash").args(["-n", "-c", commands]).output().expect("bash can be started");
    String::from_utf8_lossy(&bash.stderr).into_owned()
}

#[test]
fn the_commands_of_the_notes_can_be_pasted_as_they_are_printed() {
    let broken = bash_says_of("cat <<'END'\n  a: b\n  END\nls\n");
    assert!(broken.contains("delimited by end-of-file"), "bash warns: {broken}");
    for (namespaces, expected) in [("", "default"), ("namespaces: ['0']", "0")] {
        let told = notes(&Case { values: namespaces, ..cases::DEFAULT });
        let after = told.split_once("\nThen create a connector:\n\n").expect("commands follow").1;
        let block = after.split_once("\nInstall the connector").expect("they end").0;
        assert!(block.contains("<<'END'") && block.contains("vigie token show edge-1"), "all of them: {block}");
        assert_eq!(bash_says_of(block), "", "{block}");
        let manifest = block.split_once("<<'END'\n").and_then(|(_, rest)| rest.split_once("\nEND\n"));
        let manifest: Value = serde_saphyr::from_str(manifest.expect("a here-document").0).unwrap();
        assert_eq!(manifest["metadata"]["namespace"], expected);
    }
}

/// Names that YAML would read as a number or a boolean must remain strings.
#[test]
fn names_that_look_like_numbers_stay_names() {
    let values = "{fullnameOverride: 'on', namespaces: ['1e3'], remediation: {namespaces: ['1e3']}, \
                  serviceAccount: {name: '007'}, prometheus: {namespace: '12'}, \
                  serviceMonitor: {enabled: true, scraper: {serviceAccount: '8', namespace: '9'}}, \
                  prometheusRule: {enabled: true, namespace: '10'}, dashboards: {enabled: true, namespace: '0x1f'}, \
                  networkPolicy: {enabled: true}}";
    let objects = objects(&Case { release: "1234", namespace: "5678", values, ..cases::DEFAULT });
    assert_eq!(only(&objects, "Deployment")["metadata"]["name"], "on");
    assert_eq!(only(&objects, "ServiceMonitor")["spec"]["namespaceSelector"]["matchNames"], json!(["5678"]));
    for object in &objects {
        let metadata = &object["metadata"];
        let told = identity(object);
        assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "1234", "{told}");
        assert!(metadata["name"].is_string(), "{told}");
        assert!(metadata["namespace"].is_null() || metadata["namespace"].is_string(), "{told}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert!(subject["name"].is_string() && subject["namespace"].is_string(), "{told}: {subject}");
        }
    }
    assert!(objects.iter().any(|one| one["metadata"]["namespace"] == "1e3"), "the Roles are where they are wanted");
}

/// The policies have no namespace: neither the parts of a name nor the joint between them may be ambiguous.
#[test]
fn two_releases_whose_names_and_namespaces_join_alike_have_policies_of_their_own() {
    let of = |release, namespace| -> BTreeSet<String> {
        let objects = objects(&Case { release, namespace, ..cases::DEFAULT });
        of_kind(&objects, "ValidatingAdmissionPolicy").into_iter().map(identity).collect()
    };
    let (one, other) = (of("vigie-a", "b"), of("vigie", "a-b"));
    assert!(one.len() == 6 && one.is_disjoint(&other), "{one:?} and {other:?}");
}

#[test]
fn with_recreate_nothing_is_said_of_a_rolling_update() {
    let strategy = |values| {
        let objects = objects(&Case { values, ..cases::DEFAULT });
        only(&objects, "Deployment")["spec"]["strategy"].clone()
    };
    assert_eq!(strategy("strategy: {type: Recreate}"), json!({"type": "Recreate"}));
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    assert_eq!(strategy(""), rolling);
}

#[test]
fn a_probe_that_is_null_is_not_made() {
    let probes = |values| {
        let objects = objects(&Case { values, ..cases::DEFAULT });
        ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| container(&objects)[probe].is_object())
    };
    assert_eq!(probes(""), [true; 3]);
    assert_eq!(probes("startupProbe: null"), [false, true, true]);
    assert_eq!(probes("{livenessProbe: null, readinessProbe: null}"), [true, false, false]);
}

#[test]
fn the_host_of_the_public_url_is_led_in_small_letters() {
    let values =
        "heartbeat: {publicURL: 'https://Vigie.Example.com:8443/a', ingress: {enabled: true, tls: {enabled: true}}}";
    let objects = objects(&Case { values, ..cases::DEFAULT });
    assert_eq!(only(&objects, "Ingress")["spec"]["rules"][0]["host"], "vigie.example.com");
}

#[test]
fn a_network_policy_closes_the_admin_port_to_all_who_are_not_named() {
    let policy = |values| {
        let objects = objects(&Case { values, ..cases::DEFAULT });
        only(&objects, "NetworkPolicy")["spec"].clone()
    };
    let closed = policy("networkPolicy: {enabled: true}");
    assert_eq!(closed["ingress"], json!([{"ports": [{"port": "heartbeat", "protocol": "TCP"}]}]));
    assert_eq!(closed["policyTypes"], json!(["Ingress"]), "probes go anywhere");
    let open =
        policy("networkPolicy: {enabled: true, scraperFrom: [{podSelector: {}}], apiServerFrom: [192.0.2.1/32]}");
    assert_eq!(
        open["ingress"][1],
        json!({"ports": [{"port": "admin", "protocol": "TCP"}], "from": [{"podSelector": {}}, {"ipBlock": {"cidr": "192.0.2.1/32"}}]})
    );
}

#[test]
fn every_value_is_in_the_schema_and_the_schema_has_no_other() {
    let read = |name: &str| fs::read_to_string(chart().join(name)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    compare(&values, &schema, "");
}

/// Values that charts which depend on this one may also set.
const OF_PARENTS: [&str; 2] = ["enabled", "global"];

fn compare(values: &Value, schema: &Value, path: &str) {
    let known = schema["properties"].as_object().expect("a map in the schema");
    assert_eq!(schema["additionalProperties"], false, "typos at {path:?} are refused");
    for (key, value) in values.as_object().unwrap() {
        let inner = known.get(key).unwrap_or_else(|| panic!("{path}.{key} is not in the schema"));
        // Below these values Kubernetes allows more fields than the defaults contain.
        let is_ours = inner.get("properties").is_some()
            && !["resources", "strategy", "affinity", "issuerRef"].contains(&key.as_str());
        if value.is_object() && is_ours {
            compare(value, inner, &format!("{path}.{key}"));
        }
    }
    let unexplained = known.keys().filter(|key| values.get(key.as_str()).is_none());
    let unexplained: Vec<&String> =
        unexplained.filter(|key| !path.is_empty() || !OF_PARENTS.contains(&key.as_str())).collect();
    assert!(unexplained.is_empty(), "at {path:?} the schema has what values.yaml does not explain: {unexplained:?}");
}
