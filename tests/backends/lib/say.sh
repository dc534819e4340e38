# shellcheck shell=bash
# What the commands tell. Progress goes to stderr: stdout is for what the caller reads.

say() { printf '%s\n' "$*" >&2; }

complain() { printf 'backends: %s\n' "$*" >&2; }

fail() {
  complain "$@"
  exit 1
}

# Wrong usage.
refuse() {
  complain "$@"
  exit 2
}
