# shellcheck shell=bash
# Which glibc a program needs.

# glibc_versions PROGRAM: the versions of glibc's symbols that PROGRAM names, the oldest first; fails if there are none.
# They stand as text in its table of dynamic strings, so this needs no binutils. GLIBC_ABI_… is a feature of the loader.
glibc_versions() { LC_ALL=C grep -aoE 'GLIBC_([0-9.]+|PRIVATE|ABI_[A-Z0-9_]+)' "$1" | sort -uV; }

# runs_with_glibc VERSION PROGRAM: fails if PROGRAM needs a newer glibc, and prints what it needs of it, the newest last.
runs_with_glibc() {
  local names name newer=()
  names=$(set -o pipefail && glibc_versions "$2") || return
  for name in $names; do
    [[ $name =~ ^GLIBC_[0-9.]+$ && $(printf '%s\n' "${name#GLIBC_}" "$1" | sort -V | tail -n 1) == "$1" ]] || newer+=("$name")
  done
  ((${#newer[@]} == 0)) || { printf '%s\n' "${newer[*]}" && return 1; }
}
