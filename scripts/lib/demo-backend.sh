# shellcheck shell=bash
# The chapter about a backend: tests/backends/misbehave simulates a Spring Boot application on a port of this machine.

SETTING=MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE

watch_a_backend() {
  local program
  say "A backend is a service that is probed. This one is a small program that simulates a Spring Boot application."
  program=$("$ROOT/tests/backends/build" misbehave | tail -n 1)/misbehave
  SHOP=http://127.0.0.1:$(free_port 18081)
  remember SHOP "$SHOP"
  launch shop "$program" --listen "${SHOP#http://}"
  write_backend
  prompt "cat .demo/shop.yaml"
  indent <"$DEMO/shop.yaml"
  prompt "kubectl apply -n $NAMESPACE -f .demo/shop.yaml"
  k apply -f "$DEMO/shop.yaml" | indent
  until_within 30 backend_is Up || fail "shop answers, and is $(backend_says state) instead of Up"
  show_backends
  shown "its metrics page is read every 5 s, as Prometheus reads it"
}

write_backend() {
  cat >"$DEMO/shop.yaml" <<END
apiVersion: vigie.dev/v1alpha1
kind: MonitoredBackend
metadata: {name: shop}
spec:
  target: {url: $SHOP/actuator/prometheus}
  probe: {intervalSeconds: 5, timeoutSeconds: 2, failureThreshold: 2, metrics: {}}
END
}

backend_says() { k get monitoredbackend shop -o "jsonpath={.status.$1}" 2>/dev/null || true; }

backend_is() { [[ $(backend_says state) == "$1" ]]; }

cause_is() { [[ $(backend_says diagnosis.cause) == "$1" ]]; }

show_backends() {
  prompt "kubectl get monitoredbackends -n $NAMESPACE"
  k get monitoredbackends | indent
}

# The most common fault: the application is healthy, and its metrics page is gone after a change of its settings.
break_it() {
  print ""
  say "A new version is deployed without the setting that exposes its metrics page. The application itself is well."
  curl --silent --show-error --fail --max-time 5 --output /dev/null "$SHOP/_/mode?set=spring/links-health-only"
  until_within 60 backend_is Down || fail "the metrics page is gone, and shop is still $(backend_says state)"
  until_within 30 cause_is EndpointNotExposed || fail "the cause is $(backend_says diagnosis.cause), not EndpointNotExposed"
  show_backends
  shown "confirmed by a second probe, Down, and the cause has a name"
}

explain_it() {
  print ""
  say "Why, what speaks for it, and what to do:"
  prompt "vigie diagnose backend shop -n $NAMESPACE"
  local report status=0
  report=$("$VIGIE" diagnose backend shop --namespace "$NAMESPACE" --kubeconfig "$ADMIN" 2>&1) || status=$?
  fold -s -w 110 <<<"$report" | sed 's, *$,,' | indent
  ((status == 3)) || fail "vigie diagnose ended with $status instead of 3, which says that something is wrong"
  [[ $report == *EndpointNotExposed* && $report == *$SETTING=* ]] || fail "the report does not say what to set"
  shown "it names the setting and the value; a restart would not help, and it says so"
}

mend_it() {
  print ""
  say "The setting is restored. The next probes are enough:"
  curl --silent --show-error --fail --max-time 5 --output /dev/null "$SHOP/_/mode?set=ok"
  until_within 30 backend_is Up || fail "the metrics page is back, and shop is still $(backend_says state)"
  show_backends
  prompt "kubectl events -n $NAMESPACE --for monitoredbackend/shop"
  local events
  # The event is published after the status is written.
  until_within 15 event_is_told monitoredbackend/shop Down || true
  events=$(k events --for monitoredbackend/shop)
  fold -s -w 110 <<<"$events" | sed 's, *$,,' | indent
  [[ $(grep -c ' Down ' <<<"$events") == 1 ]] || fail "there is not exactly one event Down"
  shown "Up again"
}
