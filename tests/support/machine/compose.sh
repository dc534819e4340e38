#!/usr/bin/env bash
# tests/support/machine/compose.sh: prints the path of docker compose 2, which the Debian 12 of the test machines does not
# have: that of Debian 13, unpacked into the vigie cache. Nothing is installed. It fails with one sentence when it cannot.
set -euo pipefail
cache=${VIGIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vigie}/machine/compose
compose=$cache/usr/libexec/docker/cli-plugins/docker-compose

build() {
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$cache"/{lists/partial,archives/partial}
  printf 'deb [signed-by=%s] http://deb.debian.org/debian trixie main\n' "$keys" >"$cache/sources.list"
  : >"$cache/status"
  local apt=(apt-get -q -o "Dir::Etc::sourcelist=$cache/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$cache/lists" -o "Dir::State::status=$cache/status" -o "Dir::Cache=$cache"
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
  if ! (cd "$cache" && "${apt[@]}" update && "${apt[@]}" download docker-compose && dpkg -x docker-compose_*.deb .) >"$cache/log" 2>&1; then
    printf 'docker compose 2 cannot be fetched from Debian 13: %s\n' "$(tail -n 1 "$cache/log")" >&2
    return 1
  fi
  rm -rf "$cache"/{lists,archives,*.deb,*.bin}
}

mkdir -p "$cache"
if [[ ! -x $compose ]]; then
  exec 9>"$cache/lock"
  flock 9
  [[ -x $compose ]] || build
fi
printf '%s\n' "$compose"
