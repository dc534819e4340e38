# shellcheck shell=bash
# The parts that the story is told with: the cluster, the operator, the connectors' heartbeats.
#
# What the demo must remember is in .demo/: `remembered` (settings), run/ (process ids), beats/ (heartbeats, with their
# tokens: readable by their owner only).

REMEMBERED=$DEMO/remembered
ADMIN=$DEMO/admin.kubeconfig       # with the rights of whoever runs the demo
OPERATOR=$DEMO/operator.kubeconfig # with the operator's own, and no other

DEFINITIONS=(connectors.vigie.dev monitoredbackends.vigie.dev)

remember() { printf '%s=%q\n' "$1" "$2" >>"$REMEMBERED"; }

needs_a_demo() {
  [[ -f $REMEMBERED ]] || fail "no demo runs here: make demo starts one"
  # shellcheck source=/dev/null
  source "$REMEMBERED"
}

k() { "$KUBECTL" --kubeconfig "$ADMIN" --namespace "$NAMESPACE" "$@"; }

# For what lies in no namespace: kubectl warns when told one.
global() { "$KUBECTL" --kubeconfig "$ADMIN" "$@"; }

check_words() {
  case $WHOSE in
    mine | embedded) ;;
    *) fail "CLUSTER=$WHOSE means nothing here: leave it out for a cluster of the demo's own, or say CLUSTER=mine" ;;
  esac
}

# Begins with nothing running. What an earlier demo started for itself, this one may end: that it remembers.
start_over() {
  mkdir -p "$RUN" "$LOGS" "$DEMO/beats"
  exec {DEMO_LOCK}>>"$DEMO/lock"
  flock -n "$DEMO_LOCK" || fail "another make demo is under way in this checkout"
  if [[ -f $REMEMBERED ]]; then
    local wanted=$WHOSE
    # shellcheck source=/dev/null
    source "$REMEMBERED"
    [[ $WHOSE == "$wanted" ]] || fail "a demo runs with CLUSTER=$WHOSE: end it first with make demo-down"
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

# Sets KUBECTL, NAMESPACE and CONTEXT, and remembers whether the cluster is ours to end.
use_cluster() {
  if [[ $WHOSE == mine ]]; then use_my_cluster; else use_embedded_cluster; fi
  remember WHOSE "$WHOSE"
  remember KUBECTL "$KUBECTL"
  remember NAMESPACE "$NAMESPACE"
}

use_embedded_cluster() {
  NAMESPACE=demo
  KUBECTL=$CLUSTER_HOME/bin/kubectl
  # One that somebody else brought up is not ours to end.
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
  # A copy, so that the demo stays where it began when you switch contexts.
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

# Asked again until they are: kubectl wait gives up on a definition that is too new to have conditions.
definitions_are_served() {
  global wait --for=condition=Established "${DEFINITIONS[@]/#/crd/}" --timeout=5s >/dev/null 2>&1
}

# A namespace that carries our label is ours to empty; any other is not.
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

# The rights of config/rbac/namespaced.yaml, within the demo's namespace and nowhere else.
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

# The operator's own kubeconfig: the same cluster, the ServiceAccount's token, and nothing of yours.
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

# Sets VIGIE, the binary. A debug build: a release build takes three times as long, and nothing here is in a hurry.
build_operator() {
  local target
  (cd "$ROOT" && cargo build --locked --bin vigie)
  target=$(cd "$ROOT" && cargo metadata --locked --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  VIGIE=$target/debug/vigie
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
  remember URL "$URL"
  remember ADMIN_URL "$ADMIN_URL"
}

operator_pid() { pid_of operator || fail "the operator does not run: scripts/demo operator starts it"; }

start_operator() {
  if alive operator; then
    say "The operator runs already."
    return
  fi
  launch operator KUBECONFIG="$OPERATOR" "$VIGIE" run --listen "${URL#http://}" --admin "${ADMIN_URL#http://}" \
    --namespace "$NAMESPACE" --lease-namespace "$NAMESPACE" --checkpoint-seconds 5 --allow-network 127.0.0.1/32
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

# Writes what a connector posts. The token goes from the Secret into the file, and is on no command line in between.
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

# Ends what the demo started, and nothing else. What cannot be removed is named, and the rest is removed all the same.
take_down() {
  local keep=${1:-}
  if [[ ! -f $REMEMBERED ]]; then
    end_everything
    say "no demo runs here"
    return
  fi
  # shellcheck source=/dev/null
  source "$REMEMBERED"
  terminate 10 operator # asked first, it gives its lease back
  end_everything
  if [[ ${CLUSTER_IS_OURS:-} == yes ]]; then
    embedded down
  elif [[ -n ${KUBECTL:-} && -s $ADMIN ]]; then
    remove_objects || say "Not everything could be removed from the cluster: see above."
  fi
  rm -rf "$RUN" "$DEMO/beats" "$REMEMBERED" "$ADMIN" "$OPERATOR" "$DEMO/operator.token"
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
    # Deleting a definition deletes every object of it: not while others use it.
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
