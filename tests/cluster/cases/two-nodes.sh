#!/usr/bin/env bash
# two-nodes.sh: the pods lie on both nodes; one node is emptied under load, then one is cut off under load.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=helm4
say "--- two nodes, four pods"
use_namespace two-nodes
prepare postgres
echo 'replicaCount: 4' >>"$values"
install 1
deploy_agent

# on NODE: how many pods that are not ending run there
on() {
  kubectl get pods --selector app.kubernetes.io/name=superserve-secrets --output \
    'go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{println .spec.nodeName}}{{end}}{{end}}' |
    grep -c "^$1$" || true
}

spread() {
  [[ $(on node1) -eq 2 && $(on node2) -eq 2 ]]
}

spread || fail "$(on node1) and $(on node2) pods on the nodes"
say "two pods on each node"

# The budget lets one go at a time, so the second eviction is refused until the first pod has its successor.
service_load drain-service -rate 100
headless_load drain-headless -rate 50
drained=$(kubectl drain node2 --ignore-daemonsets --delete-emptydir-data --timeout=180s 2>&1) || fail "$drained"
[[ $(on node2) -eq 0 ]] || fail "pods are left on node2"
kubectl rollout status "$workload" --timeout=60s >/dev/null
lossless drain-service
lossless drain-headless
say "node2 was drained; the budget refused $(grep -c 'Cannot evict' <<<"$drained") evictions for a while"

kubectl uncordon node2 >/dev/null
kubectl rollout restart "$workload" >/dev/null
kubectl rollout status "$workload" --timeout=120s >/dev/null
eventually 60 "the pods to spread again" spread

# Nothing answers any more, not even that there is no such neighbour: as when a cable is cut behind a router.
address=$(nsenter --net="$CLUSTER/node2/net" ip link show eth0 | sed -n 's|.*ether \([^ ]*\).*|\1|p')
ip neighbour replace "$node_network.2" lladdr "$address" nud permanent dev lan
service_load cut-service -rate 50 -timeout 2s -keepalive 10s
headless_load cut-headless -rate 50 -timeout 2s -keepalive 10s
headless_load cut-without-keepalive -rate 50 -timeout 2s
ip link set node2 down
cut=$SECONDS
eventually 90 "the cluster to miss node2" kubectl wait --for=condition=Ready=Unknown node/node2 --timeout=1s
say "node2 was missed after $((SECONDS - cut)) s"

# So long that who has not recovered by then is seen to fail on. The service's one address leads to lost pods until
# the cluster has missed the node, and clients then pause before they connect again.
quiet_since() {
  [[ $((SECONDS - cut)) -ge 120 ]]
}
eventually 130 "the time after the outage" quiet_since
stop_load cut-without-keepalive
stop_load cut-service
[[ $(felt) -lt 90000 ]] || fail "clients of the service's address did not recover"
stop_load cut-headless
[[ $(felt) -lt 30000 ]] || fail "clients that balance did not recover"
ip link set node2 up
eventually 60 "node2 to come back" kubectl wait --for=condition=Ready node/node2 --timeout=1s
"$helm" uninstall "$release" --wait >/dev/null
