# shellcheck shell=bash
# Starting, finding and ending a cluster's processes.
#
# A pid alone is not a name: after a reboot, or on a busy machine, it belongs to somebody
# else. A pid file holds the pid and the moment of its start, and a component carries
# its cluster's directory in its environment, by which one without a pid file is found.

STARTED=() # by this run, for the exit trap

# Sleeps without a child in the foreground for which a signal's trap would have to wait.
nap() {
  sleep "$1" &
  wait $! || true
}

# Polls a lock, for the same reason.
take_lock() {
  local file=$1 message=$2 said=
  until flock -n "$file"; do
    # Not among what the command prints: somebody may read an address there.
    [[ -n $said ]] || say "$message" >&2
    said=yes
    nap 0.1
  done
}

# The start of a process in clock ticks since boot; fails if it is gone or a zombie.
start_of() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The name, in brackets, may hold spaces and brackets: count from the last one.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z && ${fields[0]} != X ]] || return 1
  printf '%s' "${fields[19]}"
}

# Prints the pid of a component that runs.
pid_of() {
  local pid start
  read -r pid start 2>/dev/null <"$RUN/$1.pid" || return 1
  [[ -n $start && $(start_of "$pid") == "$start" ]] || return 1
  printf '%s' "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# All processes of this cluster, or of another directory's, whoever started them.
pids_of_cluster() {
  local file
  grep -lszxF -- "VIGIE_CLUSTER_COMPONENT_OF=${1:-$CLUSTER_DIR}" /proc/[0-9]*/environ 2>/dev/null |
    while read -r file; do
      file=${file#/proc/}
      printf '%s\n' "${file%/environ}"
    done || true
}

# A component must outlive its starter and hold nothing of it: no lock, no pipe to a
# reader that waits for the end.
close_inherited_files() {
  local file
  for file in "/proc/$BASHPID/fd"/*; do
    file=${file##*/}
    ((file <= 2)) || eval "exec $file>&-"
  done
}

# launch NAME COMMAND...: in the background, in its own session, with a bare environment.
launch() {
  local name=$1 pid self start
  shift
  if [[ -s $LOGS/$name.log ]]; then
    mv "$LOGS/$name.log" "$LOGS/$name.previous.log"
  fi
  rm -f "$RUN/$name.pid"
  STARTED+=("$name")
  (
    trap - EXIT INT TERM HUP
    close_inherited_files
    cd /
    # Neither setsid nor env forks here, so this is the component's own pid. (Inside the
    # brackets of $(...), BASHPID would be another one.)
    self=$BASHPID
    start=$(start_of "$self")
    printf '%s %s\n' "$self" "$start" >"$RUN/$name.pid"
    exec setsid env -i PATH="$PATH" HOME="$CLUSTER_DIR" "VIGIE_CLUSTER_COMPONENT_OF=$CLUSTER_DIR" "$@"
  ) </dev/null >"$LOGS/$name.log" 2>&1 &
  # The pid file is the child's to write; without it the component would look dead.
  pid=$!
  disown "$pid" # or bash tells everybody when it is killed
  until [[ -s $RUN/$name.pid ]] || ! start_of "$pid" >/dev/null; do nap 0.01; done
}

# Waits, two seconds at most, until those that were just launched have written their pid files: a signal may have come
# between their fork and that, and then nobody could find them.
await_pid_files() {
  local name deadline=$((SECONDS + 2))
  for name in "$@"; do
    until [[ -s $RUN/$name.pid ]] || ((SECONDS >= deadline)); do nap 0.01; done
  done
}

# terminate SECONDS NAME...: asks all of them to end, and kills what has not by then. What a
# component leaves behind is then for its ended_NAME, if there is one.
terminate() {
  local patience=$1 name pid pids=() deadline
  shift
  for name in "$@"; do
    if pid=$(pid_of "$name"); then
      pids+=("$name")
      if ((patience > 0)); then
        kill -TERM "$pid" 2>/dev/null || true
      fi
    else
      rm -f "$RUN/$name.pid"
    fi
  done
  deadline=$((SECONDS + patience))
  for name in "${pids[@]}"; do
    while pid=$(pid_of "$name"); do
      ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
      nap 0.02
    done
    rm -f "$RUN/$name.pid"
  done
  for name in "${pids[@]}"; do
    ! declare -F "ended_$name" >/dev/null || "ended_$name"
  done
}

# Ends whatever of this cluster has no pid file: started by a run that was killed in
# between, or left by a removed directory.
end_strays() {
  local pid name known=" "
  for name in "$RUN"/*.pid; do
    [[ -e $name ]] || continue
    name=${name##*/}
    known+="$(pid_of "${name%.pid}" || true) "
  done
  for pid in $(pids_of_cluster); do
    # A container's keeper outlives the containerd that started it, and is taken over by the next one.
    ! alive node || [[ $(cat "/proc/$pid/comm" 2>/dev/null) != containerd-shim ]] || continue
    [[ $known == *" $pid "* ]] || kill -KILL "$pid" 2>/dev/null || true
  done
}

# For down: at once, since nothing of it is kept.
end_everything() {
  local pid pids
  while pids=$(pids_of_cluster) && [[ -n $pids ]]; do
    for pid in $pids; do
      kill -KILL "$pid" 2>/dev/null || true
    done
    nap 0.02
  done
  rm -f "$RUN"/*.pid
}

show_log_of() {
  complain "$1 ended; the last lines of $LOGS/$1.log:"
  tail -n 15 "$LOGS/$1.log" 2>/dev/null | cut -c1-400 | sed 's/^/    /' >&2 || true
}
