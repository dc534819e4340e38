# shellcheck shell=bash
# A network that consists of documentation addresses, so that no recorded text has to be rewritten:
#   192.0.2.10     the host on which everything listens, also backend.example.com
#   192.0.2.53     the name server (see --dns in ../README.md)
#   192.0.2.66     behind a firewall that drops: packets to it are lost, as to any other address of 192.0.2.0/24
#   198.51.100.0/24  no route to host
# No other address has a route.

HOST=192.0.2.10
SCRATCH=

lay_network() {
  SCRATCH=$(mktemp -d)
  mount -t tmpfs -o mode=755 tmpfs "$SCRATCH"
  hostname backend-0
  ip link set lo up
  ip addr add 192.0.2.53/32 dev lo
  # A veth pair without a listener on the other end: without ARP, every packet is accepted and none is answered.
  ip link add cable0 arp off type veth peer name cable1
  ip addr add "$HOST/24" dev cable0
  ip link set cable0 up
  ip link set cable1 up
  ip route add unreachable 198.51.100.0/24
  printf 'nameserver 192.0.2.53\noptions timeout:1 attempts:1\n' >"$SCRATCH/resolv.conf"
  printf '127.0.0.1 localhost\n%s backend-0\n' "$HOST" >"$SCRATCH/hosts"
  mount --bind "$SCRATCH/resolv.conf" "$(readlink -f /etc/resolv.conf)"
  mount --bind "$SCRATCH/hosts" /etc/hosts
  "$MISBEHAVE/misbehave" --listen 192.0.2.53:0 --dns 192.0.2.53:53 --dns-answer "$HOST" >"$SCRATCH/names" &
  await 10 "the name server listens" grep -q dns "$SCRATCH/names"
}

# await SECONDS WHAT COMMAND...: repeats the command until it succeeds.
await() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      [[ ! -e $SCRATCH/log ]] || tail -n 20 "$SCRATCH/log" | sed 's/^/    /' >&2
      fail "waited in vain: $what"
    fi
    read -rt 0.1 <> <(:) || true
  done
}
