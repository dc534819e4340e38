# shellcheck shell=bash
# The story, chapter by chapter. Each checks its own promises, and fails if one does not hold.

# Silent connectors of this demo are Late after 15 s and Offline after 30 s: see config/samples/demo.yaml.
OFFLINE_AFTER=30

story() {
  check_words
  "$ROOT/scripts/prerequisites" rust cc curl go
  choose_vm
  start_over
  STORY=running
  tell_what_comes
  chapter "1. A Kubernetes cluster"
  use_cluster
  chapter "2. The operator"
  build_operator
  apply_definitions
  make_namespace
  run_the_operator
  chapter "3. Three connectors"
  create_connectors
  chapter "4. They beat"
  beat_by_hand
  refuse_a_stranger
  beat_for_all
  chapter "5. One of them falls silent"
  fall_silent
  say_why
  chapter "6. It comes back"
  come_back
  chapter "7. A backend breaks, and explains itself"
  watch_a_backend
  break_it
  explain_it
  mend_it
  ! vm_comes || launch_vm
  if [[ $WHOSE == embedded ]]; then
    chapter "8. A tunnel breaks, and a restart brings it back"
    give_it_a_workload
    lose_the_tunnel
    prove_the_cure
  else
    chapter "8. (Left out: a restart needs pods, and in your cluster the demo starts none)"
  fi
  tell_of_the_vm
  the_end
}

tell_of_the_vm() {
  if vm_comes && wait_for_vm; then
    chapter "9. A crash on a VM outside the cluster, and its agent"
    run_a_backend_there
    watch_it
    install_the_agent
    crash_it_there
    remove_it_there
  else
    chapter "9. (Left out: a VM outside the cluster with an agent, because ${VM_REASON:-no machine starts in namespaces here})"
  fi
}

tell_what_comes() {
  say "vigie tells whether connectors (gateways that send heartbeats) are alive, and what is wrong with backends that are" \
    "down, and restarts what a restart can cure. You will see three connectors beat, one fall silent and be found out, on the" \
    "second, and come back; a backend break and say why; and a tunnel break and be restarted. Two minutes; the very first time up to fifteen, because Kubernetes is built" \
    "from source (5 to 10 minutes, then cached) and the operator too (2 to 4 minutes)."
  ! vm_comes || say "At the end an application crashes on a VM outside the cluster, and its agent says why and starts it: one minute more."
}

run_the_operator() {
  say "It gets a ServiceAccount with the rights of config/rbac/namespaced.yaml, in its namespace only:"
  grant_rights
  write_operator_kubeconfig
  choose_ports
  say "Last contacts of connectors that are well are written back every 5 s instead of every 60, so that you can watch them." \
    "The backend of a later chapter is on this machine, and a backend may target loopback addresses only if an" \
    "administrator allows it."
  if vm_comes; then
    say "For the VM of the last chapter it listens for heartbeats on every address, and may probe the VM's network."
  fi
  prompt "vigie run --listen $LISTEN --admin ${ADMIN_URL#http://} --namespace $NAMESPACE --checkpoint-seconds 5 --allow-network $BACKENDS &"
  start_operator
}

create_connectors() {
  prompt "cat config/samples/demo.yaml"
  grep -v '^#' "$ROOT/config/samples/demo.yaml" | sed '/^---$/,$d' | indent
  aside "   (and edge-2 and edge-3 likewise)"
  prompt "kubectl apply -n $NAMESPACE -f config/samples/demo.yaml"
  k apply -f "$ROOT/config/samples/demo.yaml" | indent
  prompt "kubectl wait -n $NAMESPACE connectors --all --for=condition=Provisioned"
  k wait connectors --all --for=condition=Provisioned --timeout=30s | indent
  show_table
  local name
  for name in "${NAMES[@]}"; do
    state_is "$name" Pending || fail "$name was never heard, and is $(state_of "$name") instead of Pending"
  done
  shown "never heard is Pending, not Offline; each has a token in a Secret of its own"
}

show_table() {
  prompt "kubectl get connectors -n $NAMESPACE"
  k get connectors | indent
}

# The founding request, once, to show how simple it is.
beat_by_hand() {
  local name
  for name in "${NAMES[@]}"; do write_beat "$name"; done
  say "A heartbeat is one POST. The token is read from a file, because every user of the machine can" \
    "read command lines in ps; it is masked here. (vigie token show edge-1 prints it.)"
  prompt "cat .demo/beats/edge-1.json"
  masked "$DEMO/beats/edge-1.json" | indent
  prompt "curl --data @.demo/beats/edge-1.json -H 'Content-Type: application/json' $URL/api/connector/heartbeat"
  local answer
  answer=$(curl --silent --show-error --max-time 5 --retry 5 --retry-delay 1 --data "@$DEMO/beats/edge-1.json" \
    --header 'Content-Type: application/json' "$URL/api/connector/heartbeat")
  print "   $answer"
  [[ $answer == *'"status":"ok"'* ]] || fail "the heartbeat was not taken"
}

