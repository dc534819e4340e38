# What the black-box suite needs around it. Sourced by scripts/e2e, scripts/suite, scripts/chaos and scripts/host.

# cluster_environment PROFILE: starts the cluster if it is not up, and takes its environment over.
cluster_environment() {
  local environment name
  tests/cluster/cluster up --profile "$1"
  environment=$(tests/cluster/cluster env)
  eval "$environment"
  # Nothing of the caller's shell may reach the operators under test.
  for name in $(compgen -e VIGIE_ || true); do
    [[ $name == VIGIE_CACHE || $name == VIGIE_CI_RUN ]] || unset "$name"
  done
  [[ -z ${CLUSTER_DIR:-} ]] || export VIGIE_TEST_CLUSTER_DIR=$CLUSTER_DIR # for the suite, the same cluster
}

prometheus_environment() {
  command -v prometheus >/dev/null ||
    printf 'no prometheus on PATH: taking it from the Debian package prometheus, unpacked into our cache, not installed\n'
  PROMETHEUS=$(tests/support/prometheus.sh)
  export PROMETHEUS
}

# The suite finds the definitions in place.
install_definitions() {
  local _
  cargo run --locked --quiet --bin vigie -- crd | kubectl apply --server-side -f -
  # Asked again: kubectl wait gives up on a definition that is too new to have conditions.
  for _ in {1..30}; do
    kubectl wait --for=condition=Established crd/connectors.vigie.dev crd/monitoredbackends.vigie.dev --timeout=5s 2>/dev/null && break
    sleep 1
  done
}
