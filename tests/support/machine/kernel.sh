#!/usr/bin/env bash
# tests/support/machine/kernel.sh SCRIPT [FILE...]: runs SCRIPT, by busybox's sh, as root of a virtual machine with a
# Linux that has WireGuard and netfilter as modules, all loaded. On PATH are busybox, ip and wg; each FILE is in /files,
# with the libraries that it needs. Its standard output and error are printed, and its exit status is this one's. QEMU
# computes the processor, so that this runs where there is no /dev/kvm. It ends by itself after ten minutes, and when
# standard input ends.
set -euo pipefail
script=${1:?a script to run in the virtual machine}
shift
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
root=$("$here/rootfs.sh" kernel)
version=$(basename "$root"/lib/modules/*)
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
loader=("$root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
initrd=$work/initrd
mkdir -p "$initrd"/{bin,sbin,lib64,lib,modules,files,proc,sys,dev,tmp,run,etc}

add_program() {
  local library
  cp -L "$1" "$2"
  "${loader[@]}" --list "$1" 2>/dev/null | awk '$2 == "=>" { print $3 }' | while read -r library; do
    cp -Ln "$library" "$initrd/lib/"
  done
}

"${loader[@]}" --argv0 depmod "$root/bin/kmod" -b "$root" "$version"
count=100
for module in wireguard veth tun nft_chain_nat nft_masq nft_compat nft_ct iptable_nat iptable_filter xt_MASQUERADE xt_conntrack; do
  "${loader[@]}" --argv0 modprobe "$root/bin/kmod" -d "$root" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
  cp "$module" "$initrd/modules/$((count++))-$(basename "$module")"
done
cp "$root/bin/busybox" "$initrd/bin/busybox"
cp -L "$root/lib64/ld-linux-x86-64.so.2" "$initrd/lib64/"
add_program "$root/bin/ip" "$initrd/sbin/ip"
add_program "$root/usr/bin/wg" "$initrd/bin/wg"
for file in "$@"; do
  add_program "$file" "$initrd/files/$(basename "$file")"
done
# Busybox's sh takes its own ip before the one on PATH.
{ printf 'ip() { /sbin/ip "$@"; }\n' && cat "$script"; } >"$initrd/script"
cat >"$initrd/init" <<'EOF'
#!/bin/busybox sh
export PATH=/sbin:/bin LD_LIBRARY_PATH=/lib HOME=/tmp
/bin/busybox --install -s /bin
rm /bin/ip
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
for module in /modules/*; do insmod "$module" || echo "insmod $module failed"; done
ip link set lo up
echo 'kernel.sh: begin'
sh /script
echo "kernel.sh: end $?"
poweroff -f
EOF
chmod +x "$initrd/init"
(cd "$initrd" && find . | "$root/bin/busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd.gz"

exec 3<&0
QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu setpriv --pdeathsig KILL timeout --signal KILL 600 "${loader[@]}" "$root/usr/bin/qemu-system-x86_64" -M pc -accel tcg -m 512 \
  -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -nodefaults -display none -no-reboot \
  -chardev "file,id=console,path=$work/console" -serial chardev:console \
  -kernel "$root/boot/vmlinuz-$version" -initrd "$work/initrd.gz" -append 'console=ttyS0 quiet panic=-1 loglevel=1' \
  </dev/null 3<&- >"$work/qemu" 2>&1 &
qemu=$!
# The end of standard input is the end of the caller.
{ cat >/dev/null <&3 || true; kill -TERM "$qemu" 2>/dev/null || true; } &
watcher=$!
exec 3<&-
wait "$qemu" || true
kill "$watcher" 2>/dev/null || true

tr -d '\r' <"$work/console" | sed -n '/^kernel.sh: begin$/,/^kernel.sh: end /p' | sed '/^kernel.sh: /d'
status=$(tr -d '\r' <"$work/console" | sed -n 's/^kernel.sh: end //p')
if [[ -z $status ]]; then
  printf 'the virtual machine did not come to the end of %s; the last of its console:\n' "$script" >&2
  tail -n 20 "$work/console" "$work/qemu" >&2
  exit 1
fi
exit "$status"
