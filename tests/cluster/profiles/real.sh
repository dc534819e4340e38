# shellcheck shell=bash
# Profile real: that of simulated, plus a node with real pods. Needs root, see lib/machine.sh.

# shellcheck source=profiles/simulated.sh
source "$HERE/profiles/simulated.sh"

PROFILE_COMPONENTS=(etcd apiserver controller-manager scheduler kwok node containerd kubelet proxy coredns)
PROFILE_PORTS=(etcd apiserver kubelet proxy proxy-metrics coredns)
PROFILE_TOOLS=node

# First: whether this machine can run the profile.
profile_check() { check_machine; }

profile_variables() {
  printf 'CLUSTER_NODE=%s\n' "$NODE"
  printf 'CLUSTER_NODE_ADDRESS=%s\n' "$NODE_ADDRESS"
  printf 'CLUSTER_BRIDGE=%s\n' "$BRIDGE"
  printf 'CLUSTER_POD_CIDR=%s\n' "$POD_CIDR"
  printf 'CLUSTER_SERVICE_CIDR=%s\n' "$SERVICE_CIDR"
  printf 'CLUSTER_DNS=%s\n' "$CLUSTER_DNS"
  printf 'CONTAINERD_ADDRESS=%s\n' "$MACHINE/containerd.sock" # for ctr
  printf 'CONTAINERD_NAMESPACE=k8s.io\n'
}

profile_claim() {
  local before
  claim_machine
  before=$(recorded pod-cidr)
  if [[ -n $before && $before != "$POD_CIDR" ]]; then
    say "the network $before is not free any more: starting with empty data, in $POD_CIDR"
    demolish
    claim_machine
  fi
  mkdir -p "$RUN"
  record pod-cidr "$POD_CIDR"
  profile_resume
}

