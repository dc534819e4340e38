#!/usr/bin/env bash
# tests/support/machine/able.sh: whether this user can start test machines here. If not, it prints the reason and fails.
# Whether a machine really starts shows only when one does: the rights of this user may be those of a container.
set -euo pipefail

unable() {
  printf '%s\n' "$1"
  exit 1
}

[[ $(uname -sm) == 'Linux x86_64' ]] || unable 'this is not Linux on x86_64'
[[ $(id -u) == 0 ]] || unable 'only root can make namespaces and mount file systems'
for tool in unshare nsenter setpriv findmnt ip pgrep perl apt-get; do
  command -v "$tool" >/dev/null || unable "there is no $tool"
done
[[ -n $(findmnt -t cgroup2 -n -o TARGET) ]] || unable 'no cgroup2 file system is mounted'
[[ -c /dev/net/tun ]] || unable 'there is no /dev/net/tun'
