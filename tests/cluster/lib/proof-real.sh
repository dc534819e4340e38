# shellcheck shell=bash
# shellcheck disable=SC2034 # the list is for the selftest
# The proofs of the profile real. They need root, and a machine on which no other cluster of this profile runs.

REAL_TESTS=(
  missing_packages_are_named
  a_pod_really_runs
  ordinary_pods_land_on_the_real_node_only
  a_pod_reaches_services_by_name_and_as_itself
  memory_limits_are_enforced
  the_last_words_are_kept
  an_image_is_built_once
  a_host_has_a_security_group
  repairs_spare_running_pods
  a_second_real_cluster_is_refused
  an_unnamed_profile_keeps_what_runs
  a_killed_node_is_repaired
  an_interrupted_node_leaves_no_process
  down_leaves_nothing_of_the_node
  down_leaves_nothing_of_a_killed_node
  down_leaves_nothing_of_a_node_without_its_directory
  another_profile_replaces_the_node
)

# Outside CI the proofs may be skipped, with a message.
real_profile_is_possible() {
  local status=0
  ((EUID == 0)) && return 0
  [[ ${CI:-} != true ]] || fail "the profile real cannot be proved here: it needs root"
  CLUSTER_DIR=$FIRST "$HERE/cluster" up --profile real || status=$?
  ((status == 4)) || fail "exit status $status"
  printf 'left out: the proofs of the profile real\n'
  return 1
}

real_up() { cluster up --profile real >/dev/null; }

# The current state of everything that the profile real may change on a machine.
machine_state() {
  ip -br link | awk '{ print "link", $1 }' | grep -v '@if\|^link veth'
  ip -4 route show table all | sed 's/^/route /'
  ip netns list | sed 's/^/netns /'
  nft list tables 2>/dev/null | sed 's/^/nft /'
  iptables -S 2>/dev/null | sed 's/^/iptables /'
  awk '$5 ~ /vigie|containerd|kubelet|netns|k8s/ { print "mount", $5 }' /proc/self/mountinfo
  find /sys/fs/cgroup -name k8s.io | sed 's/^/cgroup /'
  (
    cd /proc/sys
    grep -H . net/ipv4/ip_forward vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_max*
  )
  ls -d /run/vigie* /run/netns /run/containerd /var/lib/{cni,kubelet,containerd} /var/log/{pods,containers} 2>/dev/null || true
}

# Processes in containers have no mark of the cluster but the name of their cgroup.
pids_of_node() {
  {
    pids_under "$DIR"
    pids_under /run/vigie-node
    pids_in_pods
  } | sort -u
}

