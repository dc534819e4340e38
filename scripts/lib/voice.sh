# shellcheck shell=bash
# Output of the demo. Colours only on a terminal.

BOLD='' DIM='' BLUE='' GREEN='' RED='' PLAIN=''
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' BLUE=$'\e[34m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'
fi

# A reader that has closed the pipe must not stop the demo: cleanup still has to run.
print() { printf '%s\n' "$@" 2>/dev/null || true; }

chapter() { print "" "${BOLD}== $*$PLAIN"; }

# Prose, in lines that fit.
say() { fold -s -w 100 <<<"$*" | sed 's, *$,,' 2>/dev/null || true; }

say_above() { print "" "$*"; }

# A command as a reader would type it.
prompt() { print "$BLUE\$ $*$PLAIN"; }

aside() { print "$DIM$*$PLAIN"; }

shown() { print "$GREEN   ok: $*$PLAIN"; }

# An expected result was not seen.
fail() {
  printf '%sdemo: %s%s\n' "$RED" "$*" "$PLAIN" >&2
  exit 1
}

complain() { printf 'demo: %s\n' "$*" >&2; }

indent() { sed 's/^/   /'; }
