# shellcheck shell=bash
# Output of the commands. Progress goes to stderr: stdout is for the caller to read.

say() { printf '%s\n' "$*" >&2; }

complain() { printf 'backends: %s\n' "$*" >&2; }

fail() {
  complain "$@"
  exit 1
}

refuse() {
  complain "$@"
  exit 2
}