refuse_a_stranger() {
  print ""
  say "A wrong token, on the command line because it is worthless:"
  local request answer
  request="{\"connector_id\": \"$NAMESPACE/edge-2\", \"token\": \"vgt_wrong\"}"
  prompt "curl -i -d '$request' $URL/api/connector/heartbeat"
  answer=$(curl --silent --show-error --include --max-time 5 --data "$request" "$URL/api/connector/heartbeat")
  tr -d '\r' <<<"$answer" | sed -n '1p;$p' | indent
  [[ $answer == *' 401 '* ]] || fail "a wrong token was not refused with 401"
  state_is edge-2 Pending || fail "a wrong token changed the state of edge-2"
  shown "refused, and edge-2 is still Pending: what is not authenticated is no contact"
}

beat_for_all() {
  print ""
  say "From now on each beats every 5 s, by the same curl in a loop (scripts/demo-beats)."
  local name
  for name in "${NAMES[@]}"; do start_beating "$name"; done
  k wait connectors --all --for=condition=Ready --timeout=30s >/dev/null || fail "not all of them became Ready"
  show_table
  shown "all three are Online and Ready"
}

fall_silent() {
  say "edge-3's loop is killed, as a crash would. The operator receives no message about it: the beats just end." \
    "Late after 15 s of silence, Offline after $OFFLINE_AFTER s."
  terminate 10 beats-edge-3
  watch_until_offline
  compare_with_deadline
}

# Prints the table whenever edge-3's state changes, and every few seconds in between.
watch_until_offline() {
  local began=$SECONDS told=-100 table state last='' seen=''
  prompt "watch kubectl get connectors -n $NAMESPACE"
  while :; do
    table=$(k get connectors)
    state=$(awk '$1 == "edge-3" { print $2 }' <<<"$table")
    if [[ $state != "$last" ]] || ((SECONDS - told >= 7)); then
      aside "   --- $(date -u +%H:%M:%SZ), $((SECONDS - began)) s after its end"
      indent <<<"$table"
      told=$SECONDS
    fi
    [[ $state == "$last" ]] || seen+=" $state"
    last=$state
    [[ $state != Offline ]] || break
    ((SECONDS - began < OFFLINE_AFTER + 30)) || fail "edge-3 is still $state, long after its deadline"
    nap 0.2
  done
  NOTICED=$(date +%s.%N)
  [[ $seen == ' Online Late Offline' ]] || fail "edge-3 went$seen instead of Online, Late, Offline"
}

# Offline must be dated at the deadline, and be published within a second of it (another one is for kubectl itself).
compare_with_deadline() {
  local contact since
  contact=$(k get connector edge-3 -o 'jsonpath={.status.lastHeartbeatTime}')
  since=$(k get connector edge-3 -o 'jsonpath={.status.stateSince}')
  local off noticed
  read -r off noticed < <(awk -v contact="$(date -d "$contact" +%s.%N)" -v since="$(date -d "$since" +%s.%N)" \
    -v noticed="$NOTICED" -v limit="$OFFLINE_AFTER" \
    'BEGIN { printf "%.3f %.1f\n", since - contact - limit, noticed - contact - limit }')
  print "   last contact      $contact" \
    "   Offline since     $since   (last contact + $OFFLINE_AFTER s, off by $off s)" \
    "   seen in kubectl   $noticed s after that"
  # Silence does not count while the operator does not run, which its log shows: the deadline is later then.
  if grep -q 'did not run for a while' "$LOGS/operator.log"; then
    shown "it turned Offline by itself; this machine did not let the operator run for a while, so its deadline was later"
    return
  fi
  awk -v off="$off" -v noticed="$noticed" 'BEGIN { exit !(off < 0.01 && off > -0.01 && noticed >= 0 && noticed < 10) }' ||
    fail "Offline is not dated at the deadline, or was seen late"
  shown "it turned Offline by itself, dated at its deadline, and LAST CONTACT is true"
}

say_why() {
  print ""
  say "Why, and what to do:"
  local words diagnosis
  words='{.status.diagnosis.cause}: {.status.diagnosis.message}. {.status.diagnosis.advice}'
  prompt "kubectl get connector edge-3 -n $NAMESPACE -o jsonpath='$words'"
  diagnosis=$(k get connector edge-3 -o "jsonpath=$words")
  fold -s -w 110 <<<"$diagnosis" | sed 's, *$,,' | indent
  [[ $diagnosis == HeartbeatExpired:* ]] || fail "the cause is not HeartbeatExpired"
  words='{range .status.conditions[*]}{.type}={.status} {.reason} since {.lastTransitionTime}{"\n"}{end}'
  prompt "kubectl get connector edge-3 -n $NAMESPACE -o jsonpath='$words'"
  k get connector edge-3 -o "jsonpath=$words" | indent
  prompt "kubectl events -n $NAMESPACE --for connector/edge-3"
  local events
  # The event is published after the status is written.
  until_within 15 event_is_told connector/edge-3 Offline || true
  events=$(k events --for connector/edge-3)
  fold -s -w 110 <<<"$events" | sed 's, *$,,' | indent
  [[ $(grep -c ' Offline ' <<<"$events") == 1 ]] || fail "there is not exactly one event Offline"
}

