#!/bin/sh
# tests/support/debian.sh BINARY PACKAGE CACHE: prints the path of BINARY: on PATH, or unpacked from Debian's PACKAGE
# into CACHE of the vigie cache. It installs nothing; only fresher package lists need root. It fails with a sentence
# when there is none.
set -eu
binary=$1
package=$2
cache=${VIGIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vigie}/$3

if command -v "$binary"; then
  exit 0
fi

fetch() {
  (cd "$unpack" && rm -f ./*.deb && apt-get download "$package" && dpkg -x "$package"_*.deb .) >"$cache/log" 2>&1
}

# A machine that never ran apt-get update has empty lists, and old lists name packages that no longer exist.
fetch_by_fresh_lists() {
  [ "$(id -u)" = 0 ] && apt-get update -q >"$cache/log" 2>&1 && fetch
}

if [ ! -x "$cache/usr/bin/$binary" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "$binary is not on PATH, and there is no apt-get to fetch Debian's package with" >&2
    exit 1
  fi
  mkdir -p "$cache"
  unpack=$(mktemp -d "$cache/unpack.XXXXXX")
  trap 'rm -rf "$unpack"' EXIT
  if ! fetch && ! fetch_by_fresh_lists; then
    echo "$binary is not on PATH, and Debian's package cannot be fetched: $(tail -1 "$cache/log")" >&2
    exit 1
  fi
  cp -a "$unpack/usr" "$cache/"
fi
echo "$cache/usr/bin/$binary"
