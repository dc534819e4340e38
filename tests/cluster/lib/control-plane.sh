# shellcheck shell=bash
# The components of every profile: their identities and their flags.

# --authorization-mode's built-in roles cover all of them except the administrator and KWOK.
CLIENTS=(
  "admin=vigie-admin,system:masters"
  "controller-manager=system:kube-controller-manager"
  "scheduler=system:kube-scheduler"
  "kwok=system:kwok"
)

# The address of the API server. A profile may choose another address, and flags of its own.
APISERVER_ADDRESS=127.0.0.1
APISERVER_FLAGS=(--endpoint-reconciler-type=none)

# Names that clients may dial and that the serving certificate must contain.
SERVER_NAMES=(
  127.0.0.1 ::1 localhost
  kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local
  10.96.0.1 # the first address of --service-cluster-ip-range: the Service "kubernetes"
)

make_certificates() {
  local arguments=() word
  for word in "${SERVER_NAMES[@]}"; do arguments+=(-name "$word"); done
  for word in "${CLIENTS[@]}"; do arguments+=(-client "$word"); done
  "$TOOLS/certificates" -directory "$PKI" "${arguments[@]}"
}

# write_kubeconfig FILE CLIENT
write_kubeconfig() {
  local file=$1 client=$2
  cat >"$file.new" <<EOF
apiVersion: v1
kind: Config
current-context: vigie-$PROFILE
clusters:
  - name: vigie-test
    cluster:
      server: https://$APISERVER_ADDRESS:$(port_of apiserver)
      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
  - name: vigie-$client
    user:
      client-certificate-data: $(base64 -w0 "$PKI/$client.crt")
      client-key-data: $(base64 -w0 "$PKI/$client.key")
contexts:
  - name: vigie-$PROFILE
    context:
      cluster: vigie-test
      user: vigie-$client
EOF
  mv "$file.new" "$file"
}

write_kubeconfigs() {
  local client
  for client in "${CLIENTS[@]}"; do
    client=${client%%=*}
    write_kubeconfig "$PKI/$client.kubeconfig" "$client"
  done
  cp "$PKI/admin.kubeconfig" "$CLUSTER_DIR/kubeconfig.new"
  mv "$CLUSTER_DIR/kubeconfig.new" "$CLUSTER_DIR/kubeconfig"
}

component_etcd() {
  local url
  url=https://127.0.0.1:$(port_of etcd)
  # A test cluster may lose its last seconds when the machine dies; waiting for the disk on every write costs more. No
  # peer connects, so any peer port will do.
  launch etcd "$TOOLS/etcd" \
    --name=default \
    --data-dir="$DATA/etcd" \
    --unsafe-no-fsync \
    --listen-client-urls="$url" \
    --advertise-client-urls="$url" \
    --client-cert-auth \
    --trusted-ca-file="$PKI/etcd-ca.crt" \
    --cert-file="$PKI/etcd.crt" \
    --key-file="$PKI/etcd.key" \
    --listen-peer-urls=http://127.0.0.1:0 \
    --initial-advertise-peer-urls=http://127.0.0.1:0 \
    --initial-cluster=default=http://127.0.0.1:0 \
    --log-level=warn
}

# On a shutdown the API server keeps its watches open for a minute unless told to end them.
component_apiserver() {
  launch apiserver "$TOOLS/kube-apiserver" \
    --etcd-servers="https://127.0.0.1:$(port_of etcd)" \
    --etcd-cafile="$PKI/etcd-ca.crt" \
    --etcd-certfile="$PKI/etcd-client.crt" \
    --etcd-keyfile="$PKI/etcd-client.key" \
    --bind-address="$APISERVER_ADDRESS" \
    --secure-port="$(port_of apiserver)" \
    "${APISERVER_FLAGS[@]}" \
    --tls-cert-file="$PKI/apiserver.crt" \
    --tls-private-key-file="$PKI/apiserver.key" \
    --cert-dir="$DATA/apiserver" \
    --client-ca-file="$PKI/ca.crt" \
    --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction,ServiceAccount \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/service-account.pub" \
    --service-account-signing-key-file="$PKI/service-account.key" \
    --service-cluster-ip-range=10.96.0.0/16 \
    --max-requests-inflight=800 \
    --max-mutating-requests-inflight=400 \
    --shutdown-watch-termination-grace-period=2s \
    --profiling=false \
    --audit-policy-file="$HERE/audit-policy.yaml" \
    --audit-log-path="$CLUSTER_DIR/audit.log" \
    --audit-log-maxsize=1000 \
    --audit-log-maxbackup=1
}

# Without their secure ports these two have no health endpoint: profile_is_usable checks the effects of their work
# instead. The rates are for many tests in parallel.
component_controller_manager() {
  launch controller-manager "$TOOLS/kube-controller-manager" \
    --kubeconfig="$PKI/controller-manager.kubeconfig" \
    --use-service-account-credentials \
    --service-account-private-key-file="$PKI/service-account.key" \
    --root-ca-file="$PKI/ca.crt" \
    --kube-api-qps=200 \
    --kube-api-burst=400 \
    --leader-elect=false \
    --secure-port=0 \
    --profiling=false
}

component_scheduler() {
  launch scheduler "$TOOLS/kube-scheduler" \
    --kubeconfig="$PKI/scheduler.kubeconfig" \
    --kube-api-qps=200 \
    --kube-api-burst=400 \
    --leader-elect=false \
    --secure-port=0 \
    --profiling=false
}