come_back() {
  say "Its loop starts again. The next beat is enough:"
  local contact
  start_beating edge-3
  until_within 15 state_is edge-3 Online || fail "edge-3 beats again, and is still $(state_of edge-3)"
  show_table
  contact=$(k get connector edge-3 -o 'jsonpath={.status.lastHeartbeatTime}, Online since {.status.stateSince}')
  print "   first heard       $contact"
  print ""
  say "The same from the operator itself, exact to the last beat:"
  prompt "vigie get -n $NAMESPACE --operator $ADMIN_URL"
  local listing
  listing=$("$VIGIE" get --namespace "$NAMESPACE" --operator "$ADMIN_URL" --kubeconfig "$ADMIN" 2>&1)
  indent <<<"$listing"
  [[ $(grep -c ' Online ' <<<"$listing") == 3 && $listing != *'not reachable'* ]] ||
    fail "the operator does not say that all three are Online"
  shown "edge-3 is Online again"
}

the_end() {
  STORY=told
  STARTED=()
  if [[ ${DEMO_EXIT:-} == 1 ]]; then
    chapter "Every step showed what it must. Taking everything down"
    take_down
  else
    what_to_try
  fi
}

what_to_try() {
  chapter "All of it stays up"
  print "kubeconfig        $ADMIN" \
    "heartbeats        $URL/api/connector/heartbeat" \
    "metrics, admin    $ADMIN_URL/metrics" \
    "operator's log    .demo/logs/operator.log" \
    "to end it         make demo-down" "" \
    "Try to fool it. In other terminals, in this directory:" ""
  cat <<END
   # kubectl and vigie for this cluster; then watch
   eval "\$(scripts/demo env)"
   kubectl get connectors -n $NAMESPACE -w

   # dead for longer than the deadline: Unknown until each is heard, never Offline
   kill -9 \$(scripts/demo pid); sleep 40; scripts/demo operator

   # frozen for longer than the deadline: the same
   kill -STOP \$(scripts/demo pid); sleep 40; kill -CONT \$(scripts/demo pid)

   # all of them silent at once: Offline after 30 s, with the network to vigie as the suspect (MassSilence)
   scripts/demo silence ${NAMES[*]}
   scripts/demo beat ${NAMES[*]}

   # a leaked token: its beats get 401 from now on; Offline with the cause TokenRevoked; then the new token
   vigie token revoke edge-1 -n $NAMESPACE --yes
   scripts/demo beat edge-1

   # a new token without an outage: the old one works until the new one is used (event TokenRotated)
   vigie token rotate edge-1 -n $NAMESPACE --wait
   scripts/demo beat edge-1
   kubectl events -n $NAMESPACE --for connector/edge-1

   # a lost Secret: edge-2 is not affected; the Secret is created again within ten minutes
   kubectl delete secret -n $NAMESPACE edge-2-connector-token

   # deleted and created again: its beats get 401; Pending, until it has the new token
   kubectl delete connector -n $NAMESPACE edge-3
   kubectl apply -n $NAMESPACE -f config/samples/demo.yaml
   scripts/demo beat edge-3

   # the backend: tests/backends/README.md lists its faults; then diagnose it, and repair it
   curl '$SHOP/_/mode?set=spring/db-down'; curl '$SHOP/_/mode?set=exposition/broken'; curl '$SHOP/_/mode?set=hang'
   vigie diagnose backend shop -n $NAMESPACE
   curl '$SHOP/_/mode?set=ok'

   # without the right to write: kubectl shows old states, vigie get and the metrics stay exact; then the rights again
   kubectl delete rolebinding -n $NAMESPACE vigie
   scripts/demo silence edge-3; sleep 35; vigie get -n $NAMESPACE
   scripts/demo grant; scripts/demo beat edge-3
END
  if [[ -n ${VM_INIT:-} ]]; then
    cat <<END

   # the VM: a stop that is meant is left alone for 10 minutes, and kubectl says so; or do not wait
   scripts/demo vm sh -c 'cd /srv/shop && docker compose stop backend'
   kubectl get monitoredbackends -n $NAMESPACE -o wide
   vigie restart backend orders -n $NAMESPACE --wait

   # a firewall on the way: the application answers on the VM, and not from here (BlockedBeforeHost, with the address)
   scripts/demo vm iptables -I DOCKER-USER -p tcp -j DROP
   scripts/demo vm iptables -D DOCKER-USER -p tcp -j DROP

   # the agent on its host: what it sees, what it was asked to do; then remove it
   scripts/demo vm vigie agent status; scripts/demo vm vigie agent check
   scripts/demo vm vigie agent uninstall --purge
END
  fi
  if [[ $WHOSE != mine ]]; then
    cat <<END

   # without an API server: heartbeats are still accepted
   tests/cluster/cluster stop-component apiserver
   vigie get -n $NAMESPACE
   tests/cluster/cluster start-component apiserver
END
  fi
}
