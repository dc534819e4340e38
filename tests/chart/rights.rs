//! The rights that the chart gives, compared with the files that state why each is needed: no more, no less.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::cases::{self, ALL, Case};
use crate::helm::{checkout, identity, objects, of_kind};

/// The scope of rights: a namespace, or the whole cluster.
type Where = Option<String>;

/// The rules of a role of config/rbac, from the file that has it, with the Lease's name inserted.
fn rules_of(role: &str, lease: &str) -> Value {
    for file in ["cluster", "restart"] {
        let text = fs::read_to_string(checkout().join(format!("config/rbac/{file}.yaml"))).unwrap();
        for document in text.split("\n---\n") {
            let document: Value = serde_saphyr::from_str(document).unwrap();
            if document["metadata"]["name"] == role {
                let mut rules = document["rules"].clone();
                for rule in rules.as_array_mut().unwrap() {
                    if rule["resources"][0] == "leases" && !rule["resourceNames"].is_null() {
                        rule["resourceNames"] = serde_json::json!([lease]);
                    }
                }
                return rules;
            }
        }
    }
    panic!("config/rbac has no role {role}");
}

/// The roles that are bound to vigie's ServiceAccount, by scope.
fn given(objects: &[Value]) -> BTreeMap<Where, BTreeSet<String>> {
    let account = |object: &Value| object["subjects"][0]["name"].as_str().unwrap().to_owned();
    let pod = &crate::helm::only(objects, "Deployment")["spec"]["template"]["spec"];
    let mut given: BTreeMap<Where, BTreeSet<String>> = BTreeMap::new();
    for kind in ["RoleBinding", "ClusterRoleBinding"] {
        for binding in of_kind(objects, kind).into_iter().filter(|one| pod["serviceAccountName"] == account(one)) {
            let namespace = binding["metadata"]["namespace"].as_str().map(str::to_owned);
            let role = find_role(objects, binding);
            given.entry(namespace).or_default().insert(serde_json::to_string(&role["rules"]).unwrap());
        }
    }
    given
}

fn find_role<'a>(objects: &'a [Value], binding: &Value) -> &'a Value {
    let reference = &binding["roleRef"];
    let is_it = |role: &&Value| {
        role["kind"] == reference["kind"]
            && role["metadata"]["name"] == reference["name"]
            && (role["kind"] == "ClusterRole" || role["metadata"]["namespace"] == binding["metadata"]["namespace"])
    };
    objects.iter().find(is_it).unwrap_or_else(|| panic!("{} binds a role that is not there", identity(binding)))
}

/// `expected`: a scope, and the roles that hold there.
fn assert_given(case: &Case, lease: &str, expected: &[(Option<&str>, &[&str])]) {
    let expected: BTreeMap<Where, BTreeSet<String>> = expected
        .iter()
        .map(|(place, roles)| {
            let rules = roles.iter().map(|role| serde_json::to_string(&rules_of(role, lease)).unwrap());
            (place.map(str::to_owned), rules.collect())
        })
        .collect();
    assert_eq!(given(&objects(case)), expected, "{}", case.name);
}

const HOME: Option<&str> = Some("chart-home");
const EDGE: Option<&str> = Some("chart-edge");
const LAB: Option<&str> = Some("chart-lab");

const WATCH: [&str; 4] = ["vigie", "vigie-evidence", "vigie-evidence-settings", "vigie-evidence-network"];
const CLUSTER: [&str; 7] = [
    "vigie",
    "vigie-evidence",
    "vigie-evidence-settings",
    "vigie-evidence-network",
    "vigie-evidence-cluster",
    "vigie-networks",
    "vigie-admin-auth",
];

#[test]
fn without_namespaces_it_looks_after_and_restarts_in_all_of_them() {
    let all: Vec<&str> = CLUSTER.into_iter().chain(["vigie-restart"]).collect();
    assert_given(&cases::DEFAULT, "vigie", &[(None, &all), (HOME, &["vigie-leader"])]);
}

#[test]
fn with_namespaces_every_right_is_a_role_in_one_but_the_question_who_a_caller_is() {
    let watch: Vec<&str> = WATCH.into_iter().chain(["vigie-restart"]).collect();
    let expected: [(Option<&str>, &[&str]); 4] =
        [(None, &["vigie-admin-auth"]), (HOME, &["vigie-leader"]), (EDGE, &watch), (LAB, &watch)];
    assert_given(&cases::NAMESPACED, "vigie", &expected);
}

#[test]
fn restarts_are_allowed_where_values_say_and_nowhere_else() {
    let expected: [(Option<&str>, &[&str]); 3] =
        [(None, &CLUSTER), (HOME, &["vigie-leader"]), (LAB, &["vigie-restart"])];
    assert_given(&cases::RESTART_IN_ONE, "vigie", &expected);
    let lab: Vec<&str> = WATCH.into_iter().chain(["vigie-restart"]).collect();
    let expected: [(Option<&str>, &[&str]); 4] =
        [(None, &["vigie-admin-auth"]), (HOME, &["vigie-leader"]), (EDGE, &WATCH), (LAB, &lab)];
    assert_given(&cases::NAMESPACED_RESTART, "vigie", &expected);
    assert_given(&cases::NO_RESTART, "vigie", &[(None, &CLUSTER), (HOME, &["vigie-leader"])]);
}

