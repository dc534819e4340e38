# shellcheck shell=bash
# Output of the commands.

# Progress. A reader that has closed the pipe (`up | head -1`) must not cause a failure.
say() { printf '%s\n' "$*" 2>/dev/null || true; }

complain() { printf 'cluster: %s\n' "$*" >&2; }

# Usage errors and missing prerequisites.
refuse() {
  complain "$@"
  exit 2
}

fail() {
  complain "$@"
  exit 1
}
