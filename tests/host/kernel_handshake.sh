# Run by kernel.sh: two kernel WireGuard interfaces named wg0 in two network namespaces, joined by a veth.
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
for attempt in $(seq 100); do
  set -- $(wg show wg0 latest-handshakes)
  [ "$2" = 0 ] || break
  sleep 0.2
done
[ "$2" != 0 ] || { echo "no handshake"; exit 1; }
ping -c 1 -W 5 100.64.0.2
echo "handshake at $2"
