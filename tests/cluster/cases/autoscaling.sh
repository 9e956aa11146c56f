#!/usr/bin/env bash
# autoscaling.sh: load brings more pods, and no call is lost as they come.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=helm4
say "--- autoscaling"
use_namespace autoscaling
prepare postgres
cat >>"$values" <<'END'
autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 4, targetCPUUtilizationPercentage: 50}
config: {maxConnectionAge: 15}
END
install 1
deploy_agent

ready_pods() {
  kubectl get "$workload" --output 'jsonpath={.status.readyReplicas}'
}

four_pods() {
  [[ $(ready_pods) -eq 4 ]]
}

[[ $(ready_pods) -eq 2 ]] || fail "it does not begin with two pods"
service_load scaling -rate 400
began=$SECONDS
eventually 180 "four pods" four_pods
say "four pods after $((SECONDS - began)) s of load"
lossless scaling
# The autoscaler's number stays through an upgrade
upgrade 2
four_pods || fail "the upgrade has reset the number of pods"
"$helm" uninstall "$release" --wait >/dev/null
