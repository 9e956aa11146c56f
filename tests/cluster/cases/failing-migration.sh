#!/usr/bin/env bash
# failing-migration.sh: an upgrade whose migration fails leaves the old version serving, and can be made again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/release.sh"

helm=$1
say "--- a migration fails, $("$helm" version --short)"
use_namespace "failing-$helm"
prepare postgres
install 1
deploy_agent
kubectl create secret generic wrong \
  --from-literal=url="postgres://secrets:not-the-password@$node_network.1/failing-$helm" >/dev/null

service_load "failing-$helm" -rate 100
if upgrade 2 --set database.postgres.existingSecret=wrong --set migration.timeoutSeconds=20 2>"$CLUSTER/log/refusal.txt"; then
  fail "the upgrade went through"
fi
image=$(kubectl get "$workload" --output 'jsonpath={.spec.template.spec.containers[0].image}')
[[ $image == *:1 ]] || fail "the deployment was changed to $image"
say "refused: $(grep . "$CLUSTER/log/refusal.txt" | tail -1)"
upgrade 2
lossless "failing-$helm"
say "the old version served on, and the next upgrade went through"
"$helm" uninstall "$release" --wait >/dev/null
