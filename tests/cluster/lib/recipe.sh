# shellcheck shell=bash
# How the tools are built. Versions are pinned in the go.mod files. The cache's key is the hash of both: after a change
# the tools are rebuilt (from Go's own cache, in seconds).

recipe_kubernetes_version=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print $2; exit }' "$HERE/kubernetes/go.mod")
recipe_minor=${recipe_kubernetes_version#v*.}
recipe_minor=${recipe_minor%%.*}

# Without a version the API server reports v0.0.0-master, and clients complain.
recipe_version_package=k8s.io/component-base/version
recipe_ldflags="-s -w"
recipe_ldflags+=" -X $recipe_version_package.gitVersion=$recipe_kubernetes_version"
recipe_ldflags+=" -X $recipe_version_package.gitMajor=1"
recipe_ldflags+=" -X $recipe_version_package.gitMinor=$recipe_minor"
recipe_ldflags+=" -X $recipe_version_package.gitTreeState=clean"

recipe_environment=(CGO_ENABLED=0 GOFLAGS= GOWORK=off)
recipe_build=(go build -mod=readonly -trimpath -buildvcs=false -ldflags "$recipe_ldflags")

# Tool, directory of its module, package, and build time on two cores. The build of the first compiles most packages of
# the control plane's programs.
recipe_tools="
kube-apiserver           kubernetes    k8s.io/kubernetes/cmd/kube-apiserver           about 5 minutes
kube-controller-manager  kubernetes    k8s.io/kubernetes/cmd/kube-controller-manager  about 2 minutes
kube-scheduler           kubernetes    k8s.io/kubernetes/cmd/kube-scheduler           about 10 seconds
kubectl                  kubernetes    k8s.io/kubernetes/cmd/kubectl                  about 45 seconds
etcd                     kubernetes    go.etcd.io/etcd/server/v3                      about 15 seconds
kwok                     kwok          sigs.k8s.io/kwok/cmd/kwok                      about 2 minutes
certificates             certificates  vigie.dev/cluster/certificates                 seconds
"

# Additional tools for the profile real. A separate set, so that users of simulated nodes need not wait for it.
recipe_node_tools="
kubelet                  kubernetes    k8s.io/kubernetes/cmd/kubelet                  about 1 minute
kube-proxy               kubernetes    k8s.io/kubernetes/cmd/kube-proxy               about 20 seconds
coredns                  coredns       vigie.dev/cluster/coredns                      about 2 minutes
"

# The tools that test the chart: built only by `cluster helm`.
recipe_helm3_tools="
helm3                    helm3         helm.sh/helm/v3/cmd/helm                       about 90 seconds
"
recipe_helm4_tools="
helm4                    helm4         helm.sh/helm/v4/cmd/helm                       about 90 seconds
"