pids_in_pods() {
  local file
  grep -ls ':/k8s\.io/' /proc/[0-9]*/cgroup | while read -r file; do
    file=${file#/proc/}
    printf '%s\n' "${file%/cgroup}"
  done || true
}

no_node_is_left() { [[ -z $(pids_of_node) ]]; }

nothing_is_left() {
  eventually 10 no_node_is_left
  [[ ! -e $DIR ]] || fail "left $(ls -A "$DIR")"
  diff "$SCRATCH/machine" <(machine_state) >"$SCRATCH/left" || fail "changed on this machine:" "$(cat "$SCRATCH/left")"
}

web_image() {
  if [[ ! -x $SCRATCH/web/web ]]; then
    mkdir -p "$SCRATCH/web"
    (cd "$HERE/real/web" && CGO_ENABLED=0 GOWORK=off go build -trimpath -ldflags '-s -w' -o "$SCRATCH/web/web" .)
    chmod 755 "$SCRATCH/web/web" # some pods run it as the user nobody
    chmod 755 "$SCRATCH/web/web" # some pods run it as nobody
    cp "$HERE/real/web/Dockerfile" "$SCRATCH/web"
  fi
  cluster image build selftest-web:1 "$SCRATCH/web"
}

# with_web NAMESPACE [REPLICAS]: starts the cluster and deploys the image, with a Service.
with_web() {
  real_up
  web_image
  kube create namespace "$1" >/dev/null
  kube -n "$1" create deployment web --image=selftest-web:1 --replicas="${2:-1}" >/dev/null
  kube -n "$1" expose deployment web --port=80 --target-port=8080 >/dev/null
  kube -n "$1" rollout status deployment/web --timeout=60s >/dev/null
}

pod_addresses() { kube -n "$1" get pods -l app=web -o jsonpath='{range .items[*]}{.status.podIP}{"\n"}{end}'; }
cluster_address() { kube -n "$1" get service web -o jsonpath='{.spec.clusterIP}'; }
ask() { curl -sS --fail-with-body --max-time 5 "$@"; }

missing_packages_are_named() {
  local told status=0
  told=$(PATH=$(path_without containerd buildah apt-get) CLUSTER_DIR=$SCRATCH/poor "$HERE/cluster" up --profile real 2>&1) || status=$?
  ((status == 4)) || fail "exit status $status" "$told"
  grep -q 'apt-get: containerd buildah$' <<<"$told" || fail "$told"
}

a_pod_really_runs() {
  local address service
  with_web runs
  address=$(pod_addresses runs)
  service=$(cluster_address runs)
  [[ $(ask "http://$address:8080/") == web-* ]] || fail "does not answer at its own address"
  eventually 10 ask "http://$service/"
  [[ $(ask "http://$service/") == web-* ]] || fail "the machine does not reach it by its Service"
  kube -n runs logs deployment/web | grep -q 'web: listening' || fail "has no log"
  [[ $(kube -n runs exec deployment/web -- /web fail inside 2>/dev/null || true) == inside ]] || fail "nothing can be executed in it"
}

ordinary_pods_land_on_the_real_node_only() {
  with_web lands 4
  [[ $(kube -n lands get pods -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u) == real-1 ]] ||
    fail "landed elsewhere:" "$(kube -n lands get pods -o wide)"
  kube -n lands run played --image=played --overrides='{"spec":{
    "nodeSelector":{"vigie.dev/simulated":"true"},"tolerations":[{"operator":"Exists"}]}}' >/dev/null
  kube -n lands wait --for=condition=Ready pod/played --timeout=30s >/dev/null
}

has_two_pods() { [[ $(pod_addresses "$1" | wc -l) == 2 ]]; }

a_pod_reaches_services_by_name_and_as_itself() {
  local one two from told i
  with_web talks 2
  kube -n talks patch deployment web -p '{"spec":{"template":{"spec":{"securityContext":{"runAsUser":65534}}}}}' >/dev/null
  kube -n talks rollout status deployment/web --timeout=60s >/dev/null
  eventually 30 has_two_pods talks
  read -rd '' one two < <(pod_addresses talks) || true
  eventually 10 ask "http://$one:8080/fetch?url=http://web.talks.svc.cluster.local/"
  # Eventually the Service routes to the other one, which must see the client's address.
  for i in {1..30}; do
    from=$(ask "http://$one:8080/fetch?url=http://web.talks/from")
    [[ ${from%:*} != "$one" ]] || break
  done
  [[ ${from%:*} == "$one" ]] || fail "$two never saw $one, but $from"
  [[ $(ask "http://$one:8080/lookup?name=web.talks") == "$(cluster_address talks)" ]] || fail "another address than the Service's"
  told=$(ask "http://$one:8080/whoami")
  [[ $told == *system:serviceaccount:talks:default* ]] || fail "$told"
  ! told=$(ask "http://$one:8080/lookup?name=example.com" 2>/dev/null) || fail "knows $told"
}

was_killed_for_memory() {
  [[ $(kube -n memory get pod eats -o jsonpath='{.status.containerStatuses[0].lastState.terminated.reason} {.status.containerStatuses[0].lastState.terminated.exitCode}') == 'OOMKilled 137' ]]
}

