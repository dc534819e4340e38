# shellcheck shell=bash
# The programs, built from pinned Go modules into a cache that all checkouts of this
# machine share.

CACHE=${VIGIE_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set; set VIGIE_CACHE to say where to keep the built tools}/.cache}/vigie}
CACHE=$(realpath -m -- "$CACHE")
TOOLS_CACHE=$CACHE/cluster-tools

BUILD_PID=

# Sets TOOLS and NODE_TOOLS, the directories of the binaries and of those that only the profile real needs, TOOLS_KEY
# and NODE_TOOLS_KEY, and HELM3 and HELM4, which are programs. They may not exist yet.
locate_tools() {
  local go_version
  # Run inside the module, where Go may switch to a newer toolchain.
  go_version=$(cd "$HERE/kubernetes" && GOWORK=off go env GOVERSION GOOS GOARCH 2>/dev/null) || go_version=none
  # shellcheck source=lib/recipe.sh
  source "$HERE/lib/recipe.sh"
  TOOLS_KEY=$(key_of_tools "$recipe_tools" {kubernetes,kwok}/go.{mod,sum} certificates/{go.mod,main.go})
  TOOLS=$TOOLS_CACHE/$TOOLS_KEY/bin
  NODE_TOOLS_KEY=$(key_of_tools "$recipe_node_tools" {kubernetes,coredns}/go.{mod,sum} coredns/main.go)
  NODE_TOOLS=$TOOLS_CACHE/$NODE_TOOLS_KEY/bin
  HELM3=$TOOLS_CACHE/$(key_of_tools "$recipe_helm3_tools" helm3/go.{mod,sum})/bin/helm3
  HELM4=$TOOLS_CACHE/$(key_of_tools "$recipe_helm4_tools" helm4/go.{mod,sum})/bin/helm4
}

# key_of_tools TABLE FILE...: a hash of the inputs of the tools in a table.
key_of_tools() {
  local table=$1
  shift
  (
    cd "$HERE"
    # The comments beside the flags, and the build times, change no binary.
    printf '%s\n' "$go_version" "${recipe_environment[@]}" "${recipe_build[@]}"
    awk '{ print $1, $2, $3 }' <<<"$table"
    cat "$@"
  ) | sha256sum | cut -c1-16
}

# Names everything that is missing, not only the first.
check_prerequisites() {
  local missing=0 version
  if ! command -v go >/dev/null; then
    complain "Go is missing: install Go 1.26 or newer (https://go.dev/dl) and put it in PATH."
    missing=1
  elif ! version=$(cd "$HERE/kubernetes" && GOWORK=off go env GOVERSION 2>/dev/null) || ! newer_than_1_25 "$version"; then
    complain "Go is too old ($(go env GOVERSION 2>/dev/null || echo "version unknown")): install Go 1.26 or newer (https://go.dev/dl)."
    missing=1
  fi
  if ! command -v "${CC:-cc}" >/dev/null; then
    complain "A C compiler is missing: install gcc or clang (Debian and Ubuntu: apt-get install build-essential)."
    missing=1
  fi
  if ! command -v make >/dev/null; then
    complain "make is missing: install GNU make (Debian and Ubuntu: apt-get install make)."
    missing=1
  fi
  ((missing == 0)) || exit 1
}

newer_than_1_25() {
  [[ $1 =~ ^go([0-9]+)\.([0-9]+) ]] || return 1
  ((BASH_REMATCH[1] > 1 || BASH_REMATCH[2] >= 26))
}

# ensure_tools [node]: builds the missing tools of the control plane, and with `node` those of the node.
ensure_tools() {
  # A directory gets its final name when it is complete, see build_tools.
  [[ -d $TOOLS ]] || build_tools "$TOOLS" "$recipe_tools" \
    "building Kubernetes $recipe_kubernetes_version and its companions from Go modules: 5 to 12 minutes the first time
(about 1 GB of sources is downloaded), then cached in $TOOLS_CACHE"
  [[ ${1:-} != node || -d $NODE_TOOLS ]] || build_tools "$NODE_TOOLS" "$recipe_node_tools" \
    "building the node's tools from Go modules: about 3 minutes the first time, then cached in $TOOLS_CACHE"
}

