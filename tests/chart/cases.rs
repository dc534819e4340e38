//! The values that the chart is rendered with.

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) release: &'static str,
    pub(crate) namespace: &'static str,
    /// YAML values in addition to the defaults.
    pub(crate) values: &'static str,
}

/// The namespace of the release, and the namespaces that values name.
pub(crate) const NAMESPACES: [&str; 4] = ["chart-home", "chart-edge", "chart-lab", "chart-monitoring"];

const fn case(name: &'static str, values: &'static str) -> Case {
    Case { name, release: "vigie", namespace: "chart-home", values }
}

pub(crate) const DEFAULT: Case = case("default", "");
pub(crate) const NAMESPACED: Case = case("namespaced", "namespaces: [chart-edge, chart-lab]");
pub(crate) const NAMESPACED_RESTART: Case = case(
    "restarts in one of two namespaces",
    "{namespaces: [chart-edge, chart-lab], remediation: {namespaces: [chart-lab]}}",
);
pub(crate) const RESTART_IN_ONE: Case =
    case("restarts in one namespace of all", "remediation: {namespaces: [chart-lab]}");
pub(crate) const NO_RESTART: Case = case("no restarts", "remediation: {enabled: false}");
/// For users without rights in the cluster.
pub(crate) const WITHOUT_CLUSTER: Case = case(
    "nothing in the cluster at large",
    "
namespaces: [chart-edge]
crds: {enabled: false}
rbac: {aggregate: false}
adminAuth: 'off'
admissionPolicy: {enabled: false}
probes: {clusterNetworks: [198.51.100.0/24]}
",
);
pub(crate) const INGRESS: Case = case(
    "ingress",
    "
heartbeat:
  publicURL: https://vigie.example.com/
  trustedProxies: [192.0.2.0/24]
  ingress:
    enabled: true
    className: public
    annotations: {example.com/timeout: '30'}
    tls: {enabled: true, secretName: vigie-example-com}
",
);
pub(crate) const ROUTE: Case = case(
    "route",
    "
heartbeat:
  publicURL: https://vigie.example.com
  route: {enabled: true, tls: true, parentRefs: [{name: public, namespace: chart-lab, sectionName: https}]}
",
);
pub(crate) const LOAD_BALANCER: Case = case(
    "load balancer",
    "
heartbeat:
  publicURL: https://vigie.example.com
  tls: {secretName: vigie-example-com}
  service:
    type: LoadBalancer
    port: 443
    externalTrafficPolicy: Local
    loadBalancerClass: example.com/balancer
    loadBalancerSourceRanges: [192.0.2.0/24]
",
);
pub(crate) const CERTIFICATE: Case = case(
    "certificate",
    "
heartbeat:
  publicURL: https://vigie.example.com
  tls: {certificate: {enabled: true, issuerRef: {name: internal, kind: ClusterIssuer}}}
",
);
pub(crate) const INSECURE: Case = case(
    "insecure",
    "
heartbeat:
  publicURL: http://vigie.example.com
  allowInsecure: true
  service: {type: NodePort, nodePort: 30080}
  ingress: {enabled: true}
  route: {enabled: true, parentRefs: [{name: public}]}
",
);
pub(crate) const DIGEST: Case = case(
    "digest",
    "image: {repository: example.com/vigie, digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}",
);
/// 53 characters, the longest that Helm accepts, and a dot, which a Service's name may not contain.
pub(crate) const LONG_NAME: Case = Case {
    name: "long name",
    release: "the-longest-name-of-a-release.that-helm-takes-is-this",
    ..case("", "{serviceMonitor: {enabled: true}, networkPolicy: {enabled: true}}")
};
pub(crate) const NOTHING: Case = case(
    "everything off",
    "
replicaCount: 1
crds: {enabled: false}
remediation: {enabled: false}
admissionPolicy: {enabled: false}
adminAuth: 'off'
rbac: {create: false, aggregate: false}
serviceAccount: {create: false}
pdb: {enabled: false}
affinity: {podAntiAffinity: {}}
topologySpreadConstraints: []
nodeSelector: {kubernetes.io/os: null}
resources: null
",
);
pub(crate) const EVERYTHING: Case = case("everything on", include_str!("everything.yaml"));

pub(crate) const ALL: [Case; 15] = [
    DEFAULT,
    NAMESPACED,
    NAMESPACED_RESTART,
    RESTART_IN_ONE,
    NO_RESTART,
    WITHOUT_CLUSTER,
    INGRESS,
    ROUTE,
    LOAD_BALANCER,
    CERTIFICATE,
    INSECURE,
    DIGEST,
    LONG_NAME,
    NOTHING,
    EVERYTHING,
];
