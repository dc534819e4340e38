#!/bin/sh
# Prints where an amtool binary is: the one on PATH, or one unpacked from Debian's package into our cache (nothing is
# installed, no root is needed). Fails with a sentence when there is none.
set -eu

found=$(command -v amtool || true)
if [ -n "$found" ]; then
  echo "$found"
  exit 0
fi

cache=${VIGIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vigie}/alertmanager
if [ ! -x "$cache/usr/bin/amtool" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "amtool is not on PATH, and there is no apt-get to fetch Debian's package with" >&2
    exit 1
  fi
  mkdir -p "$cache"
  unpack=$(mktemp -d "$cache/unpack.XXXXXX")
  trap 'rm -rf "$unpack"' EXIT
  if ! (cd "$unpack" && apt-get download prometheus-alertmanager && dpkg -x prometheus-alertmanager_*.deb .) >"$cache/log" 2>&1; then
    echo "amtool is not on PATH, and Debian's package cannot be fetched: $(tail -1 "$cache/log")" >&2
    exit 1
  fi
  cp -a "$unpack/usr" "$cache/"
fi
echo "$cache/usr/bin/amtool"