# Prints the path of helm, of the given major version; builds it first if needed.
helm() {
  locate_tools
  case ${1:-} in
    3)
      [[ -x $HELM3 ]] || build_tools "$(dirname "$HELM3")" "$recipe_helm3_tools" "building Helm 3 from Go modules, once" >&2
      printf '%s\n' "$HELM3"
      ;;
    4)
      [[ -x $HELM4 ]] || build_tools "$(dirname "$HELM4")" "$recipe_helm4_tools" "building Helm 4 from Go modules, once" >&2
      printf '%s\n' "$HELM4"
      ;;
    *) refuse "helm wants its major version, 3 or 4" ;;
  esac
}

# build_tools DIRECTORY TABLE ANNOUNCEMENT
build_tools() {
  local bin=$1 table=$2 announcement=$3 lock unfinished tool module package takes count=0 total began=$SECONDS
  check_prerequisites
  mkdir -p "$TOOLS_CACHE"
  exec {lock}>>"$TOOLS_CACHE/lock"
  take_lock "$lock" "another build of the cluster's tools is under way; waiting for it"
  if [[ -d $bin ]]; then # built by the run that held the lock
    exec {lock}>&-
    return
  fi

  # Under the lock no other run writes here: the remaining directories are from interrupted builds.
  rm -rf "$TOOLS_CACHE"/unfinished.*
  unfinished=$(mktemp -d "$TOOLS_CACHE/unfinished.XXXXXX")
  mkdir "$unfinished/bin"
  total=$(grep -c . <<<"$table")
  say "$announcement"
  while read -r tool module package takes; do
    [[ -n $tool ]] || continue
    count=$((count + 1))
    say "[$count/$total] building $tool … ($takes the first time, then cached)"
    build_tool "$tool" "$module" "$package" "$unfinished"
  done <<<"$table"
  rm -f "$unfinished"/*.log
  mv -T "$unfinished" "${bin%/bin}"
  exec {lock}>&-
  say "tools built in $((SECONDS - began)) s"
}

build_tool() {
  local tool=$1 module=$2 package=$3 unfinished=$4 began=$SECONDS told=$SECONDS
  # In a session of its own, so that an interrupt can end the compilers with it.
  (
    close_inherited_files
    cd "$HERE/$module"
    # Go does not retry a download that breaks off; the completed part is kept.
    exec setsid env "${recipe_environment[@]}" bash -c 'tries=1; until "$@"; do ((tries++ < 3)) || exit 1; sleep 5; done' \
      build "${recipe_build[@]}" -o "$unfinished/bin/$tool" "$package"
  ) </dev/null >"$unfinished/$tool.log" 2>&1 &
  BUILD_PID=$!
  while kill -0 "$BUILD_PID" 2>/dev/null; do
    if ((SECONDS - told >= 30)); then
      say "      $tool: $((SECONDS - began)) s so far"
      told=$SECONDS
    fi
    nap 0.2
  done
  if ! wait "$BUILD_PID"; then
    BUILD_PID=
    complain "building $tool failed; its last lines:"
    tail -n 20 "$unfinished/$tool.log" | sed 's/^/    /' >&2
    exit 1
  fi
  BUILD_PID=
}

# For the exit trap: ends a running build, including its compilers.
abandon_build() {
  [[ -n $BUILD_PID ]] || return 0
  kill -TERM -- "-$BUILD_PID" 2>/dev/null || kill -TERM "$BUILD_PID" 2>/dev/null || true
  wait "$BUILD_PID" 2>/dev/null || true
  BUILD_PID=
  rm -rf "$TOOLS_CACHE"/unfinished.*
}
