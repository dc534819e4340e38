#!/usr/bin/env bash
# tests/support/machine/rootfs.sh [machine|bullseye|kernel [--built]]: prints the path of a root file system, which is built once
# and kept in the vigie cache. Nothing is installed on this machine; building needs root, apt-get and perl.
#   machine   Debian 12 with systemd, D-Bus, Docker 20.10, docker-compose 1.29, wireguard-go, nftables, both iptables
#   bullseye  Debian 11: glibc 2.31, systemd 247, the oldest that Debian still serves
#   kernel    not to be run: QEMU, a kernel with its modules, and the programs that its initrd is made of
# It fails with one sentence when it cannot. With --built it builds nothing: it fails when there is none yet.
set -euo pipefail
kind=${1:-machine}
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cache=${VIGIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vigie}/machine

base=systemd,systemd-sysv,dbus,iproute2,iptables,nftables,busybox-static,curl,ca-certificates,procps,iputils-ping
variant=minbase suite=bookworm
case $kind in
  machine)
    packages=$base,docker.io,docker-compose,wireguard-go,wireguard-tools
    takes='a Debian 12 with systemd, Docker and WireGuard for the test machines: one to three minutes, 500 MB'
    ;;
  bullseye)
    suite=bullseye packages=$base
    takes='a Debian 11 with systemd for the test machines: about a minute, 250 MB'
    ;;
  kernel)
    variant=extract packages=qemu-system-x86,linux-image-cloud-amd64,busybox-static,wireguard-tools,iproute2
    takes='QEMU and a kernel with WireGuard: about a minute, 400 MB'
    ;;
  *) printf 'rootfs.sh knows machine, bullseye and kernel, not %s\n' "$kind" >&2 && exit 2 ;;
esac

# A changed recipe is another root file system.
recipe=$(printf '%s\n' "$variant $suite $packages" | cat - "$here/customize.sh" | sha256sum | cut -c1-12)
root=$cache/$kind-$recipe

build() {
  local mmdebstrap
  if [[ $(id -u) != 0 ]]; then
    printf 'a root file system for the test machines can only be built by root\n' >&2
    return 1
  fi
  mmdebstrap=$("$here/../debian.sh" mmdebstrap mmdebstrap machine/tools) || return 1
  printf 'building %s, once\n' "$takes" >&2
  rm -rf "$root.new"
  # It runs mmtarfilter, which stands beside it.
  if ! PATH=$(dirname "$mmdebstrap"):$PATH perl "$mmdebstrap" --mode=root --variant="$variant" --skip=check/chroot --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="sh '$here/customize.sh' $kind \"\$1\"" \
    "$suite" "$root.new" </dev/null >"$cache/$kind.log" 2>&1; then
    rm -rf "$root.new"
    printf 'the root file system %s cannot be built from Debian'\''s packages: %s (%s)\n' "$kind" \
      "$(grep -m 1 '^E:' "$cache/$kind.log" || tail -n 1 "$cache/$kind.log")" "$cache/$kind.log" >&2
    return 1
  fi
  mv "$root.new" "$root"
  # Those of earlier recipes.
  find "$cache" -maxdepth 1 -type d -name "$kind-*" ! -path "$root" -mmin +1440 -exec rm -rf {} +
}

if [[ ${2:-} == --built ]]; then
  [[ -d $root ]] || exit 1
fi
mkdir -p "$cache"
if [[ ! -d $root ]]; then
  exec 9>"$cache/$kind.lock"
  flock 9
  [[ -d $root ]] || build
fi
printf '%s\n' "$root"
