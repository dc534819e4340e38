#!/usr/bin/env bash
# tests/support/machine/supervise.sh ROOTFS: one test machine: systemd in namespaces of its own (mount, pid, net, uts,
# ipc, cgroup), over an overlay of ROOTFS whose upper layer is in memory, with a veth to this machine. Commands come on
# standard input, one a line; the end of standard input ends the machine, so that it does not outlive a test that was
# killed. Needs root, and nothing but util-linux, iproute2 and bash.
#   (at the start)  → up PID HOST_ADDRESS MACHINE_ADDRESS SHARED   PID: its init, as this machine sees it
#   crash           → crashed      every process killed at once; its disk stays
#   boot            → up …         with another boot id
set -euo pipefail
rootfs=${1:?the path of a root file system: see rootfs.sh}

# The private mount namespace ends with this process, and every mount with it.
if [[ ${VIGIE_MACHINE_INSIDE:-} != yes ]]; then
  exec env VIGIE_MACHINE_INSIDE=yes unshare --mount --propagation private bash "$0" "$@"
fi
trap '' PIPE INT TERM HUP
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
locks=${VIGIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vigie}/machine/numbers
mkdir -p "$locks"

number=
for ((n = 1; n < 250; n++)); do
  exec 9>"$locks/$n"
  if flock -n 9; then number=$n && break; fi
done
[[ -n $number ]] || { printf 'there are 249 test machines already\n' >&2 && exit 1; }

link=vigie-m$number
host_address=198.18.$number.1
machine_address=198.18.$number.2
cgroup=$(findmnt -t cgroup2 -n -o TARGET | head -n 1)/vigie-machine-$number
disk=$locks/$number.disk # a tmpfs, in this mount namespace only
init=
unshared=

clear_cgroup() {
  local deadline=$((SECONDS + 20))
  while [[ -d $cgroup ]]; do
    find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | while read -r pid; do
      [[ $pid == 0 ]] || kill -KILL "$pid" 2>/dev/null || true
    done
    find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [[ -d $cgroup ]] || break
    ((SECONDS < deadline)) || { printf 'the cgroup %s cannot be removed\n' "$cgroup" >&2 && return 1; }
    sleep 0.05
  done
}

crash() {
  # unshare ends by itself, after it has reaped the init.
  [[ -z $unshared ]] || kill -KILL "${init:-$unshared}" 2>/dev/null || true
  [[ -z $unshared ]] || wait "$unshared" 2>/dev/null || true
  init='' unshared=''
  # The namespace, and this end of the veth with it, go when the kernel gets to it.
  ip link del "$link" 2>/dev/null || true
  clear_cgroup
}

boot() {
  mkdir -p "$cgroup"
  local ready=$disk/ready
  rm -f "$ready" && mkfifo "$ready"
  # PDEATHSIG: the machine dies with this process, whatever ended it. Its files are closed: 9 holds the number.
  setpriv --pdeathsig KILL bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' - "$cgroup" \
    unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child=KILL \
    bash "$here/boot.sh" "$disk" "$rootfs" "$number" </dev/null 9>&- &
  unshared=$!
  # boot.sh waits for a line; by then it is in its namespaces.
  local deadline=$((SECONDS + 20))
  until init=$(pgrep -P "$unshared") && [[ -n $init ]]; do
    kill -0 "$unshared" 2>/dev/null && ((SECONDS < deadline)) || { printf 'the machine does not start\n' >&2 && exit 1; }
    sleep 0.01
  done
  ip link add "$link" type veth peer name eth0 netns "/proc/$init/ns/net"
  ip addr add "$host_address/24" dev "$link"
  ip link set "$link" up
  echo >"$ready"
  printf 'up %s %s %s %s\n' "$init" "$host_address" "$machine_address" "/proc/$$/root$disk/shared"
}

# Left by a supervisor that was killed: the number is ours now.
ip link del "$link" 2>/dev/null || true
clear_cgroup
mkdir -p "$disk"
mount -t tmpfs -o mode=755,size=4g vigie-machine "$disk"
mkdir "$disk"/{upper,work,root,shared,docker}

boot
while read -r command; do
  case $command in
    crash) crash && printf 'crashed\n' ;;
    boot) boot ;;
    *) printf 'supervise.sh does not know %s\n' "$command" >&2 ;;
  esac
done
crash
