#!/bin/sh
# Prints the path of an amtool binary: the one on PATH, or one unpacked from Debian's package into the vigie cache.
# Fails with a sentence when there is none.
set -eu
exec "$(dirname "$0")/../support/debian.sh" amtool prometheus-alertmanager alertmanager
