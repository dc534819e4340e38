# shellcheck shell=bash
# Helpers of the selftest's proofs.

cluster() { CLUSTER_DIR=$DIR "$HERE/cluster" "$@"; }
kube() { KUBECACHEDIR=$SCRATCH/kube-cache "$DIR/bin/kubectl" --kubeconfig "$DIR/kubeconfig" "$@"; }

fail() {
  printf '    %s\n' "$@" >&2
  exit 1
}

# eventually SECONDS COMMAND...
eventually() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "never came true: $*"
    sleep 0.1
  done
}

# Processes that have the directory in their arguments: not the method of the scripts under test.
pids_under() {
  local file
  printf '%s' "$1" >"$SCRATCH/pattern"
  grep -lsF -f "$SCRATCH/pattern" /proc/[0-9]*/cmdline 2>/dev/null | while read -r file; do
    file=${file#/proc/}
    printf '%s\n' "${file%/cmdline}"
  done || true
}

nothing_runs_under() { [[ -z $(pids_under "$1") ]]; }

kill_all_under() {
  local pid
  for pid in $(pids_under "$1"); do kill -KILL "$pid" 2>/dev/null || true; done
  eventually 10 nothing_runs_under "$1"
}

all_pids() { cat "$DIR"/run/*.pid | sort; }

milliseconds() { date +%s%3N; }

# A PATH with the usual commands but without the given ones.
path_without() {
  local dir file
  rm -rf "${SCRATCH:?}/bin"
  mkdir "$SCRATCH/bin"
  for dir in /bin /usr/bin /usr/local/bin; do
    [[ -d $dir ]] && ln -sf -t "$SCRATCH/bin" "$dir"/* 2>/dev/null
  done
  for file in "$@"; do rm -f "$SCRATCH/bin/$file"; done
  printf '%s' "$SCRATCH/bin"
}
