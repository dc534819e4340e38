#!/bin/sh
# Prints where an amtool binary is: the one on PATH, or one unpacked from Debian's package into our cache. Fails with a
# sentence when there is none.
set -eu
exec "$(dirname "$0")/../support/debian.sh" amtool prometheus-alertmanager alertmanager
