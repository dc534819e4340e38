# shellcheck shell=bash
# The parts of the story: the cluster, the operator, the connectors' heartbeats.
#
# The demo's state is in .demo/: `remembered` (settings), run/ (process ids), beats/ (heartbeats, with their tokens:
# readable only by their owner).

REMEMBERED=$DEMO/remembered
ADMIN=$DEMO/admin.kubeconfig       # with the rights of the user that runs the demo
OPERATOR=$DEMO/operator.kubeconfig # the operator's credentials, and no others

DEFINITIONS=(connectors.vigie.dev monitoredbackends.vigie.dev)

remember() { printf '%s=%q\n' "$1" "$2" >>"$REMEMBERED"; }

needs_a_demo() {
  [[ -f $REMEMBERED ]] || fail "no demo runs here: make demo starts one"
  # shellcheck source=/dev/null
  source "$REMEMBERED"
}

k() { "$KUBECTL" --kubeconfig "$ADMIN" --namespace "$NAMESPACE" "$@"; }

# For objects without a namespace: kubectl warns about -n.
global() { "$KUBECTL" --kubeconfig "$ADMIN" "$@"; }

check_words() {
  case $WHOSE in
    mine | embedded) ;;
    *) fail "CLUSTER=$WHOSE means nothing here: leave it out for a cluster of the demo's own, or say CLUSTER=mine" ;;
  esac
}

# Starts with nothing running. The demo may end the processes and the cluster of an earlier demo, which are in its
# state.
start_over() {
  mkdir -p "$RUN" "$LOGS" "$DEMO/beats"
  exec {DEMO_LOCK}>>"$DEMO/lock"
  flock -n "$DEMO_LOCK" || fail "another make demo is under way in this checkout"
  if [[ -f $REMEMBERED ]]; then
    local wanted=$WHOSE
    # shellcheck source=/dev/null
    source "$REMEMBERED"
    [[ $WHOSE == "$wanted" ]] || fail "a demo runs with CLUSTER=$WHOSE: end it first with make demo-down"
    terminate 20 vm
    say "A demo runs here already: starting over."
  fi
  end_everything
  rm -f "$REMEMBERED"
  local name
  for name in CLUSTER_IS_OURS DEFINITIONS_ARE_OURS; do
    [[ -z ${!name:-} ]] || remember "$name" yes
  done
}

# --- the cluster

embedded() { CLUSTER_DIR=$CLUSTER_HOME "$ROOT/tests/cluster/cluster" "$@"; }

# Sets KUBECTL, NAMESPACE and CONTEXT, and records whether the demo may end the cluster.
use_cluster() {
  if [[ $WHOSE == mine ]]; then use_my_cluster; else use_embedded_cluster; fi
  remember WHOSE "$WHOSE"
  remember KUBECTL "$KUBECTL"
  remember NAMESPACE "$NAMESPACE"
}

use_embedded_cluster() {
  NAMESPACE=demo
  KUBECTL=$CLUSTER_HOME/bin/kubectl
  # The demo must not end a cluster that another command started.
  embedded status >/dev/null 2>&1 || remember CLUSTER_IS_OURS yes
  embedded up
  "$KUBECTL" --kubeconfig "$CLUSTER_HOME/kubeconfig" config view --minify --flatten --raw >"$ADMIN"
}

use_my_cluster() {
  NAMESPACE=vigie-demo
  KUBECTL=$(command -v kubectl) || fail "CLUSTER=mine needs kubectl; install it and put it in PATH"
  local context
  context=$("$KUBECTL" config current-context 2>/dev/null) ||
    fail "CLUSTER=mine: your kubeconfig has no current context; choose one with kubectl config use-context"
  say "Your current context is ${BOLD}$context$PLAIN." \
    "Into it go: the namespace $NAMESPACE, all objects of this demo inside it, and the cluster-wide" \
    "CustomResourceDefinitions ${DEFINITIONS[*]}, unless they are there already." \
    "The operator runs on this machine."
  # A copy, so that the demo stays on its cluster when you switch contexts.
  "$KUBECTL" config view --minify --flatten --raw >"$ADMIN"
}

