#!/usr/bin/env bash
# manual-scale.sh: who scales by hand leaves the number out of the values; then an upgrade, also Helm 4's, leaves it be.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=helm4
say "--- scaled by hand"
use_namespace manual-scale
prepare postgres
echo 'replicaCount: null' >>"$values"
install 1
kubectl scale "$workload" --replicas=3 >/dev/null
kubectl rollout status "$workload" --timeout=60s >/dev/null
upgrade 2
replicas=$(kubectl get "$workload" --output 'jsonpath={.status.readyReplicas}')
[[ $replicas -eq 3 ]] || fail "$replicas replicas after the upgrade"
say "three replicas before the upgrade and after it"
"$helm" uninstall "$release" --wait >/dev/null