# The variables that follow from the claim. Pods dial the API server by the Service "kubernetes", whose endpoint is the
# node's address.
profile_resume() {
  owns_machine || return 0 # after a reboot, for example; up claims it again
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

# The mount namespace of the node, and a process that keeps it. The mounts of kubelet, containerd and runc in it
# disappear with its last process.
component_node() {
  local directory sysctl
  # The remaining processes of a node that lost this process are in another namespace.
  terminate 10 kubelet
  terminate 10 containerd
  ended_node
  rm -rf "$MACHINE/mounts" "$DATA/node/var/lib/cni"
  for directory in "${NODE_DIRECTORIES[@]}"; do
    make_directory "$directory"
    mkdir -p "$DATA/node$directory"
  done
  # State that does not survive a reboot of the machine is in $MACHINE, which can be found without the cluster's
  # directory.
  mkdir -p "$MACHINE/mounts/run/containerd"
  for sysctl in "${KUBELET_SYSCTLS[@]}"; do
    mkdir -p "$MACHINE/mounts/proc/sys/${sysctl%/*}"
    printf '%s\n' "${sysctl#*=}" >"$MACHINE/mounts/proc/sys/${sysctl%=*}"
  done
  # shellcheck disable=SC2016 # for the shell in the namespace
  launch node unshare --mount --propagation slave bash -euc '
    mount --make-rshared /
    machine=$1 data=$2
    shift 2
    cd "$machine/mounts"
    for file in $(find proc -type f); do mount --bind "$file" "/$file"; done
    for directory; do
      source=$data$directory
      [[ $directory != /run/* ]] || source=$machine/mounts$directory
      mount --bind "$source" "$directory"
      # With a propagation of its own: otherwise every mount here would also appear in the source directory.
      mount --make-private "$directory"
      mount --make-shared "$directory"
    done
    touch /run/containerd/is-ours
    exec sleep infinity
  ' node "$MACHINE" "$DATA/node" "${NODE_DIRECTORIES[@]}"
  wait_for "the node's mounts" "$READY_WITHIN" node -- test -e "$MACHINE/mounts/run/containerd/is-ours" || exit 1
}

# Ends the rest of a node without kubelet and containerd: shims and containers.
ended_node() {
  end_strays
  end_containers
}

# Creates a directory of the machine, and records which of its parents did not exist.
make_directory() {
  local missing=() path=$1
  while [[ ! -d $path ]]; do
    missing=("$path" "${missing[@]}")
    path=${path%/*}
  done
  ((${#missing[@]} == 0)) || printf '%s\n' "${missing[@]}" >>"$MACHINE/made-directories"
  mkdir -p "$1"
}

# launch_in_node NAME COMMAND... With the usual umask: containers inherit it, and may run as any user.
launch_in_node() {
  local name=$1
  shift
  # shellcheck disable=SC2016 # for the shell in the namespace
  launch "$name" nsenter "--mount=/proc/$(pid_of node)/ns/mnt" sh -c 'umask 022 && exec "$@"' sh "$@"
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
  snapshotter = "$(usable_snapshotter)"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "$MACHINE/cni"
EOF
  ln -sfn "$MACHINE/containerd.sock" "$CLUSTER_DIR/containerd.sock"
  ln -sfn "$(command -v ctr)" "$CLUSTER_DIR/bin/ctr"
  launch_in_node containerd containerd --config "$MACHINE/containerd.toml"
  wait_for "containerd" "$READY_WITHIN" containerd -- containerd_answers || exit 1
  load_pause_image
}

# Some file systems do not support overlays, for example another overlay.
usable_snapshotter() {
  local try=$DATA/node/try
  mkdir -p "$try"/{lower,upper,work,merged}
  # shellcheck disable=SC2016 # for the shell in the namespace
  if unshare --mount sh -c 'cd "$0" && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged' "$try" 2>/dev/null; then
    printf overlayfs
  else
    printf native
  fi
  rm -rf "$try"
}

containerd_answers() { containers version &>/dev/null; }

# containerd's own client, with the kubelet's view.
containers() { ctr --address "$MACHINE/containerd.sock" --namespace k8s.io "$@" </dev/null; }

# .1 is the node's, .2 to .15 are unused, .200 and above are for hosts, see lib/hosts.sh.
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

# Versions 1 and 2 of cgroups work. Pods are not evicted when other data fill this machine, and no image is
# garbage-collected, because none could be pulled again.
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
  local masquerade=false
  # A bridge that does not show its packets to nftables lets a pod's answer bypass the rules: masquerade, so that pods
  # answer the node.
  [[ -d /proc/sys/net/bridge ]] || masquerade=true
  # Conntrack's limits and timeouts stay the machine's. The sync period is short because tests wait for a Service to
  # change.
  cat >"$MACHINE/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: { kubeconfig: "$PKI/proxy.kubeconfig" }
hostnameOverride: $NODE
mode: nftables
nftables: { minSyncPeriod: 100ms, masqueradeAll: $masquerade }
clusterCIDR: $POD_CIDR
nodePortAddresses: [primary]
conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
healthzBindAddress: "127.0.0.1:$(port_of proxy)"
metricsBindAddress: "127.0.0.1:$(port_of proxy-metrics)"
EOF
  launch proxy "$NODE_TOOLS/kube-proxy" --config="$MACHINE/proxy.yaml"
}

# A process outside the cluster: a test that fills the node does not break name resolution. It resolves only the
# cluster's names; every other name fails at once, whatever this machine's resolver does.
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

# The simulated nodes are tainted: only pods that tolerate the taint are scheduled there.
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
    port_is_taken "$(port_of kubelet)" && port_is_taken "$(port_of proxy)" &&
    port_is_taken "$(port_of coredns)" && nft list table ip kube-proxy &>/dev/null
}

node_is_ready() {
  kube get --raw "/api/v1/nodes/$NODE" 2>/dev/null | grep -q '"type":"Ready","status":"True"'
}
