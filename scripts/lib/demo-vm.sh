# shellcheck shell=bash
# The chapter about a VM outside the cluster: the application runs there under docker compose, and an agent looks after
# it. The VM is a machine of tests/support/machine: a real systemd and a real Docker in namespaces, so it needs root.

MACHINES=$ROOT/tests/support/machine
COMPOSE_UNIT=compose:shop:backend

# Sets VM_ROOTFS, or VM_REASON: why there is no VM in this demo.
choose_vm() {
  VM_ROOTFS='' VM_REASON=''
  local is_able=yes is_built=yes
  case ${DEMO_VM:-} in
    yes | '') ;;
    no) VM_REASON='DEMO_VM=no says so' && return ;;
    *) fail "DEMO_VM=$DEMO_VM means nothing here: it is yes, no, or left out" ;;
  esac
  VM_REASON=$("$MACHINES/able.sh") || is_able=no
  if [[ $is_able == no ]]; then
    [[ ${DEMO_VM:-} != yes ]] || fail "DEMO_VM=yes, but no VM starts here: $VM_REASON"
    return
  fi
  "$MACHINES/rootfs.sh" machine --built >/dev/null || is_built=no
  if [[ $is_built == no && ${DEMO_VM:-} != yes ]]; then
    VM_REASON='its disk is not built yet, which takes one to three minutes and 500 MB: DEMO_VM=yes make demo builds it'
    return
  fi
  VM_ROOTFS=$("$MACHINES/rootfs.sh" machine) || fail "DEMO_VM=yes, but the disk of the VM cannot be built: see above"
}

vm_comes() { [[ -n $VM_ROOTFS ]]; }

# --- the VM

# in_vm COMMAND...: as root in the VM, as `ssh root@vm COMMAND...` would.
in_vm() {
  alive vm || fail "the VM does not run: make demo starts it"
  nsenter --target "$VM_INIT" --mount --pid --net --uts --ipc --cgroup -- \
    env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" "$@"
}

