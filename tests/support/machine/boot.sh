#!/usr/bin/env bash
# tests/support/machine/boot.sh DISK ROOTFS NUMBER: called by supervise.sh, in the namespaces of a new test machine.
# Lays out its file systems, waits until its network card is there, and becomes its systemd.
set -euo pipefail
disk=$1 rootfs=$2 number=$3
root=$disk/root

mount --make-rprivate /
mount -t overlay -o "lowerdir=$rootfs,upperdir=$disk/upper,workdir=$disk/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty kmsg net/tun; do
  [[ -e /dev/$node ]] || continue
  mkdir -p "$(dirname "$root/dev/$node")"
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# Docker's overlay2 cannot lie on an overlay.
mkdir -p "$root/var/lib/docker" "$root/var/lib/containerd" "$root/mnt/shared"
mount --bind "$disk/docker" "$root/var/lib/docker"
# Files of the test, without a copy: the binary under test is large.
mount --bind "$disk/shared" "$root/mnt/shared"

# Each boot has its id, as on a host of its own; the kernel below is the same.
cat /proc/sys/kernel/random/uuid >"$disk/boot-id"
mount --bind "$disk/boot-id" "$root/proc/sys/kernel/random/boot_id"

echo "vm-$number" >"$root/etc/hostname"
hostname "vm-$number"
printf '127.0.0.1 localhost\n198.18.%s.1 operator vigie.example.com\n198.18.%s.2 vm-%s\n' "$number" "$number" "$number" >"$root/etc/hosts"
: >"$root/etc/resolv.conf"

read -r _ <"$disk/ready"
ip link set lo up
ip addr add "198.18.$number.2/24" dev eth0
ip link set eth0 up
ip route add default via "198.18.$number.1"

cd "$root"
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
# In a container systemd leaves this to what starts it; without it no service sees its credentials.
mount --make-rshared /
exec env -i container=vigie-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
  /lib/systemd/systemd --system --log-target=journal --unit=multi-user.target --show-status=0
