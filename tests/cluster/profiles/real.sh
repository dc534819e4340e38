# shellcheck shell=bash
# Profile real: what simulated has, and a node whose pods really run. Wants root, see lib/machine.sh.

# shellcheck source=profiles/simulated.sh
source "$HERE/profiles/simulated.sh"

PROFILE_COMPONENTS=(etcd apiserver controller-manager scheduler kwok node containerd kubelet proxy coredns)
PROFILE_PORTS=(etcd apiserver kubelet coredns)
PROFILE_TOOLS=node

# Before anything else: whether this machine can have it.
profile_check() { check_machine; }

profile_claim() {
  claim_machine
  profile_resume
}

# What is made of the claim. Pods dial the API server by the Service "kubernetes", whose endpoint is the node's address.
profile_resume() {
  owns_machine || return 0 # since a reboot, say; up claims it again
  read_network
  APISERVER_ADDRESS=$NODE_ADDRESS
  APISERVER_FLAGS=(
    --endpoint-reconciler-type=lease
    --advertise-address="$NODE_ADDRESS"
    --kubelet-client-certificate="$PKI/kubelet-client.crt"
    --kubelet-client-key="$PKI/kubelet-client.key"
    --kubelet-preferred-address-types=InternalIP
  )
  SERVER_NAMES+=("$NODE_ADDRESS")
  CLIENTS+=(
    "kubelet=system:node:$NODE,system:nodes"
    "kubelet-client=vigie-kubelet-client,system:masters"
    "proxy=system:kube-proxy"
    "coredns=system:coredns"
  )
}

# The mount namespace that the node lives in, and a process that keeps it. What is mounted in
# there, by the kubelet, containerd and runc, goes with the last process of it.
component_node() {
  local directory
  # Whoever is left of a node that lost this process lives in another namespace.
  terminate 10 kubelet
  terminate 10 containerd
  end_node
  rm -rf "$MACHINE/mounts"
  for directory in "${NODE_DIRECTORIES[@]}"; do
    make_directory "$directory"
    case $directory in
      # Too big for memory, and images are kept.
      /var/lib/containerd | /var/lib/kubelet) mkdir -p "$DATA/node$directory" ;;
      *) mkdir -p "$MACHINE/mounts$directory" ;;
    esac
  done
  # shellcheck disable=SC2016 # for the shell in the namespace
  launch node unshare --mount --propagation slave bash -euc '
    mount --make-rshared /
    machine=$1 data=$2
    shift 2
    for directory; do
      [[ -d $machine/mounts$directory ]] && source=$machine/mounts$directory || source=$data/node$directory
      mount --bind "$source" "$directory"
    done
    touch /run/containerd/is-ours
    exec sleep infinity
  ' node "$MACHINE" "$DATA" "${NODE_DIRECTORIES[@]}"
  wait_for "the node's mounts" "$READY_WITHIN" node -- test -e "$MACHINE/mounts/run/containerd/is-ours" || exit 1
}

