# shellcheck shell=bash
# Starts a component and waits until it works.

# Seconds. Two idle cores need five; next to a running compiler it takes several times that.
READY_WITHIN=90

# kubectl as the administrator, with its caches inside the cluster's directory. It has a timeout, because an interrupt
# waits for it.
kube() {
  KUBECACHEDIR=$DATA/kubectl-cache "$TOOLS/kubectl" --kubeconfig "$CLUSTER_DIR/kubeconfig" \
    --request-timeout=5s "$@" </dev/null
}

start_if_dead() {
  alive "$1" || "component_${1//-/_}"
}

apiserver_is_ready() {
  port_is_taken "$(port_of apiserver)" && [[ $(kube get --raw /readyz 2>/dev/null) == ok ]]
}

# wait_for WHAT SECONDS NAME... -- CONDITION...: fails when time is up or a component ends.
wait_for() {
  local what=$1 deadline=$((SECONDS + $2)) names=() name
  shift 2
  while [[ $1 != -- ]]; do
    names+=("$1")
    shift
  done
  shift
  until "$@"; do
    for name in "${names[@]}"; do
      if ! alive "$name"; then
        show_log_of "$name"
        return 1
      fi
    done
    if ((SECONDS >= deadline)); then
      complain "$what did not come about in time; see $LOGS"
      return 1
    fi
    nap 0.1
  done
}

start_control_plane() {
  start_if_dead etcd
  wait_for "etcd's port" "$READY_WITHIN" etcd -- port_is_taken "$(port_of etcd)" || return 1
  start_if_dead apiserver
  wait_for "a ready API server" "$READY_WITHIN" etcd apiserver -- apiserver_is_ready
}

default_service_account_exists() {
  kube get --raw /api/v1/namespaces/default/serviceaccounts/default >/dev/null 2>&1
}
