# shellcheck shell=bash
# The errors that Prometheus reports for targets with every fault that we can produce.

PROMETHEUS_API=http://192.0.2.90:9090/api/v1

record_prometheus() {
  local into=$GOLDEN/prometheus
  say "recording prometheus: targets"
  mkdir -p "$into"
  ip addr add 192.0.2.90/32 dev lo
  start_targets
  write_configuration >"$SCRATCH/prometheus.yml"
  # shellcheck disable=SC2153 # set by the outer run
  "$PROMETHEUS" --config.file="$SCRATCH/prometheus.yml" --storage.tsdb.path="$SCRATCH/tsdb" \
    --web.listen-address=192.0.2.90:9090 >"$SCRATCH/prometheus.log" 2>&1 &
  local prometheus=$!
  await 60 "Prometheus is ready" curl -fsS "http://192.0.2.90:9090/-/ready"
  await 60 "every target was scraped" all_scraped
  curl -fsS "$PROMETHEUS_API/targets" | steady_targets >"$into/targets.json"
  # The error text of the same failure depends on the timer that runs out first.
  record_errors >"$into/errors.json"
  curl -fsS "$PROMETHEUS_API/targets?state=dropped" | steady_targets >"$into/targets-dropped.json"
  sed "s|$SCRATCH|/certificates|g" "$SCRATCH/prometheus.yml" >"$into/prometheus.yml"
  "$PROMETHEUS" --version 2>&1 | head -n 1 | sed -E 's/ \(.*//' >"$into/VERSION"
  kill "$prometheus"
}

# tls_target KIND PORT
tls_target() {
  "$MISBEHAVE/misbehave" --listen "$HOST:$2" --tls "$1" --tls-dir "$SCRATCH/tls-$1" >"$SCRATCH/tls-$1.json" &
  await 10 "the $1 target listens" grep -q main "$SCRATCH/tls-$1.json"
}

start_targets() {
  # A real Spring Boot application, exposed and not. Tomcat sends no reason phrase, which changes Prometheus' error
  # text.
  lay_root "$SPRING"
  with "$UP" SERVER_PORT=8090 MANAGEMENT_SERVER_PORT=8091 "$ALL"
  with "$UP" SERVER_PORT=8092 MANAGEMENT_SERVER_PORT=8093
  "$MISBEHAVE/misbehave" --listen "$HOST:8081" >"$SCRATCH/target.json" &
  await 10 "the target listens" grep -q main "$SCRATCH/target.json"
  tls_target self-signed 8443
  tls_target expired 8444
  tls_target wrong-name 8445
  tls_target client-certificate 8446
}

# job NAME TARGET [PATH [SCHEME [MORE]]]: MORE is YAML of the job, lines separated by |.
job() {
  local name=$1 target=$2 path=${3:-/actuator/prometheus} scheme=${4:-http} more=${5:-}
  printf -- '- job_name: %s\n  scheme: %s\n  metrics_path: %s\n  static_configs: [{targets: ["%s"]}]\n' "$name" "$scheme" "$path" "$target"
  [[ -z $more ]] || printf '%s\n' "$more" | tr '|' '\n' | sed 's/^/  /'
}

