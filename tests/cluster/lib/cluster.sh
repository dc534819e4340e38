# shellcheck shell=bash
# The commands. All but status and env hold the cluster directory's lock.

MARK=$CLUSTER_DIR/.vigie-cluster # the lock, and the mark of a cluster directory

use_profile() {
  PROFILE=$1
  [[ $PROFILE =~ ^[a-z]+$ && -f $HERE/profiles/$PROFILE.sh ]] ||
    refuse "no such profile: $PROFILE (there are simulated and real)"
  # shellcheck source=profiles/simulated.sh
  source "$HERE/profiles/$PROFILE.sh"
}

recorded() { cat "$RUN/$1" 2>/dev/null || true; }

record() {
  printf '%s\n' "$2" >"$RUN/$1.new"
  mv "$RUN/$1.new" "$RUN/$1"
}

# Takes the lock of a directory that other commands may create or remove meanwhile. Fails if there is none, unless told
# to create it.
lock_cluster() {
  local make=${1:-}
  while :; do
    if [[ ! -e $MARK ]]; then
      [[ $make == make ]] || return 1
      if [[ -d $CLUSTER_DIR && -n $(ls -A "$CLUSTER_DIR") && ! -e $MARK ]]; then
        refuse "$CLUSTER_DIR holds something else: name an empty directory in CLUSTER_DIR"
      fi
      mkdir -p "$CLUSTER_DIR" || fail "cannot make $CLUSTER_DIR"
      chmod 700 "$CLUSTER_DIR" || continue
    fi
    if ! { exec {CLUSTER_LOCK}>>"$MARK"; } 2>/dev/null; then
      [[ ! -d $CLUSTER_DIR ]] || fail "cannot write $MARK"
      continue
    fi
    take_lock "$CLUSTER_LOCK" "another command works on $CLUSTER_DIR; waiting for it"
    # If the holder removed the locked file with its directory, lock again.
    if [[ "/proc/$$/fd/$CLUSTER_LOCK" -ef $MARK ]]; then
      return 0
    fi
    exec {CLUSTER_LOCK}>&-
  done
}

