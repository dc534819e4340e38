# shellcheck shell=bash
# Profile real: a kubelet, containerd and kube-proxy beside the control plane. Not there yet.

refuse "the profile real is not there yet: it comes later, until then there is simulated"