write_configuration() {
  local main=$HOST:8081
  cat <<-'YAML'
	# Tests match these names. The intervals are short, so that waiting is short; Debian's default is 15 s.
	global: {scrape_interval: 2s, scrape_timeout: 1s}
	scrape_configs:
	YAML
  job up "$main"
  # A JVM's first answers are slow.
  job spring-up "$HOST:8091" /actuator/prometheus http 'scrape_timeout: 2s'
  job spring-not-exposed "$HOST:8093" /actuator/prometheus http 'scrape_timeout: 2s'
  job connection-refused "$HOST:9999"
  job firewall-drops 192.0.2.66:8081
  job no-route 198.51.100.7:8081
  job no-network 203.0.113.7:8081
  job hung "$main" /hang
  job slow-first-byte "$main" /slow/first-byte
  job slow-body "$main" '/slow/body/metrics'
  job reset "$main" /reset
  job closed "$main" /close
  job half-answer "$main" /half/metrics
  job not-http "$main" /not-http
  local code
  for code in 204 301 400 401 403 404 429 500 502 503; do job "status-$code" "$main" "/status/$code"; done
  job redirect-login "$main" /redirect/login
  job redirect-loop "$main" /redirect/loop
  job content-type-html "$main" /html
  job content-type-json "$main" /content-type/json
  job content-type-blank "$main" /content-type/none
  local kind
  for kind in no-value bad-value bad-name bad-label unclosed-quote bad-timestamp html json no-eof; do
    job "malformed-$kind" "$main" /exposition/broken http "params: {kind: [$kind], line: ['3']}"
  done
  job invalid-utf8 "$main" /exposition/invalid-utf8
  job empty-page "$main" /exposition/empty
  job sample-limit "$main" /exposition/too-many http 'sample_limit: 100|params: {samples: ["101"]}'
  job body-size-limit "$main" /huge http 'body_size_limit: 1MB'
  job label-limit "$main" /metrics http 'label_limit: 3'
  job gzip-broken "$main" /gzip/broken
  job dns-no-such-host nxdomain.example.com:8081
  job dns-server-failure servfail.example.com:8081
  job dns-silent silent.example.com:8081
  # The timeout is long enough for the resolver to give up, which takes a second.
  job dns-silent-patient silent.example.com:8081 /metrics http 'scrape_timeout: 2s'
  job dns-no-address empty.example.com:8081
  job by-name backend.example.com:8081
  job tls-to-plain-port "$main" /metrics https
  job plain-to-tls-port "$HOST:8443" /metrics
  job tls-unknown-authority "$HOST:8443" /metrics https
  job tls-up "$HOST:8443" /metrics https "tls_config: {ca_file: $SCRATCH/tls-self-signed/ca.crt}"
  job tls-expired "$HOST:8444" /metrics https "tls_config: {ca_file: $SCRATCH/tls-expired/ca.crt}"
  job tls-wrong-name "$HOST:8445" /metrics https "tls_config: {ca_file: $SCRATCH/tls-wrong-name/ca.crt}"
  job tls-wrong-name-by-name backend.example.com:8445 /metrics https "tls_config: {ca_file: $SCRATCH/tls-wrong-name/ca.crt}"
  job tls-client-certificate "$HOST:8446" /metrics https "tls_config: {ca_file: $SCRATCH/tls-client-certificate/ca.crt}"
  job wrong-password "$main" /auth/basic/metrics http 'basic_auth: {username: right, password: wrong}'
  # The first scrape comes at a practically random moment of the interval: this one comes too late to be seen.
  job not-yet-scraped "$main" /metrics http 'scrape_interval: 1d'
  job dropped "$main" /metrics http 'relabel_configs: [{source_labels: [__address__], action: drop}]'
  job labelled "$main" /metrics http 'relabel_configs: [{target_label: namespace, replacement: shop}, {target_label: pod, replacement: orders-0}]'
}

all_scraped() {
  curl -fsS "$PROMETHEUS_API/targets?state=active" |
    jq -e '(.data.activeTargets | map({(.scrapePool): .health}) | add) as $health
      | [$health | to_entries[] | select(.value == "unknown") | .key] == ["not-yet-scraped"]
        and all($health["up", "spring-up", "by-name", "tls-up", "labelled"]; . == "up")
        and $health["spring-not-exposed"] == "down"'
}

# Times and durations become constants, except the timeout.
steady_targets() {
  jq '.data.activeTargets |= (map(
      (if .lastScrape | startswith("0001") | not then .lastScrape = "2026-01-01T00:00:00Z" else . end)
      | (if .lastScrapeDuration > 0 and .lastScrapeDuration < 0.2 then .lastScrapeDuration = 0.002 else . end))
      | sort_by(.scrapePool))' | steady_errors
}

# So do the ports of clients, and the dates in certificate errors.
steady_errors() {
  sed -E \
    -e 's/([0-9.]+):[0-9]+->/\1:49152->/g' \
    -e 's/current time [0-9TZ:-]+ is after [0-9TZ:-]+/current time 2026-01-02T00:00:00Z is after 2026-01-01T00:00:00Z/g'
}

# Every error text of each target that occurs within half a minute.
record_errors() {
  local until=$((SECONDS + 30))
  while ((SECONDS < until)); do
    # Parsed and written again, so that an escaped arrow becomes an arrow.
    curl -fsS "$PROMETHEUS_API/targets?state=active" | jq -c .
    read -rt 0.3 <> <(:) || true
  done | steady_errors | jq -s '[.[].data.activeTargets[] | select(.lastError != "") | {key: .scrapePool, value: .lastError}]
    | group_by(.key) | map({key: .[0].key, value: (map(.value) | unique)}) | from_entries'
}
