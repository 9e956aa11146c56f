#!/usr/bin/env bash
# The part of Kubernetes that is no node: identities, etcd, API server, controllers, scheduler.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

mkdir -p "$CLUSTER/log" "$CLUSTER/pki"
cd "$CLUSTER"

# The nodes' network. It ends in nothing, but a bridge without a port would count as unplugged.
ip link set lo up
ip link add lan type bridge
ip link add plug type veth peer name socket
ip link set plug master lan up
ip link set socket up
ip address add "$node_network.1/24" dev lan
ip link set lan up
ip route add default via "$node_network.254" # kubelet and API server look for their own address by this route
sysctl -qw net.ipv4.ip_forward=1

"$here/identities.sh"

background() {
  setsid "${@:2}" >"log/$1.log" 2>&1 &
}

# Without fsync: the cluster ends with the test, and a slow disk makes elections time out.
background etcd etcd --data-dir etcd --unsafe-no-fsync \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379

pki=$CLUSTER/pki
background apiserver kube-apiserver \
  --etcd-servers=http://127.0.0.1:2379 \
  --advertise-address="$node_network.1" \
  --service-cluster-ip-range="$service_network.0/24" \
  --allow-privileged \
  --authorization-mode=Node,RBAC \
  --enable-admission-plugins=NodeRestriction \
  --client-ca-file="$pki/ca.crt" \
  --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
  --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
  --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file="$pki/service-accounts.pub" \
  --service-account-signing-key-file="$pki/service-accounts.key" \
  --requestheader-client-ca-file="$pki/ca.crt" \
  --requestheader-allowed-names=front-proxy \
  --requestheader-username-headers=X-Remote-User \
  --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" \
  --enable-aggregator-routing

export KUBECONFIG=$CLUSTER/admin.kubeconfig
eventually 120 "the API server" kubectl get --raw /readyz

background controllers kube-controller-manager \
  --kubeconfig=controllers.kubeconfig \
  --leader-elect=false \
  --use-service-account-credentials \
  --service-account-private-key-file="$pki/service-accounts.key" \
  --root-ca-file="$pki/ca.crt" \
  --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
  --horizontal-pod-autoscaler-sync-period=5s
background scheduler kube-scheduler --kubeconfig=scheduler.kubeconfig --leader-elect=false
say "the API server answers"