memory_limits_are_enforced() {
  real_up
  web_image
  kube create namespace memory >/dev/null
  kube -n memory run eats --image=selftest-web:1 --overrides='{"spec":{"containers":[{
    "name":"eats","image":"selftest-web:1","resources":{"limits":{"memory":"20Mi"}}}]}}' >/dev/null
  kube -n memory wait --for=condition=Ready pod/eats --timeout=60s >/dev/null
  ask "http://$(kube -n memory get pod eats -o jsonpath='{.status.podIP}'):8080/eat" &>/dev/null || true
  eventually 30 was_killed_for_memory
}

the_last_words_are_kept() {
  real_up
  web_image
  kube create namespace words >/dev/null
  kube -n words run ends --image=selftest-web:1 --restart=Never --overrides='{"spec":{"containers":[{
    "name":"ends","image":"selftest-web:1","args":["fail","no datasource"],
    "terminationMessagePolicy":"FallbackToLogsOnError"}]}}' >/dev/null
  kube -n words wait --for=jsonpath='{.status.phase}'=Failed pod/ends --timeout=30s >/dev/null
  [[ $(kube -n words get pod ends -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.message}') == '7 no datasource' ]] ||
    fail "$(kube -n words get pod ends -o yaml)"
}

an_image_is_built_once() {
  local dir=$SCRATCH/image first began
  real_up
  mkdir -p "$dir"
  printf 'FROM scratch\nCOPY Dockerfile /\n' >"$dir/Dockerfile"
  first=$(cluster image archive selftest-once:1 "$dir")
  began=$(milliseconds)
  [[ $(cluster image archive selftest-once:1 "$dir") == "$first" ]] || fail "built again"
  printf '    (the second time took %s ms)\n' $(($(milliseconds) - began))
  cluster image build selftest-once:1 "$dir"
  "$DIR/bin/ctr" --address "$DIR/containerd.sock" --namespace k8s.io images list -q | grep -qx docker.io/library/selftest-once:1 || fail "containerd does not know it"
  printf 'LABEL changed=yes\n' >>"$dir/Dockerfile"
  [[ $(cluster image archive selftest-once:1 "$dir") != "$first" ]] || fail "did not see the change"
  cluster image load "$first" >/dev/null
}

a_host_has_a_security_group() {
  local address from status told
  with_web group
  address=$(pod_addresses group)
  cluster host add far | grep -q '^10\.' || fail "has no address"
  eventually 10 cluster host exec far -- curl -sS --fail --max-time 2 "http://web.group.svc/"
  from=$(cluster host exec far -- curl -sS --max-time 5 "http://$address:8080/from")
  [[ ${from%:*} == "$(cluster host add far)" ]] || fail "comes as $from"

  cluster host drop far "$address" 8080
  status=0
  cluster host exec far -- curl -sS --max-time 1 "http://$address:8080/" 2>/dev/null || status=$?
  ((status == 28)) || fail "dropped: curl ended with $status, not in a timeout"
  ask "http://$address:8080/" >/dev/null || fail "other clients must not be affected"
  cluster host allow far
  cluster host exec far -- curl -sS --max-time 5 "http://$address:8080/" >/dev/null || fail "allowed, but does not get through"

  cluster host reject far "$address" 8080
  told=$(cluster host exec far -- curl -sS -v --max-time 5 "http://$address:8080/" 2>&1) || true
  [[ $told == *'Connection refused'* ]] || fail "was not refused:" "$told"
  cluster host allow far
  cluster host reject far "$address" 8080 icmp
  told=$(cluster host exec far -- curl -sS -v --max-time 5 "http://$address:8080/" 2>&1) || true
  [[ $told == *'No route to host'* ]] || fail "was not turned away:" "$told"
  cluster host del far
  ! ip netns list | grep -q vigie-far || fail "its namespace stayed"
}

containers_of() { kube -n "$1" get pods -o jsonpath='{.items[*].status.containerStatuses[*].containerID}'; }

repairs_spare_running_pods() {
  local before name
  with_web spared 2
  cluster up --profile real | grep -q 'up already' || fail "the second up did something"
  before=$(containers_of spared)
  for name in kwok containerd kubelet proxy; do
    kill -KILL "$(cut -d' ' -f1 "$DIR/run/$name.pid")"
    real_up
    cluster status >/dev/null || fail "not healthy after $name's death"
  done
  cluster stop-component containerd kubelet >/dev/null
  cluster start-component containerd kubelet >/dev/null
  kube -n spared rollout status deployment/web --timeout=60s >/dev/null
  [[ $(containers_of spared) == "$before" ]] || fail "the pods were restarted"
  ask "http://$(pod_addresses spared | head -n 1):8080/" >/dev/null
}

a_second_real_cluster_is_refused() {
  local told status=0
  real_up
  told=$(DIR=$SECOND cluster up --profile real 2>&1) || status=$?
  ((status == 2)) || fail "exit status $status"
  (($(wc -l <<<"$told") == 1)) || fail "$told"
  [[ ! -e $SECOND ]] || fail "left a directory behind"
  DIR=$SECOND cluster up >/dev/null # a simulated cluster can run beside it
  ! DIR=$SECOND cluster up --profile real 2>/dev/null || fail "not refused"
  DIR=$SECOND cluster status >/dev/null || fail "the refused one was hurt"
  DIR=$SECOND cluster down >/dev/null
  cluster status >/dev/null || fail "the first one was hurt"
}

an_unnamed_profile_keeps_what_runs() {
  real_up
  cluster up | grep -q 'up already (profile real)' || fail "did something"
}

a_killed_node_is_repaired() {
  with_web again
  kill_node
  cluster up >/dev/null
  kube -n again rollout status deployment/web --timeout=90s >/dev/null
  eventually 60 answers_again
}

answers_again() { ask "http://$(pod_addresses again | head -n 1):8080/"; }

# Kills the node's processes except those in containers, which no process is left to end then.
kill_node() {
  local pid
  for pid in $(pids_under "$DIR") $(pids_under /run/vigie-node); do kill -KILL "$pid" 2>/dev/null || true; done
  kill_all_under "$DIR"
  [[ -n $(pids_in_pods) ]] || fail "no container survived: the test proves nothing"
}

an_interrupted_node_leaves_no_process() {
  local pid status=0
  cluster down >/dev/null
  CLUSTER_DIR=$DIR interruptible "$HERE/cluster" up --profile real >"$SCRATCH/told" 2>&1 &
  pid=$!
  eventually 60 test -s "$DIR/run/containerd.pid"
  kill -INT "$pid"
  wait "$pid" || status=$?
  ((status > 128)) || fail "exit status $status" "$(cat "$SCRATCH/told")"
  eventually 10 no_node_is_left
}

down_leaves_nothing_of_the_node() {
  cluster down >/dev/null
  machine_state >"$SCRATCH/machine"
  with_web gone 2
  cluster host add far >/dev/null
  (cluster host exec far -- sleep 300 &>/dev/null &)
  cluster down >/dev/null
  nothing_is_left
}

down_leaves_nothing_of_a_killed_node() {
  cluster down >/dev/null
  machine_state >"$SCRATCH/machine"
  with_web gone 2
  cluster host add far >/dev/null
  kill_node
  cluster down >/dev/null
  nothing_is_left
}

down_leaves_nothing_of_a_node_without_its_directory() {
  cluster down >/dev/null
  machine_state >"$SCRATCH/machine"
  with_web gone
  rm -rf "$DIR"
  cluster down >/dev/null
  nothing_is_left
}

another_profile_replaces_the_node() {
  cluster down >/dev/null
  machine_state >"$SCRATCH/machine"
  with_web gone
  cluster up --profile simulated >/dev/null
  ! kube get node real-1 2>/dev/null || fail "the node is still known"
  cluster down >/dev/null
  nothing_is_left
}
