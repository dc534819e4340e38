# shellcheck shell=bash
# Ports that remain reserved for a cluster while its API server is down, which tests need.
#
# They are below the range from which the kernel picks ports for outgoing connections. Clusters of one machine agree
# through $CACHE/ports, where a file named like the port contains the directory of the cluster that reserved it.

PORTS_FROM=20000 PORTS_TO=29999

# Whether any process listens on the port, on any address.
port_is_taken() {
  local hex
  printf -v hex '%04X' "$1"
  # Columns: number, local address, remote address, state (0A is LISTEN).
  grep -qsiE "^ *[0-9]+: [0-9A-F]+:$hex [0-9A-F]+:0000 0A " /proc/net/tcp /proc/net/tcp6
}

# Removes the reservations of clusters whose directories were deleted by hand.
forget_stale_reservations() {
  local file owner
  for file in "$CACHE/ports"/[0-9]*; do
    [[ -f $file ]] || continue
    owner=$(<"$file")
    grep -qsx ".*=${file##*/}" "$owner/run/ports" || rm -f "$file"
  done
}

port_of() {
  local name port
  while IFS='=' read -r name port; do
    if [[ $name == "$1" ]]; then
      printf '%s' "$port"
      return 0
    fi
  done 2>/dev/null <"$RUN/ports"
  return 1
}

choose_ports() {
  local lock name port chosen=()
  mkdir -p "$CACHE/ports"
  exec {lock}>>"$CACHE/ports/lock"
  take_lock "$lock" "waiting for another cluster that chooses its ports"
  give_ports_back
  forget_stale_reservations
  port=$((PORTS_FROM + (RANDOM * 32768 + RANDOM) % (PORTS_TO - PORTS_FROM)))
  for name in "$@"; do
    while port_is_taken "$port" || [[ -e $CACHE/ports/$port ]]; do
      port=$((port < PORTS_TO ? port + 1 : PORTS_FROM))
    done
    chosen+=("$name=$port")
    printf '%s\n' "$CLUSTER_DIR" >"$CACHE/ports/$port"
    port=$((port < PORTS_TO ? port + 1 : PORTS_FROM))
  done
  printf '%s\n' "${chosen[@]}" >"$RUN/ports.new"
  mv "$RUN/ports.new" "$RUN/ports"
  exec {lock}>&-
}

give_ports_back() {
  local name port
  [[ -f $RUN/ports ]] || return 0
  while IFS='=' read -r name port; do
    if [[ $(cat "$CACHE/ports/$port" 2>/dev/null) == "$CLUSTER_DIR" ]]; then
      rm -f "$CACHE/ports/$port"
    fi
  done <"$RUN/ports"
  rm -f "$RUN/ports"
}
