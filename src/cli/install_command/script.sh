#!/usr/bin/env bash
# Installs the agent of vigie @VERSION@ for the connector @NAME@, or updates it: run it as root on the host.
# It does nothing before its last line has arrived.
vigie_install() {
  set -euo pipefail
  unset vigie_token vigie_work
  local vigie_token=@TOKEN@
  local url=@URL@ connector=@CONNECTOR@ download=@DOWNLOAD@ sha256=@SHA256@ binary=/usr/local/bin/vigie
  local program=$binary tool

  vigie_stop() {
    printf 'vigie: %s\n' "$1" >&2
    exit 1
  }

  [[ $(uname -sm) == 'Linux x86_64' ]] || vigie_stop 'the agent is built for Linux on x86_64; other hosts send heartbeats by curl, see docs/agent.md'
  [[ $(id -u) == 0 ]] || vigie_stop 'run this as root'
  [[ -d /run/systemd/system ]] || vigie_stop 'this host does not run systemd'
  for tool in curl sha256sum mktemp; do
    command -v "$tool" >/dev/null || vigie_stop "there is no $tool on this host"
  done

  # Asked for once: an update uses the token that is there.
  if [[ -z $vigie_token && ! -s /etc/vigie/agent.token ]]; then
    if [[ -f ${BASH_SOURCE[0]:-} && ! -t 0 ]]; then
      IFS= read -r vigie_token || [[ -n $vigie_token ]] || vigie_stop 'there is no token on standard input'
    elif { : </dev/tty; } 2>/dev/null; then
      IFS= read -rsp "token of $connector: " vigie_token </dev/tty
      printf '\n' >/dev/tty
    else
      vigie_stop 'there is no terminal to ask for the token on: make the script with --with-token, or save it and give the token on standard input'
    fi
    [[ -n $vigie_token ]] || vigie_stop 'the token is empty'
  fi

  if ! vigie_is_wanted "$binary"; then
    vigie_work=$(mktemp -d /usr/local/lib/.vigie-install.XXXXXX)
    trap 'rm -rf "$vigie_work"' EXIT
    program=$vigie_work/vigie
    vigie_fetch || vigie_stop "the binary cannot be downloaded from ${download:-$url}"
    vigie_is_wanted "$program" || vigie_stop "the binary from ${download:-$url} is not that of this script (vigie @VERSION@): make the script by the vigie of the operator's image, or with --sha256"
    chmod 755 "$program"
    "$program" --version </dev/null || vigie_stop 'this binary does not run on this host; nothing was changed'
  fi

  # The token is in no argument and no environment.
  if [[ -n $vigie_token ]]; then
    printf '%s\n' "$vigie_token" | "$program" agent install --token-stdin @ARGUMENTS@
  else
    "$program" agent install @ARGUMENTS@ </dev/null
  fi
}

vigie_is_wanted() {
  [[ -f $1 ]] && printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status
}

vigie_fetch() {
  local options=(--fail --silent --show-error --retry 3 --connect-timeout 10 --max-time 300 --output "$program")
  @PROTOCOL@
  if [[ -n $download ]]; then
    curl "${options[@]}" --location "$download" </dev/null
    return
  fi
  local token=${vigie_token:-$(tr -d '[:space:]' </etc/vigie/agent.token)}
  token=${token//\\/\\\\}
  printf 'header = "Authorization: Bearer %s"\n' "${token//\"/\\\"}" |
    curl "${options[@]}" --config - "$url/api/agent/linux-x86_64?connector_id=$connector"
}

vigie_install
