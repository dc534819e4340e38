# shellcheck shell=bash
# Profile simulated: the control plane is real, the nodes are played by KWOK. No root.

PROFILE_COMPONENTS=(etcd apiserver controller-manager scheduler kwok)
PROFILE_PORTS=(etcd apiserver)
PROFILE_TOOLS=

profile_check() { :; }
profile_claim() { :; }
profile_resume() { :; }
profile_variables() { :; }

component_kwok() {
  local stages=() file
  for file in "$HERE"/kwok/stages/*.yaml; do stages+=(--config="$file"); done
  # Only nodes that say so: --manage-all-nodes would take a kubelet's pods over as well.
  # The lease's duration makes KWOK renew it; without, the nodes are lost each minute.
  # Addresses are from the range for benchmarks (RFC 2544): nothing answers there, and
  # no packet strays to a neighbour's network.
  launch kwok "$TOOLS/kwok" \
    --kubeconfig="$PKI/kwok.kubeconfig" \
    "${stages[@]}" \
    --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
    --node-lease-duration-seconds=40 \
    --node-ip=198.19.0.1 \
    --cidr=198.18.0.1/16
}

# Before the nodes' player starts: what it may do, and its nodes.
profile_prepare() {
  kube apply --server-side --force-conflicts --field-manager=vigie-cluster \
    -f "$HERE/kwok/access.yaml" -f "$HERE/kwok/nodes.yaml" &>"$LOGS/prepare.log"
}

profile_is_usable() { simulated_nodes_are_ready && default_service_account_exists; }

# Raw requests: kubectl's own discovery would cost more than all the rest of a check.
simulated_nodes_are_ready() {
  local wanted ready
  wanted=$(grep -c '^kind: Node$' "$HERE/kwok/nodes.yaml")
  ready=$(kube get --raw '/api/v1/nodes?labelSelector=vigie.dev/simulated%3Dtrue' 2>/dev/null |
    grep -o '"type":"Ready","status":"True"' | wc -l) || return 1
  ((ready == wanted))
}
