# shellcheck shell=bash
# What the commands tell.

# Progress. A reader that went away (`up | head -1`) is no reason to fail.
say() { printf '%s\n' "$*" 2>/dev/null || true; }

complain() { printf 'cluster: %s\n' "$*" >&2; }

# Usage errors and what is not there yet.
refuse() {
  complain "$@"
  exit 2
}

fail() {
  complain "$@"
  exit 1
}
