# shellcheck shell=bash
# The chapter about a restart: the gateway of edge-2 runs in a Deployment, its tunnel breaks, and a restart repairs it.

give_it_a_workload() {
  say "edge-2 runs in a Deployment of this cluster. Its Connector now names the Deployment, and allows vigie to restart" \
    "it. (The nodes and pods are simulated; the Deployment, its rollout and its ReplicaSets are real.)"
  k create deployment edge-2 --image example.com/gateway:1 | indent
  k rollout status deployment/edge-2 --timeout=60s >/dev/null || fail "the Deployment edge-2 is not rolled out"
  local patch='{"spec": {"workloadRef": {"kind": "Deployment", "name": "edge-2"}, "remediation": {"mode": "Restart", "unhealthyForSeconds": 5}}}'
  prompt "kubectl patch connector edge-2 -n $NAMESPACE --type merge -p '$patch'"
  k patch connector edge-2 --type merge --patch "$patch" | indent
  # Otherwise its own first rollout would count as a recent restart by others, which vigie waits for.
  until_within 30 template_is_older_than 5 || fail "the Deployment edge-2 is as young as before"
}

template_is_older_than() {
  local made
  made=$(k get replicasets -l app=edge-2 -o 'jsonpath={.items[0].metadata.creationTimestamp}')
  (($(date +%s) - $(date --date "$made" +%s) > $1))
}

# Sets the check that edge-2's agent reports.
report_tunnel() {
  sed -i "s/, \"checks\".*}\$/}/; s/}\$/, \"checks\": [{\"type\": \"WireGuardInterface\", \"status\": \"$1\"}]}/" \
    "$DEMO/beats/edge-2.json"
}

remedy_says() { k get connector edge-2 -o "jsonpath={.status.remediation.$1}" 2>/dev/null || true; }

remedy_is() { [[ $(remedy_says "$1") == "$2" ]]; }

lose_the_tunnel() {
  print ""
  say "Its agent now reports that the tunnel is down. It still sends heartbeats: alive, and useless."
  report_tunnel Fail
  prompt "kubectl get connector edge-2 -n $NAMESPACE -o wide"
  until_within 30 state_is edge-2 Degraded || fail "the tunnel is down, and edge-2 is $(state_of edge-2)"
  k get connector edge-2 -o wide | indent
  until_within 60 restarted || fail "edge-2 was not restarted: $(remedy_says lastDenial.message)"
  prompt "kubectl get replicasets -n $NAMESPACE -l app=edge-2"
  k get replicasets -l app=edge-2 | indent
  prompt "kubectl get deployment edge-2 -n $NAMESPACE -o jsonpath='{.spec.template.metadata.annotations}'"
  k get deployment edge-2 -o 'jsonpath={.spec.template.metadata.annotations}' | indent
  print ""
  shown "after 5 s of it the Deployment was restarted, as kubectl rollout restart does, once"
}

restarted() { [[ -n $(k get deployment edge-2 -o 'jsonpath={.spec.template.metadata.annotations.vigie\.dev/attempt}') ]]; }

prove_the_cure() {
  print ""
  say "The new pod brings the tunnel up. vigie waits until the rollout is complete and a later beat reports the tunnel as" \
    "up: a restart does not prove a cure."
  report_tunnel Pass
  until_within 60 remedy_is 'history[0].outcome' Succeeded || fail "no success is recorded: $(remedy_says history)"
  prompt "kubectl get connectors -n $NAMESPACE"
  k get connectors | indent
  prompt "kubectl get connector edge-2 -n $NAMESPACE -o jsonpath='{.status.remediation.history[0]}'"
  remedy_says 'history[0]' | fold -s -w 110 | indent
  print ""
  [[ $(k get replicasets -l app=edge-2 -o name | wc -l) == 2 ]] || fail "there is not exactly one restart"
  shown "RESTARTS 1: decided, done, verified and written down"
}
