# shellcheck shell=bash
# Second "hosts": network namespaces on the node's bridge, with an address in the node's network, in which a test can
# simulate a security group. Each is a file in $MACHINE/hosts that contains its address.

HOST_ADDRESSES_FROM=200 HOST_ADDRESSES_TO=250

host() {
  local verb=${1:-} name=${2:-}
  [[ $verb =~ ^(add|del|exec|drop|reject|allow)$ ]] ||
    refuse "host knows add, del, exec, drop, reject and allow"
  [[ $name =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || refuse "host $verb wants a name of letters, digits and dashes"
  shift 2
  lock_for_node
  [[ $verb =~ ^(add|del)$ || -e $MACHINE/hosts/$name ]] || fail "there is no host $name: make it with host add $name"
  case $verb in
    add) add_host "$name" ;;
    del) remove_host "$name" ;;
    exec)
      [[ ${1:-} != -- ]] || shift
      (($# > 0)) || refuse "host exec wants NAME -- COMMAND"
      exec {CLUSTER_LOCK}>&-
      run_on_host "$name" "$@"
      ;;
    drop)
      (($# == 2)) || refuse "host drop wants NAME ADDRESS PORT"
      forbid_on_host "$name" "$1" "$2" drop
      ;;
    reject)
      (($# == 2 || $# == 3)) || refuse "host reject wants NAME ADDRESS PORT [rst|icmp]"
      case ${3:-rst} in
        rst) forbid_on_host "$name" "$1" "$2" 'reject with tcp reset' ;;
        icmp) forbid_on_host "$name" "$1" "$2" 'reject with icmp admin-prohibited' ;;
        *) refuse "host reject knows rst and icmp, not $3" ;;
      esac
      ;;
    allow) ip netns exec "vigie-$name" nft flush ruleset ;;
  esac
}

# Prints the address of the new host.
add_host() {
  local name=$1 address veth
  veth=vigie$(sha256sum <<<"$name" | cut -c1-8)
  if [[ ! -e $MACHINE/hosts/$name ]]; then
    address=$(free_host_address)
    mkdir -p "$MACHINE/hosts"
    printf '%s\n' "$address" >"$MACHINE/hosts/$name"
    ip netns add "vigie-$name"
    ip link add "$veth" type veth peer name eth0 netns "vigie-$name"
    ip link set "$veth" master "$BRIDGE" up
    ip -n "vigie-$name" link set lo up
    ip -n "vigie-$name" addr add "$address/24" dev eth0
    ip -n "vigie-$name" link set eth0 up
    ip -n "vigie-$name" route add default via "$NODE_ADDRESS"
  fi
  cat "$MACHINE/hosts/$name"
}

free_host_address() {
  local last
  for ((last = HOST_ADDRESSES_FROM; last <= HOST_ADDRESSES_TO; last++)); do
    if ! grep -qsx "${NODE_ADDRESS%.1}.$last" "$MACHINE"/hosts/*; then
      printf '%s' "${NODE_ADDRESS%.1}.$last"
      return
    fi
  done
  fail "no address is left for another host"
}

# Also ends its processes.
remove_host() {
  local pid
  [[ -e $MACHINE/hosts/$1 ]] || return 0
  for pid in $(ip netns pids "vigie-$1" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
  ip link delete "vigie$(sha256sum <<<"$1" | cut -c1-8)" 2>/dev/null || true
  ip netns delete "vigie-$1" 2>/dev/null || true
  rm -f "$MACHINE/hosts/$1"
}

# Replaces this process. Host names resolve as in a pod of the cluster.
run_on_host() {
  local name=$1
  shift
  printf 'search svc.cluster.local cluster.local\nnameserver %s\noptions ndots:5\n' "$CLUSTER_DNS" >"$MACHINE/resolv-of-hosts.conf"
  # shellcheck disable=SC2016 # for the shell on the host
  exec nsenter "--net=/run/netns/vigie-$name" unshare --mount --propagation slave \
    sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$MACHINE/resolv-of-hosts.conf" "$@"
}

# forbid_on_host NAME ADDRESS PORT VERDICT: for TCP packets that leave the host, including those of open connections.
forbid_on_host() {
  local name=$1 address=$2 port=$3 verdict=$4
  [[ $address =~ ^[0-9]+(\.[0-9]+){3}$ ]] || refuse "no IPv4 address: $address"
  [[ $port =~ ^[0-9]+$ ]] || refuse "no port: $port"
  ip netns exec "vigie-$name" nft -f - <<RULES
table inet security_group {
  chain out {
    type filter hook output priority 0;
  }
}
add rule inet security_group out ip daddr $address tcp dport $port $verdict
RULES
}