apply_definitions() {
  local name missing=()
  for name in "${DEFINITIONS[@]}"; do
    global get crd "$name" >/dev/null 2>&1 || missing+=("$name")
  done
  if [[ $WHOSE == mine ]] && ((${#missing[@]} == 0)); then
    say "The definitions are there already: they are left as they are."
    return
  fi
  if [[ $WHOSE == mine ]] && ((${#missing[@]} < ${#DEFINITIONS[@]})); then
    fail "your cluster has definitions of another version of vigie, for it lacks ${missing[*]}: they are not the demo's to change"
  fi
  ((${#missing[@]} == 0)) || remember DEFINITIONS_ARE_OURS yes
  prompt "vigie crd | kubectl apply --server-side -f -"
  "$VIGIE" crd | global apply --server-side -f - | indent
  until_within 30 definitions_are_served || fail "the API server does not serve ${DEFINITIONS[*]} after 30 s"
}

# Repeated by the caller: kubectl wait gives up on a definition that is too new to have conditions.
definitions_are_served() {
  global wait --for=condition=Established "${DEFINITIONS[@]/#/crd/}" --timeout=5s >/dev/null 2>&1
}

# The demo may empty a namespace with its label, and no other.
make_namespace() {
  local label
  if label=$(global get namespace "$NAMESPACE" -o 'jsonpath={.metadata.labels.vigie\.dev/demo}' 2>/dev/null); then
    [[ $label == yes ]] || fail "the namespace $NAMESPACE exists and is not the demo's: it is left alone"
    say "The namespace $NAMESPACE is left from an earlier demo: emptying it."
    global delete namespace "$NAMESPACE" --wait --timeout=120s | indent
  fi
  k create -f - >/dev/null <<END
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "$NAMESPACE", "labels": {"vigie.dev/demo": "yes"}}}
END
  remember NAMESPACE_IS_OURS yes
}

# The rights of config/rbac/namespaced.yaml, only in the demo's namespace.
grant_rights() {
  sed "s/^  namespace: vigie\$/  namespace: $NAMESPACE/" "$ROOT/config/rbac/namespaced.yaml" | k apply -f - | indent
  k apply -f - <<END | indent
apiVersion: v1
kind: ServiceAccount
metadata: {name: vigie}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: vigie}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: vigie}
subjects: [{kind: ServiceAccount, name: vigie, namespace: $NAMESPACE}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: vigie-leader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: vigie-leader}
subjects: [{kind: ServiceAccount, name: vigie, namespace: $NAMESPACE}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: vigie-evidence}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: vigie-evidence}
subjects: [{kind: ServiceAccount, name: vigie, namespace: $NAMESPACE}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: vigie-restart}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: vigie-restart}
subjects: [{kind: ServiceAccount, name: vigie, namespace: $NAMESPACE}]
END
}

# The operator's own kubeconfig: the same cluster, the ServiceAccount's token, and none of your credentials.
write_operator_kubeconfig() {
  cp "$ADMIN" "$OPERATOR"
  # A week: the demo may stay up for a while.
  k create token vigie --duration=168h >"$DEMO/operator.token"
  local config=("$KUBECTL" --kubeconfig "$OPERATOR" config)
  "${config[@]}" unset users >/dev/null
  "${config[@]}" set users.vigie.tokenFile "$DEMO/operator.token" >/dev/null
  "${config[@]}" set-context --current --user=vigie --namespace="$NAMESPACE" >/dev/null
}

# --- the operator

# Sets VIGIE, the binary. A debug build: a release build takes three times as long, and the demo does not need its
# speed.
build_operator() {
  local target
  (cd "$ROOT" && cargo build --locked --bin vigie)
  target=$(cd "$ROOT" && cargo metadata --locked --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  VIGIE=$target/debug/vigie
  if vm_comes; then
    # The VM downloads it: without what only a debugger reads.
    mkdir -p "$DEMO/bin"
    strip --strip-debug -o "$DEMO/bin/vigie" "$VIGIE"
    VIGIE=$DEMO/bin/vigie
  fi
  remember VIGIE "$VIGIE"
}

# The first free port from $1 on.
free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    port=$((port + 1))
  done
  printf '%s' "$port"
}

choose_ports() {
  local beats admin
  beats=$(free_port 18080)
  admin=$(free_port 19090)
  URL=http://127.0.0.1:$beats
  ADMIN_URL=http://127.0.0.1:$admin
  LISTEN=127.0.0.1:$beats BACKENDS=127.0.0.1/32
  # Not the address of the VM's network alone: it ends with the VM. The VMs have addresses of the range for benchmarks.
  ! vm_comes || LISTEN=0.0.0.0:$beats BACKENDS+=,198.18.0.0/15
  remember URL "$URL"
  remember LISTEN "$LISTEN"
  remember BACKENDS "$BACKENDS"
  remember ADMIN_URL "$ADMIN_URL"
}

operator_pid() { pid_of operator || fail "the operator does not run: scripts/demo operator starts it"; }

start_operator() {
  if alive operator; then
    say "The operator runs already."
    return
  fi
  launch operator KUBECONFIG="$OPERATOR" "$VIGIE" run --listen "$LISTEN" --admin "${ADMIN_URL#http://}" \
    --namespace "$NAMESPACE" --lease-namespace "$NAMESPACE" --checkpoint-seconds 5 --allow-network "$BACKENDS"
  until_within 60 operator_is_ready || {
    tail -n 20 "$LOGS/operator.log" | indent >&2
    fail "the operator did not become ready within 60 s; its last lines are above"
  }
  shown "the operator is ready and listening (process $(pid_of operator), log in .demo/logs/operator.log)"
}

operator_is_ready() {
  alive operator || fail "the operator ended; its log is .demo/logs/operator.log: $(tail -n 3 "$LOGS/operator.log")"
  curl --silent --fail --output /dev/null --max-time 2 "$ADMIN_URL/readyz" &&
    curl --silent --fail --output /dev/null --max-time 2 "$URL/api/health"
}

# until_within SECONDS COMMAND...: whether it succeeds in time.
until_within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    nap 0.2
  done
}

# event_is_told OBJECT REASON
event_is_told() { k events --for "$1" | grep -q " $2 "; }

# --- the connectors

# Writes a connector's heartbeat. The token goes from the Secret into the file, and never on a command line.
write_beat() {
  local name=$1 token
  mkdir -p "$DEMO/beats"
  token=$("$VIGIE" token show "$name" --namespace "$NAMESPACE" --kubeconfig "$ADMIN") ||
    fail "the token of $name cannot be read"
  printf '{"connector_id": "%s/%s", "token": "%s"}\n' "$NAMESPACE" "$name" "$token" >"$DEMO/beats/$name.json"
}

masked() { sed 's/\(vgt_....\)[A-Za-z0-9_-]*/\1…/' "$1"; }

start_beating() {
  local name=$1
  alive "beats-$name" || launch "beats-$name" "$ROOT/scripts/demo-beats" "$DEMO/beats/$name.json" "$URL"
}

known() {
  (($# > 0)) || fail "name a connector: ${NAMES[*]}"
  local name
  for name in "$@"; do
    [[ " ${NAMES[*]} " == *" $name "* ]] || fail "the demo does not beat for $name, only for ${NAMES[*]}"
  done
}

silence() {
  known "$@"
  local name
  for name in "$@"; do terminate 10 "beats-$name"; done
  say "silent now: $*"
}

beat_again() {
  known "$@"
  local name
  for name in "$@"; do
    terminate 10 "beats-$name"
    write_beat "$name"
    start_beating "$name"
  done
  STARTED=()
  say "beating: $*"
}

state_of() { k get connector "$1" -o 'jsonpath={.status.state}' 2>/dev/null || true; }

state_is() { [[ $(state_of "$1") == "$2" ]]; }

# --- the end

# Ends what the demo started, and nothing else. It names each object that it cannot remove, and removes the rest.
take_down() {
  local keep=${1:-}
  if [[ ! -f $REMEMBERED ]]; then
    end_everything
    say "no demo runs here"
    return
  fi
  # shellcheck source=/dev/null
  source "$REMEMBERED"
  terminate 10 operator # on SIGTERM it releases its lease
  terminate 20 vm       # then nothing of its network and its cgroup is left
  end_everything
  if [[ ${CLUSTER_IS_OURS:-} == yes ]]; then
    embedded down
  elif [[ -n ${KUBECTL:-} && -s $ADMIN ]]; then
    remove_objects || say "Not everything could be removed from the cluster: see above."
  fi
  rm -rf "$RUN" "$DEMO/bin" "$DEMO/beats" "$REMEMBERED" "$ADMIN" "$OPERATOR" "$DEMO/operator.token"
  if [[ $keep != keep-logs ]]; then
    rm -rf "$DEMO"
    say "The demo is down."
  fi
}

remove_objects() {
  if [[ ${NAMESPACE_IS_OURS:-} == yes ]]; then
    global delete namespace "$NAMESPACE" --ignore-not-found --timeout=120s | indent
  fi
  if [[ ${DEFINITIONS_ARE_OURS:-} == yes ]]; then
    # Deleting a definition deletes every object of it, so it stays while other namespaces have objects.
    if [[ -z $(global get connectors,monitoredbackends --all-namespaces -o name) ]]; then
      global delete "${DEFINITIONS[@]/#/crd/}" --ignore-not-found --timeout=60s | indent
    else
      say "There are Connectors or MonitoredBackends in other namespaces by now: the definitions stay."
    fi
  fi
}

print_environment() {
  printf 'export KUBECONFIG=%q\n' "$ADMIN"
  printf 'export VIGIE_OPERATOR=%q\n' "$ADMIN_URL"
  printf 'export PATH=%q:%q:$PATH\n' "$(dirname "$VIGIE")" "$(dirname "$KUBECTL")"
}
