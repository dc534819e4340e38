# shellcheck shell=bash
# The files of the operator's image.

# The chart's default: `helm install` uses it when no value names another.
image_name() { printf 'vigie:%s' "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"; }

# lay_image_root BINARY DIRECTORY
lay_image_root() {
  local binary=$1 root=$2 library
  mkdir -p "$root"/{usr/bin,etc/ssl/certs}
  install -m 755 "$binary" "$root/usr/bin/vigie"
  ! command -v strip >/dev/null || strip --strip-debug "$root/usr/bin/vigie"
  # The loader must be at the path that is written in the program. Since glibc 2.34 the C library resolves names itself;
  # before, it loaded a separate library for it.
  {
    ldd "$binary" | awk '$1 ~ /^\// { print $1 } $3 ~ /^\// { print $3 }'
    older_resolver "$binary"
  } | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
  # For backends with certificates of public authorities, and for canary beats through such a URL.
  cp -L "$(certificates)" "$root/etc/ssl/certs/ca-certificates.crt"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  printf 'vigie:x:65532:65532::/:/nologin\n' >"$root/etc/passwd"
  printf 'vigie:x:65532:\n' >"$root/etc/group"
  # Equal parts give an equal image.
  find "$root" -exec touch -h -d @0 {} +
  chmod -R go=u-w "$root"
}

older_resolver() {
  local folder name
  folder=$(dirname "$(ldd "$1" | awk '$1 ~ /^libc\.so/ { print $3 }')")
  for name in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do
    [[ ! -e $folder/$name ]] || printf '%s\n' "$folder/$name"
  done
}

certificates() {
  local file
  for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
    [[ ! -r $file ]] || { printf '%s' "$file" && return; }
  done
  printf 'no bundle of certificates found: install ca-certificates\n' >&2
  return 1
}
