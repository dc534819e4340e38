# shellcheck shell=bash
# shellcheck disable=SC2034 # some of the names are for profiles/real.sh
# The changes of the profile real to this machine, and how each is undone: see README.md.
#
# One cluster at a time: kube-proxy's nftables tables and the bridge have one name each. $MACHINE/owner names the owner,
# and the previous settings are stored beside it, so that they can be restored without the cluster's own directory.

PATH=$PATH:/usr/sbin:/sbin # nft and ip are not on every user's PATH

MACHINE=/run/vigie-node # short: a unix socket's path has 107 bytes at most
BRIDGE=vigie0
NODE=real-1
GUARD=vigie_node # an nftables table
SERVICE_CIDR=10.96.0.0/16
CLUSTER_DNS=10.96.0.10

# Directories whose paths are fixed in the kubelet, containerd and runc. In the node's mount namespace the cluster
# replaces them, so that nothing is written to the machine's own.
NODE_DIRECTORIES=(/run/containerd /var/lib/cni /var/lib/containerd /var/lib/kubelet /var/log/containers /var/log/pods)

# Command and Debian package.
NODE_PACKAGES="
containerd           containerd
ctr                  containerd
runc                 runc
/usr/lib/cni/bridge  containernetworking-plugins
nft                  nftables
ip                   iproute2
buildah              buildah
nsenter              util-linux
"

# The values that the kubelet would set for the whole machine. It finds them in its mount namespace, and changes
# nothing.
KUBELET_SYSCTLS=(vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000)

# This machine cannot run the profile. Callers see this by the exit status, and decide whether to continue without it.
unable() {
  complain "the profile real is not possible here: $*"
  exit 4
}

