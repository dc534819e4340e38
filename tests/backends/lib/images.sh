# shellcheck shell=bash
# Builds the backends into a cache that all checkouts of this machine share: a directory for each, with a Dockerfile
# that needs no base image.

CACHE=${VIGIE_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set; set VIGIE_CACHE to say where to keep what is built}/.cache}/vigie}
CACHE=$(realpath -m -- "$CACHE")
IMAGES=$CACHE/backends

# The modules of the JDK that Spring Boot, Tomcat and the database drivers need. java.desktop is for java.beans.
jre_modules=java.base,java.desktop,java.instrument,java.management,java.naming,java.security.jgss,java.sql,java.xml,jdk.crypto.ec,jdk.management,jdk.unsupported

# The Spring Boot version of spring-4, in place of the pom's.
spring_four=4.0.0

# Prints the directory of an image, which may not exist yet: its key is a hash of all its inputs.
locate() {
  local what=$1 key
  key=$(
    cd "$HERE" || exit 1
    {
      cat lib/images.sh
      case $what in
        misbehave)
          (cd misbehave && GOWORK=off go env GOVERSION GOOS GOARCH 2>/dev/null) || echo none
          # Tests change no binary.
          find misbehave -type f ! -name '*_test.go' | LC_ALL=C sort | xargs cat
          ;;
        spring*)
          cat "$(find_jdk || echo /dev/null)/release" 2>/dev/null || true
          ldd --version 2>/dev/null | head -n 1
          find spring -type f ! -path '*/target/*' | LC_ALL=C sort | xargs cat
          ;;
      esac
    } | sha256sum | cut -c1-16
  )
  printf '%s\n' "$IMAGES/$key/$what"
}

# Builds the image if it is missing, and prints its directory.
ensure() {
  local what=$1 directory lock began=$SECONDS unfinished
  directory=$(locate "$what")
  if [[ ! -d $directory ]]; then
    mkdir -p "$IMAGES"
    exec {lock}>>"$IMAGES/lock"
    if ! flock -n "$lock"; then
      say "another build of the backends is under way; waiting for it"
      flock "$lock"
    fi
    if [[ ! -d $directory ]]; then
      # Under the lock no other run writes here: the remaining directories are from interrupted builds.
      rm -rf "$IMAGES"/unfinished.*
      unfinished=$(mktemp -d "$IMAGES/unfinished.XXXXXX")
      case $what in
        misbehave) build_misbehave "$unfinished" ;;
        spring) build_spring "$unfinished" "" ;;
        spring-4) build_spring "$unfinished" "$spring_four" ;;
      esac
      mkdir -p "$(dirname "$directory")"
      # mktemp makes it private; every user of an image may read it, and may write to /tmp, where Tomcat works.
      chmod -R go=u-w "$unfinished"
      [[ ! -d $unfinished/root/tmp ]] || chmod 1777 "$unfinished/root/tmp"
      # The directory gets its final name when it is complete.
      mv -T "$unfinished" "$directory"
      say "$what built in $((SECONDS - began)) s"
    fi
    exec {lock}>&-
  fi
  printf '%s\n' "$directory"
}

build_misbehave() {
  say "building misbehave … (half a minute the first time, then cached in $IMAGES)"
  (
    cd "$HERE/misbehave"
    go mod download >&2 || go mod download >&2
    env CGO_ENABLED=0 GOFLAGS= GOWORK=off go build -mod=readonly -trimpath -buildvcs=false -ldflags '-s -w' -o "$1/misbehave" . >&2
  ) || fail "building misbehave failed"
  cp "$HERE/misbehave/Dockerfile" "$1/"
}

# build_spring DIRECTORY VERSION: VERSION is that of Spring Boot; empty is that of the pom.
build_spring() {
  local directory=$1 version=$2 jdk work=$1/work
  jdk=$(find_jdk)
  say "building the Spring Boot ${version:-3.5} backend … (one to three minutes the first time: Maven fetches 60 MB; then cached in $IMAGES)"
  mkdir -p "$work" "$directory/root/app"
  cp -r "$HERE/spring/pom.xml" "$HERE/spring/src" "$work/"
  if [[ -n $version ]]; then
    sed -i "/<artifactId>spring-boot-starter-parent</,/<\/parent>/ s|<version>.*</version>|<version>$version</version>|" "$work/pom.xml"
  fi
  (cd "$work" && export JAVA_HOME=$jdk && { mvn -q -B -ntp package || { sleep 5 && mvn -q -B -ntp package; }; }) >"$work/log" 2>&1 || {
    complain "Maven failed; its last lines:"
    tail -n 20 "$work/log" | sed 's/^/    /' >&2
    exit 1
  }
  "$jdk/bin/jlink" --module-path "$jdk/jmods" --add-modules "$jre_modules" --strip-java-debug-attributes \
    --no-header-files --no-man-pages --compress=2 --output "$directory/root/jre" >&2 || fail "jlink failed"
  lay_application "$work/target/backend.jar" "$directory/root" >>"$work/log" 2>&1 || {
    complain "laying out the application failed; its last lines:"
    tail -n 20 "$work/log" | sed 's/^/    /' >&2
    exit 1
  }
  copy_libraries "$directory/root"
  mkdir "$directory/root/tmp"
  cp "$HERE/spring/Dockerfile" "$directory/"
  rm -rf "$work"
}

# The flags of the image's entry point: the compiler and the collector that start fastest and need least memory.
java_flags=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1)

# Spring Boot's own layout for containers, and an archive of its loaded classes (class data sharing): a start costs 3 s
# of a processor instead of 7.6. Java checks the age of the files that the archive refers to, except for files from
# 1970: with that date a copy need not keep the age.
lay_application() {
  local jar=$1 root=$2 java=$2/jre/bin/java
  # Joined by &&: `set -e` has no effect where the caller tests the status.
  "$java" -Xshare:dump "${java_flags[@]}" &&
    "$java" -Djarmode=tools -jar "$jar" extract --destination "$root/app" --force &&
    touch -d @0 "$root"/app/backend.jar "$root"/app/lib/*.jar &&
    (
      cd "$root/app" &&
        env -i SPRING_DATASOURCE_URL=jdbc:h2:mem:backend "$java" "${java_flags[@]}" \
          -XX:ArchiveClassesAtExit=backend.jsa -Dspring.context.exit=onRefresh -jar backend.jar
    ) && [[ -e $root/app/backend.jsa ]]
}

# Copies the loader and the libraries that a JRE without a screen needs to the paths where the loader looks for them.
copy_libraries() {
  local root=$1 library name folder
  mkdir -p "$root/etc" "$root/lib" "$root/lib64"
  # The loader must be at the path that is written in every program.
  for library in "$root"/jre/bin/java "$root"/jre/lib/server/libjvm.so "$root"/jre/lib/lib{java,net,nio,zip,management,management_ext,extnet,instrument,jimage,verify}.so; do
    [[ ! -e $library ]] || ldd "$library"
  done | awk '$1 ~ /^\// { print $1 } $3 ~ /^\// { print $3 }' | grep -v "^$root/" | sort -u >"$root/libraries"
  # Name resolution loads these at runtime, on its first use.
  folder=$(dirname "$(grep -m 1 '/libc\.so\.' "$root/libraries")")
  for name in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do printf '%s\n' "$folder/$name" >>"$root/libraries"; done
  while read -r library; do
    [[ -e $library ]] || continue
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done <"$root/libraries"
  rm "$root/libraries"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  printf 'root:x:0:0::/:/\nbackend:x:1000:1000::/:/\n' >"$root/etc/passwd"
}
