#!/bin/sh
# Prints the path of a prometheus binary: the one in PROMETHEUS, one on PATH, or one unpacked from Debian's package into
# the vigie cache. Fails with a sentence when there is none.
set -eu
if [ -n "${PROMETHEUS:-}" ] && [ -x "$PROMETHEUS" ]; then
  echo "$PROMETHEUS"
  exit 0
fi
exec "$(dirname "$0")/debian.sh" prometheus prometheus prometheus