# The hash of the inputs of the components' flags and files; when it changes, they are restarted.
settings() {
  (
    cd "$HERE"
    cat lib/control-plane.sh profiles/simulated.sh audit-policy.yaml kwok/*.yaml kwok/stages/*.yaml
    [[ $PROFILE == simulated ]] || cat "profiles/$PROFILE.sh" "$PROFILE"/*.yaml
  ) | sha256sum | cut -c1-16
}

up() {
  local profile='' only='' wanted before
  while (($# > 0)); do
    case $1 in
      --profile) profile=${2:-} && shift ;;
      --profile=*) profile=${1#*=} ;;
      --only) only=${2:-} && shift ;;
      --only=*) only=${1#*=} ;;
      *) refuse "up does not know $1" ;;
    esac
    shift || refuse "up: a word is missing after the last flag"
  done
  # Without a --profile the running cluster keeps its profile.
  [[ -n $profile ]] || profile=$(recorded profile)
  use_profile "${profile:-simulated}"
  profile_check
  case $only in
    '') wanted=("${PROFILE_COMPONENTS[@]}") ;;
    control-plane) wanted=(etcd apiserver) ;;
    *) refuse "--only knows control-plane, not $only" ;;
  esac

  locate_tools
  ensure_tools "$PROFILE_TOOLS"
  lock_cluster make
  before=$(recorded profile)
  if [[ -n $before && $before != "$PROFILE" ]]; then
    say "the running cluster has the profile $before: replacing it"
    demolish
  elif [[ -n $before && $(recorded tools) != "$(keys_of_tools)" ]]; then
    say "the running cluster was built from other versions: replacing it"
    demolish
  fi
  profile_claim
  if is_healthy "${wanted[@]}"; then
    say "the cluster is up already (profile $PROFILE)"
  else
    repair "${wanted[@]}"
  fi
  STARTED=()
  say "  export KUBECONFIG=$(printf %q "$CLUSTER_DIR/kubeconfig")"
}

keys_of_tools() { printf '%s' "$TOOLS_KEY${PROFILE_TOOLS:+ $NODE_TOOLS_KEY}"; }

# The steps that take long and need no root.
build() {
  case $* in
    '' | '--profile simulated' | '--profile=simulated') use_profile simulated ;;
    '--profile real' | '--profile=real') use_profile real ;;
    *) refuse "build does not know $*" ;;
  esac
  locate_tools
  ensure_tools "$PROFILE_TOOLS"
  say "the tools are in $TOOLS${PROFILE_TOOLS:+ and $NODE_TOOLS}"
}

# Whether exactly these components run, with the current settings, and answer.
is_healthy() {
  local name
  [[ $(recorded settings) == "$(settings)" && $(recorded components) == "$*" ]] || return 1
  for name in "$@"; do alive "$name" || return 1; done
  apiserver_is_ready || return 1
  [[ " $* " != *" kwok "* ]] || profile_is_usable
}

repair() {
  local name running=() began=$SECONDS
  mkdir -p "$RUN" "$LOGS" "$DATA" "$CLUSTER_DIR/bin"
  printf '*\n' >"$CLUSTER_DIR/.gitignore"
  record profile "$PROFILE"
  record tools "$(keys_of_tools)"
  ln -sfn -t "$CLUSTER_DIR/bin" "$TOOLS"/*
  [[ -z $PROFILE_TOOLS ]] || ln -sfn -t "$CLUSTER_DIR/bin" "$NODE_TOOLS"/*
  end_strays
  for name in "${PROFILE_COMPONENTS[@]}"; do
    ! alive "$name" || running+=("$name")
  done
  if ((${#running[@]} > 0)); then
    if [[ $(recorded settings) == "$(settings)" ]]; then
      say "running already: ${running[*]}; repairing the rest"
    else
      say "the cluster's settings changed: restarting ${running[*]}"
      stop_in_order
    fi
  fi
  for name in "${PROFILE_COMPONENTS[@]}"; do
    [[ " $* " == *" $name "* ]] || terminate 10 "$name"
  done
  record components "$*"
  record settings "$(settings)"

  [[ -d $PKI ]] || make_certificates
  ensure_ports
  write_kubeconfigs
  say "starting etcd and the API server"
  ensure_control_plane
  if [[ " $* " == *" kwok "* ]]; then
    ensure_the_rest "$@"
  fi
  print_env >"$CLUSTER_DIR/env"
  say "the cluster is up (profile $PROFILE, Kubernetes $recipe_kubernetes_version, $((SECONDS - began)) s)"
}

# Ports are kept over restarts, unless another process took one while its component was dead.
ensure_ports() {
  local name port
  for name in "${PROFILE_PORTS[@]}"; do
    if ! port=$(port_of "$name") || { ! alive "${name%-metrics}" && port_is_taken "$port"; }; then
      stop_in_order
      choose_ports "${PROFILE_PORTS[@]}"
      return
    fi
  done
}

# Repairs in three steps, the gentlest first: start the missing components, restart all, delete the data (etcd runs
# without fsync: after a crash of the machine they may be unreadable).
ensure_control_plane() {
  local kept='' old=''
  [[ ! -d $DATA/etcd ]] || kept=yes
  if alive etcd || alive apiserver; then old=yes; fi
  if start_control_plane; then return; fi
  stop_in_order
  if [[ -n $old ]]; then
    say "restarting all of it"
    if start_control_plane; then return; fi
    stop_in_order
  fi
  if [[ -n $kept ]]; then
    say "the kept data seem unusable: starting with empty data"
    rm -rf "$DATA/etcd"
    if start_control_plane; then return; fi
  fi
  exit 1
}

# All but the control plane. A component that ran before and does not become ready is restarted once.
ensure_the_rest() {
  local name old=''
  wait_for "the nodes' objects" "$READY_WITHIN" etcd apiserver -- profile_prepare || exit 1
  say "starting the controllers, the scheduler and the nodes"
  for name in "${PROFILE_COMPONENTS[@]:2}"; do
    if alive "$name"; then old=yes; fi
    start_if_dead "$name"
  done
  if wait_for "a usable cluster" "$READY_WITHIN" "$@" -- profile_is_usable; then return; fi
  [[ -n $old ]] || exit 1
  say "restarting them"
  stop_the_rest
  for name in "${PROFILE_COMPONENTS[@]:2}"; do start_if_dead "$name"; done
  wait_for "a usable cluster" "$READY_WITHIN" "$@" -- profile_is_usable || exit 1
}

# All but the control plane, in reverse order.
stop_the_rest() {
  local name names=()
  for name in "${PROFILE_COMPONENTS[@]:2}"; do names=("$name" "${names[@]}"); done
  terminate 10 "${names[@]}"
}

# Clients first, so that they do not fill their logs with errors about a server that has ended.
stop_in_order() {
  stop_the_rest
  terminate 10 apiserver
  terminate 10 etcd
}

# Ends the processes, and undoes their changes to the machine.
clear_away() {
  end_everything
  if owns_machine; then clear_machine; fi
}

# Removes everything but the lock, and the directory itself if it is empty.
demolish() {
  clear_away
  give_ports_back
  (
    cd "$CLUSTER_DIR"
    rm -rf run logs data pki bin env containerd.sock kubeconfig* audit*.log .gitignore .certificates-*
  )
}

down() {
  (($# == 0)) || refuse "down takes no argument"
  if ! lock_cluster; then
    # The directory may have been removed under a running cluster.
    clear_away
    say "no cluster in $CLUSTER_DIR"
    return
  fi
  demolish
  rm -f "$MARK"
  rmdir "$CLUSTER_DIR" 2>/dev/null || true
  say "the cluster is down"
}

status() {
  local name pid components profile worst=0
  profile=$(recorded profile)
  if [[ -z $profile ]]; then
    say "no cluster in $CLUSTER_DIR"
    exit 3
  fi
  use_profile "$profile"
  profile_resume
  locate_tools
  say "profile     $PROFILE, Kubernetes $recipe_kubernetes_version"
  say "directory   $CLUSTER_DIR"
  say "kubeconfig  $CLUSTER_DIR/kubeconfig"
  say "server      https://$APISERVER_ADDRESS:$(port_of apiserver || true)"
  read -ra components <<<"$(recorded components)"
  for name in "${components[@]}"; do
    if pid=$(pid_of "$name"); then
      printf '%-20s running, pid %s, %s MiB\n' "$name" "$pid" "$(memory_of "$pid")"
    else
      printf '%-20s not running\n' "$name"
      worst=3
    fi
  done
  if ((worst == 0)) && ! apiserver_is_ready; then
    say "the API server is not ready"
    worst=3
  elif ((worst == 0)) && [[ " ${components[*]} " == *" kwok "* ]] && ! profile_is_usable; then
    say "not all nodes are Ready"
    worst=3
  fi
  if ((worst == 0)); then
    say "healthy"
  else
    say "not healthy: $HERE/cluster up repairs it"
  fi
  exit "$worst"
}

memory_of() {
  awk '$1 == "VmRSS:" { printf "%d", $2 / 1024 }' "/proc/$1/status" 2>/dev/null || true
}

print_env() {
  local profile name line
  profile=$(recorded profile)
  printf 'export KUBECONFIG=%q\n' "$CLUSTER_DIR/kubeconfig"
  # shellcheck disable=SC2016 # the PATH of the calling shell, not this script's
  printf 'export PATH=%q:$PATH\n' "$CLUSTER_DIR/bin"
  [[ -n $profile ]] || return 0
  use_profile "$profile"
  profile_resume
  printf 'export CLUSTER_PROFILE=%q\n' "$PROFILE"
  profile_variables | while IFS='=' read -r name line; do printf 'export %s=%q\n' "$name" "$line"; done
}

# Takes the lock and sets COMPONENTS from the given names, with or without "kube-".
name_components() {
  local name known
  COMPONENTS=()
  lock_cluster || fail "no cluster in $CLUSTER_DIR"
  use_profile "$(recorded profile)"
  profile_resume
  read -ra known <<<"$(recorded components)"
  for name in "$@"; do
    name=${name#kube-}
    [[ " ${known[*]} " == *" $name "* ]] || refuse "no such component: $name (there are ${known[*]})"
    COMPONENTS+=("$name")
  done
}

stop_component() {
  local names=() patience=30
  while (($# > 0)); do
    case $1 in
      --kill) patience=0 ;;
      -*) refuse "stop-component does not know $1" ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  ((${#names[@]} > 0)) || refuse "stop-component wants a component's name"
  name_components "${names[@]}"
  terminate "$patience" "${COMPONENTS[@]}"
  say "stopped ${COMPONENTS[*]}"
}

start_component() {
  local name
  (($# > 0)) || refuse "start-component wants a component's name"
  locate_tools
  name_components "$@"
  for name in "${COMPONENTS[@]}"; do
    start_if_dead "$name"
    case $name in
      etcd) wait_for "etcd's port" "$READY_WITHIN" etcd -- port_is_taken "$(port_of etcd)" || exit 1 ;;
      apiserver) wait_for "a ready API server" "$READY_WITHIN" apiserver -- apiserver_is_ready || exit 1 ;;
    esac
  done
  STARTED=()
  say "started ${COMPONENTS[*]}"
}
