# Run by kernel.sh with the program vigie: two kernel WireGuard interfaces named wg0 in two network namespaces, joined by a
# veth. Prints what `vigie agent check` says of them when they are well, when they break, and when they are well again.
set -e
# The overlay address and the wire are as in the tests of the test machines.
mkdir -p /run/netns
ip netns add peer
ip link add gateway type veth peer name peer netns peer
ip addr add 192.0.2.1/24 dev gateway
ip link set gateway up
ip -n peer addr add 192.0.2.2/24 dev peer
ip -n peer link set peer up
ip -n peer link set lo up
umask 077
wg genkey >/tmp/gateway
wg genkey >/tmp/peer
ip link add wg0 type wireguard
ip -n peer link add wg0 type wireguard
wg set wg0 private-key /tmp/gateway listen-port 51820 peer "$(wg pubkey </tmp/peer)" endpoint 192.0.2.2:51820 \
  allowed-ips 100.64.0.0/10 persistent-keepalive 1
ip netns exec peer wg set wg0 private-key /tmp/peer listen-port 51820 peer "$(wg pubkey </tmp/gateway)" allowed-ips 100.64.0.1/32
ip addr add 100.64.0.1/32 dev wg0
ip link set wg0 up
ip route add 100.64.0.0/10 dev wg0
ip -n peer addr add 100.64.0.2/32 dev wg0
ip -n peer link set wg0 up
ip -n peer route add 100.64.0.1/32 dev wg0

# Waits until the last handshake is another one than $1.
shake_hands() {
  for attempt in $(seq 150); do
    set -- "$1" $(wg show wg0 latest-handshakes)
    [ "$3" = "$1" ] || { echo "handshake at $3" && return; }
    sleep 0.2
  done
  echo "no handshake"
  exit 1
}

cat >/tmp/agent.yaml <<EOF
url: http://127.0.0.1:1
allowInsecure: true
connector: gateways/edge-1
tokenFile: /tmp/token
checks: [{type: WireGuardInterface}, {type: WireGuardHandshake}]
EOF
# No operator is there, so the exit code is never 0.
look() {
  echo "== $1"
  /files/vigie agent check --config /tmp/agent.yaml || [ $? = 3 ]
}

shake_hands 0
ping -c 1 -W 5 100.64.0.2
look well

# The wire is cut, and an hour passes.
ip -n peer link set peer down
set -- $(wg show wg0 latest-handshakes)
date -s "@$(($(date +%s) + 3600))" >/dev/null
look silent
ip link set wg0 down
look down
ip -n peer link set peer up
ip link set wg0 up
shake_hands "$2"
look 'well again'

ip link del wg0
look gone