# Makes a directory of the machine's, and remembers which of its parents were not there.
make_directory() {
  local missing=() path=$1
  while [[ ! -d $path ]]; do
    missing=("$path" "${missing[@]}")
    path=${path%/*}
  done
  ((${#missing[@]} == 0)) || printf '%s\n' "${missing[@]}" >>"$MACHINE/made-directories"
  mkdir -p "$1"
}

# launch_in_node NAME COMMAND...
launch_in_node() {
  local name=$1
  shift
  launch "$name" nsenter "--mount=/proc/$(pid_of node)/ns/mnt" "$@"
}

# What is left of a node without kubelet and containerd: shims and containers.
end_node() {
  end_strays
  end_containers
}

component_containerd() {
  write_cni_configuration
  cat >"$MACHINE/containerd.toml" <<EOF
version = 2
root = "/var/lib/containerd"
state = "/run/containerd/state"

[debug]
  level = "warn"

[grpc]
  address = "$MACHINE/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "$MACHINE/cni"
EOF
  ln -sfn "$MACHINE/containerd.sock" "$CLUSTER_DIR/containerd.sock"
  launch_in_node containerd containerd --config "$MACHINE/containerd.toml"
  wait_for "containerd" "$READY_WITHIN" containerd -- containerd_answers || exit 1
  load_pause_image
}

containerd_answers() { containers version &>/dev/null; }

# containerd's own client, as the kubelet sees it.
containers() { ctr --address "$MACHINE/containerd.sock" --namespace k8s.io "$@" </dev/null; }

# .1 is the node's, .2 to .15 nobody's, .200 and more are for hosts, see lib/hosts.sh.
write_cni_configuration() {
  mkdir -p "$MACHINE/cni"
  cat >"$MACHINE/cni/10-vigie.conflist" <<EOF
{
  "cniVersion": "0.4.0",
  "name": "vigie",
  "plugins": [{
    "type": "bridge",
    "bridge": "$BRIDGE",
    "isGateway": true,
    "hairpinMode": true,
    "ipam": {
      "type": "host-local",
      "ranges": [[{
        "subnet": "$POD_CIDR",
        "gateway": "$NODE_ADDRESS",
        "rangeStart": "${NODE_ADDRESS%.1}.16",
        "rangeEnd": "${NODE_ADDRESS%.1}.199"
      }]],
      "routes": [{ "dst": "0.0.0.0/0" }]
    }
  }]
}
EOF
}

# Versions 1 and 2 of cgroups will do. Nothing is evicted for what else fills this machine, and no image
# is collected, since none could be pulled again.
component_kubelet() {
  : >"$MACHINE/resolv.conf" # pods inherit no search domains from this machine
  cat >"$MACHINE/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_ADDRESS
port: $(port_of kubelet)
healthzPort: 0
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: true }
  x509: { clientCAFile: "$PKI/ca.crt" }
authorization: { mode: Webhook }
containerRuntimeEndpoint: unix://$MACHINE/containerd.sock
clusterDomain: cluster.local
clusterDNS: [$CLUSTER_DNS]
resolvConf: $MACHINE/resolv.conf
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: { memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1% }
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
EOF
  launch_in_node kubelet "$NODE_TOOLS/kubelet" \
    --config="$MACHINE/kubelet.yaml" \
    --kubeconfig="$PKI/kubelet.kubeconfig" \
    --hostname-override="$NODE" \
    --node-ip="$NODE_ADDRESS"
}

component_proxy() {
  launch proxy "$NODE_TOOLS/kube-proxy" \
    --kubeconfig="$PKI/proxy.kubeconfig" \
    --hostname-override="$NODE" \
    --proxy-mode=nftables \
    --cluster-cidr="$POD_CIDR" \
    --nodeport-addresses=primary \
    --conntrack-max-per-core=0 \
    --conntrack-tcp-timeout-established=0s \
    --conntrack-tcp-timeout-close-wait=0s \
    --healthz-bind-address= \
    --metrics-bind-address=
}

# Beside the cluster, not in it: a test that fills the node does not take names away. It knows the
# cluster's names only; all others do not exist, at once, whatever this machine's resolver does.
component_coredns() {
  cat >"$RUN/Corefile" <<EOF
cluster.local:$(port_of coredns) in-addr.arpa:$(port_of coredns) {
  bind $NODE_ADDRESS
  errors
  kubernetes {
    kubeconfig "$PKI/coredns.kubeconfig"
    ttl 1
  }
}
.:$(port_of coredns) {
  bind $NODE_ADDRESS
  errors
  template ANY ANY . {
    rcode NXDOMAIN
  }
}
EOF
  launch coredns "$NODE_TOOLS/coredns" -conf "$RUN/Corefile"
}

# The simulated nodes are tainted: a pod lands there only if it says so.
profile_prepare() {
  {
    sed '/^kind: Node$/a spec: { taints: [{ key: kwok.x-k8s.io/node, value: fake, effect: NoSchedule }] }' "$HERE/kwok/nodes.yaml"
    printf -- '---\n'
    cat "$HERE/kwok/access.yaml"
    printf -- '---\n'
    sed "s/NODE_ADDRESS/$NODE_ADDRESS/; s/CLUSTER_DNS/$CLUSTER_DNS/; s/DNS_PORT/$(port_of coredns)/" "$HERE/real/objects.yaml"
  } >"$RUN/objects.yaml"
  kube apply --server-side --force-conflicts --field-manager=vigie-cluster -f "$RUN/objects.yaml" &>"$LOGS/prepare.log"
}

profile_is_usable() {
  simulated_nodes_are_ready && default_service_account_exists && node_is_ready &&
    port_is_taken "$(port_of coredns)" && nft list table ip kube-proxy &>/dev/null
}

node_is_ready() {
  kube get --raw "/api/v1/nodes/$NODE" 2>/dev/null | grep -q '"type":"Ready","status":"True"'
}

profile_settled() { restore_sysctls "${KUBELET_SYSCTLS[@]}"; }