check_machine() {
  local command package missing=()
  [[ $(uname -s) == Linux ]] || unable "it needs Linux"
  ((EUID == 0)) || unable "it needs root, for containers and their network; --profile simulated does not"
  while read -r command package; do
    [[ -n $command ]] || continue
    command -v "$command" >/dev/null || [[ " ${missing[*]} " == *" $package "* ]] || missing+=("$package")
  done <<<"$NODE_PACKAGES"
  if ((${#missing[@]} > 0)); then
    install_packages "${missing[@]}"
  fi
  check_kernel
  check_claim
}

# In a container root may lack capabilities.
check_kernel() {
  unshare --net --mount sh -c '
    ip link add bridge type bridge && ip link add one type veth peer name two && nft add table inet vigie' &>/dev/null ||
    unable "this kernel, or this container, does not allow to create namespaces, bridges and nftables tables"
  [[ -w /sys/fs/cgroup/pids || (-e /sys/fs/cgroup/cgroup.controllers && -w /sys/fs/cgroup) ]] ||
    unable "/sys/fs/cgroup cannot be written: containers would have no limits"
}

# Reports obstacles to the claim before anything is replaced or created.
check_claim() {
  local owner
  owner=$(machine_owner)
  if [[ -z $owner ]]; then
    refuse_foreign_objects
    choose_network
  elif [[ $owner != "$CLUSTER_DIR" ]]; then
    refuse_living_owner "$owner"
  fi
}

refuse_living_owner() {
  ! cluster_lives "$1" || refuse "this machine has room for one cluster of profile real, and the one in $1 runs: end it first"
}

install_packages() {
  command -v apt-get >/dev/null || unable "these Debian packages are missing, and so is apt-get: $*"
  say "the profile real needs these Debian packages, which are missing here: $*"
  say "installing them with apt-get"
  {
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"
  } </dev/null >"${TMPDIR:-/tmp}/vigie-apt-$$.log" 2>&1 || {
    tail -n 15 "${TMPDIR:-/tmp}/vigie-apt-$$.log" | sed 's/^/    /' >&2
    rm -f "${TMPDIR:-/tmp}/vigie-apt-$$.log"
    unable "apt-get could not install $*"
  }
  rm -f "${TMPDIR:-/tmp}/vigie-apt-$$.log"
}

machine_owner() { cat "$MACHINE/owner" 2>/dev/null || true; }

owns_machine() { [[ $(machine_owner) == "$CLUSTER_DIR" ]]; }

# Claims the machine for this cluster, or names its owner.
claim_machine() {
  local lock owner
  exec {lock}</run
  take_lock "$lock" "waiting for another cluster that prepares this machine"
  owner=$(machine_owner)
  if [[ -n $owner && $owner != "$CLUSTER_DIR" ]]; then
    refuse_living_owner "$owner"
    say "clearing away what a cluster in $owner left behind"
    clear_machine
  fi
  if ! owns_machine; then
    refuse_foreign_objects
    choose_network
    rm -rf "$MACHINE"
    mkdir "$MACHINE"
    chmod 711 "$MACHINE"
    cat /proc/sys/net/ipv4/ip_forward >"$MACHINE/ip-forward"
    [[ -d /run/netns ]] || printf '/run/netns\n' >"$MACHINE/made-directories"
    printf '%s\n' "$POD_CIDR" >"$MACHINE/pod-cidr"
    printf '%s\n' "$CLUSTER_DIR" >"$MACHINE/owner.new"
    mv "$MACHINE/owner.new" "$MACHINE/owner"
  fi
  exec {lock}>&-
  read_network
  lay_network
}

# Whether a process of the cluster in DIRECTORY runs, or a command works on it.
cluster_lives() {
  local lock status=1
  [[ -z $(pids_of_cluster "$1") ]] || return 0
  [[ -e $1/.vigie-cluster ]] || return 1
  exec {lock}<"$1/.vigie-cluster" || return 1
  flock -n "$lock" || status=0
  exec {lock}<&-
  return "$status"
}

refuse_foreign_objects() {
  [[ ! -e /sys/class/net/$BRIDGE ]] ||
    refuse "this machine has a network interface $BRIDGE that is not ours: the profile real would break it"
  ! nft list table ip kube-proxy &>/dev/null ||
    refuse "this machine has an nftables table kube-proxy that is not ours: the profile real would break the Kubernetes it belongs to"
}

# Sets POD_CIDR to a network that the machine has no route to.
choose_network() {
  local third
  ! is_routed "$SERVICE_CIDR" || refuse "this machine has a route into $SERVICE_CIDR, which the profile real gives to Services"
  for third in 88 89 90 91 92 93 94 95; do
    POD_CIDR=10.$third.0.0/24
    is_routed "$POD_CIDR" || return 0
  done
  refuse "this machine has routes into each of 10.88.0.0/24 to 10.95.0.0/24, one of which the profile real needs"
}

# Whether an address or route of the machine, except the default route, overlaps the network.
is_routed() {
  local route
  while read -r route; do
    [[ $route != */* ]] && route=$route/32
    [[ $route == default/32 || $route == */0 ]] || ! networks_overlap "$1" "$route" || return 0
  done < <(ip -4 route show table all | awk '{ print ($1 ~ /^[0-9]/ || $1 == "default") ? $1 : $2 }')
  return 1
}

networks_overlap() {
  local bits=$((${1#*/} < ${2#*/} ? ${1#*/} : ${2#*/}))
  (($(number_of "${1%/*}") >> (32 - bits) == $(number_of "${2%/*}") >> (32 - bits)))
}

number_of() {
  local a b c d
  IFS=. read -r a b c d <<<"$1"
  printf '%d' $(((a << 24) + (${b:-0} << 16) + (${c:-0} << 8) + ${d:-0}))
}

# Sets POD_CIDR and NODE_ADDRESS, the address of the bridge, which is the node's own.
read_network() {
  POD_CIDR=$(cat "$MACHINE/pod-cidr")
  NODE_ADDRESS=${POD_CIDR%.0/24}.1
}

# Creates the bridge, its address, the route to Services, and the guard rules. May be repeated.
lay_network() {
  if [[ ! -e /sys/class/net/$BRIDGE ]]; then
    # A fixed address: otherwise the bridge changes it with its members, and neighbours keep a stale one.
    ip link add "$BRIDGE" address 02:76:69:67:69:65 type bridge
    ip link set "$BRIDGE" addrgenmode none
  fi
  # Between two pods that talk through a Service, the answer must pass the same rules as the request.
  modprobe -q br_netfilter 2>/dev/null || true
  ip link set "$BRIDGE" type bridge nf_call_iptables 1
  ip addr replace "$NODE_ADDRESS/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  # From the machine itself Services are dialled with the node's address, with or without a default route.
  ip route replace "$SERVICE_CIDR" dev "$BRIDGE" src "$NODE_ADDRESS"
  printf '1\n' >/proc/sys/net/ipv4/ip_forward
  lay_guard
}

# Forwarding is on now. These rules keep other machines from using it, in both directions.
lay_guard() {
  nft -f - <<RULES
table inet $GUARD
delete table inet $GUARD
table inet $GUARD {
  chain forward {
    type filter hook forward priority 0;
    iifname != "$BRIDGE" oifname "$BRIDGE" ct state new reject with icmpx type no-route
    iifname "$BRIDGE" oifname != "$BRIDGE" reject with icmpx type no-route
  }
  chain input {
    type filter hook input priority 0;
    ip daddr $POD_CIDR iifname != { "$BRIDGE", "lo" } drop
  }
}
RULES
  # A firewall that drops forwarded packets by default (Docker installs one) would separate the pods.
  if iptables -S FORWARD 2>/dev/null | grep -qx -- '-P FORWARD DROP' &&
    ! iptables -C FORWARD -i "$BRIDGE" -o "$BRIDGE" -j ACCEPT 2>/dev/null; then
    iptables -I FORWARD -i "$BRIDGE" -o "$BRIDGE" -j ACCEPT
    touch "$MACHINE/opened-iptables"
  fi
}

# The cgroups, version 1 or 2, of the node's containers. Every containerd uses the name "k8s.io" for a kubelet's, so
# only those that this cluster's containerd knows.
container_cgroups() {
  local directory
  for directory in "$MACHINE/mounts/run/containerd/state/io.containerd.runtime.v2.task/k8s.io"/*; do
    directory=${directory##*/}
    [[ $directory == '*' ]] || ls -d /sys/fs/cgroup/{,*/}"k8s.io/$directory" 2>/dev/null || true
  done
}

pids_in_containers() {
  local cgroups pid
  mapfile -t cgroups < <(container_cgroups)
  ((${#cgroups[@]} > 0)) || return 0
  find "${cgroups[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | while read -r pid; do
    ! start_of "$pid" >/dev/null || printf '%s\n' "$pid"
  done || true
}

# Ends the processes in containers, and removes their cgroups. Kubelet and containerd, which would restart them, are
# gone already.
end_containers() {
  local pid pids cgroups deadline=$((SECONDS + 30))
  while pids=$(pids_in_containers) && [[ -n $pids ]]; do
    ((SECONDS < deadline)) || fail "these processes of containers do not end: ${pids//$'\n'/ }"
    for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
    nap 0.02
  done
  # A dead process keeps its cgroup until its parent has reaped it, which this script cannot do.
  deadline=$((SECONDS + 5))
  while mapfile -t cgroups < <(container_cgroups) && ((${#cgroups[@]} > 0 && SECONDS < deadline)); do
    find "${cgroups[@]}" -depth -type d -exec rmdir {} + 2>/dev/null || nap 0.05
  done
  rmdir /sys/fs/cgroup/{,*/}k8s.io 2>/dev/null || true # unless another containerd uses it
}

# Removes the nftables tables by which tests cut pods off. A killed test leaves its table, and a later pod may be given
# that address. No process of the cluster may run any more, except those in containers and on hosts.
clear_cuts() {
  local table
  for table in $(nft list tables 2>/dev/null | awk '$3 ~ /^vigie_cut_/ { print $3 }'); do
    nft delete table inet "$table" || true
  done
}

clear_machine() {
  local host directory
  end_containers
  for host in "$MACHINE"/hosts/*; do
    [[ ! -e $host ]] || remove_host "${host##*/}"
  done
  nft delete table ip kube-proxy 2>/dev/null || true
  nft delete table ip6 kube-proxy 2>/dev/null || true
  nft delete table inet "$GUARD" 2>/dev/null || true
  clear_cuts
  [[ ! -e $MACHINE/opened-iptables ]] || iptables -D FORWARD -i "$BRIDGE" -o "$BRIDGE" -j ACCEPT || true
  ip link delete "$BRIDGE" 2>/dev/null || true
  [[ ! -e $MACHINE/ip-forward ]] || cat "$MACHINE/ip-forward" >/proc/sys/net/ipv4/ip_forward
  # The first namespace that ip creates puts a mount on this directory.
  if grep -qsx /run/netns "$MACHINE/made-directories" && [[ -z $(ls -A /run/netns 2>/dev/null) ]]; then
    umount /run/netns 2>/dev/null || true
  fi
  while read -r directory; do
    rmdir "$directory" 2>/dev/null || true
  done < <(tac "$MACHINE/made-directories" 2>/dev/null)
  rm -rf "$MACHINE"
}
