#!/bin/sh
# tests/support/machine/customize.sh KIND ROOT: called by rootfs.sh on what mmdebstrap has made.
set -eu
kind=$1
root=$2
[ "$kind" != kernel ] || exit 0

# Services that a test machine starts only when a test asks for them, or never.
for unit in docker.service docker.socket containerd.service nftables.service e2scrub_reap.service systemd-timesyncd.service; do
  rm -f "$root"/etc/systemd/system/*.wants/"$unit"
done
for unit in getty@tty1.service console-getty.service systemd-udevd.service systemd-udev-trigger.service \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-logind.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
: >"$root/etc/machine-id"
: >"$root/etc/fstab"
# The journal outlives a reboot, as on a host.
mkdir -p "$root/var/log/journal"

# The image of the tests' containers: busybox, by `docker import`.
image=$(mktemp -d)
mkdir -p "$image/bin" "$image/tmp" "$image/etc"
cp "$root/bin/busybox" "$image/bin/"
for applet in sh sleep httpd nc cat echo true false kill env wget ls ps; do ln -s busybox "$image/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' >"$image/etc/passwd"
mkdir -p "$root/usr/share/vigie-tests"
tar -C "$image" -cf "$root/usr/share/vigie-tests/busybox.tar" .
rm -rf "$image"

# `docker compose` for compose v1, which knows no plugin: the plugin's protocol, and then docker-compose itself.
if [ "$kind" = machine ]; then
  mkdir -p "$root/usr/libexec/docker/cli-plugins"
  cat >"$root/usr/libexec/docker/cli-plugins/docker-compose" <<'EOF'
#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then
  echo '{"SchemaVersion":"0.1.0","Vendor":"vigie tests","Version":"v1.29.2","ShortDescription":"docker-compose"}'
  exit 0
fi
shift
exec docker-compose "$@"
EOF
  chmod 755 "$root/usr/libexec/docker/cli-plugins/docker-compose"
fi
