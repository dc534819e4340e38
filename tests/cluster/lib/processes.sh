# shellcheck shell=bash
# Starts, finds and ends a cluster's processes.
#
# A pid alone does not identify a process: after a reboot, or on a busy machine, another process may have it. A pid file
# holds the pid and the moment of its start, and a component has its cluster's directory in its environment, by which it
# is found without a pid file.

STARTED=() # by this run, for the exit trap

# Sleeps without a child in the foreground: bash runs a signal's trap only after it.
nap() {
  sleep "$1" &
  wait $! || true
}

# Polls a lock, for the same reason.
take_lock() {
  local file=$1 message=$2 said=
  until flock -n "$file"; do
    # On stderr: the caller may read an address from stdout.
    [[ -n $said ]] || say "$message" >&2
    said=yes
    nap 0.1
  done
}

# The start of a process in clock ticks since boot; fails if it is gone or a zombie.
start_of() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The name, in brackets, may contain spaces and brackets: count from the last bracket.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z && ${fields[0]} != X ]] || return 1
  printf '%s' "${fields[19]}"
}

# Prints the pid of a running component.
pid_of() {
  local pid start
  read -r pid start 2>/dev/null <"$RUN/$1.pid" || return 1
  [[ -n $start && $(start_of "$pid") == "$start" ]] || return 1
  printf '%s' "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# All processes of this cluster, or of another directory's, whichever run started them.
pids_of_cluster() {
  local file
  grep -lszxF -- "VIGIE_CLUSTER_COMPONENT_OF=${1:-$CLUSTER_DIR}" /proc/[0-9]*/environ 2>/dev/null |
    while read -r file; do
      file=${file#/proc/}
      printf '%s\n' "${file%/environ}"
    done || true
}

# A component must outlive its starter and keep none of its open files: no lock, and no pipe whose reader waits for the
# end.
close_inherited_files() {
  local file
  for file in "/proc/$BASHPID/fd"/*; do
    file=${file##*/}
    ((file <= 2)) || eval "exec $file>&-"
  done
}

# launch NAME COMMAND...: in the background, in its own session, with a minimal environment.
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
    # Neither setsid nor env forks here, so this is the component's own pid. (Inside the brackets of $(...), BASHPID
    # would be another one.)
    self=$BASHPID
    start=$(start_of "$self")
    printf '%s %s\n' "$self" "$start" >"$RUN/$name.pid"
    exec setsid env -i PATH="$PATH" HOME="$CLUSTER_DIR" "VIGIE_CLUSTER_COMPONENT_OF=$CLUSTER_DIR" "$@"
  ) </dev/null >"$LOGS/$name.log" 2>&1 &
  # The child writes the pid file; without the file the component would look dead.
  pid=$!
  disown "$pid" # or bash prints a message when it is killed
  until [[ -s $RUN/$name.pid ]] || ! start_of "$pid" >/dev/null; do nap 0.01; done
}

# Waits, two seconds at most, until the components that were just launched have written their pid files: after a signal
# between the fork and the write no command could find them.
await_pid_files() {
  local name deadline=$((SECONDS + 2))
  for name in "$@"; do
    until [[ -s $RUN/$name.pid ]] || ((SECONDS >= deadline)); do nap 0.01; done
  done
}

# terminate SECONDS NAME...: asks all of them to end, and kills those that have not by then. ended_NAME, if defined,
# removes what a component leaves behind.
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

# Ends every process of this cluster without a pid file: started by a run that was killed before the write, or left by a
# removed directory.
end_strays() {
  local pid name known=" "
  for name in "$RUN"/*.pid; do
    [[ -e $name ]] || continue
    name=${name##*/}
    known+="$(pid_of "${name%.pid}" || true) "
  done
  for pid in $(pids_of_cluster); do
    # A container's shim outlives the containerd that started it; the next containerd adopts it.
    ! alive node || [[ $(cat "/proc/$pid/comm" 2>/dev/null) != containerd-shim ]] || continue
    [[ $known == *" $pid "* ]] || kill -KILL "$pid" 2>/dev/null || true
  done
}

# For down: kills at once, because nothing of it is kept.
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
