# shellcheck shell=bash
# The output of the Spring Boot backend when it fails to start, truncated as Kubernetes does.

# dies NAME VARIABLE=VALUE...: records the last output of a start that fails.
dies() {
  local name=$1 status=0
  shift
  begin "$@"
  await 300 "the start $name fails" ended "$APPLICATION"
  wait "$APPLICATION" || status=$?
  steady_log <"$SCRATCH/log" >"$SCRATCH/steady"
  # The text that terminationMessagePolicy FallbackToLogsOnError keeps: the last 80 lines, and of these the last 2 KiB.
  tail -n 80 "$SCRATCH/steady" | tail -c 2048 >"starts/$name.fallback.txt"
  # The longest message that a program can write itself, to /dev/termination-log.
  tail -c 4096 "$SCRATCH/steady" >"starts/$name.message.txt"
  note_case "starts/$name.message.txt" "{\"exitCode\":$status}" ""
}

ended() { ! kill -0 "$1" 2>/dev/null || [[ $(ps -o stat= -p "$1") == Z* ]]; }

# The log of process 1 of a container, with a constant time.
steady_log() {
  sed -E \
    -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/2026-01-01T00:00:00.000Z/g' \
    -e 's/^[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} /00:00:00.000 /' \
    -e 's/^(\S+ +[A-Z]+) [0-9]+ ---/\1 1 ---/' \
    -e 's/with PID [0-9]+/with PID 1/' \
    -e 's/[0-9]+ms\b/1001ms/g'
}

record_configuration() {
  dies no-datasource "$APART"
  dies bad-port "$UP" SERVER_PORT=s3cr3t-not-a-port
  # The reason of a binding failure whose text mentions a refused connection, although none was refused.
  dies bad-timeout "$UP" "SPRING_DATASOURCE_HIKARI_CONNECTIONTIMEOUT=Connection refused (s3cr3t-password)"
  dies access-and-enabled "$UP" MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS=none MANAGEMENT_ENDPOINT_PROMETHEUS_ENABLED=false
  # With this spelling the variable is also read as a property of the pool's `connection`, and its binding opens the
  # pool: the start fails because of a database that the application may not need yet, and reports a binding failure.
  dies binding-refused "$REFUSED" SPRING_DATASOURCE_HIKARI_CONNECTION_TIMEOUT=1000
  dies binding-dropped "$DROPPED" SPRING_DATASOURCE_HIKARI_CONNECTION_TIMEOUT=1000
  dies no-config-file "$UP" SPRING_CONFIG_IMPORT=file:/config/orders.properties
  dies unknown-driver SPRING_DATASOURCE_URL=jdbc:oracle:thin:@db.example.com:1521/orders MANAGEMENT_HEALTH_DB_ENABLED=false SPRING_SQL_INIT_MODE=always
  dies bad-url SPRING_DATASOURCE_URL=postgres://user:s3cr3t@db.example.com/orders SPRING_SQL_INIT_MODE=always
  "$MISBEHAVE/misbehave" --listen "0.0.0.0:8080" >"$SCRATCH/occupant" &
  local occupant=$!
  await 10 "the port is taken" grep -q main "$SCRATCH/occupant"
  dies port-in-use "$UP"
  dies management-port-in-use "$UP" SERVER_PORT=8090 MANAGEMENT_SERVER_PORT=8080
  kill "$occupant"
  wait "$occupant" 2>/dev/null || true
  local flags=("${JAVA_FLAGS[@]}")
  JAVA_FLAGS+=(-Xmx10m)
  dies heap "$UP"
  JAVA_FLAGS=("${flags[@]}")
}

# With SPRING_SQL_INIT_MODE=always the start needs the database, as with Flyway or JPA.
record_databases() {
  local needed=SPRING_SQL_INIT_MODE=always
  dies database-refused "$REFUSED" "$IMPATIENT" "$needed"
  dies database-dropped "$DROPPED" "$IMPATIENT" "$needed"
  dies database-unroutable SPRING_DATASOURCE_URL=jdbc:postgresql://198.51.100.7:5432/orders "$IMPATIENT" "$needed"
  dies database-unknown-host SPRING_DATASOURCE_URL=jdbc:postgresql://nxdomain.example.com:5432/orders "$IMPATIENT" "$needed"
}

# A real PostgreSQL, if one is installed.
record_wrong_password() {
  local programs data=$SCRATCH/postgres as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  programs=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | tail -n 1)
  if [[ -z $programs ]]; then
    say "PostgreSQL is not installed (Debian: postgresql): a wrong password is not recorded"
    return 0
  fi
  if [[ ! -d $data ]]; then
    install -d -o 65534 -g 65534 "$data"
    printf 's3cr3t-right' >"$SCRATCH/password"
    "${as[@]}" "$programs/initdb" -D "$data" -U orders -A scram-sha-256 --pwfile "$SCRATCH/password" >/dev/null
    "${as[@]}" "$programs/postgres" -D "$data" -c listen_addresses="$HOST" -c unix_socket_directories= >"$SCRATCH/postgres.log" 2>&1 &
    POSTGRES=$!
    printf 'host all all 0.0.0.0/0 scram-sha-256\n' >>"$data/pg_hba.conf"
  fi
  await 30 "PostgreSQL listens" bash -c "exec 3<>/dev/tcp/$HOST/5432"
  kill -HUP "$POSTGRES"
  local database=jdbc:postgresql://$HOST:5432 needed=SPRING_SQL_INIT_MODE=always
  dies wrong-password "SPRING_DATASOURCE_URL=$database/orders" SPRING_DATASOURCE_USERNAME=orders SPRING_DATASOURCE_PASSWORD=s3cr3t-wrong "$IMPATIENT" "$needed"
  dies no-such-database "SPRING_DATASOURCE_URL=$database/nosuch" SPRING_DATASOURCE_USERNAME=orders SPRING_DATASOURCE_PASSWORD=s3cr3t-right "$IMPATIENT" "$needed"
  with "SPRING_DATASOURCE_URL=$database/postgres" SPRING_DATASOURCE_USERNAME=orders SPRING_DATASOURCE_PASSWORD=s3cr3t-right "$IMPATIENT" "$APART" "$DETAILS"
  answer health/up-postgresql.json "$M/health"
  # The database ends while the application runs.
  kill -INT "$POSTGRES"
  wait "$POSTGRES" || true
  rm -rf "$data"
  answer health/db-gone.json "$M/health"
  end
}
POSTGRES=