#[test]
fn the_lease_that_may_be_renewed_is_the_one_that_is_used_and_prometheus_is_seen_where_it_runs() {
    let expected: [(Option<&str>, &[&str]); 4] = [
        (None, &CLUSTER),
        (HOME, &["vigie-leader"]),
        (EDGE, &["vigie-restart"]),
        (Some("chart-monitoring"), &["vigie-evidence-prometheus"]),
    ];
    assert_given(&cases::EVERYTHING, "lookout", &expected);
}

#[test]
fn what_is_not_wanted_is_not_given() {
    let less = "rbac: {networks: false, evidence: {settings: false, network: false, cluster: false}}";
    let expected: [(Option<&str>, &[&str]); 2] =
        [(None, &["vigie", "vigie-evidence", "vigie-admin-auth", "vigie-restart"]), (HOME, &["vigie-leader"])];
    assert_given(&Case { values: less, ..cases::DEFAULT }, "vigie", &expected);
    assert_given(&cases::NOTHING, "vigie", &[]);
    // Requested by name, the one that a Role cannot give.
    let expected: [(Option<&str>, &[&str]); 3] =
        [(None, &["vigie-networks"]), (HOME, &["vigie-leader"]), (EDGE, &WATCH)];
    let networks =
        "{namespaces: [chart-edge], rbac: {networks: true}, adminAuth: 'off', remediation: {enabled: false}}";
    assert_given(&Case { values: networks, ..cases::DEFAULT }, "vigie", &expected);
}

/// The namespaced rules are a separate file, for use without the chart.
#[test]
fn the_rules_for_one_namespace_are_those_for_all() {
    let text = fs::read_to_string(checkout().join("config/rbac/namespaced.yaml")).unwrap();
    for document in text.split("\n---\n") {
        let document: Value = serde_saphyr::from_str(document).unwrap();
        let name = document["metadata"]["name"].as_str().unwrap();
        assert_eq!(document["rules"], rules_of(name, "vigie"), "{name}");
    }
}

#[test]
fn somebody_without_rights_in_the_cluster_can_install_it() {
    let outside: Vec<String> =
        objects(&cases::WITHOUT_CLUSTER).iter().map(identity).filter(|one| one.contains(" /")).collect();
    assert_eq!(outside, Vec::<String>::new(), "objects that live in no namespace");
}

#[test]
fn no_case_gives_a_right_that_the_files_do_not_have() {
    for case in &ALL {
        let objects = objects(case);
        let lease =
            crate::helm::args(&objects).iter().find_map(|arg| arg.strip_prefix("--lease-name=").map(str::to_owned));
        let known: BTreeSet<String> = CLUSTER
            .into_iter()
            .chain(["vigie-restart", "vigie-leader", "vigie-evidence-prometheus"])
            .map(|role| serde_json::to_string(&rules_of(role, lease.as_ref().unwrap())).unwrap())
            .collect();
        for (place, rules) in given(&objects) {
            assert!(rules.is_subset(&known), "{} in {place:?}: {rules:?}", case.name);
        }
    }
}

/// `rbac.create` concerns vigie and its scraper, and `rbac.aggregate` concerns people.
#[test]
fn somebody_else_makes_every_role_and_binding_but_those_of_people() {
    let values =
        "{rbac: {create: false}, serviceMonitor: {scraper: {serviceAccount: prometheus, namespace: chart-monitoring}}}";
    let objects = objects(&Case { values, ..cases::DEFAULT });
    let made: Vec<String> = objects.iter().map(identity).filter(|one| one.contains("Role")).collect();
    assert_eq!(made, ["ClusterRole /chart-home:vigie:view", "ClusterRole /chart-home:vigie:edit"].map(str::to_owned));
}

#[test]
fn people_who_may_view_or_edit_a_namespace_may_do_so_with_our_kinds() {
    let objects = objects(&cases::DEFAULT);
    let of = |name: &str| {
        let role = objects.iter().find(|one| one["metadata"]["name"] == format!("chart-home:vigie:{name}")).unwrap();
        let labels = role["metadata"]["labels"].as_object().unwrap();
        let into: BTreeSet<&str> =
            labels.keys().filter_map(|key| key.split_once("/aggregate-to-")).map(|(_, into)| into).collect();
        (
            into,
            role["rules"][0]["verbs"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(of("view"), (["admin", "edit", "view"].into(), vec!["get", "list", "watch"]));
    assert_eq!(of("edit"), (["admin", "edit"].into(), vec!["create", "update", "patch", "delete", "deletecollection"]));
}
