# shellcheck shell=bash
# The required programs. Names everything that is missing; as root on Debian installs it, with apt-get.

missing_packages=()
missing_sentences=()

lacks() { # PACKAGES (of Debian, or empty) SENTENCE
  # shellcheck disable=SC2206 # several packages in one argument
  missing_packages+=($1)
  missing_sentences+=("$2")
}

# Prints the path of a JDK of version 17 or newer, with jlink and the modules that it links.
find_jdk() {
  local home version
  for home in "${JAVA_HOME:-}" /usr/lib/jvm/java-17-openjdk-* "$(dirname "$(dirname "$(readlink -f "$(command -v javac || echo /none/none)")")")"; do
    [[ -x $home/bin/jlink && -x $home/bin/javac && -d $home/jmods ]] || continue
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release" 2>/dev/null)
    if ((${version:-0} >= 17)); then
      printf '%s\n' "$home"
      return 0
    fi
  done
  return 1
}

needs_go() {
  local version
  if ! command -v go >/dev/null; then
    lacks "" "Go is missing: install Go 1.26 or newer (https://go.dev/dl) and put it in PATH."
  elif ! version=$(cd "$HERE/misbehave" && GOWORK=off go env GOVERSION 2>/dev/null) || ! [[ $(printf '%s\n' go1.26 "$version" | sort -V | head -n 1) == go1.26 ]]; then
    lacks "" "Go is too old: install Go 1.26 or newer (https://go.dev/dl)."
  fi
}

needs_java() {
  find_jdk >/dev/null || lacks openjdk-17-jdk-headless "A JDK 17 or newer with jlink is missing, for the Spring Boot backend (Debian: openjdk-17-jdk-headless)."
  command -v mvn >/dev/null || lacks maven "Maven is missing, for the Spring Boot backend (Debian: maven)."
  command -v ldd >/dev/null || lacks libc-bin "ldd is missing, which finds the libraries for an image (Debian: libc-bin)."
}

needs_recording() {
  command -v jq >/dev/null || lacks jq "jq is missing, which tidies what is recorded (Debian: jq)."
  command -v curl >/dev/null || lacks curl "curl is missing, which records (Debian: curl)."
  command -v ip >/dev/null || lacks iproute2 "ip is missing, for a network of our own (Debian: iproute2)."
  command -v unshare >/dev/null || lacks util-linux "unshare is missing, for a network of our own (Debian: util-linux)."
}

# Installs missing packages where allowed, and otherwise names them and exits.
meet_prerequisites() {
  ((${#missing_sentences[@]} > 0)) || return 0
  local sentence
  for sentence in "${missing_sentences[@]}"; do complain "$sentence"; done
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null || ((${#missing_packages[@]} < ${#missing_sentences[@]})); then
    exit 1
  fi
  say "installing ${missing_packages[*]} with apt-get"
  {
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends "${missing_packages[@]}"
  } >&2 || fail "apt-get could not install ${missing_packages[*]}"
}