run_in_vm() {
  [[ -n ${VM_INIT:-} ]] || fail "the demo that runs here has no VM; it said why"
  (($# > 0)) || set -- bash -l
  in_vm "$@"
}

# It boots while the chapters before its own are told.
launch_vm() {
  rm -f "$DEMO/vm"
  launch vm VIGIE_CACHE="${VIGIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vigie}" \
    "$ROOT/scripts/demo-vm" "$VM_ROOTFS" "$DEMO/vm"
}

# Fails if the rights of this user do not suffice, which shows only here.
wait_for_vm() {
  until_within 60 vm_is_decided || return 1
  [[ -s $DEMO/vm ]] || return 1
  read -r _ VM_INIT VM_GATEWAY VM_ADDRESS VM_SHARED <"$DEMO/vm"
  remember VM_INIT "$VM_INIT"
  until_within 60 vm_has_booted || fail "the VM has not booted: it is $(in_vm systemctl is-system-running 2>&1)"
}

vm_is_decided() { [[ -s $DEMO/vm ]] || ! alive vm; }

vm_has_booted() { [[ $(in_vm systemctl is-system-running 2>/dev/null) == running ]]; }

run_a_backend_there() {
  say "A VM outside the cluster: a Debian with systemd and Docker, in namespaces of this machine. scripts/demo vm runs a" \
    "command there as root, as ssh root@vm-1 would. An application runs there under docker compose, with no restart" \
    "policy, which is Docker's default. (It is the program that simulates Spring Boot, as before.)"
  install -m 755 "$("$ROOT/tests/backends/build" misbehave | tail -n 1)/misbehave" "$VM_SHARED/backend"
  in_vm sh -c 'umask 022 && mkdir -p /srv/shop'
  in_vm tee /srv/shop/docker-compose.yml <<'END' >/dev/null
version: '2.4'
services:
  backend:
    image: shop/backend:1
    command: [/backend, --listen, ':8081']
    ports: ['8081:8081']
END
  in_vm sh -c 'systemctl start docker && tar -C /mnt/shared -c backend | docker import - shop/backend:1' >/dev/null ||
    fail "Docker does not start in the VM, or does not take the image"
  prompt "scripts/demo vm cat /srv/shop/docker-compose.yml"
  in_vm cat /srv/shop/docker-compose.yml | indent
  compose up -d
}

# compose WORDS...: docker compose in its folder, as a person types it.
compose() {
  prompt "scripts/demo vm sh -c 'cd /srv/shop && docker compose $*'"
  in_vm sh -c "cd /srv/shop && docker compose $*" 2>&1 | tr -d '\r' | sed '/\.\.\. *$/d' | indent
}

watch_it() {
  print ""
  say "For vigie it is a MonitoredBackend. agentRef says who can look at its host, and what runs it there: the agent beats" \
    "for a Connector, which is its name and its token."
  cat >"$DEMO/vm-1.yaml" <<END
apiVersion: vigie.dev/v1alpha1
kind: Connector
metadata: {name: vm-1}
spec:
  heartbeat: {intervalSeconds: 5, lateAfterSeconds: 15, offlineAfterSeconds: 30}
---
apiVersion: vigie.dev/v1alpha1
kind: MonitoredBackend
metadata: {name: orders}
spec:
  target: {url: http://$VM_ADDRESS:8081/actuator/health}
  probe: {intervalSeconds: 5, timeoutSeconds: 2, failureThreshold: 2}
  agentRef: {name: vm-1, unit: $COMPOSE_UNIT}
  remediation: {mode: Restart, unhealthyForSeconds: 10}
END
  prompt "cat .demo/vm-1.yaml"
  indent <"$DEMO/vm-1.yaml"
  prompt "kubectl apply -n $NAMESPACE -f .demo/vm-1.yaml"
  k apply -f "$DEMO/vm-1.yaml" | indent
  k wait connectors/vm-1 --for=condition=Provisioned --timeout=30s >/dev/null || fail "vm-1 has no token"
}

# One line. The token goes through the pipe, and is on no command line.
install_the_agent() {
  local url=http://$VM_GATEWAY:${URL##*:} said
  print ""
  say "One line installs the agent on the VM. It gets this very vigie from the operator, and the token on its standard" \
    "input. (--allow-insecure, because the demo's operator has no certificate.)"
  prompt "vigie install-command vm-1 -n $NAMESPACE --url $url --allow-insecure --backend orders --with-token | scripts/demo vm bash -s"
  said=$("$VIGIE" install-command vm-1 --namespace "$NAMESPACE" --kubeconfig "$ADMIN" --url "$url" --allow-insecure \
    --backend orders --with-token | in_vm bash -s 2>&1) || fail "the agent is not installed: $said"
  fold -s -w 110 <<<"$said" | sed 's, *$,,' | indent
  [[ $said != *vgt_* ]] || fail "the installation printed the token"
  prompt "scripts/demo vm cat /etc/vigie/agent.yaml"
  in_vm cat /etc/vigie/agent.yaml | indent
  until_within 30 state_is vm-1 Online || fail "the agent was heard, and vm-1 is $(state_of vm-1) instead of Online"
  until_within 30 orders_is Up || fail "orders answers, and is $(orders_says state) instead of Up"
  prompt "kubectl get connectors,monitoredbackends -n $NAMESPACE vm-1 orders"
  k get connectors vm-1 | indent
  k get monitoredbackends orders | indent
  shown "vm-1 is Online; what may be restarted stands in a file of the VM's root"
}

orders_says() { k get monitoredbackend orders -o "jsonpath={.status.$1}" 2>/dev/null || true; }

orders_is() { [[ $(orders_says state) == "$1" && $(orders_says diagnosis.cause) == "${2:-}" ]]; }

show_orders() {
  prompt "kubectl get monitoredbackend orders -n $NAMESPACE"
  k get monitoredbackend orders | indent
  local words='{.status.diagnosis.message}. {.status.diagnosis.advice}'
  prompt "kubectl get monitoredbackend orders -n $NAMESPACE -o jsonpath='$words'"
  k get monitoredbackend orders -o "jsonpath=$words" | fold -s -w 110 | sed 's, *$,,' | indent
  print ""
}

# The second founding incident: `connection refused`, and nothing says why.
crash_it_there() {
  print ""
  say "The application crashes. In Prometheus this is 'connection refused', and nothing more:"
  local url="http://$VM_ADDRESS:8081/_/crash?code=1" words='java.net.SocketException: Too many open files'
  prompt "curl --data '$words' '$url'"
  local began=$EPOCHREALTIME
  curl --silent --show-error --fail --max-time 5 --output /dev/null --data "$words" "$url"
  until_within 60 orders_is Down ContainerStopped ||
    fail "the container has ended, and orders is $(orders_says state) $(orders_says diagnosis.cause)"
  local seconds
  seconds=$(awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.0f", to - from }')
  show_orders
  shown "$seconds s after the crash kubectl says what has ended, where, and its last words"
  until_within 60 orders_is Up || fail "orders was not started: $(orders_says remediation)"
  until_within 60 orders_was_cured || fail "no success is recorded: $(orders_says remediation)"
  print ""
  say "A restart can help, and the object asks for it. The next answer to the agent's heartbeat carries it:"
  prompt "kubectl get monitoredbackend orders -n $NAMESPACE"
  k get monitoredbackend orders | indent
  prompt "scripts/demo vm docker ps --format '{{.Names}} {{.Status}}'"
  in_vm docker ps --format '{{.Names}} {{.Status}}' | indent
  prompt "kubectl get monitoredbackend orders -n $NAMESPACE -o jsonpath='{.status.remediation.history[0]}'"
  orders_says 'remediation.history[0]' | fold -s -w 110 | indent
  print ""
  [[ $(orders_says remediation.restarts) == 1 ]] || fail "there is not exactly one restart"
  shown "Up again: started once, by the agent, verified by the probes"
}

orders_was_cured() { [[ $(orders_says 'remediation.history[0].outcome') == Succeeded ]]; }

# No restart can start a container that does not exist.
remove_it_there() {
  print ""
  say "Now its container is removed. There is nothing to restart, so vigie says which command creates it:"
  compose rm -sf backend
  until_within 60 orders_is Down ContainerAbsent ||
    fail "the container is removed, and orders is $(orders_says state) $(orders_says diagnosis.cause)"
  show_orders
  print ""
  compose up -d backend
  until_within 60 orders_is Up || fail "the container is there again, and orders is $(orders_says state)"
  shown "Up again, and still one restart: vigie created nothing"
}
