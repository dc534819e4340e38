# shellcheck shell=bash
# Profile simulated: the control plane is real, KWOK simulates the nodes. No root.

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
  # Only nodes with this annotation: --manage-all-nodes would also take over a kubelet's pods. With the lease's duration
  # KWOK renews it; without, the nodes are lost each minute. Addresses are from the range for benchmarks (RFC 2544): no
  # host answers there, and no packet reaches a neighbour's network.
  launch kwok "$TOOLS/kwok" \
    --kubeconfig="$PKI/kwok.kubeconfig" \
    "${stages[@]}" \
    --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
    --node-lease-duration-seconds=40 \
    --node-ip=198.19.0.1 \
    --cidr=198.18.0.1/16
}

# Before KWOK starts: its rights and its nodes.
profile_prepare() {
  kube apply --server-side --force-conflicts --field-manager=vigie-cluster \
    -f "$HERE/kwok/access.yaml" -f "$HERE/kwok/nodes.yaml" &>"$LOGS/prepare.log"
}

profile_is_usable() { simulated_nodes_are_ready && default_service_account_exists; }

# Raw requests: kubectl's own discovery would cost more than the rest of a check.
simulated_nodes_are_ready() {
  local wanted ready
  wanted=$(grep -c '^kind: Node$' "$HERE/kwok/nodes.yaml")
  ready=$(kube get --raw '/api/v1/nodes?labelSelector=vigie.dev/simulated%3Dtrue' 2>/dev/null |
    grep -o '"type":"Ready","status":"True"' | wc -l) || return 1
  ((ready == wanted))
}
