# shellcheck shell=bash
# The answers of the Spring Boot backend, under one setting after the other.

ROOT= # the image's root, as a container sees it
APPLICATION=
SETTINGS=()

# The groups that can be recorded separately.
spring_groups=(defaults exposed exposure paths unhealthy configuration databases wrong_password)

# record_spring IMAGE DIRECTORY GROUP: records one group, or all when GROUP is empty.
record_spring() {
  local image=$1 into=$GOLDEN/$2 group=${3#/}
  say "recording $2 ${group:-anew}"
  [[ -n $group ]] || rm -rf "$into"
  mkdir -p "$into"/{health,links,errors,starts,metrics}
  lay_root "$image"
  (
    cd "$into" || exit 1
    [[ -e cases.json ]] || jq -n --arg version "$(jar_version "$image")" --arg java "$("$image/root/jre/bin/java" -version 2>&1 | head -n 1)" \
      '{springBoot: $version, java: $java, recordedBy: "tests/backends/record", cases: []}' >cases.json
    for group in ${group:-"${spring_groups[@]}"}; do
      say "  $group"
      "record_$group"
    done
  )
}

jar_version() { find "$1/root/app/lib" -name 'spring-boot-[0-9]*.jar' | sed -E 's|.*/spring-boot-([0-9.]+)\.jar$|\1|'; }

# Puts the image's files below a root of their own, with the files that a container gets in addition.
lay_root() {
  local part
  ROOT=$SCRATCH/root.$(basename "$(dirname "$1")")
  [[ ! -d $ROOT ]] || return 0
  mkdir -p "$ROOT"/{proc,dev,tmp,etc}
  cp "$1"/root/etc/* "$SCRATCH"/{resolv.conf,hosts} "$ROOT/etc/"
  for part in app jre lib lib64; do
    mkdir "$ROOT/$part"
    mount --bind -o ro "$1/root/$part" "$ROOT/$part"
  done
  mount -t proc proc "$ROOT/proc"
  mount --rbind /dev "$ROOT/dev"
}

# begin VARIABLE=VALUE...: starts the application with only these settings.
begin() {
  SETTINGS=("$@")
  # Emptied here: a new process may empty it late, and until then it contains the last output of the previous one.
  : >"$SCRATCH/log"
  env -i "$@" unshare --root="$ROOT" --wd=/app /jre/bin/java "${JAVA_FLAGS[@]}" -jar backend.jar >>"$SCRATCH/log" 2>&1 &
  APPLICATION=$!
}
# The same flags as the image's entry point.
JAVA_FLAGS=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:SharedArchiveFile=backend.jsa)

# with VARIABLE=VALUE...: starts it and waits until it reports that it is ready.
with() {
  begin "$@"
  await 300 "the application is ready with $*" ready_or_ended
  if ended "$APPLICATION"; then
    tail -n 20 "$SCRATCH/log" >&2
    fail "the application did not start with $*"
  fi
}

ready_or_ended() { grep -q 'Started Application' "$SCRATCH/log" || ended "$APPLICATION"; }

end() {
  kill -KILL "$APPLICATION" 2>/dev/null || true
  wait "$APPLICATION" 2>/dev/null || true
}

# answer FILE URL: records an answer's body unchanged, except for values that differ in every recording.
answer() {
  local file=$1 url=$2 said
  said=$(curl -sS --max-time 60 -o "$SCRATCH/body" -w '{"status":%{http_code},"contentType":"%{content_type}"}' "$url")
  steady_body <"$SCRATCH/body" >"$file"
  note_case "$file" "$said" "$url"
}

# note_case FILE RESPONSE URL: records the origin of a file.
note_case() {
  # shellcheck disable=SC2016 # jq's variables
  jq --arg file "$1" --argjson said "$2" --arg url "$3" '({file: $file, url: $url} + $said + {
    environment: ($ARGS.positional | map(capture("(?<key>[^=]*)=(?<value>.*)")) | from_entries)}) as $case
    | .cases |= (map(select(.file != $file)) + [$case] | sort_by(.file))' \
    cases.json --args "${SETTINGS[@]}" >"$SCRATCH/cases"
  cp "$SCRATCH/cases" cases.json
}

# Times, sizes of this machine's disk and durations are irrelevant: they become constants.
steady_body() {
  sed -E \
    -e 's/"timestamp":"[^"]*"/"timestamp":"2026-01-01T00:00:00.000+00:00"/' \
    -e 's/"total":[0-9]+,"free":[0-9]+/"total":10737418240,"free":8589934592/' \
    -e 's/[0-9]+ms\b/1001ms/g'
}

M=http://$HOST:8081/actuator
UP=SPRING_DATASOURCE_URL=jdbc:h2:mem:backend
APART=MANAGEMENT_SERVER_PORT=8081
ALL=MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE=health,info,metrics,prometheus
DETAILS=MANAGEMENT_ENDPOINT_HEALTH_SHOW_DETAILS=always
COMPONENTS=MANAGEMENT_ENDPOINT_HEALTH_SHOW_COMPONENTS=always
NO_PROBES=MANAGEMENT_ENDPOINT_HEALTH_PROBES_ENABLED=false
# A database that drops packets; the pool gives up after a second instead of thirty. The variable's name has no
# underscore: see binding-dropped in starts.sh.
DROPPED=SPRING_DATASOURCE_URL=jdbc:postgresql://192.0.2.66:5432/orders
REFUSED=SPRING_DATASOURCE_URL=jdbc:postgresql://$HOST:5432/orders
IMPATIENT=SPRING_DATASOURCE_HIKARI_CONNECTIONTIMEOUT=1000

record_defaults() {
  with "$UP" "$APART"
  answer health/up.json "$M/health"
  answer links/health-only.json "$M"
  answer errors/prometheus-not-exposed.json "$M/prometheus"
  answer errors/other-path.json "http://$HOST:8080/actuator/health"
  answer errors/unknown-group.json "$M/health/nosuchgroup"
  end
  with "$UP" "$APART" "$DETAILS"
  answer health/up-details.json "$M/health"
  end
  with "$UP" "$APART" "$COMPONENTS"
  answer health/up-components.json "$M/health"
  end
}

record_exposed() {
  with "$UP" "$APART" "$ALL" "$DETAILS" MANAGEMENT_ENDPOINT_HEALTH_PROBES_ENABLED=true
  answer links/with-prometheus.json "$M"
  answer health/liveness-up.json "$M/health/liveness"
  answer health/readiness-up.json "$M/health/readiness"
  page metrics/prometheus.txt text/plain
  page metrics/openmetrics.txt 'application/openmetrics-text;version=1.0.0'
  curl -sS -X POST "http://$HOST:8080/readiness?state=REFUSING_TRAFFIC"
  answer health/out-of-service.json "$M/health"
  answer health/readiness-out-of-service.json "$M/health/readiness"
  curl -sS -X POST "http://$HOST:8080/readiness?state=ACCEPTING_TRAFFIC"
  curl -sS -X POST "http://$HOST:8080/liveness?state=BROKEN"
  answer health/liveness-broken.json "$M/health/liveness"
  answer health/liveness-broken-whole.json "$M/health"
  end
}

# page FILE ACCEPT: records the beginning and the end of the metrics page. Its numbers differ in every recording.
page() {
  local said
  said=$(curl -sS --max-time 60 -H "Accept: $2" -o "$SCRATCH/body" -w '{"status":%{http_code},"contentType":"%{content_type}"}' "$M/prometheus")
  {
    head -n 30 "$SCRATCH/body"
    printf '# here, %s lines are left out\n' "$(($(wc -l <"$SCRATCH/body") - 40))"
    tail -n 10 "$SCRATCH/body"
  } >"$1"
  note_case "$1" "$said" "$M/prometheus"
}

record_exposure() {
  local case name setting
  with "$UP" "$APART" MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE=health,info,metrics
  answer links/without-prometheus.json "$M"
  end
  for case in \
    "prometheus-access-none $ALL MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS=none" \
    "prometheus-enabled-false $ALL MANAGEMENT_ENDPOINT_PROMETHEUS_ENABLED=false" \
    "access-default-none $ALL MANAGEMENT_ENDPOINTS_ACCESS_DEFAULT=none" \
    "access-max-permitted-none $ALL MANAGEMENT_ENDPOINTS_ACCESS_MAX_PERMITTED=none" \
    "enabled-by-default-false $ALL MANAGEMENT_ENDPOINTS_ENABLED_BY_DEFAULT=false" \
    "registry-missing $ALL MANAGEMENT_PROMETHEUS_METRICS_EXPORT_ENABLED=false" \
    "nothing-exposed MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE="; do
    read -r name setting <<<"$case"
    # shellcheck disable=SC2086 # settings without spaces
    with "$UP" "$APART" $setting
    answer "links/$name.json" "$M"
    answer "errors/prometheus-$name.json" "$M/prometheus"
    end
  done
}

record_paths() {
  local main=http://$HOST:8080
  with "$UP" "$ALL" MANAGEMENT_ENDPOINTS_WEB_BASE_PATH=/manage
  answer errors/actuator-elsewhere.json "$main/actuator"
  answer errors/prometheus-elsewhere.json "$main/actuator/prometheus"
  answer links/base-path.json "$main/manage"
  end
  with "$UP" "$ALL" SERVER_SERVLET_CONTEXT_PATH=/orders
  answer errors/context-path.html "$main/actuator"
  answer links/context-path.json "$main/orders/actuator"
  end
  with "$UP" "$ALL" MANAGEMENT_ENDPOINTS_WEB_BASE_PATH=/
  answer errors/base-path-root.json "$main/actuator"
  answer errors/base-path-root-itself.txt "$main/"
  end
  with "$UP" "$APART" "$ALL" MANAGEMENT_SERVER_BASE_PATH=/internal
  answer errors/server-base-path.html "$M"
  answer links/server-base-path.json "http://$HOST:8081/internal/actuator"
  end
  with "$UP" "$APART" "$ALL" MANAGEMENT_ENDPOINTS_WEB_PATHMAPPING_PROMETHEUS=scrape
  answer links/prometheus-mapped.json "$M"
  answer errors/prometheus-mapped.json "$M/prometheus"
  end
  with "$UP" "$ALL" MANAGEMENT_ENDPOINTS_WEB_DISCOVERY_ENABLED=false
  answer errors/discovery-disabled.json "$main/actuator"
  end
}

record_unhealthy() {
  local database
  for database in "dropped $DROPPED" "refused $REFUSED"; do
    with "${database#* }" "$IMPATIENT" "$APART"
    answer "health/db-${database%% *}.json" "$M/health"
    end
    with "${database#* }" "$IMPATIENT" "$APART" "$COMPONENTS"
    answer "health/db-${database%% *}-components.json" "$M/health"
    end
    with "${database#* }" "$IMPATIENT" "$APART" "$DETAILS"
    answer "health/db-${database%% *}-details.json" "$M/health"
    end
  done
  with "$UP" "$APART" "$DETAILS" MANAGEMENT_HEALTH_DISKSPACE_THRESHOLD=8192TB
  answer health/disk-full.json "$M/health"
  end
  # No indicator, so nothing is wrong. (UNKNOWN needs an indicator that reports it, which needs code.)
  with "$UP" "$APART" "$DETAILS" "$NO_PROBES" MANAGEMENT_HEALTH_DEFAULTS_ENABLED=false
  answer health/no-indicators.json "$M/health"
  end
  # DOWN, and still 200: a prober that reads only the status code sees no fault.
  with "${REFUSED}" "$IMPATIENT" "$APART" "$DETAILS" MANAGEMENT_ENDPOINT_HEALTH_STATUS_HTTPMAPPING_DOWN=200
  answer health/down-with-200.json "$M/health"
  end
}
