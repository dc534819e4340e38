#!/bin/sh
# Prints where a prometheus binary is: the one in PROMETHEUS, one on PATH, or one unpacked from Debian's package into
# our cache (nothing is installed, no root is needed). Fails with a sentence when there is none.
set -eu

for found in "${PROMETHEUS:-}" "$(command -v prometheus || true)"; do
  if [ -n "$found" ] && [ -x "$found" ]; then
    echo "$found"
    exit 0
  fi
done

cache=${VIGIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vigie}/prometheus
if [ ! -x "$cache/usr/bin/prometheus" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "prometheus is not on PATH, and there is no apt-get to fetch Debian's package with" >&2
    exit 1
  fi
  mkdir -p "$cache"
  unpack=$(mktemp -d "$cache/unpack.XXXXXX")
  trap 'rm -rf "$unpack"' EXIT
  if ! (cd "$unpack" && apt-get download prometheus && dpkg -x prometheus_*.deb .) >"$cache/log" 2>&1; then
    echo "prometheus is not on PATH, and Debian's package cannot be fetched: $(tail -1 "$cache/log")" >&2
    exit 1
  fi
  cp -a "$unpack/usr" "$cache/"
fi
echo "$cache/usr/bin/prometheus"
